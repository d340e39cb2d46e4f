/**
 * A prelinked chain of ibv_send_wr with their ibv_sge, in one region. There is one work request per packet, written once, and
 * posting any consecutive part of the chain is a few stores and one call.
 *
 * | state    | legal              | leaves by      |
 * |----------|--------------------|----------------|
 * | building | request(), sge(), key() | first post |
 * | ready    | post(), cut(), key() | release()    |
 * | cut      | follow(), postCut(), refused(), mend() | mend() → ready |
 * | released | nothing: the region is used again | —  |
 *
 * The provider has copied a work request when post_send returns (ibv_post_send(3)). So no device reads the chain, and what a post
 * changed in it is put back at once.
 */

import { attachRegion, Region } from '../memory/region.js'
import { writePointer } from '../memory/store-pointer.js'
import { IBV_SEND_IP_CSUM, IBV_SEND_SIGNALED, IBV_SEND_WR, IBV_SGE, IBV_WR_SEND } from './layout.js'
import type { SendQueue } from './send-queue.js'

const WR_WORDS = IBV_SEND_WR.size / 4
const SGE_WORDS = IBV_SGE.size / 4
const NEXT = IBV_SEND_WR.next / 4
const FLAGS = IBV_SEND_WR.send_flags / 4

export interface DatagramDestination {
  /** An address handle of the queue pair's domain. */
  readonly handle: number
  readonly qpn: number
  readonly qkey: number
}

export class WorkRequestChain {
  readonly #region: Region
  readonly #words: Uint32Array<ArrayBuffer>
  readonly #address: number
  readonly #sgeAt: number
  readonly #badAt: number
  #errno = 0
  /** As `cutAt`. */
  #cutAt = 0
  /**
   * The pointer to the next work request that was overwritten by `cut`, in signed halves, because V8 keeps those without an object.
   */
  #nextLo = 0
  #nextHi = 0
  readonly #addressLo: number
  readonly #addressHi: number

  /**
   * @param id 32 bits that completions of this chain carry beside the row
   * @param signalEvery a work request whose row is one less than a multiple of this is always signalled
   */
  constructor(
    readonly rows: number,
    sges: number,
    id: number,
    readonly signalEvery: number,
    checksumOffload: boolean,
  ) {
    this.#sgeAt = rows * IBV_SEND_WR.size
    this.#badAt = this.#sgeAt + sges * IBV_SGE.size
    this.#region = Region.allocate(this.#badAt + 8)
    this.#address = this.#region.address
    this.#addressLo = this.#address | 0
    this.#addressHi = Math.floor(this.#address / 2 ** 32) | 0
    this.#words = new Uint32Array(attachRegion(this.#region))
    const flags = checksumOffload ? IBV_SEND_IP_CSUM : 0
    for (let row = 0; row < rows; row++) {
      const at = row * WR_WORDS
      this.#words[at + IBV_SEND_WR.wr_id / 4] = row
      this.#words[at + IBV_SEND_WR.wr_id / 4 + 1] = id
      this.#words[at + IBV_SEND_WR.opcode / 4] = IBV_WR_SEND
      this.#words[at + FLAGS] = flags | ((row + 1) % signalEvery === 0 ? IBV_SEND_SIGNALED : 0)
      if (row + 1 < rows) writePointer(this.#words, at + NEXT, this.#address + (row + 1) * IBV_SEND_WR.size)
    }
  }

  /** Gives the chain another id, so that late completions of earlier posts are not taken for those of later ones. */
  renumber(id: number): void {
    for (let row = 0; row < this.rows; row++) this.#words[row * WR_WORDS + IBV_SEND_WR.wr_id / 4 + 1] = id
  }

  /** Row `row` gathers SGEs first … first+count−1. */
  request(row: number, first: number, count: number): void {
    const at = row * WR_WORDS
    writePointer(this.#words, at + IBV_SEND_WR.sg_list / 4, this.#address + this.#sgeAt + first * IBV_SGE.size)
    this.#words[at + IBV_SEND_WR.num_sge / 4] = count
  }

  /** Row `row` is a datagram to that destination. */
  datagram(row: number, { handle, qpn, qkey }: DatagramDestination): void {
    const at = row * WR_WORDS
    writePointer(this.#words, at + IBV_SEND_WR['wr.ud.ah'] / 4, handle)
    this.#words[at + IBV_SEND_WR['wr.ud.remote_qpn'] / 4] = qpn
    this.#words[at + IBV_SEND_WR['wr.ud.remote_qkey'] / 4] = qkey
  }

  sge(i: number, address: number, byteLength: number, lkey = 0): void {
    const at = this.#sgeAt / 4 + i * SGE_WORDS
    writePointer(this.#words, at + IBV_SGE.addr / 4, address)
    this.#words[at + IBV_SGE.length / 4] = byteLength
    this.#words[at + IBV_SGE.lkey / 4] = lkey
  }

  /** SGE `i` lies in memory with that key. */
  key(i: number, lkey: number): void {
    this.#words[this.#sgeAt / 4 + i * SGE_WORDS + IBV_SGE.lkey / 4] = lkey
  }

  /** How many rows directly before `row` are unsignalled, unless a post ends there. */
  unsignalledBefore(row: number): number {
    return row % this.signalEvery
  }

  /** The errno of the last post when it took less than asked; 0 if it took all. */
  get errno(): number {
    return this.#errno
  }

  /**
   * Posts rows first … end−1 in one call, the last of them signalled, and returns how many were taken: those before the first
   * refused one (ibv_post_send(3): bad_wr). Six stores, nothing allocated.
   */
  post(queue: SendQueue, first: number, end: number): number {
    this.cut(end)
    const taken = this.postCut(queue, first, this) ? end - first : this.refused(this) - first
    this.mend()
    return taken
  }

  /** The chain ends before this row; 0 when it is not cut. */
  get cutAt(): number {
    return this.#cutAt
  }

  /** Makes the chain end before row `end`. */
  cut(end: number): void {
    const words = this.#words
    const at = (end - 1) * WR_WORDS + NEXT
    this.#cutAt = end
    this.#nextLo = words[at]! | 0
    this.#nextHi = words[at + 1]! | 0
    words[at] = 0
    words[at + 1] = 0
  }

  /** Makes the chain go on with `next` where it is cut. */
  follow(next: WorkRequestChain): void {
    const at = (this.#cutAt - 1) * WR_WORDS + NEXT
    this.#words[at] = next.#addressLo
    this.#words[at + 1] = next.#addressHi
  }

  /**
   * Posts from row `first` on and through the chains that follow, up to where `last` is cut; the last row is signalled. False: see
   * `refused`.
   */
  postCut(queue: SendQueue, first: number, last: WorkRequestChain): boolean {
    const words = last.#words
    const at = (last.#cutAt - 1) * WR_WORDS + FLAGS
    const flags = words[at]!
    words[at] = flags | IBV_SEND_SIGNALED
    this.#errno = queue.postSend(queue.qp, this.#address + first * IBV_SEND_WR.size, this.#address + this.#badAt)
    words[at] = flags
    return this.#errno === 0
  }

  /**
   * The row of `chain` that the last post from this chain was refused at. No integer from 0 to rows − 1 when the row is another
   * chain's.
   */
  refused(chain: WorkRequestChain): number {
    const bad = this.#words[this.#badAt / 4]! + this.#words[this.#badAt / 4 + 1]! * 2 ** 32
    return (bad - chain.#address) / IBV_SEND_WR.size
  }

  /** Undoes cut() and follow(). */
  mend(): void {
    const at = (this.#cutAt - 1) * WR_WORDS + NEXT
    this.#words[at] = this.#nextLo
    this.#words[at + 1] = this.#nextHi
    this.#cutAt = 0
  }

  release(): void {
    this.#region.release()
  }
}
