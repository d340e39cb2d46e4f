/** Prints heaps as they come, for --values and --descriptors. */
import { once } from 'node:events'
import { counted, printable } from '../../errors.js'
import { type ReceivedDescriptor, type ReceivedHeap, type ReceivedItem, type Receiver, valueText } from '../../receive/index.js'
import type { RecvFlags } from './flags.js'

/** Prints until reception ends. A terminal or a pipe that is slow holds up the receiver, as any slow consumer does. */
export async function printHeaps(receiver: Receiver, { values, descriptors, json, jsonStream }: RecvFlags): Promise<void> {
  const out = json || jsonStream ? process.stderr : process.stdout
  for await (const heap of receiver) {
    const lines = [
      headOf(heap, receiver.endpoints[heap.endpoint]),
      ...(descriptors ? heap.descriptors.map(descriptorOf) : []),
      ...(values ? [...heap.items.values()].map(itemOf) : []),
    ]
    if (!out.write(lines.map((line) => `${printable(line)}\n`).join(''))) await once(out, 'drain')
  }
}

function headOf({ cnt, sender, control, complete, packets, payloadBytes }: ReceivedHeap, endpoint = ''): string {
  const kind = control ? `${control} heap` : 'heap'
  const whole = complete ? '' : ', incomplete'
  return `${kind} ${cnt} of sender ${sender} to ${endpoint}: ${counted(payloadBytes, 'byte')} in ${counted(packets, 'packet')}${whole}`
}

function descriptorOf({ id, name, description, dtype, format, shape, order }: ReceivedDescriptor): string {
  const type = dtype ?? format.map(([code, bits]) => `${code}${bits}`).join(' ')
  const dimensions = shape.map((size) => size ?? '?').join(', ')
  return `  descriptor of ${name} (0x${id.toString(16)}): ${type} [${dimensions}]${order === 'F' ? ' in Fortran order' : ''}, ${description}`
}

const itemOf = (item: ReceivedItem): string => `  ${item.name ?? `0x${item.id.toString(16)}`} = ${valueText(item)}`
