/**
 * The backend contract: synchronous verbs that never block and, after compile, never allocate. A backend knows packets and
 * substreams (one destination each), never heaps or promises. The engine calls, in this order:
 * open (a factory function) → register → compile → { post, reap }* → close.
 *
 * Rows are completed strictly in the order they were posted. "Completed" means what `caps.evidence` says, and that their memory is free.
 */
import type { PacketTable, TableRegion } from '../batch/table.js'
import type { BackendName } from './names.js'
import type { States } from './states.js'

export interface BackendCaps {
  readonly name: BackendName
  /**
   * `accepted`: the kernel took the packet. `acknowledged`: the receiver's kernel has it. `completed`: the NIC reported it sent. `written`: it is
   * in the file or memory.
   */
  readonly evidence: 'accepted' | 'acknowledged' | 'completed' | 'written'
  readonly substreams: number
  readonly maxPacketSizeBytes: number
  /** Room for its own headers that the backend wants in front of every packet's first segment; a multiple of 8. */
  readonly headroomBytes: number
  /** Neighbouring packets of one size and substream leave as one message. A shorter packet ends the message, so equal packets pay. */
  readonly mergesEqualPackets: boolean
  /** Bytes that a packet takes on the wire beyond its UDP payload: headers, preamble, checksum and gap (net/frame.ts). */
  readonly wireOverheadBytes: number
  /** How long the I/O thread looks again and again for completions or for room before it sleeps. */
  readonly pollNanoseconds: number
  /** The device or the kernel keeps the rate of the stream, and the backend sees to it: the engine does not pace. */
  readonly pacesItself?: boolean
}

/** Given to every backend's factory besides its own options. */
export interface BackendEnvironment {
  /** Counters of the stream, indexed by COUNTER of src/stats.ts, in shared memory, so that the main thread reads them at any time. */
  readonly counters: Float64Array
  /** Backends that complete by callback call this when reap has something new. */
  readonly wake: () => void
  /** Keeps the event loop of the backend's thread turning until the promise is settled. Absent where it turns by itself. */
  readonly turning?: (until: Promise<void>) => void
  /** The NUMA node for what the backend maps; undefined or ANY_NODE: none in particular. */
  readonly numaNode?: number | undefined
}

export interface CompileHints {
  /** Pacing bursts should end on an edge of the posting: no message may exceed this many UDP payload bytes. */
  readonly maxMessageBytes: number
}

/** A table made ready for one backend. Opaque but for the edges, which pacing needs. */
export interface Posting {
  readonly rows: number
  /** edge[r] = first row behind the indivisible message that row r belongs to. A post that ends on an edge is cheapest. */
  readonly edge: Uint32Array
}

export const POST_OK = 0
/** Nothing wrong, try again when `waitFor` says so (socket buffer full, device queue full). */
export const POST_AGAIN = 1
/** `skipped` rows behind the accepted ones cannot be sent, because of `errno`, on `substream`; carry on behind them. */
export const POST_SKIP = 2
/** The backend is broken for good. */
export const POST_FATAL = 3

// Causes of failure are errnos and, beyond them, these.
/** A packet was dropped from a queue because of an earlier one's failure. */
export const CAUSE_FLUSHED = -1
/** A packet was handed over and never heard of again. */
export const CAUSE_UNKNOWN = -2
/** A packet was left out because its heap was late. */
export const CAUSE_LATE = -3
/** A completion status of a NIC, added to this. */
export const CAUSE_STATUS = 0x10000
/** An asynchronous event of a NIC, added to this. */
export const CAUSE_EVENT = 0x20000

/** Filled by post; one object per engine, reused. */
export interface PostResult {
  kind: 0 | 1 | 2 | 3
  /** Rows from `first` on that were taken. */
  accepted: number
  /** With POST_SKIP, how many rows behind the accepted ones were given up. */
  skipped: number
  /** Why rows were given up or the backend broke. With POST_AGAIN, what it answered; 0: nothing is wrong. */
  errno: number
  /** Whose rows. With POST_AGAIN, the one that alone cannot go now; −1: none can. */
  substream: number
  /** With POST_AGAIN: 'writable' waits for the wait set; a number is a pause in nanoseconds. */
  waitFor: 'writable' | number
}

export function again(out: PostResult, waitFor: PostResult['waitFor'], errno = 0, substream = -1): void {
  out.kind = POST_AGAIN
  out.waitFor = waitFor
  out.errno = errno
  out.substream = substream
}

/** Failures that only show after the post (asynchronous backends); filled by reap, reused. */
export interface ReapResult {
  /** Rows completed since the last reap, in posting order, failed ones included. */
  completed: number
  /** Rows among them that failed, as index into the completed ones; `failures` entries are valid. */
  failures: number
  readonly failedAt: Uint32Array
  /** Errnos or CAUSE_… */
  readonly failedErrno: Int32Array
}

export interface Backend {
  readonly caps: BackendCaps
  readonly states: States
  register(region: TableRegion): void
  /**
   * The region will be named again and again, until `forget`. Absent where a region costs nothing to name. Never throws: a batch that names
   * it says what is wrong.
   */
  keep?(region: TableRegion): void
  /** The region is released: no posting uses it any more. */
  forget?(region: TableRegion): void
  compile(table: PacketTable, hints: CompileHints): Posting
  /** Frees what compile made. Never while rows of it are posted and not reaped. */
  release(posting: Posting): void
  /** Posts rows first … end−1; may take fewer. */
  post(posting: Posting, first: number, end: number, out: PostResult): void
  /**
   * Leaves rows 0 … end−1 of a posting to the next postJoined, behind the rows joined before: several short postings go in one call. False
   * when they have to go by post(). Between join and postJoined nothing but join is called. Absent where that is no cheaper.
   */
  join?(posting: Posting, end: number): boolean
  /**
   * Posts all joined rows, of which there are some, and returns how many were taken. The others, nearly always none, are forgotten: post
   * the first of them alone to learn why.
   */
  postJoined?(): number
  reap(out: ReapResult): void
  /**
   * Rises whenever the backend saw something that makes recent evidence doubtful (carrier lost, drops below the socket). Called
   * once for the batches that settle together, and at the first after a pause; `thorough` when nothing else is to be done, because then looking closer delays nothing.
   */
  suspicion(thorough: boolean): number
  /**
   * Readable/writable descriptors to sleep on, as poll(2) wants them; empty for backends that call `wake` themselves.
   * `wantWrite` says that the last post answered 'writable'. Asked for before every sleep of the thread, also one until a deadline.
   */
  waitSet(wantWrite: boolean): readonly { readonly fd: number; readonly events: number }[]
  /** Open descriptors that Node knows nothing of: the main thread closes them if the thread that opened them dies. */
  descriptors?(): readonly number[]
  /**
   * Called when the driver is about to sleep for completions or for room: from then on they make the wait set ready. False when something
   * has completed meanwhile. Absent where the wait set needs no arming.
   */
  arm?(): boolean
  /**
   * Called when nobody waits any longer: packets that were accepted, and of which only the memory is still held, complete with the next
   * reap. Absent where a completion says more than that.
   */
  abandon?(): void
  /**
   * Substreams whose packets fail until `resume` is called with them, because their receiver is lost or another: those since the last call. Asked
   * for when `states` have changed. Absent where receivers do not come and go.
   */
  takeLost?(): readonly number[]
  /** The stream knows of it: everything that is posted from now on is meant for the substream's next receiver. */
  resume?(substream: number): void
  /** The name of a cause that is no errno. */
  causeName?(cause: number): string
  /** Explains a substream's failure to a person: interface, MTU, remedy. Cold. */
  explain(errno: number, substream: number, udpBytes: number): string
  /** Stops using all registered memory, then closes what it opened. Idempotent. */
  close(): void
  /** Set by `close` where a call in another thread still uses what was opened: settled when that is closed too. */
  readonly lingering?: Promise<void> | undefined
}
