/**
 * The open connections, and who may have another. Anybody may connect and say nothing, so their number is bounded, and where it is reached
 * the one that has been idle for longest gives way. As long as there is room an idle one stays, because a sender may pause for hours.
 */
import type { Budget } from './budget.js'
import { MOST_STREAM_PACKET_BYTES } from './framing.js'

/** Connections, of which each may keep a packet. */
const MOST_CONNECTIONS = 256
const MOST_OF_AN_ADDRESS = 64
/** Time without a whole packet after which a connection gives way to another. */
const IDLE_MS = 60_000
/** Senders whose names are remembered. */
const MOST_NAMES = 4096
const NOTHING = new Uint8Array(0)

export interface Connection {
  readonly fd: number
  /** A number of its own. */
  readonly sender: number
  readonly endpoint: number
  readonly address: string
  /** The beginning of a packet, in the first `heldBytes`. */
  held: Uint8Array
  heldBytes: number
  /** Bytes without which nothing more can be said of it. */
  wantedBytes: number
  /** When its last whole packet came, or it itself. */
  heardAt: number
}

/** The reason to turn a connection away, for a person; or the one that gives way to it, if one has to. */
export type Admission = { readonly refused: string } | { readonly instead: Connection | undefined }

export class Connections {
  readonly #byFd = new Map<number, Connection>()
  readonly #names = new Map<number, string>()
  readonly #budget: Budget
  #next = 0

  constructor(budget: Budget) {
    this.#budget = budget
  }

  get size(): number {
    return this.#byFd.size
  }

  get(fd: number): Connection | undefined {
    return this.#byFd.get(fd)
  }

  /** Says whether there is room for a connection of an address. */
  admit(address: string, nowMs: number): Admission {
    let same = 0
    let idlest: Connection | undefined
    let idlestSame: Connection | undefined
    for (const connection of this.#byFd.values()) {
      if (!idlest || connection.heardAt < idlest.heardAt) idlest = connection
      if (connection.address !== address) continue
      same++
      if (!idlestSame || connection.heardAt < idlestSame.heardAt) idlestSame = connection
    }
    const crowded = same >= MOST_OF_AN_ADDRESS
    if (!crowded && this.#byFd.size < MOST_CONNECTIONS) return { instead: undefined }
    const instead = crowded ? idlestSame : idlest
    if (instead && nowMs - instead.heardAt >= IDLE_MS) return { instead }
    const open = crowded
      ? `${same} of its address are open, and that is the most`
      : `${this.#byFd.size} are open, and that is the most`
    return { refused: open }
  }

  /** Counts no time as idle in which nobody read. */
  excuse(ms: number): void {
    for (const connection of this.#byFd.values()) connection.heardAt += ms
  }

  add(fd: number, endpoint: number, address: string, name: string, nowMs: number): void {
    const sender = this.#next
    this.#next = (sender + 1) & 0x7fffffff
    this.#byFd.set(fd, { fd, sender, endpoint, address, held: NOTHING, heldBytes: 0, wantedBytes: 0, heardAt: nowMs })
    if (this.#names.size >= MOST_NAMES) this.#names.delete(this.#names.keys().next().value!)
    this.#names.set(sender, name)
  }

  /** Keeps bytes behind the first `keptBytes` for the connection's next turn. False where there is no memory for them. */
  hold(connection: Connection, keptBytes: number, bytes: Uint8Array): boolean {
    const { held } = connection
    const heldBytes = keptBytes + bytes.length
    if (heldBytes > held.length) {
      const size = Math.min(MOST_STREAM_PACKET_BYTES, 2 * heldBytes)
      if (!this.#budget.take(size - held.length)) return false
      connection.held = new Uint8Array(size)
      connection.held.set(held.subarray(0, keptBytes))
    }
    connection.held.set(bytes, keptBytes)
    connection.heldBytes = heldBytes
    return true
  }

  delete({ fd, held }: Connection): void {
    this.#byFd.delete(fd)
    this.#budget.give(held.length)
  }

  /** A sender's address and port; null where they are forgotten. */
  nameOf(sender: number): string | null {
    return this.#names.get(sender) ?? null
  }
}
