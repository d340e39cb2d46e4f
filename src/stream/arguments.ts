/** Checks of what a stream's calls are given, before anything is queued. */
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import { ensure, SpeadcastError } from '../errors.js'
import { shown } from '../spead/value-encoder.js'

/** An object with none but the known keys. Allocates nothing: send calls it. */
export function checkOptions(call: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `${call}: the options are ${shown(options)}; give an object of ${known.join(', ')}`,
    )
  for (const key in options)
    if (!known.includes(key))
      throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: unknown option '${key}'; known ones: ${known.join(', ')}`)
}

/** @throws the signal's reason if it has aborted */
export function checkSignal(call: string, signal: AbortSignal | undefined): void {
  if (signal === undefined) return
  if (typeof signal?.throwIfAborted !== 'function')
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: signal is ${shown(signal)}; it must be an AbortSignal`)
  signal.throwIfAborted()
}

const GROUP_MODES: readonly GroupMode[] = ['serial', 'round-robin', 'by-substream']

export function checkGroupMode(call: string, mode: GroupMode): void {
  ensure(
    GROUP_MODES.includes(mode),
    'ERR_SPEADCAST_CONFIG',
    () => `${call}: group mode is ${shown(mode)}; it must be 'serial', 'round-robin' or 'by-substream'`,
  )
}

const REFERENCE_OPTIONS = ['heap', 'cnt', 'substream', 'rateBytesPerSecond']

/** @param pace see checkHeapRate */
export function checkReferences(references: readonly HeapReference[], substreams: number, pace: HeapPace): void {
  ensure(
    Array.isArray(references) && references.length > 0,
    'ERR_SPEADCAST_VALUE',
    () =>
      `sendHeaps: ${references?.length === 0 ? 'the list is empty' : `${shown(references)} is no list`}; give it at least one { heap }`,
  )
  for (const reference of references) {
    checkOptions('sendHeaps', reference, REFERENCE_OPTIONS)
    const { heap, cnt, substream = 0, rateBytesPerSecond } = reference
    ensure(
      typeof heap?.shapeKey === 'function',
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

export function checkSubstream(substream: number, substreams: number): number {
  ensure(
    Number.isInteger(substream) && substream >= 0 && substream < substreams,
    'ERR_SPEADCAST_SUBSTREAM',
    () =>
      `substream is ${shown(substream)}; the stream has ${substreams} endpoint${substreams === 1 ? '' : 's'}, 0 to ${substreams - 1}`,
  )
  return substream
}

/** The stream has a rate, without which no heap can have one; and who keeps it, where that is not this program. */
export interface HeapPace {
  readonly paced: boolean
  readonly keeper: 'the kernel' | 'the device' | undefined
}

export function checkHeapRate(rate: number, { paced, keeper }: HeapPace): void {
  ensure(
    rate === -1 || (rate >= 0 && Number.isFinite(rate)),
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
}
