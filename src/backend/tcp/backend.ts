/**
 * TCP through sendmsg(2): one connection for each endpoint, in which SPEAD packets follow one another, as spead2 sends and receives them.
 * Evidence: `acknowledged`, the receiver's kernel has the bytes.
 *
 * | state  | legal             | leaves by          |
 * |--------|-------------------|--------------------|
 * | open   | all               | close() → closed   |
 * | closed | close (no effect) | never              |
 *
 * A connection that is lost (connection.ts) fails what it had not acknowledged, and all later packets to its endpoint; others go on. A socket
 * without room holds up the packets behind it, whatever endpoint they are for, because rows are posted in order.
 */

import { errnoName } from '../../../ffi/native-error.js'
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
import { States } from '../states.js'
import { Chunks } from './chunks.js'
import type { Connection } from './connection.js'
import { connectAll, type TcpOptions } from './open.js'
import { TcpPosting } from './posting.js'

/** As large as packets of the other backends; a receiver may bound them. */
const MOST_PACKET_BYTES = 65507

export class TcpBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  readonly #connections: readonly Connection[]
  readonly #options: TcpOptions
  readonly #counters: Float64Array
  readonly #chunks = new Chunks()
  readonly #postings = new Set<TcpPosting>()
  /** Of the connections that are not lost; made anew when one is. */
  #waitSet: readonly { readonly fd: number; events: number }[]
  /** The connection without room for the next packet. */
  #blocked: Connection | undefined
  #lost = 0
  #open = true

  constructor(connections: readonly Connection[], options: TcpOptions, { counters }: BackendEnvironment) {
    this.#connections = connections
    this.#options = options
    this.#counters = counters
    this.#waitSet = connections.map(({ interest }) => interest)
    this.caps = {
      name: 'tcp',
      evidence: 'acknowledged',
      substreams: connections.length,
      maxPacketSizeBytes: MOST_PACKET_BYTES,
      headroomBytes: 0,
      mergesEqualPackets: false,
      wireOverheadBytes: 0,
      pollNanoseconds: 0,
    }
    this.states.add(() => ({ connections: connections.length, connectionsLost: this.#lost }))
  }

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
        this.#skip(connection, substream[row]!, stop - row, out)
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
        this.#counters[COUNTER.waits]! += 1
        again(out, 'writable')
        return
      } else {
        this.#noteLosses()
      }
    }
  }

  #skip(connection: Connection, substream: number, rows: number, out: PostResult): void {
    out.kind = POST_SKIP
    out.errno = connection.errno
    out.substream = substream
    out.skipped = rows
    this.#chunks.givenUp(rows)
  }

  #noteLosses(): void {
    const open = this.#connections.filter(({ state }) => state === 'open')
    if (open.length === this.#waitSet.length) return
    this.#lost = this.#connections.length - open.length
    this.#waitSet = open.map(({ interest }) => interest)
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
  }

  waitSet(wantWrite: boolean): readonly { readonly fd: number; readonly events: number }[] {
    const blocked = wantWrite ? this.#blocked : undefined
    for (const connection of this.#connections) connection.await(connection === blocked)
    return this.#waitSet
  }

  /** Notices of acknowledgements that were seen would end the sleep at once. */
  arm(): boolean {
    const before = this.#acknowledged()
    this.#lookAround()
    for (const connection of this.#connections) connection.look()
    this.#noteLosses()
    return this.#lost === 0 || this.#chunks.empty ? this.#acknowledged() === before : false
  }

  #acknowledged(): number {
    let sum = 0
    for (const { acknowledged } of this.#connections) sum += acknowledged
    return sum
  }

  descriptors(): readonly number[] {
    return this.#connections.map(({ fd }) => fd)
  }

  explain(errno: number, substream: number): string {
    const { text } = this.#options.endpoints[substream]!
    const name = errnoName(errno)
    switch (name) {
      case 'ECONNRESET':
      case 'EPIPE':
        return `${text}: the receiver closed the connection (${name}); what it had not acknowledged may be lost. Start it again, and open another stream`
      case 'ETIMEDOUT':
        return `${text}: nobody acknowledges what was sent (ETIMEDOUT); look whether the receiver's host is up and reachable`
      case 'EFAULT':
        return `${text}: ${SHORTER_FILE}`
      default:
        return `${text}: the connection is lost (${name})`
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    for (const connection of this.#connections) connection.close()
    for (const posting of this.#postings) posting.release()
  }
}

export async function openTcp(options: TcpOptions, environment: BackendEnvironment): Promise<TcpBackend> {
  const connections = await connectAll(options)
  return new TcpBackend(connections, options, environment)
}
