/** Whether ibverbs could send to some endpoints, for `auto` and `doctor`: everything is tried for real but sending. */
import { VerbsContext } from '../../ffi/verbs.js'
import { SpeadcastError } from '../errors.js'
import { parseAddress } from '../net/address.js'
import { rdmaPathOf } from '../net/rdma.js'
import { CANNOT, explained, loadLibrary, oneInterface, rawPacketsRefused } from './ibverbs-open.js'
import { findPath } from './paths.js'
import type { Wanted } from './select.js'

/** Why not; undefined if it can. */
export function probeIbverbs({ endpoints, interface: iface, verbsLibrary }: Wanted): string | undefined {
  try {
    const library = loadLibrary(verbsLibrary)
    const { ifindex, sourceAddress } = oneInterface(endpoints.map((endpoint) => findPath(endpoint, iface)))
    const rdma = explained(() => rdmaPathOf(library, ifindex, iface?.addressBytes ?? parseAddress(sourceAddress)))
    const context = explained(() => VerbsContext.open(library, rdma.device))
    try {
      return rawPacketsRefused(context, rdma.port)
    } finally {
      context.close()
    }
  } catch (error) {
    if (!(error instanceof SpeadcastError)) throw error
    return error.message.startsWith(CANNOT) ? error.message.slice(CANNOT.length) : error.message
  }
}
