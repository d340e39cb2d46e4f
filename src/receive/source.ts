/** The interface of the receiving thread's packet sources, udp-source.ts and rdma-source.ts. Types only. */
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { ReceiveSession } from './session.js'

export interface PacketSource {
  /** The queue pairs by which senders find the endpoints, where they do not find them by address. */
  readonly peers?: readonly DatagramPeer[]
  /** Holds messages below `freeAt`, a multiple of 4096; the rest is the session's. */
  readonly buffer: ArrayBuffer
  readonly freeAt: number
  readonly endpoints: number
  /** Descriptors that are readable when there is something to take; with arm(), when something has come since. */
  readonly fds: readonly number[]
  /** Gives the session the packets that have come to an endpoint, a few dozen at most; returns the number of reads. */
  take(endpoint: number, session: ReceiveSession): number
  /** Returns a sender's address and port as text; null where it has forgotten them. */
  nameOf?(sender: number): string | null
  /** Called before a sleep. The caller takes once more, because packets may have come before; then it sleeps. */
  arm?(): void
  /** Called after the sleep. */
  woken?(): void
  /** Called after each turn and at the end. @param quiet nothing had come */
  announce?(quiet: boolean): void
  /** Returns how many packets to an endpoint were lost before they could be taken; NaN where nobody counts them. */
  dropped(endpoint: number): number
  close(): void
}
