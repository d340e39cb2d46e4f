/** Whether ibverbs could send to some endpoints, for `auto` and `doctor`: everything is tried for real but sending. */
import { VerbsContext } from '../../ffi/verbs.js'
import { SpeadcastError } from '../errors.js'
import { parseAddress } from '../net/address.js'
import { rdmaPathOf } from '../net/rdma.js'
import { findPath } from './paths.js'
import type { Wanted } from './select.js'
import { cannot, explained, loadLibrary, oneInterface, queuePairsRefused } from './verbs-open.js'

/** Why not; undefined if it can. */
export function probeIbverbs({ endpoints, interface: iface, verbsLibrary }: Wanted): string | undefined {
  try {
    const library = loadLibrary('ibverbs', verbsLibrary)
    const { ifindex, sourceAddress } = oneInterface(endpoints.map((endpoint) => findPath(endpoint, iface)))
    const rdma = explained('ibverbs', () => rdmaPathOf(library, ifindex, iface?.addressBytes ?? parseAddress(sourceAddress)))
    const context = explained('ibverbs', () => VerbsContext.open(library, rdma.device))
    try {
      return queuePairsRefused(context, rdma.port, 'raw')
    } finally {
      context.close()
    }
  } catch (error) {
    if (!(error instanceof SpeadcastError)) throw error
    return error.message.replace(cannot('ibverbs'), '')
  }
}
