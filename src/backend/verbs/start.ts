/** Makes the send queue of a backend on a device that is open. Cold. */
import { onNode } from '../../../ffi/memory/numa.js'
import type { QueuePairType } from '../../../ffi/verbs/queue-pair.js'
import { SendQueue } from '../../../ffi/verbs/send-queue.js'
import { explained } from '../../rdma/errors.js'
import type { BackendEnvironment } from '../backend.js'
import { VerbsBackend } from './backend.js'
import type { OpenDevice, QueueOptions } from './open.js'
import type { VerbsPosting } from './posting.js'
import type { QueueKind } from './queue-kind.js'

export interface QueueShape {
  readonly type: QueuePairType
  readonly maxSges: number
  /** Bytes of mlx5's work request without its SGEs, which take 16 bytes each. */
  readonly requestBytes: number
}

/**
 * With more than one SGE a work request takes two or more of the blocks of 64 bytes that mlx5 counts as max_qp_wr, and it rounds
 * the number up to a power of two (mlx5_calc_sq_size).
 */
function depthWithin(maxWorkRequests: number, requestBytes: number): number {
  const blocks = Math.ceil(requestBytes / 64)
  return 2 ** Math.floor(Math.log2(Math.max(1, maxWorkRequests / blocks)))
}

/**
 * Takes over what is open, and closes it if there can be no queue.
 * @throws ERR_SPEADCAST_BACKEND; the message has the remedy
 */
export function startQueue<V extends VerbsPosting>(
  options: QueueOptions,
  device: OpenDevice,
  kind: QueueKind<V>,
  { type, maxSges, requestBytes }: QueueShape,
  environment: BackendEnvironment,
): VerbsBackend<V> {
  const { facts, domain, context, rdma } = device
  const sges = Math.min(maxSges, facts.maxSges)
  let queue: SendQueue | undefined
  try {
    return explained(kind.name, () => {
      const settings = {
        type,
        port: rdma.port,
        depth: Math.min(options.queueDepth, depthWithin(facts.maxWorkRequests, requestBytes + 16 * sges), facts.maxCqEntries),
        sges,
        completionVector: options.completionVector,
      }
      queue = onNode(environment.numaNode, () => new SendQueue(domain, settings))
      kind.ready(queue)
      return new VerbsBackend(options, device, kind, queue, environment)
    })
  } catch (error) {
    queue?.close()
    kind.close()
    domain.release()
    context.close()
    throw error
  }
}
