/** The options that `send` and `bench` share: how packets are transported, how large they are and how fast they go. */
import { type Command, Option } from 'commander'
import type { StreamOptions } from '../../index.js'
import { cpuList, secondsOrInfinity, type VlanFlag, vlanTag } from './arguments.js'
import { usageError } from './exit.js'
import { type PeerFlag, peerList } from './peer.js'
import { IO_CPU, mainCpuOption, PRIORITY, PRIORITY_VALUES, threadPriority } from './place.js'
import { byteCount, milliseconds, wholeNumber } from './quantity.js'

type Backend = NonNullable<StreamOptions['backend']>

export interface TransportFlags {
  readonly backend: Backend
  readonly udpPath: 'auto' | 'io_uring' | 'sendmmsg'
  readonly thread?: 'worker' | 'inline'
  readonly interface?: string
  readonly ttl?: number
  readonly dscp?: number
  readonly multicastLoop?: boolean
  readonly sourcePort?: number
  readonly reusePort?: true
  readonly broadcast?: true
  readonly segmentation?: 'auto' | 'off'
  readonly sendBuffer?: number
  readonly allowFragmentation?: true
  readonly neighbourTimeout?: number
  readonly connectTimeout?: number
  readonly reconnect?: 'fail' | 'retry'
  readonly reconnectDelay?: number
  readonly reconnectDelayMax?: number
  readonly reconnectSeconds?: number
  readonly ioCpu?: readonly number[]
  readonly affinity?: readonly number[]
  readonly mainCpu?: readonly number[]
  readonly priority?: NonNullable<StreamOptions['priority']>
  readonly ioThreads?: number
  readonly vlan?: VlanFlag
  readonly queueDepth?: number
  readonly poll?: 'busy' | 'adaptive' | 'event'
  readonly pollMicroseconds?: number
  readonly completionVector?: number
  readonly completionTimeout?: number
  readonly verbsLibrary?: string
  readonly device?: string
  readonly peer?: readonly PeerFlag[]
}

export const packetSizeOption = (): Option =>
  new Option(
    '-p, --packet-size <BYTES>',
    'largest UDP payload, SPEAD header included (default: 1472, which fits an MTU of 1500 over IPv4)',
  ).argParser(byteCount(56, 65507))

export const batchesOption = (): Option =>
  new Option(
    '--batches <N>',
    'batches under way at once, or as many more as the substreams divide into (default: 4, or as many as hold 50 ms of --rate, in at most 256 MiB)',
  ).argParser(wholeNumber(1, 65536))

export const rateOption = (): Option =>
  new Option(
    '--rate <RATE>',
    'UDP payload a second, with its unit: 10Gbps, 890 Mb/s, 1.25GB/s, 100MiB/s; 50%: of the speed of the link; 0: as fast as possible',
  ).default('0')

/** Each backend and what `--help` says about it. The compiler sees that none is left out. */
const BACKENDS: Readonly<Record<Backend, string | undefined>> = {
  auto: undefined,
  ibverbs: 'raw packets past the kernel (Mellanox NICs)',
  tcp: 'a connection to each receiver; also by tcp://HOST:PORT',
  'rdma-ud': 'datagrams of InfiniBand or RoCE, for recv --backend rdma-ud',
  udp: 'sendmmsg with segmentation offload (Linux)',
  dgram: 'node:dgram',
  pcap: 'a file',
  memory: 'nowhere',
}

/** A flag of `--help`, and the stream's option that it sets. */
interface TransportFlag {
  readonly flags: string
  readonly help: string
  readonly choices?: readonly string[]
  readonly parse?: <T>(text: string, before: T) => unknown
  readonly preset?: string | boolean
  /** The stream's option, such as `ibverbs.poll`. */
  readonly option: string
  /** The backends that it is for; left out: all. */
  readonly only?: readonly Backend[]
  /** It has another name now. */
  readonly former?: true
}

const VERBS = ['ibverbs', 'rdma-ud'] as const
/** Those that send UDP datagrams by a socket, and by frames of their own. */
const SOCKETS = ['udp', 'dgram'] as const
const DATAGRAMS = [...SOCKETS, 'ibverbs'] as const
const THREADED = [...VERBS, 'udp', 'tcp', 'pcap'] as const

const BASIC: readonly TransportFlag[] = [
  { flags: '--interface <NAME|ADDRESS>', option: 'interface', help: 'interface to send through (default: the route decides)' },
  { flags: '--ttl <HOPS>', option: 'ttl', only: [...DATAGRAMS, 'rdma-ud', 'tcp', 'pcap'], parse: wholeNumber(0, 255), help: 'TTL or hop limit (default: the system’s; 1 for multicast)' },
  { flags: '--dscp <N>', option: 'dscp', only: ['udp', ...VERBS, 'tcp', 'pcap'], parse: wholeNumber(0, 63), help: 'differentiated services code point, which switches may favour; 46: expedited forwarding' },
  { flags: '--multicast-loop', option: 'multicastLoop', only: [...SOCKETS, ...VERBS], preset: true, help: 'deliver multicast to receivers on this host too' },
  { flags: '--no-multicast-loop', option: 'multicastLoop', only: [...SOCKETS, ...VERBS], help: 'to other hosts alone' },
  { flags: '--source-port <PORT>', option: 'sourcePort', only: [...DATAGRAMS, 'tcp', 'pcap'], parse: wholeNumber(1, 65535), help: 'UDP source port (default: any)' },
  { flags: '--reuse-port', option: 'reusePort', only: DATAGRAMS, help: 'share --source-port with other senders that say so too' },
  { flags: '--broadcast', option: 'broadcast', only: DATAGRAMS, help: 'allow endpoints that are IPv4 broadcast addresses' },
] // biome-ignore format: a table

const DETAILED: readonly TransportFlag[] = [
  { flags: '--thread <WHICH>', option: 'thread', choices: ['worker', 'inline'], help: 'who sends: an I/O thread (default for ibverbs, rdma-ud and udp), or the event loop' },
  { flags: IO_CPU, option: 'affinity', parse: cpuList, help: 'CPUs for the I/O thread, such as 2,3 or 0-3 (default: any)' },
  { flags: '--affinity <CPUS>', option: 'affinity', parse: cpuList, help: 'the former name of --io-cpu', former: true },
  { flags: PRIORITY, option: 'priority', parse: threadPriority, help: `of the I/O thread: ${PRIORITY_VALUES} (default: the process’s)` },
  { flags: '--io-threads <N>', option: 'ioThreads', only: THREADED, parse: wholeNumber(1, 1024), help: 'I/O threads at most (default: as many as CPUs, at least 2)' },
  { flags: '--udp-path <PATH>', option: 'udpPath', choices: ['auto', 'io_uring', 'sendmmsg'], preset: 'auto', only: ['udp'], help: 'of udp, how packets reach the kernel: sendmmsg copies them; io_uring lends it large messages instead; auto: io_uring where it is faster' },
  { flags: '--segmentation <HOW>', option: 'segmentation', only: ['udp'], choices: ['auto', 'off'], help: 'of udp, whether the kernel or the NIC cuts large messages into packets (default: auto, where the kernel can)' },
  { flags: '--send-buffer <BYTES>', option: 'sendBufferBytes', only: [...SOCKETS, 'tcp'], parse: byteCount(0, 2 ** 30), help: 'socket buffer to ask for; 0: the system’s (default: 1MiB, of tcp 0)' },
  { flags: '--allow-fragmentation', option: 'allowFragmentation', only: SOCKETS, help: 'let IP fragment packets beyond the MTU instead of refusing them' },
  { flags: '--neighbour-timeout <MS>', option: 'neighbourTimeoutMs', only: ['udp', ...VERBS], parse: milliseconds(0), help: 'how long opening waits for neighbours to answer, in milliseconds (default: 1000)' },
  { flags: '--connect-timeout <MS>', option: 'tcp.connectTimeoutMs', parse: milliseconds(1), only: ['tcp', 'rdma-ud'], help: 'of tcp and rdma-ud, how long opening waits for a receiver’s answer, in milliseconds (default: 5000)' },
  { flags: '--reconnect <HOW>', option: 'tcp.reconnect', choices: ['fail', 'retry'], only: ['tcp'], help: 'of tcp, what follows the loss of a connection: fail, so do all later heaps to it (default); retry, connect again' },
  { flags: '--reconnect-delay <MS>', option: 'tcp.reconnectDelayMs', parse: milliseconds(1), only: ['tcp'], help: 'before the first attempt, in milliseconds; each that fails doubles it (default: 100)' },
  { flags: '--reconnect-delay-max <MS>', option: 'tcp.reconnectDelayMaxMs', parse: milliseconds(1), only: ['tcp'], help: 'before any attempt, at most, in milliseconds (default: 5000)' },
  { flags: '--reconnect-seconds <SECONDS>', option: 'tcp.reconnectSeconds', parse: secondsOrInfinity, only: ['tcp'], help: 'how long to go on trying; inf: for ever (default: 60)' },
  { flags: '--vlan <ID[:PRIORITY]>', option: 'ibverbs.vlan', parse: vlanTag, only: ['ibverbs'], help: 'of ibverbs, tag of the frames (default: that of the interface, priority 0)' },
  { flags: '--queue-depth <PACKETS>', option: 'ibverbs.queueDepth', parse: wholeNumber(16, 65536), only: VERBS, help: 'of ibverbs and rdma-ud, packets under way at the device (default: 4096, or what it takes)' },
  { flags: '--poll <HOW>', option: 'ibverbs.poll', choices: ['busy', 'adaptive', 'event'], only: VERBS, help: 'of ibverbs and rdma-ud, how completions are noticed: adaptive polls before it sleeps (default), event sleeps at once, busy never does' },
  { flags: '--poll-microseconds <N>', option: 'ibverbs.pollMicroseconds', parse: wholeNumber(0, 1e6), only: VERBS, help: 'how long --poll adaptive polls before it sleeps (default: 50)' },
  { flags: '--completion-vector <N>', option: 'ibverbs.completionVector', parse: wholeNumber(0, 1023), only: VERBS, help: 'of ibverbs and rdma-ud, the device’s interrupt for completions (default: 0)' },
  { flags: '--completion-timeout <MS>', option: 'ibverbs.completionTimeoutMs', parse: milliseconds(10), only: VERBS, help: 'of ibverbs and rdma-ud, how long nothing may complete before the queue is reset, in milliseconds (default: 5000)' },
  { flags: '--verbs-library <PATH>', option: 'ibverbs.library', only: VERBS, help: 'name or path of libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)' },
  { flags: '--device <NAME[:PORT]>', option: 'rdmaUd.device', only: ['rdma-ud'], help: 'of rdma-ud: RDMA device to send from (default: the one behind the interface)' },
  { flags: '--peer <[GID/]QPN/QKEY[/LID]>', option: 'rdmaUd.peers', parse: (text, before) => peerList(text, before as readonly PeerFlag[] | undefined), only: ['rdma-ud'], help: 'of rdma-ud, once for each endpoint: its queue pair, as recv prints it (default: asked of it over TCP)' },
] // biome-ignore format: a table

const ALL = [...BASIC, ...DETAILED].map((flag) => ({ ...flag, name: optionOf(flag).attributeName() as keyof TransportFlags }))

function optionOf({ flags, help, choices, parse, preset, former }: TransportFlag): Option {
  const option = new Option(flags, help).hideHelp(former === true)
  if (choices) option.choices(choices)
  if (parse) option.argParser(parse)
  return preset === undefined ? option : option.default(preset)
}

/** @param without the backend that the command does not offer */
export function addTransportOptions(command: Command, without?: Backend): Command {
  const backends = Object.entries(BACKENDS).filter(([name]) => name !== without)
  const help = backends.filter(([, is]) => is !== undefined).map(([name, is]) => `${name}: ${is}`)
  command
    .optionsGroup('Transport:')
    .addOption(new Option('--backend <KIND>', help.join('; ')).choices(backends.map(([name]) => name)).default('auto'))
  for (const flag of BASIC) command.addOption(optionOf(flag))
  command.optionsGroup('Transport, in detail:')
  for (const flag of DETAILED) command.addOption(optionOf(flag))
  command.addOption(mainCpuOption())
  return command
}

/** `auto` may become any backend but rdma-ud: tcp by its endpoints. */
const mayBe = (backend: Backend, only: readonly Backend[]): boolean =>
  backend === 'auto' ? only.some((one) => one !== 'rdma-ud') : only.includes(backend)

const listed = (names: readonly string[]): string => names.join(', ').replace(/, ([^,]*)$/, ' and $1')

/**
 * Refuses options that are for another backend, because that would ignore them.
 * @param to the endpoints, which choose TCP where they begin with tcp://
 * @throws ERR_SPEADCAST_CONFIG
 */
export function checkTransportOptions(flags: TransportFlags, asked: Backend, to: readonly string[]): void {
  const backend = asked === 'auto' && to.some((endpoint) => /(^|,)\s*tcp:\/\//i.test(endpoint)) ? 'tcp' : asked
  for (const { name, flags: text, only, preset } of ALL) {
    // An option with a preset of true has another that begins with --no-, and sets false.
    const given = flags[name] !== undefined && flags[name] !== preset && text.startsWith('--no-') === (flags[name] === false)
    if (!only || !given || mayBe(backend, only)) continue
    throw usageError(`${text.split(' ')[0]} is for --backend ${listed(only)}, not ${backend}`)
  }
  if (flags.reconnect !== 'retry') {
    const { reconnectDelay, reconnectDelayMax, reconnectSeconds } = flags
    const name = reconnectDelay !== undefined ? 'delay' : reconnectDelayMax !== undefined ? 'delay-max' : 'seconds'
    if (reconnectDelay !== undefined || reconnectDelayMax !== undefined || reconnectSeconds !== undefined)
      throw usageError(`--reconnect-${name} is of connecting again; give --reconnect retry too`)
  }
  if (flags.ioCpu !== undefined && flags.affinity !== undefined)
    throw usageError('--affinity is the former name of --io-cpu; drop one of the two')
  if (flags.reusePort && flags.sourcePort === undefined)
    throw usageError('--reuse-port shares a source port; say which with --source-port')
}

/** Returns the stream's options for these flags. */
export function transportOptions(flags: TransportFlags): Partial<StreamOptions> {
  const options: Record<string, Record<string, unknown> | unknown> = {}
  for (const { name, option } of ALL) {
    const value = flags[name]
    if (value === undefined) continue
    const [whole = '', part] = (
      name === 'connectTimeout' && flags.backend === 'rdma-ud' ? 'rdmaUd.connectTimeoutMs' : option
    ).split('.')
    options[whole] = part === undefined ? value : { ...(options[whole] as object | undefined), [part]: value }
  }
  return { ...options, ...(flags.backend === 'memory' && { memory: { keepPackets: false } }) }
}
