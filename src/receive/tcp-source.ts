/**
 * Takes packets from TCP connections. A read is one for all packets in it; a packet that has not come whole is kept until the connection's
 * next turn, in front of which it is put then.
 */
import type { RegionHandle } from '../../ffi/memory/region.js'
import { attachRegion } from '../../ffi/memory/region.js'
import { NativeError } from '../../ffi/native-error.js'
import { NONE_WAITS, TcpIntake } from '../../ffi/socket/tcp-intake.js'
import { descriptorRemedy } from '../errors.js'
import { formatAddress } from '../net/address.js'
import type { BoundedNews } from './bounded-news.js'
import { MOST_STREAM_PACKET_BYTES, NO_PACKET, packetBytes } from './framing.js'
import type { ReceiveSession } from './session.js'
import type { PacketSource } from './source.js'
import { STAT } from './stats.js'
import { type Connection, Connections } from './tcp-connections.js'

export interface TcpSourceInput {
  readonly kind: 'tcp'
  /** Listening sockets, one for each endpoint. */
  readonly fds: readonly number[]
}

const READ_BYTES = 1 << 20
/** Bytes after which a turn ends, because heaps are delivered, and the room for them is looked at, between turns. */
const TURN_BYTES = READ_BYTES
/** Connections that a turn accepts, because those that are turned away may come back at once, for ever. */
const TURN_ACCEPTS = 64
/** Memory before the reads, for what was kept, and the reads. */
export const TCP_ARENA_BYTES = MOST_STREAM_PACKET_BYTES + READ_BYTES
/** Time after which a connection that could not be accepted is tried again. */
const RETRY_MS = 100
/** Turns follow one another within 50 ms, unless there is no room for what they would take. */
const HELD_UP_MS = 1000

export class TcpSource implements PacketSource {
  readonly buffer: ArrayBuffer
  readonly freeAt = TCP_ARENA_BYTES
  /** One set tells of all connections, so there is one turn for all endpoints. */
  readonly endpoints = 1
  readonly fds: readonly number[]
  readonly #intake: TcpIntake
  readonly #texts: readonly string[]
  readonly #listeners: ReadonlyMap<number, number>
  readonly #address: number
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #stats: Float64Array
  readonly #news: Pick<BoundedNews, 'tell'>
  readonly #now: () => number
  readonly #told = new Set<'refused' | 'failed'>()
  #connections: Connections | undefined
  /** The entries of the intake's `found` from `#at` up to `#ready` are left for the next turn. */
  #at = 0
  #ready = 0
  /** When to try the listeners again that are left alone; 0: none is. */
  #retryAt = 0
  readonly #resting = new Set<number>()
  #turnAt = 0

  /** @param texts those of the endpoints @param now a clock in milliseconds */
  constructor(
    { fds }: TcpSourceInput,
    texts: readonly string[],
    memory: RegionHandle,
    stats: Float64Array,
    news: Pick<BoundedNews, 'tell'>,
    now: () => number = () => performance.now(),
  ) {
    this.buffer = attachRegion(memory)
    this.#address = memory.address
    this.#u8 = new Uint8Array(this.buffer)
    this.#view = new DataView(this.buffer)
    this.#stats = stats
    this.#news = news
    this.#now = now
    this.#texts = texts
    this.#listeners = new Map(fds.map((fd, endpoint) => [fd, endpoint]))
    this.#intake = new TcpIntake(fds)
    this.fds = [this.#intake.fd]
  }

  take(_endpoint: number, session: ReceiveSession): number {
    const intake = this.#intake
    this.#connections ??= new Connections(session.budget)
    const now = this.#now()
    // A consumer that is slow holds up all connections.
    if (now - this.#turnAt > HELD_UP_MS) this.#connections.excuse(now - this.#turnAt)
    this.#turnAt = now
    if (this.#retryAt > 0 && now >= this.#retryAt) this.#retry()
    if (this.#at >= this.#ready) {
      this.#at = 0
      this.#ready = intake.ready()
    }
    let reads = 0
    let bytes = 0
    while (this.#at < this.#ready && bytes < TURN_BYTES) {
      const fd = intake.found[this.#at++]!
      const endpoint = this.#listeners.get(fd)
      if (endpoint !== undefined) {
        this.#accept(fd, endpoint, this.#connections, session, now)
        continue
      }
      // One that gave way to another in this very turn is gone.
      const connection = this.#connections.get(fd)
      const read = connection ? this.#read(connection, this.#connections, session, now) : -1
      if (read < 0) continue
      reads++
      bytes += read
    }
    return reads
  }

  #accept(listener: number, endpoint: number, connections: Connections, session: ReceiveSession, now: number): void {
    const intake = this.#intake
    try {
      for (let n = 0; n < TURN_ACCEPTS; n++) {
        const fd = intake.accept(listener)
        if (fd === NONE_WAITS) return
        if (fd >= 0) this.#admit(fd, endpoint, connections, session, now)
      }
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#rest(listener, endpoint, error, now)
    }
  }

  #admit(fd: number, endpoint: number, connections: Connections, session: ReceiveSession, now: number): void {
    const { bytes, port } = this.#intake.peer()
    const address = formatAddress(bytes)
    const name = bytes.length === 4 ? `${address}:${port}` : `[${address}]:${port}`
    const admission = connections.admit(address, now)
    if ('refused' in admission) {
      this.#intake.drop(fd)
      this.#stats[STAT.connectionsRefused]!++
      this.#tellOnce('refused', endpoint, now, (text) => `${text} turns ${name} away: ${admission.refused}`)
      return
    }
    if (admission.instead) {
      this.#stats[STAT.connectionsRefused]!++
      this.#drop(admission.instead, connections, session, `it was idle, and gave way to ${name}`)
    }
    this.#stats[STAT.connections]!++
    connections.add(fd, endpoint, address, name, now)
    this.#tellConnection(endpoint, name, connections, true, (text) => `${name} has connected to ${text}`)
  }

  /**
   * Leaves a listener alone for a while, because its next connection cannot be accepted. Meanwhile that connection waits in the kernel, which buffers
   * its bytes. Without the pause the listener would stay ready, and a turn would never end.
   */
  #rest(listener: number, endpoint: number, error: NativeError, now: number): void {
    this.#stats[STAT.acceptsFailed]!++
    this.#intake.listen(listener, false)
    this.#resting.add(listener)
    this.#retryAt = now + RETRY_MS
    const line = (text: string) =>
      `${text} cannot accept a connection, which waits: ${error.message}${descriptorRemedy(error)}; tries again ten times a second`
    this.#tellOnce('failed', endpoint, now, line)
  }

  #retry(): void {
    this.#retryAt = 0
    for (const listener of this.#resting) this.#intake.listen(listener, true)
    this.#resting.clear()
  }

  #tellOnce(what: 'refused' | 'failed', i: number, now: number, line: (text: string) => string): void {
    if (this.#told.has(what)) return
    this.#told.add(what)
    const endpoint = this.#texts[i]!
    this.#news.tell('refusal', now, () => ({ message: `${line(endpoint)}; told once, and counted`, endpoint }))
  }

  #tellConnection(i: number, sender: string, { size }: Connections, opened: boolean, line: (text: string) => string): void {
    const endpoint = this.#texts[i]!
    this.#news.tell('connection', this.#turnAt, () => ({
      message: line(endpoint),
      endpoint,
      before: { connections: opened ? size - 1 : size + 1 },
      after: { sender, connections: size },
    }))
  }

  /** Returns the bytes that were read, −1 if there were none. */
  #read(connection: Connection, connections: Connections, session: ReceiveSession, now: number): number {
    const { fd, heldBytes, wantedBytes, sender, endpoint } = connection
    const read = this.#intake.read(fd, this.#address + MOST_STREAM_PACKET_BYTES, READ_BYTES)
    if (read < 0) return -1
    if (read === 0) {
      this.#drop(connection, connections, session, 'it was closed there, or is broken')
      return 0
    }
    session.message(endpoint)
    const end = MOST_STREAM_PACKET_BYTES + read
    // A sender may send a packet byte by byte. Copying and parsing the whole packet for each byte would take too much time.
    if (heldBytes + read < wantedBytes) {
      this.#hold(connection, heldBytes, this.#u8.subarray(MOST_STREAM_PACKET_BYTES, end), connections, session)
      return read
    }
    connection.wantedBytes = 0
    let at = MOST_STREAM_PACKET_BYTES - heldBytes
    const start = at
    this.#u8.set(connection.held.subarray(0, heldBytes), at)
    while (at < end) {
      const bytes = packetBytes(this.#view, at, end - at)
      if (bytes === NO_PACKET) {
        session.truncated(endpoint)
        connection.heldBytes = 0
        this.#drop(connection, connections, session, 'what came is no SPEAD')
        return read
      }
      if (bytes > end - at) {
        connection.wantedBytes = bytes
        break
      }
      session.packet(at, bytes, sender, endpoint)
      at += bytes
    }
    if (at > start) connection.heardAt = now
    this.#hold(connection, 0, this.#u8.subarray(at, end), connections, session)
    return read
  }

  #hold(connection: Connection, keptBytes: number, bytes: Uint8Array, connections: Connections, session: ReceiveSession): void {
    if (connections.hold(connection, keptBytes, bytes)) return
    session.noRoom()
    this.#drop(connection, connections, session, 'there is no memory for its packet')
  }

  #drop(connection: Connection, connections: Connections, session: ReceiveSession, why: string): void {
    const { heldBytes, endpoint, fd, sender } = connection
    if (heldBytes > 0) session.truncated(endpoint)
    connections.delete(connection)
    this.#intake.drop(fd)
    const name = connections.nameOf(sender) ?? connection.address
    this.#tellConnection(endpoint, name, connections, false, (text) => `${name} is no longer connected to ${text}: ${why}`)
  }

  nameOf(sender: number): string | null {
    return this.#connections?.nameOf(sender) ?? null
  }

  dropped(): number {
    return 0
  }

  close(): void {
    this.#intake.close()
  }
}
