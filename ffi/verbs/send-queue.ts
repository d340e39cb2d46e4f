/** A queue pair that work requests of work-requests.ts are posted to. */
import { ERRNO, NativeError } from '../native-error.js'
import type { ProtectionDomain } from './context.js'
import { IBV_QP_RATE_LIMIT_ATTR } from './layout.js'
import { extendedOperation } from './library.js'
import { POLL_BATCH, QueuePair, type QueuePairOptions, WC_WORDS } from './queue-pair.js'

export { POLL_BATCH }

export interface SendQueueOptions extends QueuePairOptions {
  readonly depth: number
  readonly sges: number
}

export class SendQueue extends QueuePair {
  readonly postSend: (qp: number, wr: number, bad: number) => number
  /** Work requests that may be under way: no more than the completion queue has room for. */
  readonly depth: number

  /** @throws NativeError, as QueuePair's */
  constructor(
    domain: ProtectionDomain,
    readonly options: SendQueueOptions,
  ) {
    super(domain, options, { sends: options.depth, sendSges: options.sges, receives: 0 })
    this.postSend = domain.context.library.operations(domain.context.pointer).postSend
    this.depth = Math.min(options.depth, this.grantedSends)
  }

  /** Row and id of a completion's work request. */
  row(i: number): number {
    return this.words[i * WC_WORDS]!
  }
  chain(i: number): number {
    return this.words[i * WC_WORDS + 1]!
  }

  /**
   * Lets the device pace frames, back to back no more than one of `frameBytes` where it can be told so; ready state only, and lost when
   * it is left. 0 lifts the limit. @throws NativeError EOPNOTSUPP, EINVAL outside the device's range
   */
  limitRate(kbps: number, frameBytes: number): void {
    const modify = extendedOperation(this.domain.context.pointer, 'modify_qp_rate_limit', 'int (uint64_t, uint64_t)')
    const limit = (burstBytes: number): number => {
      const R = IBV_QP_RATE_LIMIT_ATTR
      const attr = this.clearAttr(R.size)
      this.view.setUint32(this.attrAt + R.rate_limit, kbps, true)
      this.view.setUint32(this.attrAt + R.max_burst_sz, burstBytes, true)
      this.view.setUint16(this.attrAt + R.typical_pkt_sz, burstBytes, true)
      return modify ? Math.abs(modify(this.qp, attr)) : ERRNO.EOPNOTSUPP
    }
    let result = limit(frameBytes)
    // Only some mlx5 devices know of bursts (MLX5_IB_PP_SUPPORT_BURST), which libibverbs does not tell.
    if (result === ERRNO.EINVAL) result = limit(0)
    if (result !== 0) throw new NativeError('ibv_modify_qp_rate_limit', result, `${kbps} kb/s`)
  }
}
