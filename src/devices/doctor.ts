/** Explains which backend `auto` takes for some endpoints, and why not the others. */
import type { BackendName } from '../backend/names.js'
import { ibverbsRefused, rdmaUdRefused, selectBackend, udpRefused } from '../backend/select.js'
import { parseEndpoints, resolveEndpoints } from '../net/endpoint.js'
import { resolveInterface } from '../net/interface.js'

export interface BackendVerdict {
  readonly backend: BackendName
  readonly works: boolean
  /** Why it does not work; for the one that `auto` takes, why it takes that. */
  readonly reason: string
}

export interface BackendReport {
  /** The backend that `auto` takes. */
  readonly backend: BackendName
  readonly reason: string
  /** The backends that send on a network, fastest first; behind them 'rdma-ud', which is never taken. */
  readonly backends: readonly BackendVerdict[]
}

/**
 * Does what openStream would do: resolves the endpoints, looks for routes and devices, opens a device for a moment. Sends nothing.
 * @throws (rejects) ERR_SPEADCAST_ENDPOINT, _RESOLVE, _INTERFACE
 */
export async function explainBackends(
  to: string | readonly string[],
  options: { interface?: string; library?: string } = {},
): Promise<BackendReport> {
  const endpoints = await resolveEndpoints(parseEndpoints(typeof to === 'string' ? [to] : to))
  const [first] = endpoints
  const wanted = {
    endpoints,
    interface: options.interface === undefined || !first ? undefined : resolveInterface(options.interface, first.family),
    verbsLibrary: options.library,
  }
  const { backend, reason } = await selectBackend('auto', wanted)
  const ibverbs = await ibverbsRefused(wanted)
  const udp = udpRefused()
  const verdict = (name: BackendName, refused: string | undefined): BackendVerdict => ({
    backend: name,
    works: refused === undefined,
    reason: refused ?? (name === backend ? 'what auto takes' : 'works, slower than what auto takes'),
  })
  const loopback = ibverbs === undefined ? (await import('../backend/verbs/probe.js')).loopbackOf(wanted) : undefined
  const raw = verdict('ibverbs', ibverbs)
  const noDatagrams = await rdmaUdRefused(wanted)
  const rdmaUd: BackendVerdict = {
    backend: 'rdma-ud',
    works: noDatagrams === undefined,
    reason: noDatagrams ?? 'works towards `speadcast recv --backend rdma-ud` alone, so auto never takes it',
  }
  return {
    backend,
    reason,
    backends: [
      loopback ? { ...raw, reason: `${raw.reason}; ${loopback}` } : raw,
      verdict('udp', udp),
      verdict('dgram', undefined),
      rdmaUd,
    ],
  }
}
