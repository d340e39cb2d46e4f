/** Finds out what stands between a backend and its endpoints, as `openStream` would meet it. Sends nothing of a stream. */
import { createSocket } from 'node:dgram'
import { ERRNO, NativeError } from '../../ffi/native-error.js'
import type { BackendName } from '../backend/names.js'
import { type BackendSpec, openBackend } from '../backend/open.js'
import { ensureFitsMtu, findPath } from '../backend/paths.js'
import { udpRefused } from '../backend/select.js'
import { SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import { kickNeighbour, largestPacketSizeBytes, type Path, waitForNeighbours } from '../net/route.js'
import { COUNTER_NAMES } from '../stats.js'

/** The way from this host to an endpoint. */
export interface EndpointReport {
  /** The endpoint as address and port. */
  readonly endpoint: string
  /** The interface that packets leave by; empty where nobody tells. */
  readonly interface: string
  /** Bytes of IP datagram that the interface and the route take; 0 where nobody tells. */
  readonly mtuBytes: number
  /** The largest `packetSizeBytes` that needs no fragmentation; 0 where nobody tells. */
  readonly largestPacketSizeBytes: number
  /** Why its packets would not leave; empty if they would. */
  readonly problem: string
}

export interface Reach {
  /** Why no stream would open; empty if one would. */
  readonly refusal: string
  readonly endpoints: readonly EndpointReport[]
}

export interface Probe {
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface: ResolvedInterface | undefined
  readonly packetSizeBytes: number
}

/** The largest packet that any backend except pcap can send. */
const MOST_PACKET_BYTES = 65507

/** How long neighbours have to answer: as long as `openStream` gives them, unless told otherwise. */
const NEIGHBOUR_MS = 1000

export async function reachOf(backend: BackendName, probe: Probe): Promise<Reach> {
  const told = backend === 'dgram' || udpRefused() !== undefined ? await byConnecting(probe) : await byPath(backend, probe)
  const closed = told.find(({ opens }) => !opens)
  const opensNothing = backend === 'ibverbs' || backend === 'tcp'
  const refusal = closed?.problem || (opensNothing ? '' : await openingRefused(backend === 'dgram' ? 'dgram' : 'udp', probe))
  return { refusal, endpoints: told.map(({ opens: _, ...endpoint }) => endpoint) }
}

/** `opens`: the problem, if there is one, is no reason to refuse a stream. */
type Told = EndpointReport & { readonly opens: boolean }

async function byPath(backend: BackendName, { endpoints, interface: iface, packetSizeBytes }: Probe): Promise<Told[]> {
  const paths = endpoints.map((endpoint) => attempt(() => findPath(endpoint, iface)))
  const known = paths.filter((path) => typeof path === 'object')
  const answers = await waitForNeighbours(known, NEIGHBOUR_MS)
  const silent = new Set(known.filter((path, i) => answers[i] === 'failed' && mayAsk(path)))
  return paths.map((path, i) => {
    const endpoint = endpoints[i]!.text
    if (typeof path === 'string')
      return { endpoint, interface: '', mtuBytes: 0, largestPacketSizeBytes: 0, problem: path, opens: false }
    // TCP cuts packets as it likes.
    const tcp = backend === 'tcp'
    const tooLarge = tcp ? '' : (attempt(() => ensureFitsMtu(packetSizeBytes, [path], backend === 'udp')) ?? '')
    return {
      endpoint,
      interface: path.interfaceName,
      mtuBytes: path.mtu,
      largestPacketSizeBytes: tcp ? MOST_PACKET_BYTES : largestPacketSizeBytes(path.mtu, path.family),
      problem: tooLarge || (silent.has(path) ? unanswered(path, endpoints[i]!) : ''),
      opens: tooLarge === '',
    }
  })
}

function unanswered({ nextHop, interfaceName }: Path, { text, address }: ResolvedEndpoint): string {
  const whom = address === nextHop!.text ? 'its address' : `${nextHop!.text}, the router on its way,`
  return `${text}: nobody answers for ${whom} on ${interfaceName}; check that the host is up, and the cable, VLAN and prefix length`
}

/** False where a firewall forbids the datagram that makes the kernel ask: nobody knows then whether somebody would answer. */
function mayAsk(path: Path): boolean {
  try {
    kickNeighbour(path)
  } catch (error) {
    if (error instanceof NativeError) return error.errno !== ERRNO.EPERM && error.errno !== ERRNO.EACCES
    throw error
  }
  return true
}

/** Without the kernel's tables a connect(2) tells at least whether there is a route. */
async function byConnecting({ endpoints, interface: iface }: Probe): Promise<Told[]> {
  const facts = { interface: iface?.name ?? '', mtuBytes: iface?.mtu ?? 0 }
  return Promise.all(
    endpoints.map(async (endpoint) => {
      const problem = await connectRefused(endpoint, iface)
      const fits = iface?.mtu ? largestPacketSizeBytes(iface.mtu, endpoint.family) : 0
      return { endpoint: endpoint.text, ...facts, largestPacketSizeBytes: fits, problem, opens: true }
    }),
  )
}

function connectRefused({ text, address, family, port, scopeId }: ResolvedEndpoint, iface?: ResolvedInterface): Promise<string> {
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
  const host = scopeId > 0 ? `${address}%${scopeId}` : address
  return new Promise<string>((resolve) => {
    const refuse = (cause: Error): void => resolve(`${text}: ${cause.message}`)
    socket.once('error', refuse)
    socket.bind({ ...(iface && { address: iface.address }) }, () => {
      try {
        // The types leave out that the callback is given the failure.
        socket.connect(port, host, ((cause?: Error) => (cause ? refuse(cause) : resolve(''))) as () => void)
      } catch (cause) {
        refuse(cause as Error)
      }
    })
  }).finally(() => socket.close())
}

/** Opens the backend for a moment. Neighbours were asked before. */
async function openingRefused(kind: 'udp' | 'dgram', { endpoints, interface: iface, packetSizeBytes }: Probe): Promise<string> {
  const common = { endpoints, ...(iface && { interface: iface }), sourcePort: 0, multicastLoop: true, sendBufferBytes: 0 }
  const spec: BackendSpec =
    kind === 'dgram'
      ? { kind, ...common }
      : {
          kind,
          ...common,
          packetSizeBytes,
          allowFragmentation: false,
          segmentation: 'auto',
          udpPath: 'sendmmsg',
          neighbourTimeoutMs: 0,
        }
  try {
    const backend = await openBackend(spec, { counters: new Float64Array(COUNTER_NAMES.length), wake: () => {} })
    backend.close()
    return ''
  } catch (error) {
    return messageOf(error)
  }
}

/** The value, or the message of an error that was thrown on purpose. */
function attempt<T>(call: () => T): T | string {
  try {
    return call()
  } catch (error) {
    return messageOf(error)
  }
}

function messageOf(error: unknown): string {
  if (error instanceof SpeadcastError) return error.message
  throw error
}
