import type { MemoryPacket } from '../backend/memory.js'
import type { BackendName } from '../backend/names.js'
import { numaPlace } from '../backend/numa.js'
import type { BackendSpec } from '../backend/open.js'
import { type Selection, selectBackend, threadRefused, udpInstead } from '../backend/select.js'
import type { UdpOptions } from '../backend/udp/open.js'
import type { RdmaUdOptions } from '../backend/verbs/datagrams-open.js'
import type { QueueOptions } from '../backend/verbs/open.js'
import type { IbverbsOptions } from '../backend/verbs/raw-options.js'
import { messageOf } from '../checks.js'
import { firstOf } from '../debug.js'
import type { Driver, DriverInput } from '../engine/driver.js'
import { InlineDriver } from '../engine/driver-inline.js'
import { WorkerDriver } from '../engine/driver-worker.js'
import { DEFAULT_IO_THREADS, ioThreads, type Lease, lease } from '../engine/pool.js'
import { Ring } from '../engine/ring.js'
import { BackendRefused, counted, ensure, SpeadcastError, ThreadRefused, warn, withCode } from '../errors.js'
import { type EndpointSpec, parseEndpoints, type ResolvedEndpoint, resolveEndpoints } from '../net/endpoint.js'
import { checkPeer, type GivenSocket, interfaceOfGiven } from '../net/given-socket.js'
import type { ResolvedInterface } from '../net/interface.js'
import { linkBytesPerSecond } from '../net/link-speed.js'
import { askedInterface, oddInterface } from '../net/sender-interface.js'
import { makeFlavour } from '../spead/index.js'
import { checkPacketSize, cntSequence } from './arguments.js'
import { StreamClock } from './clock.js'
import { IBVERBS_DEFAULTS, parseStreamConfig, RDMA_UD_DEFAULTS, type StreamConfig } from './config.js'
import { engineOptions } from './engine-options.js'
import { withSocket } from './given.js'
import { IoThread, livingHandleOf } from './io-thread.js'
import { News } from './news.js'
import { policiesOf } from './on-error.js'
import { type ConnectedSocketOptions, DEFAULTS, type StreamOptions } from './options.js'
import { placed } from './place-options.js'
import { retryOf } from './reconnect.js'
import { Stream } from './stream.js'
import { restartBound } from './thread-death.js'
import { withTransport } from './transport.js'
import { tellOfUnits } from './units.js'

/** Backends that send from an I/O thread unless asked otherwise. */
const THREADED: readonly BackendName[] = ['udp', 'tcp', 'ibverbs', 'rdma-ud']
/** Backends that send on a network. */
const SENDERS: readonly BackendName[] = [...THREADED, 'dgram']

/**
 * Opens a stream: resolves endpoints, chooses a backend, starts the sending side.
 * @throws (rejects) ERR_SPEADCAST_CONFIG, _ENDPOINT, _RESOLVE, _INTERFACE, _PACKET_SIZE, _HEAP_CNT, _BACKEND, _BUNDLED, _UNREACHABLE, _WORKER, _MEMORY,
 *   _CLOCK, _NATIVE; the message says what to change
 * @example await using stream = await openStream({ to: ['10.0.0.5:7148', '10.0.0.6:7148'], packetSizeBytes: 8972, rate: '4Gbps' })
 */
export async function openStream<const Bits extends number = 48>(
  options: StreamOptions<Bits> | ConnectedSocketOptions<Bits>,
): Promise<Stream<Bits>> {
  const { config: parsed, given } = withSocket(parseStreamConfig(options))
  const specs = parseEndpoints(parsed.to)
  const config = withTransport(parsed, specs)
  tellOfUnits(config)
  const flavour = makeFlavour(config.flavour)
  cntSequence(flavour, config.firstCnt, config.cntStep)
  if (typeof config.descriptors === 'object')
    cntSequence(flavour, config.descriptors.firstCnt ?? 0, config.descriptors.cntStep ?? 1)
  checkPacketSize(config)
  // A thread that has to be started loads its code meanwhile.
  const early = mayHaveThread(config) ? claimThread(config) : undefined
  const news = new News()
  try {
    const stream = (await openResolved(config, specs, given, early, news)) as Stream<Bits>
    news.opened()
    return stream
  } catch (error) {
    release(early)
    const known = withCode('openStream', error)
    news.say(() => `cannot be opened: ${messageOf(known)}`)
    throw known
  }
}

/** A place in an I/O thread, or why there is none for a stream that can do without. */
type Claim = Lease | ThreadRefused

/** @throws ThreadRefused for a stream that asked for a thread */
function claimThread(config: StreamConfig): Claim {
  try {
    return leaseFor(config)
  } catch (error) {
    if (error instanceof ThreadRefused && config.thread === undefined && placed(config) === undefined) return error
    throw error
  }
}

function release(claim: Claim | undefined): void {
  if (claim && !(claim instanceof ThreadRefused)) claim.release()
}

function leaseFor({ thread, affinity, priority, ioThreads: most, rateBytesPerSecond }: StreamConfig): Lease {
  if (!(thread instanceof IoThread))
    return ioThreads.take({ affinity, priority, ioThreads: most ?? DEFAULT_IO_THREADS, rateBytesPerSecond })
  const handle = livingHandleOf(thread)
  ensure(
    handle.state === 'running',
    'ERR_SPEADCAST_CLOSED',
    () => 'openStream: the I/O thread given as thread is closed; make another',
  )
  return lease(handle)
}

/** Whether an I/O thread will probably send: if none does, the claim on one is given up. */
function mayHaveThread({ thread, backend, rateShare }: StreamConfig): boolean {
  // Streams share threads by their rates.
  return (
    rateShare === undefined &&
    process.platform === 'linux' &&
    thread !== 'inline' &&
    (backend === 'auto' || THREADED.includes(backend))
  )
}

async function openResolved(
  parsed: StreamConfig,
  specs: readonly EndpointSpec[],
  given: GivenSocket | undefined,
  early: Claim | undefined,
  news: News,
): Promise<Stream> {
  const endpoints = await resolveEndpoints(specs)
  if (given) checkPeer(given, endpoints)
  policiesOf(parsed.onError, endpoints.length)
  news.say(() => `opens to ${firstOf(endpoints.map(({ text }) => text))}; ${wishes(parsed)}`)
  const unicast = endpoints.find(({ multicast }) => !multicast)
  ensure(
    !(parsed.ttl === 0 && unicast),
    'ERR_SPEADCAST_CONFIG',
    () => `ttl is 0, which keeps multicast on this host; ${unicast!.text} is unicast and needs at least 1`,
  )
  ensure(
    !(parsed.broadcast && endpoints[0]!.family === 6),
    'ERR_SPEADCAST_CONFIG',
    () => `broadcast is set, and ${endpoints[0]!.text} is IPv6, which has none; leave it out, or send to a group such as [ff02::1]`,
  )
  const iface = await askedInterface(given ? interfaceOfGiven(given, endpoints[0]!) : parsed.interface, endpoints[0]!)
  if (iface) news.say(() => `interface ${iface.name} (index ${iface.index}), address ${iface.address}`)
  const config = withRate(parsed, endpoints, iface)
  const selection = await selectBackend(config.backend, {
    endpoints,
    interface: iface,
    verbsLibrary: config.ibverbs?.library,
    allowFragmentation: config.allowFragmentation,
    ttl: config.ttl,
    multicastLoop: config.multicastLoop,
  })
  try {
    return await openWith(selection, config, endpoints, iface, news, early)
  } catch (error) {
    const refused = config.backend === 'auto' && selection.backend === 'ibverbs' && error instanceof SpeadcastError
    // The probe cannot tell everything: that a queue of full length takes more memory than may be locked, for one.
    if (!refused || error.code !== 'ERR_SPEADCAST_BACKEND') throw error
    return openWith(udpInstead(error instanceof BackendRefused ? error.why : error.message), config, endpoints, iface, news)
  }
}

/** Makes a rate of a share of the link's speed. */
function withRate(config: StreamConfig, endpoints: readonly ResolvedEndpoint[], iface?: ResolvedInterface): StreamConfig {
  const { rate, rateShare } = config
  if (rateShare === undefined) return config
  return { ...config, rateBytesPerSecond: rateShare * linkBytesPerSecond(`rate '${rate}'`, endpoints, iface) }
}

async function openWith(
  { backend, reason }: Selection,
  config: StreamConfig,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
  news: News,
  early?: Claim,
): Promise<Stream> {
  news.say(() => `backend ${backend}: ${reason}`)
  const asked = config.thread instanceof IoThread ? 'worker' : config.thread
  const wanted = asked ?? (THREADED.includes(backend) ? 'worker' : 'inline')
  if (wanted === 'inline') release(early)
  const claim = wanted === 'worker' && threadRefused() === undefined ? (early ?? claimThread(config)) : undefined
  const thread = claim instanceof ThreadRefused ? 'inline' : wanted
  ensure(
    !(backend === 'memory' && thread === 'worker'),
    'ERR_SPEADCAST_CONFIG',
    () => "backend 'memory' keeps its packets in this thread; leave thread out or use 'inline'",
  )
  const noThread = thread === 'worker' ? threadRefused() : undefined
  ensure(
    noThread === undefined,
    'ERR_SPEADCAST_BACKEND',
    () => `there can be no I/O thread here: ${noThread}; leave thread out or use 'inline'`,
  )
  ensure(
    !(placed(config) && thread === 'inline'),
    'ERR_SPEADCAST_CONFIG',
    () =>
      `${placed(config)} is for the I/O thread, and backend '${backend}' sends from this one; leave it out or use thread 'worker'`,
  )
  ensure(
    !(config.dscp !== undefined && backend === 'dgram'),
    'ERR_SPEADCAST_CONFIG',
    () => "backend 'dgram' cannot set dscp, for node:dgram has no such option; leave it out or use backend 'udp'",
  )
  const odd = SENDERS.includes(backend) ? oddInterface(config.interface, iface, endpoints) : undefined
  if (odd) warn('SPEADCAST_INTERFACE', odd)
  const clock = config.clock && new StreamClock(config.clock, config.flavour)
  const numa = numaPlace({ backend, endpoints, interface: iface, device: config.rdmaUd?.device })
  const restart = restartBound(config.onThreadDeath)
  const ring = new Ring(Ring.memoryFor(endpoints.length, 0, numa.node))
  const input: DriverInput = {
    ring,
    ...(restart && {
      restart: {
        ...restart,
        lease: () => leaseFor(config),
        // Whoever accepts the next connection has heard nothing.
        receiversAnew: backend === 'tcp' ? [...endpoints.keys()] : [],
      },
    }),
    numaNode: numa.node,
    backend: backendSpec(backend, config, endpoints, iface),
    options: engineOptions(config, backend, endpoints.length, clock),
  }
  const from = claim && !(claim instanceof ThreadRefused) ? claim.thread.label : 'the event loop'
  news.say(() => `sends from ${from}${claim instanceof ThreadRefused ? `, because ${claim.why}` : ''}`)
  const { driver, packets } = await openDriver(input, claim)
  const paced = config.rateBytesPerSecond > 0 || clock
  const states = { ...(paced && { rateMethod: 'sw', rateMethodReason: softwareReason(config, backend) }), ...numa.states }
  const why = claim instanceof ThreadRefused ? `${reason}; sent from the event loop: ${claim.why}` : reason
  const stream = new Stream({ config, endpoints, ring, driver, reason: why, states, numaNode: numa.node, packets, news, clock })
  try {
    if (config.firstCnt !== 1 || config.cntStep !== 1) stream.setCntSequence(config.firstCnt, config.cntStep)
  } catch (error) {
    await stream.destroy()
    throw error
  }
  return stream
}

/** Says in words what was asked for. */
function wishes({ backend, packetSizeBytes, rate: text, rateBytesPerSecond: rate, rateShare, rateMethod }: StreamConfig): string {
  const asked = rateShare === undefined ? `${rate} bytes a second` : `${text} of the link`
  const pace = rate > 0 || rateShare ? `${asked} (rateMethod '${rateMethod}')` : 'no rate'
  return `backend '${backend}', packets of at most ${packetSizeBytes} bytes, ${pace}`
}

/** Why this program keeps the rate, where the backend does not say otherwise. */
function softwareReason({ rateMethod, udpPath, clock }: StreamConfig, backend: BackendName): string {
  if (clock) return 'the observation clock says when'
  if (rateMethod === 'sw') return 'asked for'
  return backend === 'udp'
    ? `udpPath '${udpPath}' lends memory that packets would hold`
    : `backend '${backend}' is not asked to keep it`
}

async function openDriver(input: DriverInput, claim: Claim | undefined): Promise<{ driver: Driver; packets: MemoryPacket[] }> {
  if (claim && !(claim instanceof ThreadRefused)) return { driver: await WorkerDriver.open(input, claim), packets: [] }
  const driver = await InlineDriver.open(input)
  const { packets = [] } = driver.backend as { packets?: MemoryPacket[] }
  return { driver, packets }
}

function backendSpec(
  backend: BackendName,
  config: StreamConfig,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
): BackendSpec {
  const { sourcePort, reusePort, broadcast, multicastLoop, sendBufferBytes = DEFAULTS.sendBufferBytes, ttl, dscp } = config
  const common = {
    endpoints,
    ...(iface && { interface: iface }),
    sourcePort,
    reusePort,
    broadcast,
    multicastLoop,
    sendBufferBytes,
    ...(ttl !== undefined && { ttl }),
  }
  const { fd: socketFd } = config.socket ?? {}
  switch (backend) {
    case 'ibverbs':
      return { kind: 'ibverbs', ...ibverbsSpec(config, endpoints, iface) }
    case 'rdma-ud':
      return { kind: 'rdma-ud', ...rdmaUdSpec(config, endpoints, iface) }
    case 'udp':
      return {
        kind: 'udp',
        ...common,
        ...(dscp !== undefined && { dscp }),
        packetSizeBytes: config.packetSizeBytes,
        allowFragmentation: config.allowFragmentation,
        segmentation: config.segmentation,
        udpPath: config.udpPath,
        neighbourTimeoutMs: config.neighbourTimeoutMs,
        ...(socketFd === undefined ? kernelPace(config) : { socketFd, sendBufferBytes: 0 }),
      }
    case 'tcp':
      return {
        kind: 'tcp',
        endpoints,
        ...(iface && { interface: iface }),
        sourcePort,
        sendBufferBytes: config.sendBufferBytes ?? 0,
        ...(ttl !== undefined && { ttl }),
        ...(dscp !== undefined && { dscp }),
        connectTimeoutMs: config.tcp?.connectTimeoutMs ?? DEFAULTS.connectTimeoutMs,
        ...retryOf(config.tcp),
        ...(socketFd !== undefined && { socketFd }),
      }
    case 'dgram':
      return { kind: 'dgram', ...common }
    case 'memory':
      return {
        kind: 'memory',
        substreams: endpoints.length,
        family: endpoints[0]!.family,
        ...config.memory,
      }
    case 'pcap':
      return {
        kind: 'pcap',
        endpoints,
        path: config.pcapPath!,
        source: { ...(iface && { address: iface.address, mac: iface.mac }), ...(sourcePort > 0 && { port: sourcePort }) },
        ...(ttl !== undefined && { ttl }),
        ...(dscp !== undefined && { dscp }),
      }
  }
}

function kernelPace({
  rateBytesPerSecond,
  rateMethod,
  rateBasis,
  burstBytes,
  udpPath,
}: StreamConfig): Pick<UdpOptions, 'pace' | 'rateBasis'> {
  const wanted = rateMethod === 'kernel' || (rateMethod === 'auto' && udpPath !== 'io_uring')
  if (rateBytesPerSecond === 0 || !wanted) return {}
  return { pace: { rateBytesPerSecond, burstBytes, countedHeaderBytes: 0, required: rateMethod === 'kernel' }, rateBasis }
}

function ibverbsSpec(
  config: StreamConfig,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
): IbverbsOptions {
  const { rateBytesPerSecond, rateBasis, burstBytes, ibverbs: { vlan } = {} } = config
  return {
    ...queueSpec(config, endpoints, iface),
    sourcePort: config.sourcePort,
    reusePort: config.reusePort,
    ...(vlan && { vlan }),
    ...(config.rateMethod === 'hw' &&
      rateBytesPerSecond > 0 && {
        hardwareRateBytesPerSecond: rateBytesPerSecond,
        hardwareRateBasis: rateBasis,
        hardwareBurstBytes: burstBytes,
      }),
  }
}

function rdmaUdSpec(
  config: StreamConfig,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
): RdmaUdOptions {
  const { peers } = config.rdmaUd ?? {}
  ensure(
    peers === undefined || peers.length === endpoints.length,
    'ERR_SPEADCAST_CONFIG',
    () =>
      `rdmaUd.peers names ${counted(peers!.length, 'queue pair')} for ${counted(endpoints.length, 'endpoint')}; give one for each`,
  )
  return { ...queueSpec(config, endpoints, iface), ...RDMA_UD_DEFAULTS, ...config.rdmaUd }
}

function queueSpec(
  config: StreamConfig,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
): QueueOptions {
  const { ttl, dscp, multicastLoop } = config
  const { library, poll, pollMicroseconds, queueDepth, completionVector, completionTimeoutMs } = {
    ...IBVERBS_DEFAULTS,
    ...config.ibverbs,
  }
  return {
    endpoints,
    ...(iface && { interface: iface }),
    ...(ttl !== undefined && { ttl }),
    ...(dscp !== undefined && { dscp }),
    multicastLoop,
    packetSizeBytes: config.packetSizeBytes,
    neighbourTimeoutMs: config.neighbourTimeoutMs,
    queueDepth,
    completionVector,
    completionTimeoutMs,
    pollNanoseconds: poll === 'busy' ? Number.POSITIVE_INFINITY : poll === 'event' ? 0 : pollMicroseconds * 1000,
    ...(library !== undefined && { verbsLibrary: library }),
  }
}
