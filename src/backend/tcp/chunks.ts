/**
 * The chunks that were posted and not reported yet, in the order of posting. A chunk is the rows of one connection that were sent in a call, or
 * rows that were given up. They stand in a ring of typed arrays, so that neither a post nor a report allocates.
 */
import type { ReapResult } from '../backend.js'
import type { Connection } from './connection.js'
import type { TcpPosting } from './posting.js'

const CHUNKS = 1024
const MASK = CHUNKS - 1

export class Chunks {
  readonly #rows = new Uint32Array(CHUNKS)
  readonly #first = new Uint32Array(CHUNKS)
  /** The connection's bytes by which all rows are acknowledged. */
  readonly #end = new Float64Array(CHUNKS)
  readonly #connections: (Connection | undefined)[] = new Array(CHUNKS).fill(undefined)
  readonly #postings: (TcpPosting | undefined)[] = new Array(CHUNKS).fill(undefined)
  #head = 0
  #tail = 0

  get full(): boolean {
    return this.#tail - this.#head === CHUNKS
  }

  /** The oldest chunk is done with, so there is something to report. */
  get ready(): boolean {
    if (this.#tail === this.#head) return false
    const c = this.#head & MASK
    const connection = this.#connections[c]
    return connection === undefined || connection.state !== 'open' || connection.acknowledged >= this.#end[c]!
  }

  /** Rows that were begun; they are done with when the connection's bytes so far are acknowledged. Only where there is room. */
  begun(connection: Connection, posting: TcpPosting, first: number, rows: number): void {
    const c = this.#tail++ & MASK
    this.#rows[c] = rows
    this.#first[c] = first
    this.#end[c] = connection.begun
    this.#connections[c] = connection
    this.#postings[c] = posting
  }

  /** Rows that no connection takes, and whose failure is told already. Only where there is room. */
  givenUp(rows: number): void {
    const c = this.#tail++ & MASK
    this.#rows[c] = rows
    this.#connections[c] = undefined
    this.#postings[c] = undefined
  }

  /** Reports the chunks that are done with: acknowledged, given up, or begun on a connection that is lost. */
  report(out: ReapResult): void {
    out.completed = 0
    out.failures = 0
    for (; this.#head !== this.#tail; this.#head++) {
      const c = this.#head & MASK
      const connection = this.#connections[c]
      if (connection && connection.acknowledged < this.#end[c]!) {
        if (connection.state === 'open' || !this.#reportLost(c, connection, out)) return
      } else {
        out.completed += this.#rows[c]!
      }
      // A batch that is closed must not be kept in memory until the ring has come round.
      this.#postings[c] = undefined
    }
  }

  /** Cold. False when `out` has no room for more failures; the chunk has shrunk to what is left then. */
  #reportLost(c: number, { acknowledged, errno }: Connection, out: ReapResult): boolean {
    const { bytesBefore } = this.#postings[c]!
    const first = this.#first[c]!
    const end = first + this.#rows[c]!
    const offset = this.#end[c]! - bytesBefore[end]!
    for (let row = first; row < end; row++) {
      if (bytesBefore[row + 1]! + offset > acknowledged) {
        if (out.failures === out.failedAt.length) {
          this.#rows[c] = end - row
          this.#first[c] = row
          return false
        }
        out.failedAt[out.failures] = out.completed
        out.failedErrno[out.failures++] = errno
      }
      out.completed++
    }
    return true
  }
}
