/** Where the receiving thread's packets come from: udp-source.ts and rdma-source.ts. Types only. */
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { ReceiveSession } from './session.js'

export interface PacketSource {
  /** Where senders find the endpoints, if not by their addresses. */
  readonly peers?: readonly DatagramPeer[]
  /** Messages are in it below `freeAt`, a multiple of 4096; behind that it is the session's. */
  readonly buffer: ArrayBuffer
  readonly freeAt: number
  readonly endpoints: number
  /** Readable when there is something to take; where there is arm(), what came after it. */
  readonly fds: readonly number[]
  /** Gives the session what has come to an endpoint, a few dozen packets at most; returns how many reads that were. */
  take(endpoint: number, session: ReceiveSession): number
  /** Called before a sleep; what came before it is to be taken once more, and then `woken` follows. */
  arm?(): void
  woken?(): void
  /** After a turn, and when all is over: `quiet` says that nothing had come. */
  announce?(quiet: boolean): void
  /** Packets lost before they could be taken; NaN where nobody counts them. */
  dropped(): number
  close(): void
}
