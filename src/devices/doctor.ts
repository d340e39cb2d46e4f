/** Explains which backend `auto` takes for some endpoints, and why not the others. */
import type { BackendName } from '../backend/names.js'
import { ibverbsRefused, rdmaUdRefused, selectBackend, threadRefused, udpRefused } from '../backend/select.js'
import { checkOptions, listOf } from '../checks.js'
import { ensure } from '../errors.js'
import { needsScope } from '../net/address.js'
import { needsInterface, parseEndpoints, resolveEndpoints } from '../net/endpoint.js'
import { askedInterface, oddInterface } from '../net/sender-interface.js'
import { ensureNoGroup, tcpEndpoint } from '../net/transport.js'
import { checkHost, type HostCheck } from './host.js'
import { type EndpointReport, reachOf } from './reach.js'

/** Whether a backend could send here. */
export interface BackendVerdict {
  /** Its name. */
  readonly backend: BackendName
  /** Whether it could. */
  readonly works: boolean
  /** Why it does not work; for the one that `auto` takes, why it takes that. */
  readonly reason: string
}

/** The findings of `explainBackends`. */
export interface BackendReport {
  /** The backend that `auto` takes. */
  readonly backend: BackendName
  /** Why that one. */
  readonly reason: string
  /** The backends that send on a network, fastest first, then 'rdma-ud', which is never taken. For `tcp://` endpoints it has 'tcp' alone. */
  readonly backends: readonly BackendVerdict[]
  /** Whether a stream would open and packets to one endpoint at least leave. */
  readonly sends: boolean
  /** Why not; empty if so. */
  readonly problem: string
  /** The way to each endpoint. */
  readonly endpoints: readonly EndpointReport[]
  /** Texts that `openStream` would warn with, such as an interface that does not lead to an endpoint. */
  readonly warnings: readonly string[]
  /** Settings of the host that a sender depends on, whichever backend it takes: CPUs, memory, clock, rights. None off Linux. */
  readonly host: readonly HostCheck[]
}

/**
 * Options of `explainBackends`.
 * @example await explainBackends('239.10.0.1:7148', { interface: 'eth0', packetSizeBytes: 8972 })
 */
export interface ExplainOptions {
  /** Name or address of the interface to send through. Default: the route decides. */
  readonly interface?: string
  /** Name or path of libibverbs. Default: the environment's SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1. */
  readonly library?: string
  /** Largest UDP payload of a packet in bytes, as of `openStream`. Default 1472. */
  readonly packetSizeBytes?: number
}

/** As `openStream`'s. */
export const DEFAULT_PACKET_SIZE_BYTES = 1472

/**
 * Does what openStream would do: resolves the endpoints, looks for routes and devices, opens a device or a socket for a moment, and waits up to
 * a second for neighbours to answer. Sends nothing, but that the kernel asks for a neighbour when an empty datagram is for its port 9.
 * @param to endpoints, as of `openStream`
 * @throws (rejects) ERR_SPEADCAST_CONFIG, _ENDPOINT, _RESOLVE, _INTERFACE
 * @example const { backend, reason, problem } = await explainBackends('239.10.0.1:7148')
 */
export async function explainBackends(to: string | readonly string[], options: ExplainOptions = {}): Promise<BackendReport> {
  checkArguments(to, options)
  const specs = parseEndpoints(typeof to === 'string' ? [to] : to)
  const tcp = tcpEndpoint(specs, 'ask for each transport')
  if (tcp) ensureNoGroup(specs)
  const endpoints = await resolveEndpoints(specs)
  const [first] = endpoints
  const wanted = {
    endpoints,
    interface: first && (await askedInterface(options.interface, first)),
    verbsLibrary: options.library,
  }
  // A mistake in the arguments, as for openStream.
  const stray = wanted.interface ? undefined : endpoints.find(({ bytes, scopeId }) => needsScope(bytes) && scopeId === 0)
  if (stray) throw needsInterface(stray)
  const { backend, reason, backends } = tcp ? ofTcp() : await ofDatagrams(wanted)
  const { refusal, endpoints: reached } = await reachOf(backend, {
    ...wanted,
    packetSizeBytes: options.packetSizeBytes ?? DEFAULT_PACKET_SIZE_BYTES,
  })
  const odd = oddInterface(options.interface, wanted.interface, endpoints)
  const problems = reached.map(({ problem }) => problem)
  const refused = backends.find((verdict) => verdict.backend === backend && !verdict.works)
  const problem = refused?.reason || refusal || (problems.every((each) => each !== '') ? problems[0]! : '')
  return {
    backend,
    reason,
    backends,
    sends: problem === '',
    problem,
    endpoints: reached,
    warnings: odd === undefined ? [] : [odd],
    host: checkHost([...new Set(reached.flatMap(({ interface: name }) => (name === '' ? [] : [name])))]),
  }
}

type Verdicts = Pick<BackendReport, 'backend' | 'reason' | 'backends'>

/** Connects to nobody, because a receiver may take one connection and no other, as spead2's does. */
function ofTcp(): Verdicts {
  const refused = threadRefused()
  const reason = refused ?? 'what tcp:// takes; whether somebody listens there shows when a stream connects'
  return { backend: 'tcp', reason, backends: [{ backend: 'tcp', works: refused === undefined, reason }] }
}

async function ofDatagrams(wanted: Parameters<typeof ibverbsRefused>[0]): Promise<Verdicts> {
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

const OPTIONS: readonly string[] = ['interface', 'library', 'packetSizeBytes'] satisfies (keyof ExplainOptions)[]

function checkArguments(to: unknown, options: ExplainOptions): void {
  const ensureThat = (good: boolean, message: string) => ensure(good, 'ERR_SPEADCAST_CONFIG', () => `explainBackends: ${message}`)
  const endpoints = listOf(to as readonly unknown[])
  ensureThat(
    typeof to === 'string' ||
      (endpoints !== undefined && endpoints.length > 0 && endpoints.every((each) => typeof each === 'string')),
    "the endpoints must be a text 'HOST:PORT' or a list of such texts",
  )
  checkOptions('explainBackends', options, OPTIONS)
  const { interface: iface, library, packetSizeBytes } = options
  ensureThat(iface === undefined || typeof iface === 'string', 'interface must be a text')
  ensureThat(library === undefined || typeof library === 'string', 'library must be a text')
  ensureThat(
    packetSizeBytes === undefined || (Number.isInteger(packetSizeBytes) && packetSizeBytes > 0),
    'packetSizeBytes must be a whole number above 0',
  )
}
