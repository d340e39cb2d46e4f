/**
 * A raw packet queue pair with its completion queue and channel: everything that a work request passes through.
 *
 * | QP state | next                                                       |
 * |----------|------------------------------------------------------------|
 * | reset    | ready by ready() (INIT → RTR → RTS)                         |
 * | ready    | error when a work request fails, or by fail()               |
 * | error    | reset by reset(), which drops what is still queued           |
 *
 * Teardown: QP → CQ → channel; destroying a CQ waits for all its events to be acknowledged (ibv_destroy_cq(3)).
 */
import { errno } from './libc.js'
import { readI32, readU32 } from './memory.js'
import { ERRNO, NativeError } from './native-error.js'
import { attachRegion, Region } from './region.js'
import { type ProtectionDomain, setNonBlocking } from './verbs.js'
import {
  IBV_COMP_CHANNEL,
  IBV_QP,
  IBV_QP_ATTR,
  IBV_QP_INIT_ATTR,
  IBV_QP_PORT,
  IBV_QP_RATE_LIMIT_ATTR,
  IBV_QP_STATE,
  IBV_QPS_ERR,
  IBV_QPS_INIT,
  IBV_QPS_RESET,
  IBV_QPS_RTR,
  IBV_QPS_RTS,
  IBV_QPT_RAW_PACKET,
  IBV_WC,
} from './verbs-layout.js'
import { extendedOperation, type Pointer, type VerbsLibrary } from './verbs-library.js'

export interface SendQueueOptions {
  /** From 1. */
  readonly port: number
  readonly depth: number
  readonly sges: number
  readonly completionVector: number
}

/** Completions taken from the queue in one call. */
export const POLL_BATCH = 64
const WC_WORDS = IBV_WC.size / 4
const ATTR_AT = POLL_BATCH * IBV_WC.size
const EVENT_AT = ATTR_AT + IBV_QP_ATTR.size

export class SendQueue {
  readonly qp: Pointer<'ibv_qp'>
  readonly number: number
  readonly postSend: (qp: number, wr: number, bad: number) => number
  /** For poll(2): readable when an armed queue has a completion. */
  readonly channelFd: number
  /** Work requests that may be under way. The provider may grant more than was asked for; the completion queue has room for these. */
  readonly depth: number
  readonly #library: VerbsLibrary
  readonly #cq: Pointer<'ibv_cq'>
  readonly #channel: Pointer<'ibv_comp_channel'>
  readonly #pollCq: (cq: number, n: number, wc: number) => number
  readonly #reqNotifyCq: (cq: number, solicitedOnly: number) => number
  readonly #region = Region.allocate(EVENT_AT + 64, { hugePages: 'never' })
  readonly #view = new DataView(attachRegion(this.#region))
  readonly #words = new Uint32Array(attachRegion(this.#region))
  #unacknowledged = 0
  #open = true

  /** @throws NativeError: EPERM or EINVAL without CAP_NET_RAW, ENOMEM beyond RLIMIT_MEMLOCK, EOPNOTSUPP where there are no raw packets */
  constructor(
    readonly domain: ProtectionDomain,
    readonly options: SendQueueOptions,
  ) {
    const { context } = domain
    const { library } = context
    this.#library = library
    const operations = library.operations(context.pointer)
    this.postSend = operations.postSend
    this.#pollCq = operations.pollCq
    this.#reqNotifyCq = operations.reqNotifyCq
    try {
      this.#channel = library.pointer('ibv_create_comp_channel', context.pointer)
    } catch (error) {
      this.#region.release()
      throw error
    }
    this.channelFd = readI32(this.#channel + IBV_COMP_CHANNEL.fd)
    let cq: Pointer<'ibv_cq'> | undefined
    try {
      setNonBlocking(this.channelFd)
      // An error makes every work request that is under way complete, signalled or not: room for all of them.
      const vector = options.completionVector % Math.max(1, context.completionVectors)
      cq = library.pointer<'ibv_cq'>('ibv_create_cq', context.pointer, options.depth, 0, this.#channel, vector)
      this.#cq = cq
      this.qp = this.#createQp()
    } catch (error) {
      if (cq) library.call.ibv_destroy_cq(cq)
      library.call.ibv_destroy_comp_channel(this.#channel)
      this.#region.release()
      throw error
    }
    // ibv_create_qp(3) writes back what it granted.
    this.depth = Math.min(options.depth, this.#view.getUint32(ATTR_AT + IBV_QP_INIT_ATTR['cap.max_send_wr'], true))
    this.number = readU32(this.qp + IBV_QP.qp_num)
  }

  #createQp(): Pointer<'ibv_qp'> {
    const Q = IBV_QP_INIT_ATTR
    const attr = this.#clearAttr(Q.size)
    const view = this.#view
    view.setBigUint64(ATTR_AT + Q.send_cq, BigInt(this.#cq), true)
    view.setBigUint64(ATTR_AT + Q.recv_cq, BigInt(this.#cq), true)
    view.setUint32(ATTR_AT + Q['cap.max_send_wr'], this.options.depth, true)
    view.setUint32(ATTR_AT + Q['cap.max_send_sge'], this.options.sges, true)
    view.setUint32(ATTR_AT + Q.qp_type, IBV_QPT_RAW_PACKET, true)
    const qp = this.#library.call.ibv_create_qp(this.domain.pointer, attr)
    if (qp === 0) throw new NativeError('ibv_create_qp', errno(), this.domain.context.name)
    return qp as Pointer<'ibv_qp'>
  }

  #clearAttr(bytes: number): number {
    new Uint8Array(this.#view.buffer, ATTR_AT, bytes).fill(0)
    return this.#region.address + ATTR_AT
  }

  #modify(state: number, mask: number): void {
    const attr = this.#clearAttr(IBV_QP_ATTR.size)
    this.#view.setUint32(ATTR_AT + IBV_QP_ATTR.qp_state, state, true)
    this.#view.setUint8(ATTR_AT + IBV_QP_ATTR.port_num, this.options.port)
    this.#library.done('ibv_modify_qp', `to state ${state}`, this.qp, attr, mask)
  }

  /** RESET → INIT → RTR → RTS; of the attributes raw packets need the port alone (kernel, qp_state_table). @throws NativeError */
  ready(): void {
    this.#modify(IBV_QPS_INIT, IBV_QP_STATE | IBV_QP_PORT)
    this.#modify(IBV_QPS_RTR, IBV_QP_STATE)
    this.#modify(IBV_QPS_RTS, IBV_QP_STATE)
  }

  /** Everything under way completes, flushed. @throws NativeError */
  fail(): void {
    this.#modify(IBV_QPS_ERR, IBV_QP_STATE)
  }

  /** Forgets everything under way; completions not polled by now are lost. @throws NativeError */
  reset(): void {
    this.#modify(IBV_QPS_RESET, IBV_QP_STATE)
  }

  /**
   * Lets the device pace frames, back to back no more than one of `frameBytes` where it can be told so; ready state only, and lost when
   * it is left. 0 lifts the limit. @throws NativeError EOPNOTSUPP, EINVAL outside the device's range
   */
  limitRate(kbps: number, frameBytes: number): void {
    const modify = extendedOperation(this.domain.context.pointer, 'modify_qp_rate_limit', 'int (uint64_t, uint64_t)')
    const limit = (burstBytes: number): number => {
      const R = IBV_QP_RATE_LIMIT_ATTR
      const attr = this.#clearAttr(R.size)
      this.#view.setUint32(ATTR_AT + R.rate_limit, kbps, true)
      this.#view.setUint32(ATTR_AT + R.max_burst_sz, burstBytes, true)
      this.#view.setUint16(ATTR_AT + R.typical_pkt_sz, burstBytes, true)
      return modify ? Math.abs(modify(this.qp, attr)) : ERRNO.EOPNOTSUPP!
    }
    let result = limit(frameBytes)
    // Only some mlx5 devices know of bursts (MLX5_IB_PP_SUPPORT_BURST), which libibverbs does not tell.
    if (result === ERRNO.EINVAL) result = limit(0)
    if (result !== 0) throw new NativeError('ibv_modify_qp_rate_limit', result, `${kbps} kb/s`)
  }

  /** Takes up to POLL_BATCH completions; their fields are read by the methods below. Negative: the queue is broken. 50 ns. */
  poll(): number {
    return this.#pollCq(this.#cq, POLL_BATCH, this.#region.address)
  }
  row(i: number): number {
    return this.#words[i * WC_WORDS]!
  }
  chain(i: number): number {
    return this.#words[i * WC_WORDS + 1]!
  }
  /** enum ibv_wc_status. Of a failed one only row, chain, status and vendor error mean anything (ibv_poll_cq(3)). */
  status(i: number): number {
    return this.#words[i * WC_WORDS + IBV_WC.status / 4]!
  }
  vendorError(i: number): number {
    return this.#words[i * WC_WORDS + IBV_WC.vendor_err / 4]!
  }

  /** The next completion makes the channel readable. One may have come before: poll once more behind it (ibv_get_cq_event(3)). */
  arm(): void {
    this.#reqNotifyCq(this.#cq, 0)
  }

  /** Takes what made the channel readable; acknowledged in bulk, for that takes a lock. */
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
