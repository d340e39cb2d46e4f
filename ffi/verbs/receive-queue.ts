/**
 * Datagrams received into one registered region. It has as many equal slots as the queue is deep, each with room for the 40 bytes
 * of the global route header in front of a message (ibv_post_recv(3)). The work requests are a prelinked ring, so that giving back
 * any run of slots takes four stores and one call. Slots are filled in turn, and so they are given back in turn.
 */

import { attachRegion, Region } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'
import { writePointer } from '../memory/store-pointer.js'
import { NativeError } from '../native-error.js'
import type { ProtectionDomain } from './context.js'
import { IBV_GRH, IBV_RECV_WR, IBV_SGE, IBV_WC } from './layout.js'
import { QueuePair, type QueuePairOptions, WC_WORDS } from './queue-pair.js'

export interface ReceiveQueueOptions extends QueuePairOptions {
  readonly slots: number
  readonly slotBytes: number
  /** Address of the first slot, in memory that is registered with the domain under `lkey`. */
  readonly address: number
  readonly lkey: number
}

/** Bytes in front of every message. */
export const HEADER_BYTES = IBV_GRH.size
const WR_WORDS = IBV_RECV_WR.size / 4
const NEXT = IBV_RECV_WR.next / 4

export class ReceiveQueue extends QueuePair {
  readonly slots: number
  readonly slotBytes: number
  readonly #postReceive: (qp: number, wr: number, bad: number) => number
  readonly #requests: Region
  readonly #wr: Uint32Array
  readonly #badAt: number
  readonly #gid = new Scratch(16)
  readonly #groups: { readonly gid: Uint8Array; readonly lid: number }[] = []
  /** The next slot to give back. */
  #next = 0
  /** Slots from #next on that were read and not given back. */
  #spent = 0

  /** @throws NativeError, as QueuePair's */
  constructor(domain: ProtectionDomain, options: ReceiveQueueOptions) {
    super(domain, options, { sends: 1, sendSges: 1, receives: options.slots })
    this.slots = Math.min(options.slots, this.grantedReceives)
    this.slotBytes = options.slotBytes
    this.#postReceive = domain.context.library.operations(domain.context.pointer).postReceive
    const sgesAt = this.slots * IBV_RECV_WR.size
    this.#badAt = sgesAt + this.slots * IBV_SGE.size
    this.#requests = Region.allocate(this.#badAt + 8)
    this.#wr = new Uint32Array(attachRegion(this.#requests))
    const { address } = this.#requests
    for (let slot = 0; slot < this.slots; slot++) {
      const at = slot * WR_WORDS
      const sge = sgesAt + slot * IBV_SGE.size
      this.#wr[at + IBV_RECV_WR.wr_id / 4] = slot
      writePointer(this.#wr, at + NEXT, address + ((slot + 1) % this.slots) * IBV_RECV_WR.size)
      writePointer(this.#wr, at + IBV_RECV_WR.sg_list / 4, address + sge)
      this.#wr[at + IBV_RECV_WR.num_sge / 4] = 1
      writePointer(this.#wr, (sge + IBV_SGE.addr) / 4, options.address + slot * options.slotBytes)
      this.#wr[(sge + IBV_SGE.length) / 4] = options.slotBytes
      this.#wr[(sge + IBV_SGE.lkey) / 4] = options.lkey
    }
  }

  /** From now on the queue takes datagrams. @throws NativeError */
  start(): void {
    this.ready()
    this.spent(this.slots)
  }

  /** From now on the queue takes a group's datagrams too. The port must have joined the group. @throws NativeError */
  attach(gid: Uint8Array, lid: number): void {
    const { library } = this.domain.context
    this.#groups.push({ gid, lid })
    try {
      library.done('ibv_attach_mcast', '', this.qp, this.#gid.put(gid), lid)
    } catch (error) {
      this.#groups.pop()
      throw error
    }
  }

  /** The slot that completion i filled. */
  slot(i: number): number {
    return this.words[i * WC_WORDS]!
  }
  /** Bytes of completion i's message, without the header. */
  messageBytes(i: number): number {
    return this.words[i * WC_WORDS + IBV_WC.byte_len / 4]! - HEADER_BYTES
  }
  sourceQueuePair(i: number): number {
    return this.words[i * WC_WORDS + IBV_WC.src_qp / 4]!
  }
  /** InfiniBand's local id of the sender. */
  sourceLid(i: number): number {
    return this.words[i * WC_WORDS + (IBV_WC.slid >> 2)]! >>> 16
  }

  /** `n` more slots were read. Slots are given back when an eighth of the queue was read. @throws NativeError */
  spent(n: number): void {
    this.#spent += n
    if (this.#spent * 8 >= this.slots) this.#giveBack()
  }

  #giveBack(): void {
    const n = this.#spent
    const wr = this.#wr
    const last = ((this.#next + n - 1) % this.slots) * WR_WORDS
    const nextLo = wr[last + NEXT]!
    const nextHi = wr[last + NEXT + 1]!
    wr[last + NEXT] = 0
    wr[last + NEXT + 1] = 0
    const { address } = this.#requests
    const errno = this.#postReceive(this.qp, address + this.#next * IBV_RECV_WR.size, address + this.#badAt)
    wr[last + NEXT] = nextLo
    wr[last + NEXT + 1] = nextHi
    if (errno !== 0) throw new NativeError('ibv_post_recv', Math.abs(errno), `${n} slots`)
    this.#next = (this.#next + n) % this.slots
    this.#spent = 0
  }

  override close(): void {
    const { library } = this.domain.context
    // A queue pair cannot be destroyed while it is attached.
    for (const { gid, lid } of this.#groups.splice(0)) library.call.ibv_detach_mcast(this.qp, this.#gid.put(gid), lid)
    super.close()
    this.#requests.release()
    this.#gid.region.release()
  }
}
