/**
 * TCP through sendmsg(2): one connection for each endpoint, in which SPEAD packets follow one another, as spead2 sends and receives them.
 * Evidence: `acknowledged`, the receiver's kernel has the bytes.
 *
 * | state  | legal             | leaves by          |
 * |--------|-------------------|--------------------|
 * | open   | all               | close() → closed   |
 * | closed | close (no effect) | never              |
 *
 * A connection that is lost (connection.ts) fails what it had not acknowledged; others go on. Later packets to its endpoint fail too, or go by the
 * next connection, where there is to be one (away.ts). A socket without room holds up the packets behind it, whatever endpoint they are for,
 * because rows are posted in order.
 */

import { errnoName } from '../../../ffi/native-error.js'
import type { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import type { PacketTable, TableRegion } from '../../batch/table.js'
import { COUNTER } from '../../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  POST_OK,
  POST_SKIP,
  type PostResult,
  type ReapResult,
} from '../backend.js'
import { SHORTER_FILE } from '../gather.js'
import { PathNews } from '../path-news.js'
import { States } from '../states.js'
import { Away } from './away.js'
import { Chunks } from './chunks.js'
import { Connection } from './connection.js'
import type { TcpOptions } from './dial.js'
import { connectAll } from './open.js'
import { TcpPosting } from './posting.js'

/** As large as packets of the other backends; a receiver may bound them. */
const MOST_PACKET_BYTES = 65507
/** The first pause where the kernel has no memory; the engine doubles it. */
const MEMORY_PAUSE_NANOSECONDS = 100_000

export class TcpBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  /** The last one of each endpoint. */
  readonly #connections: Connection[]
  readonly #losses: { count: number; readonly byClosing: boolean }
  readonly #path = new PathNews(this.states)
  readonly #away: Away | undefined
  readonly #options: TcpOptions
  readonly #counters: Float64Array
  readonly #chunks = new Chunks()
  readonly #postings = new Set<TcpPosting>()
  /** The connections that are not lost; made anew when one is. */
  #waitSet: readonly { readonly fd: number; events: number }[]
  /** The connection without room for the next packet. */
  #blocked: Connection | undefined
  /** Losses that were noted. */
  #noted = 0
  #open = true

  constructor(sockets: readonly TcpSocket[], options: TcpOptions, { counters }: BackendEnvironment) {
    const { retry } = options
    this.#losses = { count: 0, byClosing: retry !== undefined }
    this.#connections = sockets.map((socket) => new Connection(socket, this.#losses))
    this.#options = options
    this.#counters = counters
    this.#waitSet = this.#connections.map(({ interest }) => interest)
    if (retry) {
      const back = (substream: number) => this.#takeBack(substream, new Connection(sockets[substream]!, this.#losses))
      const away = new Away(options, retry, sockets, this.#path, back)
      this.#away = away
      this.takeLost = () => away.take()
      this.resume = (substream) => away.resume(substream)
    }
    this.caps = {
      name: 'tcp',
      evidence: 'acknowledged',
      substreams: sockets.length,
      maxPacketSizeBytes: MOST_PACKET_BYTES,
      headroomBytes: 0,
      mergesEqualPackets: false,
      wireOverheadBytes: 0,
      pollNanoseconds: 0,
    }
    this.states.add(() => ({
      connections: sockets.length,
      connectionsLost: sockets.length - this.#waitSet.length,
      ...(this.#away && { reconnects: this.#away.reconnects }),
    }))
  }

  takeLost?: () => readonly number[]
  resume?: (substream: number) => void

  /** The kernel copies at send. */
  register(_region: TableRegion): void {}

  compile(table: PacketTable): TcpPosting {
    const posting = new TcpPosting(table)
    this.#postings.add(posting)
    return posting
  }

  release(posting: TcpPosting): void {
    this.#postings.delete(posting)
    posting.release()
  }

  post(posting: TcpPosting, first: number, end: number, out: PostResult): void {
    const { runEnd } = posting
    const { substream } = posting.table
    const chunks = this.#chunks
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    this.#blocked = undefined
    for (let row = first; row < end; ) {
      if (chunks.full) {
        again(out, 'writable')
        return
      }
      const connection = this.#connections[substream[row]!]!
      const stop = Math.min(runEnd[row]!, end)
      if (connection.state !== 'open') {
        this.#refuse(connection, substream[row]!, stop - row, out)
        return
      }
      const begun = connection.finish() ? connection.send(posting, row, stop) : 0
      this.#counters[COUNTER.posts]! += 1
      if (begun > 0) {
        this.#counters[COUNTER.plainMessages]! += 1
        chunks.begun(connection, posting, row, begun)
        out.accepted += begun
        row += begun
      } else if (connection.state === 'open') {
        this.#blocked = connection
        this.#counters[connection.lacksMemory ? COUNTER.noBuffers : COUNTER.waits]! += 1
        again(out, connection.lacksMemory ? MEMORY_PAUSE_NANOSECONDS : 'writable')
        return
      } else {
        this.#noteLosses()
      }
    }
  }

  #refuse(connection: Connection, substream: number, rows: number, out: PostResult): void {
    this.#away?.advance()
    if (this.#connections[substream]!.state === 'open') return
    if (this.#away?.holds(substream)) {
      this.#counters[COUNTER.waits]! += 1
      again(out, 'writable')
      return
    }
    out.kind = POST_SKIP
    out.errno = connection.errno
    out.substream = substream
    out.skipped = rows
    this.#chunks.givenUp(rows)
  }

  #noteLosses(): void {
    if (this.#losses.count === this.#noted) return
    this.#noted = this.#losses.count
    for (const [substream, connection] of this.#connections.entries()) {
      if (connection.state === 'open' || connection.lossNoted) continue
      connection.lossNoted = true
      const { text } = this.#options.endpoints[substream]!
      this.#path.note(`${text}: the connection is lost (${errnoName(connection.errno)})`)
      this.#away?.lose(substream)
    }
    this.#await()
  }

  #takeBack(substream: number, connection: Connection): void {
    this.#connections[substream] = connection
    this.#await()
  }

  #await(): void {
    this.#waitSet = this.#connections.filter(({ state }) => state === 'open').map(({ interest }) => interest)
    this.states.change()
  }

  reap(out: ReapResult): void {
    for (const connection of this.#connections) {
      if (connection.state !== 'open' || connection.acknowledged === connection.begun) continue
      if (connection.hasRest) connection.finish()
      connection.look()
      if (connection.state !== 'open') this.#noteLosses()
    }
    this.#chunks.report(out)
  }

  /** A loss shows in the packets themselves, so nothing makes an acknowledgement doubtful. */
  suspicion(thorough: boolean): number {
    if (thorough) this.#lookAround()
    return 0
  }

  #lookAround(): void {
    for (const connection of this.#connections) connection.lookAround()
    this.#noteLosses()
    this.#away?.advance()
  }

  waitSet(wantWrite: boolean): readonly { readonly fd: number; readonly events: number }[] {
    const blocked = wantWrite ? this.#blocked : undefined
    for (const connection of this.#connections) connection.await(connection === blocked)
    if (!this.#away?.any) return this.#waitSet
    const set = [...this.#waitSet]
    this.#away.addTo(set)
    return set
  }

  /**
   * Notices of acknowledgements that were seen would end the sleep at once. A loss, a new connection or the last attempt lets packets pass or fail
   * that are waiting for a descriptor of before.
   */
  arm(): boolean {
    const { changes } = this.states
    this.#lookAround()
    for (const connection of this.#connections) connection.look()
    this.#noteLosses()
    return !this.#chunks.ready && this.states.changes === changes
  }

  descriptors(): readonly number[] {
    const fds = this.#connections.map(({ fd }) => fd)
    return this.#away ? [...fds, this.#away.timer.fd] : fds
  }

  explain(errno: number, substream: number): string {
    const { text } = this.#options.endpoints[substream]!
    const name = errnoName(errno)
    const given = this.#options.socketFd !== undefined
    const outlook =
      this.#away?.outlook(substream) ??
      (given ? 'connect another socket, and open a stream over it' : 'open another stream, or let it connect again (tcp.reconnect)')
    switch (name) {
      case 'ECONNRESET':
      case 'EPIPE':
        // The kernel has the same errno for both, and only the owner of a socket can shut it down.
        if (given && name === 'EPIPE')
          return `${text}: the receiver closed the connection, or the owner of the socket shut it down for writing (EPIPE); what was not acknowledged may be lost; ${outlook}`
        return `${text}: the receiver closed the connection (${name}); what it had not acknowledged may be lost. Start it again; ${outlook}`
      case 'ETIMEDOUT':
        return `${text}: nobody acknowledges what was sent (ETIMEDOUT); look whether the receiver's host is up and reachable; ${outlook}`
      case 'EFAULT':
        return `${text}: ${SHORTER_FILE}`
      default:
        return `${text}: the connection is lost (${name}); ${outlook}`
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    for (const connection of this.#connections) connection.close()
    this.#away?.close()
    for (const posting of this.#postings) posting.release()
  }
}

export async function openTcp(options: TcpOptions, environment: BackendEnvironment): Promise<TcpBackend> {
  return new TcpBackend(await connectAll(options), options, environment)
}
