/**
 * Takes packets from TCP connections. A read is one for all packets in it; a packet that has not come whole is kept until the connection's
 * next turn, in front of which it is put then.
 */
import type { RegionHandle } from '../../ffi/memory/region.js'
import { attachRegion } from '../../ffi/memory/region.js'
import { TcpIntake } from '../../ffi/socket/tcp-intake.js'
import { formatAddress } from '../net/address.js'
import { MOST_STREAM_PACKET_BYTES, NEEDS_MORE, NO_PACKET, packetBytes } from './framing.js'
import type { ReceiveSession } from './session.js'
import type { PacketSource } from './source.js'

export interface TcpSourceInput {
  readonly kind: 'tcp'
  /** Listening sockets, one for each endpoint. */
  readonly fds: readonly number[]
}

const READ_BYTES = 1 << 20
/** Memory before the reads, for what was kept, and the reads. */
export const TCP_ARENA_BYTES = MOST_STREAM_PACKET_BYTES + READ_BYTES
/** Connections, of which each may keep a packet. */
const MOST_CONNECTIONS = 256
const MOST_OF_AN_ADDRESS = 64
/** Senders whose names are remembered. */
const MOST_NAMES = 4096

interface Connection {
  readonly sender: number
  readonly endpoint: number
  readonly address: string
  /** The beginning of a packet, in the first `heldBytes`. */
  held: Uint8Array
  heldBytes: number
}

const NOTHING = new Uint8Array(0)

export class TcpSource implements PacketSource {
  readonly buffer: ArrayBuffer
  readonly freeAt = TCP_ARENA_BYTES
  /** One set tells of all connections, so there is one turn for all endpoints. */
  readonly endpoints = 1
  readonly fds: readonly number[]
  readonly #intake: TcpIntake
  readonly #listeners: ReadonlyMap<number, number>
  readonly #address: number
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #connections = new Map<number, Connection>()
  readonly #names = new Map<number, string>()
  #next = 0

  constructor({ fds }: TcpSourceInput, memory: RegionHandle) {
    this.buffer = attachRegion(memory)
    this.#address = memory.address
    this.#u8 = new Uint8Array(this.buffer)
    this.#view = new DataView(this.buffer)
    this.#listeners = new Map(fds.map((fd, endpoint) => [fd, endpoint]))
    this.#intake = new TcpIntake(fds)
    this.fds = [this.#intake.fd]
  }

  take(_endpoint: number, session: ReceiveSession): number {
    const intake = this.#intake
    const ready = intake.ready()
    let reads = 0
    for (let i = 0; i < ready; i++) {
      const fd = intake.found[i]!
      const endpoint = this.#listeners.get(fd)
      if (endpoint !== undefined) this.#accept(fd, endpoint)
      else if (this.#read(fd, this.#connections.get(fd)!, session)) reads++
    }
    return reads
  }

  #accept(listener: number, endpoint: number): void {
    const intake = this.#intake
    for (let fd = intake.accept(listener); fd >= 0; fd = intake.accept(listener)) {
      const { bytes, port } = intake.peer()
      const address = formatAddress(bytes)
      let same = 0
      for (const connection of this.#connections.values()) if (connection.address === address) same++
      if (this.#connections.size >= MOST_CONNECTIONS || same >= MOST_OF_AN_ADDRESS) {
        intake.drop(fd)
        continue
      }
      const sender = this.#next
      this.#next = (sender + 1) & 0x7fffffff
      this.#connections.set(fd, { sender, endpoint, address, held: NOTHING, heldBytes: 0 })
      if (this.#names.size >= MOST_NAMES) this.#names.delete(this.#names.keys().next().value!)
      this.#names.set(sender, bytes.length === 4 ? `${address}:${port}` : `[${address}]:${port}`)
    }
  }

  /** False if there was nothing. */
  #read(fd: number, connection: Connection, session: ReceiveSession): boolean {
    const { heldBytes, sender, endpoint } = connection
    const read = this.#intake.read(fd, this.#address + MOST_STREAM_PACKET_BYTES, READ_BYTES)
    if (read < 0) return false
    if (read === 0) {
      if (heldBytes > 0) session.truncated()
      this.#drop(fd)
      return true
    }
    session.message()
    const end = MOST_STREAM_PACKET_BYTES + read
    let at = MOST_STREAM_PACKET_BYTES - heldBytes
    this.#u8.set(connection.held.subarray(0, heldBytes), at)
    while (at < end) {
      const bytes = packetBytes(this.#view, at, end - at)
      if (bytes === NO_PACKET) {
        session.truncated()
        this.#drop(fd)
        return true
      }
      if (bytes === NEEDS_MORE || bytes > end - at) break
      session.packet(at, bytes, sender, endpoint)
      at += bytes
    }
    const rest = end - at
    if (rest > connection.held.length) connection.held = new Uint8Array(Math.min(MOST_STREAM_PACKET_BYTES, 2 * rest))
    connection.held.set(this.#u8.subarray(at, end))
    connection.heldBytes = rest
    return true
  }

  #drop(fd: number): void {
    this.#connections.delete(fd)
    this.#intake.drop(fd)
  }

  nameOf(sender: number): string | null {
    return this.#names.get(sender) ?? null
  }

  dropped(): number {
    return 0
  }

  close(): void {
    this.#intake.close()
  }
}
