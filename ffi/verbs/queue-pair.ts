/**
 * A queue pair with its completion queue and channel, for raw packets (whole frames) or datagrams of the fabric (UD). send-queue.ts
 * and receive-queue.ts build on it.
 *
 * | QP state | next                                                       |
 * |----------|------------------------------------------------------------|
 * | reset    | ready, by ready() (INIT → RTR → RTS)                        |
 * | ready    | error, when a work request fails or by fail()               |
 * | error    | reset, by reset(), which drops everything still queued      |
 *
 * Teardown: QP → CQ → channel; destroying a CQ waits for all its events to be acknowledged (ibv_destroy_cq(3)).
 */
import { errno } from '../libc.js'
import { attachRegion, orRelease, Region } from '../memory/region.js'
import { readI32, readU32 } from '../memory/store-pointer.js'
import { NativeError } from '../native-error.js'
import { type ProtectionDomain, setNonBlocking } from './context.js'
import {
  IBV_COMP_CHANNEL,
  IBV_QP,
  IBV_QP_ATTR,
  IBV_QP_INIT_ATTR,
  IBV_QP_PKEY_INDEX,
  IBV_QP_PORT,
  IBV_QP_QKEY,
  IBV_QP_SQ_PSN,
  IBV_QP_STATE,
  IBV_QPS_ERR,
  IBV_QPS_INIT,
  IBV_QPS_RESET,
  IBV_QPS_RTR,
  IBV_QPS_RTS,
  IBV_QPT_RAW_PACKET,
  IBV_QPT_UD,
  IBV_WC,
} from './layout.js'
import type { Pointer, VerbsLibrary } from './library.js'

export type QueuePairType = 'raw' | 'datagram'

export interface QueuePairOptions {
  /** Default raw. */
  readonly type?: QueuePairType
  /** Counted from 1. */
  readonly port: number
  /** For datagrams: the queue pair takes a message only if its sender names this key. Default 0. */
  readonly qkey?: number
  readonly completionVector: number
}

interface Capacity {
  readonly sends: number
  readonly sendSges: number
  readonly receives: number
}

/** Completions taken from the queue in one call. */
export const POLL_BATCH = 64
export const WC_WORDS = IBV_WC.size / 4
const ATTR_AT = POLL_BATCH * IBV_WC.size
const EVENT_AT = ATTR_AT + IBV_QP_ATTR.size

export abstract class QueuePair {
  readonly qp: Pointer<'ibv_qp'>
  readonly number: number
  /** For poll(2): readable when an armed queue has a completion. */
  readonly channelFd: number
  /** Work requests that the provider granted; it may grant more than were asked for. */
  protected readonly grantedSends: number
  protected readonly grantedReceives: number
  /** Completions as the last poll() left them, WC_WORDS each. */
  protected readonly words: Uint32Array<ArrayBuffer>
  protected readonly view: DataView<ArrayBuffer>
  readonly #pair: QueuePairOptions
  readonly #library: VerbsLibrary
  readonly #cq: Pointer<'ibv_cq'>
  readonly #channel: Pointer<'ibv_comp_channel'>
  readonly #pollCq: (cq: number, n: number, wc: number) => number
  readonly #reqNotifyCq: (cq: number, solicitedOnly: number) => number
  readonly #region = Region.allocate(EVENT_AT + 64, { hugePages: 'never' })
  #unacknowledged = 0
  #open = true

  /**
   * @throws NativeError: EPERM or EINVAL without CAP_NET_RAW, ENOMEM beyond RLIMIT_MEMLOCK, EOPNOTSUPP when the device has none of
   * the type
   */
  protected constructor(
    readonly domain: ProtectionDomain,
    pair: QueuePairOptions,
    capacity: Capacity,
  ) {
    const { context } = domain
    const { library } = context
    this.#pair = pair
    this.#library = library
    this.view = new DataView(attachRegion(this.#region))
    this.words = new Uint32Array(attachRegion(this.#region))
    const operations = library.operations(context.pointer)
    this.#pollCq = operations.pollCq
    this.#reqNotifyCq = operations.reqNotifyCq
    this.#channel = orRelease(this.#region, () => library.pointer('ibv_create_comp_channel', context.pointer))
    this.channelFd = readI32(this.#channel + IBV_COMP_CHANNEL.fd)
    let cq: Pointer<'ibv_cq'> | undefined
    try {
      setNonBlocking(this.channelFd)
      // The completion queue has room for all work requests, because in an error each of them completes, signalled or not.
      const vector = pair.completionVector % Math.max(1, context.completionVectors)
      const entries = Math.max(capacity.sends, capacity.receives)
      cq = library.pointer<'ibv_cq'>('ibv_create_cq', context.pointer, entries, 0, this.#channel, vector)
      this.#cq = cq
      this.qp = this.#createQp(capacity)
    } catch (error) {
      if (cq) library.call.ibv_destroy_cq(cq)
      library.call.ibv_destroy_comp_channel(this.#channel)
      this.#region.release()
      throw error
    }
    // ibv_create_qp(3) writes back what it granted.
    this.grantedSends = this.view.getUint32(ATTR_AT + IBV_QP_INIT_ATTR['cap.max_send_wr'], true)
    this.grantedReceives = this.view.getUint32(ATTR_AT + IBV_QP_INIT_ATTR['cap.max_recv_wr'], true)
    this.number = readU32(this.qp + IBV_QP.qp_num)
  }

  #createQp({ sends, sendSges, receives }: Capacity): Pointer<'ibv_qp'> {
    const Q = IBV_QP_INIT_ATTR
    const attr = this.clearAttr(Q.size)
    const { view } = this
    view.setBigUint64(ATTR_AT + Q.send_cq, BigInt(this.#cq), true)
    view.setBigUint64(ATTR_AT + Q.recv_cq, BigInt(this.#cq), true)
    view.setUint32(ATTR_AT + Q['cap.max_send_wr'], sends, true)
    view.setUint32(ATTR_AT + Q['cap.max_send_sge'], sendSges, true)
    view.setUint32(ATTR_AT + Q['cap.max_recv_wr'], receives, true)
    view.setUint32(ATTR_AT + Q['cap.max_recv_sge'], receives > 0 ? 1 : 0, true)
    view.setUint32(ATTR_AT + Q.qp_type, this.#pair.type === 'datagram' ? IBV_QPT_UD : IBV_QPT_RAW_PACKET, true)
    const qp = this.#library.call.ibv_create_qp(this.domain.pointer, attr)
    if (qp === 0) throw new NativeError('ibv_create_qp', errno(), this.domain.context.name)
    return qp as Pointer<'ibv_qp'>
  }

  /** Zeroes the room for a call's attributes, at attrAt in `view`, and returns its address. */
  protected clearAttr(bytes: number): number {
    new Uint8Array(this.view.buffer, ATTR_AT, bytes).fill(0)
    return this.#region.address + ATTR_AT
  }

  protected get attrAt(): number {
    return ATTR_AT
  }

  #modify(state: number, mask: number): void {
    const A = IBV_QP_ATTR
    const attr = this.clearAttr(A.size)
    this.view.setUint32(ATTR_AT + A.qp_state, state, true)
    this.view.setUint32(ATTR_AT + A.qkey, this.#pair.qkey ?? 0, true)
    this.view.setUint8(ATTR_AT + A.port_num, this.#pair.port)
    this.#library.done('ibv_modify_qp', `to state ${state}`, this.qp, attr, mask)
  }

  /**
   * RESET → INIT → RTR → RTS. Raw packets need the port as attribute, datagrams also a partition (the first), a key and a first
   * sequence number (kernel, qp_state_table). @throws NativeError
   */
  ready(): void {
    const datagram = this.#pair.type === 'datagram'
    this.#modify(IBV_QPS_INIT, IBV_QP_STATE | IBV_QP_PORT | (datagram ? IBV_QP_PKEY_INDEX | IBV_QP_QKEY : 0))
    this.#modify(IBV_QPS_RTR, IBV_QP_STATE)
    this.#modify(IBV_QPS_RTS, IBV_QP_STATE | (datagram ? IBV_QP_SQ_PSN : 0))
  }

  /** Puts the queue pair in error: all work requests under way complete, flushed. @throws NativeError */
  fail(): void {
    this.#modify(IBV_QPS_ERR, IBV_QP_STATE)
  }

  /** Drops all work requests under way, and completions that were not polled. @throws NativeError */
  reset(): void {
    this.#modify(IBV_QPS_RESET, IBV_QP_STATE)
  }

  /**
   * Takes up to POLL_BATCH completions and returns how many; a negative number when the queue is broken. row() and others read
   * them. 50 ns.
   */
  poll(): number {
    return this.#pollCq(this.#cq, POLL_BATCH, this.#region.address)
  }
  /** enum ibv_wc_status. A failed completion has a valid wr_id, status and vendor error, and nothing else (ibv_poll_cq(3)). */
  status(i: number): number {
    return this.words[i * WC_WORDS + IBV_WC.status / 4]!
  }
  vendorError(i: number): number {
    return this.words[i * WC_WORDS + IBV_WC.vendor_err / 4]!
  }

  /**
   * From now on a completion makes the channel readable. Poll once more after it, because one may have come before
   * (ibv_get_cq_event(3)).
   */
  arm(): void {
    this.#reqNotifyCq(this.#cq, 0)
  }

  /** Takes the events that made the channel readable. They are acknowledged in bulk, because that takes a lock. */
  takeEvents(): void {
    const { call } = this.#library
    const at = this.#region.address + EVENT_AT
    while (call.ibv_get_cq_event(this.#channel, at, at + 8) === 0) this.#unacknowledged++
    if (this.#unacknowledged >= 1000) this.#acknowledge()
  }

  #acknowledge(): void {
    if (this.#unacknowledged > 0) this.#library.call.ibv_ack_cq_events(this.#cq, this.#unacknowledged)
    this.#unacknowledged = 0
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    const { call } = this.#library
    call.ibv_destroy_qp(this.qp)
    this.takeEvents()
    this.#acknowledge()
    call.ibv_destroy_cq(this.#cq)
    call.ibv_destroy_comp_channel(this.#channel)
    this.#region.release()
  }
}
