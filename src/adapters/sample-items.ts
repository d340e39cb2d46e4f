/** Items and arrays as the sample writer needs them. */
import { isInstance, shown } from '../checks.js'
import { counted, ensure, SpeadcastError } from '../errors.js'
import { componentBytes, Item, ItemGroup, isNaturalView, naturalKind, viewKind } from '../spead/index.js'

/** A copy of an item with another value. */
const numbered = ({ id, name, description, shape, dtype, format, order }: Item, value: number): Item =>
  new Item({ id, name, description, shape, ...(dtype ? { dtype: dtype.descr } : { format: format! }), order, value })

/** Rows of one heap, steps of the item's slowest dimension; checks that the item can take raw samples. */
export function rowsOf({ name, shape, order, byteLength, allowImmediate }: Item, heapAddressBits: number): number {
  ensure(
    byteLength !== undefined,
    'ERR_SPEADCAST_ITEM',
    () => `item '${name}' has a variable shape; samples need a fixed one, from which only the last heap may differ`,
  )
  const pointerBytes = allowImmediate ? heapAddressBits / 8 : 0
  ensure(
    byteLength > pointerBytes,
    'ERR_SPEADCAST_ITEM',
    () =>
      `item '${name}' has ${counted(byteLength, 'byte')} a heap, which ${byteLength === 0 ? 'takes no samples' : 'travel inside the item pointer'}; ` +
      `give it a shape of more than ${pointerBytes} bytes or allowImmediate: false, or send such heaps with sendHeap`,
  )
  const rows = (order === 'F' ? shape.at(-1) : shape[0]) ?? 1
  ensure(
    byteLength % rows === 0,
    'ERR_SPEADCAST_ITEM',
    () =>
      `item '${name}' has ${counted(rows, 'sample')} in ${counted(byteLength, 'byte')}; a sample must be whole bytes, so make several of them one row of a ` +
      'second dimension',
  )
  return rows
}

/**
 * Samples of one heap. A row is one, whatever else it holds (channels, polarisations), unless its elements are broken bytes:
 * those share a row because it must be whole bytes.
 */
export const samplesOf = (item: Item, rows: number): number => (item.elementBits % 8 === 0 ? rows : item.elements!)

/**
 * The items of a last heap that is not full: as many samples as there are, in the payload however few they are. An item pointer
 * has no room for their number, and a receiver without the descriptor would take its padding for samples.
 */
export function shortItems(
  items: ItemGroup,
  long: Item,
  rows: number,
  value: Uint8Array,
  timestamp: { readonly name: string; readonly value: number } | undefined,
): ItemGroup {
  const { id, name, description, shape, dtype, format, order } = long
  const short = new ItemGroup({ flavour: items.flavour })
  for (const item of items.items()) {
    if (item.name === timestamp?.name) short.add(numbered(item, timestamp.value))
    else if (item !== long) short.add(item)
    else
      short.add({
        id,
        name,
        description,
        shape: order === 'F' ? [...shape.slice(0, -1), rows] : [rows, ...shape.slice(1)],
        ...(dtype ? { dtype: dtype.descr } : { format: format! }),
        order,
        value,
        allowImmediate: false,
      })
  }
  return short
}

/** The name of the timestamp item, and the number at which its values wrap. */
export function counter({ name, dtype, format, elements, byteLength, allowImmediate }: Item, heapAddressBits: number) {
  const unsigned = dtype ? dtype.kind === 'u' : format!.length === 1 && format![0]![0] === 'u'
  ensure(
    unsigned && elements === 1 && allowImmediate && byteLength! <= heapAddressBits / 8,
    'ERR_SPEADCAST_ITEM',
    () =>
      `item '${name}' cannot be the timestamp: that must be one unsigned integer of at most ${heapAddressBits} bits, ` +
      `such as format [['u', ${heapAddressBits}]]`,
  )
  return { name, modulo: Math.min(2 ** (8 * byteLength!), 2 ** 53) }
}

/** All of a buffer, which a byte stream of Node 20 gives as it is. @throws ERR_SPEADCAST_VALUE where it is detached */
function whole(buffer: ArrayBufferLike): Uint8Array {
  try {
    return new Uint8Array(buffer)
  } catch (cause) {
    const message = 'write: the memory of the samples is detached (transferred to a worker?)'
    throw new SpeadcastError('ERR_SPEADCAST_VALUE', message, { cause })
  }
}

/** Views whose memory is taken as bytes of the wire, whatever the item. */
const BYTES = ['Uint8Array', 'Uint8ClampedArray', 'DataView']

/**
 * The bytes that samples are on the wire.
 * @throws ERR_SPEADCAST_VALUE for an array of other numbers than the item's, whose memory would be taken for samples in silence
 */
export function bytesOf(samples: ArrayBufferView | ArrayBufferLike, items: readonly Item[]): Uint8Array {
  if (isInstance(samples, ArrayBuffer) || isInstance(samples, SharedArrayBuffer)) return whole(samples)
  ensure(
    ArrayBuffer.isView(samples),
    'ERR_SPEADCAST_VALUE',
    () => `write takes a Uint8Array or another typed array of samples, not ${shown(samples)}`,
  )
  const kind = viewKind(samples)
  const other = BYTES.includes(kind) ? undefined : items.find((item) => !areSamples(item, samples))
  ensure(!other, 'ERR_SPEADCAST_VALUE', () => otherNumbers(other!, kind))
  if (samples.byteLength > 0) return new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength)
  try {
    // A detached array only looks empty, but no view can be made of its buffer.
    return new Uint8Array(samples.buffer).subarray(0, 0)
  } catch (cause) {
    throw new SpeadcastError('ERR_SPEADCAST_VALUE', 'write: the memory of the samples is detached (transferred to a worker?)', {
      cause,
    })
  }
}

/** The kind of typed array whose memory is samples of the item as the wire has them. The fields of a format are big-endian there. */
function ownKind({ dtype, format }: Item): string {
  if (dtype) return naturalKind(dtype)
  return format!.every(([code, bits]) => code === 'i' && bits === 8) ? 'Int8Array' : 'Uint8Array'
}

const areSamples = (item: Item, samples: ArrayBufferView): boolean =>
  item.dtype ? isNaturalView(item.dtype, samples) : viewKind(samples) === ownKind(item)

function otherNumbers(item: Item, kind: string): string {
  const { name, dtype, format } = item
  const is = dtype ? `dtype '${dtype.descr}'` : `format ${JSON.stringify(format)}`
  const own = ownKind(item)
  const takes = `${own === 'Uint8Array' ? '' : `${own}, or `}bytes as the wire has them (Uint8Array, Buffer, ArrayBuffer, DataView)`
  const bits = dtype?.bigEndian ? 8 * componentBytes(dtype) : 0
  const swap = [16, 32, 64].includes(bits)
    ? `; Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength).swap${bits}() makes these big-endian`
    : ''
  return `write: item '${name}' has ${is} and takes ${takes}, not ${kind}${swap}`
}
