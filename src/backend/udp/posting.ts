/**
 * Compiling a packet table for sendmmsg: which packets form one segmented message, and the prelinked vectors.
 *
 * A run may be one message while its packets go to one destination and have equal size (the last may be shorter): udp(7),
 * UDP_SEGMENT. The limits were found by probing (docs/ground-rules.md, "Segmentation and zero copy"): 64 or 128 segments; 65507 bytes of
 * UDP payload over IPv4, since the whole must still look like one datagram (65508 is EMSGSIZE), 65487 over IPv6; 1024 iovecs (UIO_MAXIOV).
 */
import { UIO_MAXIOV } from '../../../ffi/layout.js'
import { HUGE_PAGE_BYTES, PAGE_BYTES } from '../../../ffi/memory/mapping.js'
import { COPY, LEND, NO_SLOT, REGISTERED, type SendMode } from '../../../ffi/socket/io-uring.js'
import { MessageVector } from '../../../ffi/socket/message-vector.js'
import type { PacketTable } from '../../batch/table.js'
import type { Posting } from '../backend.js'

export interface MessageLimits {
  readonly maxSegments: number
  readonly maxMessageBytes: number
  /** The most pieces of physical memory that a message sent without a copy may stand in. */
  readonly maxFragments?: number
}

/** MAX_SKB_FRAGS, if the kernel is not built for more: a message sent without a copy fails with EMSGSIZE beyond it. */
export const MAX_FRAGMENTS = 17

/** 65535 − 20 − 8; and for IPv6, where the kernel counts its own 40-byte header in, 65535 − 40 − 8. */
export const MAX_MESSAGE_BYTES = { 4: 65507, 6: 65487 } as const

/** Messages as compile cut them. */
export const WHOLE = 0
/** Two or more rows of one message, as a shorter message. */
export const PART = 1
/** One message a row. */
export const PLAIN = 2
/** How rows are made into messages. */
export type MessageShape = typeof WHOLE | typeof PART | typeof PLAIN

export class UdpPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  readonly messageOf: Uint32Array
  /** First row of each message, and the number of rows as last entry. */
  readonly firstRow: Uint32Array
  /** The posting's whole messages. */
  readonly merged: MessageVector
  /** How its whole messages go when they go without a copy; COPY where that is not worth it. */
  lending: SendMode
  /** Where the backend paces: see KernelPace.room. */
  countedBefore: Float64Array | undefined
  /** Posts to go before messages are sent without a copy again (zero-copy.ts); 0 = they are. */
  copiedPostsLeft = 0
  /** Posts to go before segmentation is tried again for this posting (segmentation.ts); 0 = segmentation in use. */
  plainPostsLeft = 0
  #plain: MessageVector | undefined
  /** The first iovec of each row in `plain`, and their number. */
  #firstIovec: Uint32Array | undefined
  #names: readonly Uint8Array[]

  constructor(
    readonly table: PacketTable,
    names: readonly Uint8Array[],
    /** As messageEnds returns them. */
    ends: readonly number[],
    /** Its messages may be lent to the kernel. */
    lends: boolean,
    /** The ring's slot that its memory is registered in, in use as such or not; else NO_SLOT. */
    readonly slot: number,
  ) {
    this.#names = names
    this.lending = lends ? (slot === NO_SLOT ? LEND : REGISTERED) : COPY
    this.rows = table.rows
    this.firstRow = Uint32Array.of(0, ...ends)
    this.messageOf = new Uint32Array(table.rows)
    this.edge = new Uint32Array(table.rows)
    for (let m = 0; m < ends.length; m++) {
      this.messageOf.fill(m, this.firstRow[m]!, ends[m]!)
      this.edge.fill(ends[m]!, this.firstRow[m]!, ends[m]!)
    }
    this.merged = link(table, names, this.firstRow)
  }

  /** The vector that messages of a shape are in. */
  vectorOf(shape: MessageShape): MessageVector {
    return shape === WHOLE ? this.merged : this.plain
  }

  /** The first row of each message of a shape; undefined where message m is row m. */
  firstRowOf(shape: MessageShape): Uint32Array | undefined {
    return shape === WHOLE ? this.firstRow : undefined
  }

  /** Every row by itself, and a message more: see part(). */
  get plain(): MessageVector {
    if (this.#plain) return this.#plain
    const rows = Uint32Array.from({ length: this.rows + 1 }, (_, r) => r)
    this.#firstIovec = new Uint32Array(this.rows + 1)
    this.#plain = link(this.table, this.#names, rows, this.#firstIovec)
    return this.#plain
  }

  /** Makes rows from … end−1, two or more of one message, message `rows` of `plain`. Plain stores. */
  part(from: number, end: number): void {
    const { plain, table } = this
    const first = this.#firstIovec![from]!
    plain.message(this.rows, table.substream[from]!, first, this.#firstIovec![end]! - first, table.udpBytes[from]!)
  }

  /** The substreams' socket addresses are these from now on. */
  rename(names: readonly Uint8Array[]): void {
    this.#names = names
    this.merged.rename(names)
    this.#plain?.rename(names)
  }

  release(): void {
    this.merged.release()
    this.#plain?.release()
  }
}

/** The first row behind each message. */
export function messageEnds(table: PacketTable, limits: MessageLimits): number[] {
  const { maxSegments, maxMessageBytes, maxFragments } = limits
  const ends: number[] = []
  for (let r = 0; r < table.rows; ) {
    const segment = table.udpBytes[r]!
    let bytes = segment
    let iovecs = table.segmentStart[r + 1]! - table.segmentStart[r]!
    const fragments = maxFragments === undefined ? undefined : new FragmentCounter(table)
    fragments?.add(r)
    let end = r + 1
    while (end < table.rows && end - r < maxSegments && table.substream[end] === table.substream[r]) {
      const next = table.udpBytes[end]!
      iovecs += table.segmentStart[end + 1]! - table.segmentStart[end]!
      if (next > segment || bytes + next > maxMessageBytes || iovecs > UIO_MAXIOV) break
      if (fragments && fragments.add(end) > maxFragments!) break
      bytes += next
      end++
      if (next < segment) break
    }
    ends.push(end)
    r = end
  }
  return ends
}

/** Counts the pieces of physical memory that a message stands in: bytes that follow others in the same page are the same piece. */
class FragmentCounter {
  #end = -1
  #fragments = 0

  constructor(readonly table: PacketTable) {}

  /** Adds a row, and returns how many pieces there are with it. */
  add(row: number): number {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, regions } = this.table
    for (let s = segmentStart[row]!; s < segmentStart[row + 1]!; s++) {
      const { address, pages = 'small' } = regions[segmentRegion[s]!]!
      const page = pages === 'small' ? PAGE_BYTES : HUGE_PAGE_BYTES
      const start = address + segmentOffset[s]!
      const end = start + segmentLength[s]!
      this.#fragments += Math.ceil(end / page) - Math.floor(start / page)
      if (start === this.#end && start % page !== 0) this.#fragments--
      this.#end = end
    }
    return this.#fragments
  }
}

/**
 * Links a vector: message m covers rows firstRow[m] … firstRow[m+1]−1. Segments contiguous in memory become one iovec, across rows too.
 * One message more stands behind them, without rows yet. `firstIovec` is filled with where the iovecs of each message begin.
 */
function link(table: PacketTable, names: readonly Uint8Array[], firstRow: Uint32Array, firstIovec?: Uint32Array): MessageVector {
  const { segmentStart, segmentRegion, segmentOffset, segmentLength } = table
  const messages = firstRow.length - 1
  const vector = new MessageVector(messages + 1, segmentStart[table.rows]!, names)
  let iovec = 0
  for (let m = 0; m < messages; m++) {
    const row = firstRow[m]!
    const end = firstRow[m + 1]!
    const first = iovec
    if (firstIovec) firstIovec[m] = first
    for (let s = segmentStart[row]!; s < segmentStart[end]!; ) {
      const region = segmentRegion[s]!
      const offset = segmentOffset[s]!
      let length = segmentLength[s++]!
      while (s < segmentStart[end]! && segmentRegion[s] === region && segmentOffset[s] === offset + length)
        length += segmentLength[s++]!
      vector.iovec(iovec++, table.regions[region]!.address, offset, length)
    }
    vector.message(m, table.substream[row]!, first, iovec - first, end - row > 1 ? table.udpBytes[row]! : 0)
  }
  if (firstIovec) firstIovec[messages] = iovec
  return vector
}
