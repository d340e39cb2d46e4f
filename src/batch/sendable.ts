import { Region } from '../../ffi/memory/region.js'
import { SpeadcastError } from '../errors.js'
import type { Flavour, PacketPlan } from '../spead/index.js'
import type { ChosenHeaps } from './chosen.js'
import type { CompiledBatch } from './compile.js'

/** Says how to compile a batch for one order of sending. */
export interface Compilation {
  /** Compilations of a batch with equal keys give equal results. */
  readonly key: string
  /** How many of the compiled rows the send takes. */
  readonly rows: number
  compile(): CompiledBatch
}

/**
 * The stream's view of anything that it can send. The stream owns `inFlight` and `closed`; everything else is the batch's.
 *
 * | state     | legal                                     | next                        |
 * |-----------|-------------------------------------------|-----------------------------|
 * | free      | write views and columns, send, close      | in flight by send           |
 * | in flight | read; await free                          | free by settlement          |
 * | closed    | nothing: its memory is recycled           | —                           |
 *
 * Prohibited: writing while in flight (the kernel or the NIC may be reading; debug mode detects it), sending while in flight, sending on
 * another stream, closing while in flight.
 */
export interface Sendable {
  readonly heaps: number
  readonly flavour: Flavour
  readonly region: Region
  readonly rates: Float64Array | undefined
  readonly explicitCnts: boolean
  /** Returns the bytes of addressed item data of the first n heaps, without headers and padding. */
  payloadBytes(heaps: number): number
  /** Returns the bytes that the first n heaps take while they are queued: headers and payload. */
  queuedBytes(heaps: number): number
  /**
   * Returns how to compile n heaps from `first` on, or n chosen ones.
   * @param inBand substreams of theirs whose first heap carries the descriptors
   */
  compilation(heaps: number, inBand: ReadonlySet<number> | undefined, first: number, chosen: ChosenHeaps | undefined): Compilation
  /** Checks staged values of n heaps from `first` on, and throws before anything is queued. */
  validate(heaps: number, first: number): void
}

/** Bytes of item data in a heap. */
export const itemBytes = ({ heapLengthBytes, paddingBytes }: PacketPlan): number => heapLengthBytes - paddingBytes

/**
 * Checks explicit heap cnts of heaps first … first + heaps − 1, or of chosen ones: −1 takes the sequence's next, others must be whole and fit the width.
 */
export function validateCnts(column: Float64Array, heaps: number, first: number, flavour: Flavour, chosen?: ChosenHeaps): void {
  const limit = Math.min(2 ** flavour.heapAddressBits, 2 ** 53)
  for (let i = 0; i < heaps; i++) {
    const j = chosen ? chosen.heaps[i]! : first + i
    const cnt = column[j]!
    if (cnt === -1 || (cnt >= 0 && cnt < limit && Number.isInteger(cnt))) continue
    throw new SpeadcastError(
      'ERR_SPEADCAST_HEAP_CNT',
      `heap cnt of heap ${j} is ${cnt}; it must be a whole number from 0 to 2^${Math.min(flavour.heapAddressBits, 53)} − 1, or −1 to take the sequence's next`,
    )
  }
}

/**
 * @param numaNode where its pages come from first; negative: nowhere in particular
 * @throws ERR_SPEADCAST_MEMORY
 */
export function allocateRegion(byteLength: number, numaNode = -1): Region {
  try {
    return Region.allocate(byteLength, { patched: true, ...(numaNode >= 0 && { numaNode }) })
  } catch (cause) {
    if (!(cause instanceof SpeadcastError)) throw cause
    const message = `${cause.message}; use fewer or smaller heaps, or fewer batches`
    throw new SpeadcastError(cause.code, message, { cause: cause.cause })
  }
}
