/** Checks of the arguments of a stream's calls, before anything is queued. */
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import { checkOptions, isInstance, listOf, oneOf, shown } from '../checks.js'
import { counted, ensure, SpeadcastError } from '../errors.js'
import { type Flavour, Heap, ItemGroup } from '../spead/index.js'
import { splitHeapCnt, splitUnsigned } from '../spead/pointer.js'
import { Batch, type BatchOptions } from './batch.js'
import type { CloseOptions, StatsOptions } from './calls.js'
import type { StreamConfig } from './config.js'
import { tellIfDeadlineLong, tellIfHeapRateSlow } from './units.js'

const GROUP_MODES: readonly GroupMode[] = ['serial', 'round-robin', 'by-substream']

export function checkGroupMode(call: string, mode: GroupMode): void {
  ensure(
    GROUP_MODES.includes(mode),
    'ERR_SPEADCAST_CONFIG',
    () => `${call}: group mode is ${shown(mode)}; it must be ${oneOf(GROUP_MODES)}`,
  )
}

const REFERENCE_OPTIONS = ['heap', 'cnt', 'substream', 'rateBytesPerSecond']

/** @param pace see checkHeapRate */
export function checkReferences(references: readonly HeapReference[], substreams: number, pace: HeapPace): void {
  const list = listOf(references)
  ensure(
    list && list.length > 0,
    'ERR_SPEADCAST_VALUE',
    () => `sendHeaps: ${list ? 'the list is empty' : `${shown(references)} is no list`}; give it at least one { heap }`,
  )
  for (const reference of references) {
    checkOptions('sendHeaps', reference, REFERENCE_OPTIONS)
    const { heap, cnt, substream = 0, rateBytesPerSecond } = reference
    ensure(
      isInstance(heap, Heap),
      'ERR_SPEADCAST_VALUE',
      () => `sendHeaps: heap is ${shown(heap)}; it must be a Heap, from new Heap() or ItemGroup.getHeap()`,
    )
    ensure(
      cnt === undefined || typeof cnt === 'number',
      'ERR_SPEADCAST_HEAP_CNT',
      () => `sendHeaps: cnt is ${shown(cnt)}; it must be a number, exact to 2^53; −1 takes the sequence's next`,
    )
    checkSubstream(substream, substreams)
    if (rateBytesPerSecond !== undefined) checkHeapRate(rateBytesPerSecond, pace)
    ensure(
      heap.flavour.heapAddressBits === references[0]!.heap.flavour.heapAddressBits,
      'ERR_SPEADCAST_CONFIG',
      () =>
        `sendHeaps: heaps of SPEAD-64-${references[0]!.heap.flavour.heapAddressBits} and of 64-${heap.flavour.heapAddressBits}; ` +
        'all heaps of a group must have the same flavour, so send them one by one',
    )
  }
}

function checkSubstream(substream: number, substreams: number): number {
  ensure(
    Number.isInteger(substream) && substream >= 0 && substream < substreams,
    'ERR_SPEADCAST_SUBSTREAM',
    () => `substream is ${shown(substream)}; the stream has ${counted(substreams, 'endpoint')}, 0 to ${substreams - 1}`,
  )
  return substream
}

export function checkStatsOptions(options: StatsOptions): void {
  checkOptions('stats', options, ['substreams'])
  const { substreams } = options
  ensure(
    substreams === undefined || typeof substreams === 'boolean',
    'ERR_SPEADCAST_CONFIG',
    () => `stats: substreams is ${shown(substreams)}; it must be true or false`,
  )
}

/** Whether heaps can have rates of their own. */
export interface HeapPace {
  /** The stream has a rate, without which no heap can have one. */
  readonly paced: boolean
  /** Keeps the rate where this program does not. */
  readonly keeper: 'the kernel' | 'the device' | undefined
}

function checkHeapRate(rate: number, { paced, keeper }: HeapPace): void {
  ensure(
    typeof rate === 'number' && (rate === -1 || (rate >= 0 && Number.isFinite(rate))),
    'ERR_SPEADCAST_CONFIG',
    () => `heap rate is ${shown(rate)}; it must be bytes per second, 0 for unlimited or −1 for the stream's`,
  )
  ensure(
    paced || rate <= 0,
    'ERR_SPEADCAST_CONFIG',
    () => `heap rate is ${rate}, but the stream has none: rates per heap need a stream with a rate, so give openStream one`,
  )
  ensure(
    rate === -1 || keeper === undefined,
    'ERR_SPEADCAST_CONFIG',
    () => `heap rate is ${rate}, and ${keeper} keeps the rate of this stream: rates per heap need rateMethod 'sw'`,
  )
  tellIfHeapRateSlow(rate)
}

const BATCH_OPTIONS = ['items', 'heaps', 'groupMode', 'substreams', 'rates', 'memory', 'views']

/** Whether it is an object of regions by item name, whose properties can be read. */
function isReadable(memory: BatchOptions['memory'] & object): boolean {
  try {
    if (typeof memory !== 'object' || memory === null) return false
    for (const place of Object.values(memory)) void { ...place }
    return true
  } catch {
    return false
  }
}

/** All of createBatch's options but `substreams` and `rates`. */
export function checkBatchOptions(options: BatchOptions): void {
  checkOptions('createBatch', options, BATCH_OPTIONS)
  const { items, heaps, groupMode = 'serial', memory = {} } = options
  ensure(
    isInstance(items, ItemGroup),
    'ERR_SPEADCAST_CONFIG',
    () => `createBatch: items is ${shown(items)}; it must be an ItemGroup, which says what a heap holds`,
  )
  ensure(
    Number.isInteger(heaps) && heaps >= 1 && heaps < 2 ** 24,
    'ERR_SPEADCAST_CONFIG',
    () => `createBatch: heaps is ${shown(heaps)}; it must be a whole number from 1 to 2^24 − 1`,
  )
  checkGroupMode('createBatch', groupMode)
  ensure(
    isReadable(memory),
    'ERR_SPEADCAST_CONFIG',
    () => `createBatch: memory is ${shown(memory)}; it must be an object of { region, offsetBytes, strideBytes } by item name`,
  )
}

/** The substream of each heap of a batch. @param endpoints how many the stream has */
export function substreamsOf(option: BatchOptions['substreams'], heaps: number, endpoints: number): Uint16Array {
  const list = ArrayBuffer.isView(option) ? Array.from(option as unknown as ArrayLike<number>) : listOf(option as number[])
  const of =
    typeof option === 'function'
      ? option
      : option === undefined
        ? (j: number) => j % endpoints
        : list
          ? (j: number) => list[j]!
          : () => option as number
  return Uint16Array.from({ length: heaps }, (_, j) => checkSubstream(of(j), endpoints))
}

/** The rate of each heap of a batch. */
export function ratesOf(rates: BatchOptions['rates'], heaps: number, pace: HeapPace): Float64Array | undefined {
  if (rates === undefined) return undefined
  const list = ArrayBuffer.isView(rates) ? Array.from(rates as unknown as ArrayLike<number>) : listOf(rates)
  ensure(pace.paced, 'ERR_SPEADCAST_CONFIG', () => 'rates per heap need a stream with a rate; give openStream a rate')
  ensure(
    list?.length === heaps,
    'ERR_SPEADCAST_CONFIG',
    () =>
      `createBatch: ${list ? `rates has ${counted(list.length, 'entry', 'entries')}` : `rates is ${shown(rates)}`} for ${counted(heaps, 'heap')}; ` +
      'give a list of one for each',
  )
  for (const rate of list) checkHeapRate(rate, pace)
  return Float64Array.from(list)
}

/** First cnt and step as 32-bit halves. @throws ERR_SPEADCAST_HEAP_CNT */
export function cntSequence(
  flavour: Flavour,
  next: number | bigint,
  step: number | bigint,
): readonly [number, number, number, number] {
  const from = splitHeapCnt(flavour, next)
  const by = splitUnsigned(step, flavour.heapAddressBits, 'heap cnt step', 'ERR_SPEADCAST_HEAP_CNT')
  ensure(by.hi !== 0 || by.lo !== 0, 'ERR_SPEADCAST_HEAP_CNT', () => 'heap cnt step is 0; every heap needs its own cnt')
  return [from.hi, from.lo, by.hi, by.lo]
}

/** The error of a send of something that is no open batch of the stream. */
export function notOurs(batch: unknown): SpeadcastError {
  const what = isInstance(batch, Batch)
    ? batch.state === 'closed'
      ? 'the batch is closed'
      : 'the batch belongs to another stream'
    : `the batch is ${shown(batch)}`
  return new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', `send: ${what}; give one from createBatch of this stream`)
}

/** Returns how many heaps from `first` on are sent of a batch of `total`: all without `most`. Allocates nothing: send calls it. */
export function checkRange(first: number, most: number | undefined, total: number): number {
  if (!(Number.isInteger(first) && first >= 0 && first < total))
    throw new SpeadcastError('ERR_SPEADCAST_VALUE', `send: firstHeap is ${shown(first)}; the batch has 0 to ${total - 1}`)
  const heaps = most ?? total - first
  if (!(Number.isInteger(heaps) && heaps >= 1 && heaps <= total - first))
    throw new SpeadcastError(
      'ERR_SPEADCAST_VALUE',
      `send: heaps is ${shown(heaps)}; the batch has 1 to ${total - first}${first > 0 ? ` from heap ${first} on` : ''}`,
    )
  return heaps
}

/** @throws ERR_SPEADCAST_VALUE unless the mask has a byte for each heap of the batch */
export function checkMask(mask: Uint8Array, heaps: number): void {
  ensure(
    isInstance(mask, Uint8Array) && mask.length === heaps,
    'ERR_SPEADCAST_VALUE',
    () => `send: mask is ${shown(mask)}; it must be a Uint8Array with a byte for each of the batch's ${counted(heaps, 'heap')}`,
  )
}

/** The deadline of a stream's `close`. */
export function deadlineOf(options: CloseOptions): number | undefined {
  checkOptions('close', options, ['deadlineSeconds'])
  const { deadlineSeconds } = options
  ensure(
    deadlineSeconds === undefined || (Number.isFinite(deadlineSeconds) && deadlineSeconds >= 0),
    'ERR_SPEADCAST_CONFIG',
    () => `close: deadlineSeconds is ${shown(deadlineSeconds)}; it must be a number of seconds from 0 up`,
  )
  tellIfDeadlineLong(deadlineSeconds)
  return deadlineSeconds
}

/** SPEAD header, four pointers, one item pointer and eight bytes: spead2's smallest packet too. */
const SMALLEST_PACKET_BYTES = 56
/** 65535 less an IPv4 header of 20 and the UDP header's 8. */
const LARGEST_PACKET_BYTES = 65507

/** An exact layout may leave pointers out; whether its packets fit is known when there are items. */
export function checkPacketSize({ packetSizeBytes, split }: StreamConfig): void {
  const least = typeof split === 'object' ? 1 : SMALLEST_PACKET_BYTES
  ensure(
    packetSizeBytes >= least && packetSizeBytes <= LARGEST_PACKET_BYTES,
    'ERR_SPEADCAST_PACKET_SIZE',
    () =>
      `packetSizeBytes is ${packetSizeBytes}; it must be from ${least}, for SPEAD headers, to ${LARGEST_PACKET_BYTES}, the largest UDP payload`,
  )
}
