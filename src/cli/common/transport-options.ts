/** The options that `send` and `bench` share: how packets are transported, how large they are and how fast they go. */
import { type Command, Option } from 'commander'
import type { StreamOptions } from '../../index.js'
import { usageError } from './exit.js'
import { type PeerFlag, peerList } from './peer.js'
import { byteCount, wholeNumber } from './quantity.js'

export interface TransportFlags {
  readonly backend: NonNullable<StreamOptions['backend']>
  readonly udpPath: 'auto' | 'io_uring' | 'sendmmsg'
  readonly thread?: 'worker' | 'inline'
  readonly interface?: string
  readonly poll?: 'busy' | 'adaptive' | 'event'
  readonly verbsLibrary?: string
  readonly device?: string
  readonly peer?: readonly PeerFlag[]
  readonly ttl?: number
  readonly sourcePort?: number
  readonly reusePort?: true
  readonly broadcast?: true
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
const BACKENDS: Readonly<Record<TransportFlags['backend'], string | undefined>> = {
  auto: undefined,
  ibverbs: 'raw packets past the kernel (Mellanox NICs)',
  tcp: 'a connection to each receiver; also by tcp://HOST:PORT',
  'rdma-ud': 'datagrams of InfiniBand or RoCE, for recv --backend rdma-ud',
  udp: 'sendmmsg with segmentation offload (Linux)',
  dgram: 'node:dgram',
  pcap: 'a file',
  memory: 'nowhere',
}

/** @param without the backend that the command does not offer */
export function addTransportOptions(command: Command, without?: TransportFlags['backend']): Command {
  const backends = Object.entries(BACKENDS).filter(([name]) => name !== without)
  const help = backends.filter(([, is]) => is !== undefined).map(([name, is]) => `${name}: ${is}`)
  return command
    .addOption(new Option('--backend <KIND>', help.join('; ')).choices(backends.map(([name]) => name)).default('auto'))
    .addOption(
      new Option(
        '--udp-path <PATH>',
        'of udp, how packets reach the kernel: sendmmsg copies them; io_uring lends it large messages instead; auto: io_uring where it is faster',
      )
        .choices(['auto', 'io_uring', 'sendmmsg'])
        .default('auto'),
    )
    .addOption(
      new Option('--thread <WHICH>', 'who sends: an I/O thread (default for ibverbs, rdma-ud and udp), or the event loop').choices([
        'worker',
        'inline',
      ]),
    )
    .option('--interface <NAME|ADDRESS>', 'interface to send through (default: the route decides)')
    .addOption(
      new Option(
        '--poll <HOW>',
        'of ibverbs and rdma-ud, how completions are noticed: adaptive polls before it sleeps (default), event sleeps at once, busy never does',
      ).choices(['busy', 'adaptive', 'event']),
    )
    .option('--verbs-library <PATH>', 'name or path of libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)')
    .option('--device <NAME[:PORT]>', 'of rdma-ud: RDMA device to send from (default: the one behind the interface)')
    .option(
      '--peer <[GID/]QPN/QKEY[/LID]>',
      'of rdma-ud, once for each endpoint: its queue pair, as recv prints it (default: asked of it over TCP)',
      peerList,
    )
    .option('--ttl <HOPS>', 'TTL or hop limit (default: the system’s; 1 for multicast)', wholeNumber(0, 255))
    .option('--source-port <PORT>', 'UDP source port (default: any)', wholeNumber(1, 65535))
    .option('--reuse-port', 'share --source-port with other senders that say so too')
    .option('--broadcast', 'allow endpoints that are IPv4 broadcast addresses')
}

/** Refuses options that are for another backend. @throws ERR_SPEADCAST_CONFIG */
export function checkTransportOptions(
  { poll, verbsLibrary, device, peer, sourcePort, reusePort, udpPath }: TransportFlags,
  backend: TransportFlags['backend'],
): void {
  if ((poll !== undefined || verbsLibrary !== undefined) && !['ibverbs', 'rdma-ud', 'auto'].includes(backend))
    throw usageError(`--poll and --verbs-library are for --backend ibverbs and rdma-ud, not ${backend}`)
  if ((device !== undefined || peer !== undefined) && backend !== 'rdma-ud')
    throw usageError(`--device and --peer are for --backend rdma-ud, not ${backend}`)
  if (reusePort && sourcePort === undefined) throw usageError('--reuse-port shares a source port; say which with --source-port')
  if (udpPath !== 'auto' && backend !== 'udp' && backend !== 'auto')
    throw usageError(`--udp-path is for --backend udp, not ${backend}`)
}

/** Returns the stream's options for these flags. */
export function transportOptions({
  udpPath,
  thread,
  ttl,
  sourcePort,
  reusePort,
  broadcast,
  poll,
  verbsLibrary,
  device,
  peer,
  ...flags
}: TransportFlags): Partial<StreamOptions> {
  return {
    udpPath,
    ...(flags.interface !== undefined && { interface: flags.interface }),
    ...(thread !== undefined && { thread }),
    ...(ttl !== undefined && { ttl }),
    ...(sourcePort !== undefined && { sourcePort }),
    ...(reusePort && { reusePort }),
    ...(broadcast && { broadcast }),
    ...((poll !== undefined || verbsLibrary !== undefined) && {
      ibverbs: { ...(poll && { poll }), ...(verbsLibrary && { library: verbsLibrary }) },
    }),
    ...((device !== undefined || peer) && { rdmaUd: { ...(device !== undefined && { device }), ...(peer && { peers: peer }) } }),
    ...(flags.backend === 'memory' && { memory: { keepPackets: false } }),
  }
}
