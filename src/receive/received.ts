/** A received heap as its consumer has it. It may come from another thread, and objects lose their class on the way. */
import { counted, INSPECT, type Inspection, inspected, words } from '../errors.js'
import type { ReceivedDescriptor } from './received-descriptor.js'
import type { ReceivedHeap, ReceivedItem } from './received-heap.js'

/** Bytes of a value that are shown. */
const MOST_BYTES = 8

export class Received implements ReceivedHeap {
  readonly cnt: number | bigint
  readonly flavour: { readonly heapAddressBits: number }
  readonly sender: number
  readonly endpoint: number
  readonly items: Map<number, ReceivedItem>
  readonly descriptors: ReceivedDescriptor[]
  declare readonly control?: 'start' | 'stop'
  readonly complete: boolean
  readonly payloadBytes: number
  readonly packets: number

  constructor(heap: ReceivedHeap) {
    this.cnt = heap.cnt
    this.flavour = heap.flavour
    this.sender = heap.sender
    this.endpoint = heap.endpoint
    this.items = heap.items
    this.descriptors = heap.descriptors
    if (heap.control !== undefined) this.control = heap.control
    this.complete = heap.complete
    this.payloadBytes = heap.payloadBytes
    this.packets = heap.packets
  }

  [INSPECT](...how: Inspection): string {
    return inspected('ReceivedHeap', how, () => {
      const { items, descriptors, ...rest } = this
      return { ...rest, items: [...items.values()].map(shown), descriptors: descriptors.map(({ id, name }) => named(id, name)) }
    })
  }
}

const label = (id: number, name: string | null): string => `${name === null ? 'unnamed' : `'${name}'`} (0x${id.toString(16)})`

const named = (id: number, name: string | null): object => words(label(id, name))

function shown({ id, name, dtype, shape, immediate, bytes }: ReceivedItem): object {
  const kind = [
    ...(dtype === null ? [] : [dtype]),
    ...(shape === null || shape.length === 0 ? [] : [`[${shape.join(', ')}]`]),
    ...(immediate ? ['immediate'] : []),
  ]
  const first = Buffer.from(bytes.subarray(0, MOST_BYTES))
    .toString('hex')
    .replace(/..(?!$)/g, '$& ')
  const more = bytes.length > MOST_BYTES ? ` … of ${counted(bytes.length, 'byte')}` : ''
  return words(`${label(id, name)}${kind.length > 0 ? ` ${kind.join(' ')}` : ''}: ${first}${more}`)
}
