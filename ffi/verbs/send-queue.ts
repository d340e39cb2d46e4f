/** The queue pair of a sender. work-requests.ts posts to it. */
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
  /** At most this many work requests may be under way, because the completion queue has room for no more. */
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

  /** Row of completion i's work request, in its chain. */
  row(i: number): number {
    return this.words[i * WC_WORDS]!
  }
  /** Id of completion i's chain. */
  chain(i: number): number {
    return this.words[i * WC_WORDS + 1]!
  }

  /**
   * Lets the device pace frames of `frameBytes`, and where the device can, with bursts of no more than `burstBytes` or a frame. With one
   * frame alone a device may miss a high rate. Works in the ready state only; the limit is lost when the queue pair leaves that.
   * 0 lifts it. @throws NativeError EOPNOTSUPP, EINVAL outside the device's range
   */
  limitRate(kbps: number, frameBytes: number, burstBytes = frameBytes): void {
    const modify = extendedOperation(this.domain.context.pointer, 'modify_qp_rate_limit', 'int (uint64_t, uint64_t)')
    const limit = (burstBytes: number, typicalBytes: number): number => {
      const R = IBV_QP_RATE_LIMIT_ATTR
      const attr = this.clearAttr(R.size)
      this.view.setUint32(this.attrAt + R.rate_limit, kbps, true)
      this.view.setUint32(this.attrAt + R.max_burst_sz, burstBytes, true)
      this.view.setUint16(this.attrAt + R.typical_pkt_sz, typicalBytes, true)
      return modify ? Math.abs(modify(this.qp, attr)) : ERRNO.EOPNOTSUPP
    }
    let result = limit(Math.max(frameBytes, burstBytes), frameBytes)
    // Only some mlx5 devices take a size of bursts (MLX5_IB_PP_SUPPORT_BURST), and libibverbs does not tell which.
    if (result === ERRNO.EINVAL) result = limit(0, 0)
    if (result !== 0) throw new NativeError('ibv_modify_qp_rate_limit', result, `${kbps} kb/s`)
  }
}
