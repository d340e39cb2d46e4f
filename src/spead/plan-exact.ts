import { listOf, readPlain, shown } from '../checks.js'
import { counted, ensure, SpeadcastError } from '../errors.js'
import { HEADER_BYTES, POINTER_BYTES } from './constants.js'
import type { Flavour } from './flavour.js'
import type { ExactPointer, ExactSplit, ItemPointers, PacketPlan, PlanItem } from './plan-types.js'
import { PlanWriter } from './plan-writer.js'
import { hex } from './pointer.js'

/** A pointer of the list with the item it names found. */
type Resolved = Standard | 'padding' | { index: number; addressAsImmediate: boolean }

const STANDARD = ['heap-cnt', 'heap-length', 'payload-offset', 'payload-length'] as const
type Standard = (typeof STANDARD)[number]

const isStandard = (pointer: unknown): pointer is Standard => (STANDARD as readonly unknown[]).includes(pointer)

const bad = (problem: string) => new SpeadcastError('ERR_SPEADCAST_SPLIT', `exact split: ${problem}`)

/** Packets as an interface document prescribes them; every contradiction with the heap throws ERR_SPEADCAST_SPLIT. */
export function planExact(
  flavour: Flavour,
  items: readonly PlanItem[],
  pointers: ItemPointers,
  maxPacketSizeBytes: number,
  split: ExactSplit,
  repeatPointers: boolean,
): PacketPlan {
  const { payloadBytes, repeat = true, pointers: listed } = readPlain('split', split, EXACT_KEYS, 'ERR_SPEADCAST_SPLIT')
  const heapBytes = pointers.payloadBytes
  if (repeatPointers && !repeat) throw bad('repeat is false but the heap repeats its pointers: drop one of the two')
  if (!Number.isSafeInteger(payloadBytes) || payloadBytes < 0)
    throw bad(`payloadBytes is ${shown(payloadBytes)}; it must be a whole number of bytes`)
  if (payloadBytes === 0 && heapBytes > 0)
    throw bad(`payloadBytes is 0 but the items have ${counted(heapBytes, 'byte')}: set payloadBytes`)
  if (payloadBytes > 0 && heapBytes === 0)
    throw bad(
      `payloadBytes is ${payloadBytes} but the heap has no addressed item: add one, set payloadBytes to 0, or use another split`,
    )

  const first = resolve(items, listed)
  const later = repeat ? first : first.filter(isStandard)
  const packets = heapBytes === 0 ? 1 : Math.ceil(heapBytes / payloadBytes)
  if (packets > 1) {
    for (const need of ['heap-cnt', 'payload-offset'] as const)
      if (!first.includes(need))
        throw bad(
          `a heap of ${packets} packets cannot be put together without '${need}': add it, or make payloadBytes ${heapBytes}`,
        )
  }
  const headerBytes = HEADER_BYTES + first.length * POINTER_BYTES
  const packetBytes = headerBytes + Math.min(payloadBytes, heapBytes)
  if (packetBytes > maxPacketSizeBytes)
    throw bad(
      `${counted(first.length, 'pointer')} and ${counted(packetBytes - headerBytes, 'payload byte')} make packets of ${packetBytes} bytes, more than ` +
        `the maximum of ${maxPacketSizeBytes}: raise the maximum packet size or lower payloadBytes`,
    )

  const count = (list: readonly Resolved[]): number =>
    list.filter((pointer) => typeof pointer === 'object' && pointers.immediate[pointer.index] === 1).length
  const size = {
    packets,
    itemPointers: first.length + (packets - 1) * later.length,
    immediates: count(first) + (packets - 1) * count(later),
    heapLengthBytes: heapBytes,
    paddingBytes: 0,
  }
  const writer = new PlanWriter(flavour, size, pointers)
  for (let p = 0; p < packets; p++) {
    const list = p === 0 ? first : later
    writer.packet(list.length, Math.min(payloadBytes, heapBytes - p * payloadBytes))
    for (const pointer of list) write(writer, pointer)
  }
  return writer.finish()
}

function write(writer: PlanWriter, pointer: Resolved): void {
  if (typeof pointer === 'object') writer.item(pointer.index, pointer.addressAsImmediate)
  else if (pointer === 'heap-cnt') writer.heapCnt()
  else if (pointer === 'heap-length') writer.heapLength()
  else if (pointer === 'payload-offset') writer.payloadOffset()
  else if (pointer === 'payload-length') writer.payloadLength()
  else writer.nullItem()
}

const EXACT_KEYS = ['payloadBytes', 'pointers', 'repeat'] as const satisfies readonly (keyof ExactSplit)[]

function resolve(items: readonly PlanItem[], pointers: readonly ExactPointer[]): readonly Resolved[] {
  const list = listOf(pointers)
  if (!list)
    throw bad(`pointers is ${shown(pointers)}; it must be an array such as ['heap-cnt', 'payload-length', { item: 0x3300 }]`)
  ensure(list.length <= 65_535, 'ERR_SPEADCAST_SPLIT', () => `exact split: ${list.length} pointers; a packet counts up to 65535`)
  const used = new Set<unknown>()
  const free = new Map<number, { index: number; immediate: boolean }[]>()
  items.forEach(({ id, immediate }, index) => {
    const same = free.get(id)
    if (same) same.push({ index, immediate })
    else free.set(id, [{ index, immediate }])
  })
  const resolved = list.map((pointer: ExactPointer): Resolved => {
    if (pointer === 'padding') return pointer
    if (typeof pointer === 'object' && pointer !== null && typeof pointer.item === 'number') {
      const found = free.get(pointer.item)?.shift()
      if (found === undefined)
        throw bad(
          free.has(pointer.item)
            ? `item ${hex(pointer.item)} is named more often than the heap has it: remove a mention`
            : `item ${hex(pointer.item)} is not in the heap: add it to the heap or remove it from pointers`,
        )
      const addressAsImmediate = pointer.addressAsImmediate === true
      if (addressAsImmediate && found.immediate)
        throw bad(`item ${hex(pointer.item)} is immediate already: drop addressAsImmediate`)
      return { index: found.index, addressAsImmediate }
    }
    if (!isStandard(pointer))
      throw bad(`unknown pointer ${JSON.stringify(pointer)}; use { item: id }, 'padding' or one of ${STANDARD.join(', ')}`)
    if (used.has(pointer)) throw bad(`'${pointer}' stands twice in pointers: remove one`)
    used.add(pointer)
    return pointer
  })
  for (const [id, left] of free)
    if (left.length > 0)
      throw bad(`item ${hex(id)} of the heap has no pointer: add { item: ${hex(id)} } or leave it out of the heap`)
  return resolved
}
