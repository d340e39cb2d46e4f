/** `speadcast send`: its options; send-run.ts does it, and is loaded only then. */
import { Command, Option } from 'commander'
import { type PeerFlag, peerList } from './peer.js'
import { byteCount, counter, decimal, wholeNumber } from './quantity.js'

export interface SendFlags {
  readonly heaps?: number
  readonly heapSize: number
  readonly packetSize?: number
  readonly batchHeaps?: number
  readonly batches: number
  readonly groupMode: 'serial' | 'round-robin'
  readonly backend: 'auto' | 'ibverbs' | 'rdma-ud' | 'udp' | 'dgram' | 'pcap' | 'memory'
  readonly pcap?: string
  readonly thread?: 'worker' | 'inline'
  readonly udpPath: 'auto' | 'io_uring' | 'sendmmsg'
  readonly poll?: 'busy' | 'adaptive' | 'event'
  readonly verbsLibrary?: string
  readonly device?: string
  readonly peer?: readonly PeerFlag[]
  readonly interface?: string
  readonly ttl?: number
  readonly rate: string
  readonly burst: number
  readonly burstRateRatio: number
  readonly rateMethod: 'auto' | 'sw' | 'hw'
  readonly heapAddressBits: number
  readonly split: 'even' | 'greedy' | 'exact'
  readonly payloadBytes?: number
  readonly repeatPointers?: boolean
  readonly firstCnt: number | bigint
  readonly cntStep: number | bigint
  readonly descriptors: string
  readonly input?: string
  readonly dtype?: string
  readonly stop: boolean
  readonly deadline: number
  readonly json?: true
}

const GIB = 2 ** 30

export function sendCommand(): Command {
  return new Command('send')
    .description('send SPEAD heaps over UDP: the tutorial pattern, or raw samples from a file or a pipe')
    .argument(
      '<HOST:PORT...>',
      'endpoints, one substream each; [::1]:7148 for IPv6, 239.10.10.0+15:7148 for sixteen; heap i goes to substream i mod n',
    )
    .optionsGroup('Heaps:')
    .option('-n, --heaps <N>', 'how many heaps (default: 1000, with --input all of it)', wholeNumber(1))
    .option('-H, --heap-size <BYTES>', 'samples in a heap', byteCount(1, 2 * GIB), 1048576)
    .option(
      '--input <FILE>',
      "raw samples for item adc_samples; '-' is standard input. A last heap that is not full is sent shorter",
    )
    .option('--dtype <DTYPE>', "with --input: the samples' type as numpy has it, such as i1, '<i2', '<c8' (default: i1)")
    .option('--stop', 'send a stop heap at the end, one per substream', true)
    .option('--no-stop', 'send none')
    .optionsGroup('Packets:')
    .option(
      '-p, --packet-size <BYTES>',
      'largest UDP payload, SPEAD header included (default: 1472, which fits an MTU of 1500 over IPv4)',
      byteCount(56, 65507),
    )
    .addOption(
      new Option('--split <HOW>', 'even: packets of one size; greedy: spead2’s packets; exact: see --payload-bytes')
        .choices(['even', 'greedy', 'exact'])
        .default('even'),
    )
    .option(
      '--payload-bytes <BYTES>',
      'with --split exact: payload of every packet but a shorter last one, behind the pointers heap cnt, heap length, payload offset, ' +
        'payload length and, in the first packet, timestamp and adc_samples; the packet size follows from it',
      byteCount(1, 65507),
    )
    .option('--repeat-pointers', 'every packet carries all item pointers')
    .option('--heap-address-bits <BITS>', 'N of SPEAD-64-N: 8, 16 … 56', wholeNumber(8, 56), 48)
    .option('--first-cnt <N>', 'heap cnt of the first heap, descriptors included', counter, 1)
    .option('--cnt-step <N>', 'from one heap cnt to the next', counter, 1)
    .option(
      '--descriptors <WHEN>',
      'first: in a heap of their own before the data; SECONDS: so, and again that often; in-band: inside the first heap; none',
      'first',
    )
    .optionsGroup('Batches and pace:')
    .option('--batch-heaps <N>', 'heaps per batch (default: as many as make 512 KiB, at least 1)', wholeNumber(1, 2 ** 24 - 1))
    .option('--batches <N>', 'batches under way at once, or as many more as the substreams divide into', wholeNumber(1, 65536), 4)
    .addOption(
      new Option('--group-mode <ORDER>', 'packets of a batch heap after heap, or one of each heap in turn')
        .choices(['serial', 'round-robin'])
        .default('serial'),
    )
    .option('--rate <RATE>', 'UDP payload a second, with its unit: 10Gbps, 1.25GB/s, 100MiB/s; 0: as fast as possible', '0')
    .option('--burst <BYTES>', 'sent back to back before the limiter looks at the clock', byteCount(1, 2 ** 31), 65536)
    .option('--burst-rate-ratio <RATIO>', 'how much faster than --rate to go to catch up', decimal(1), 1.05)
    .addOption(
      new Option('--rate-method <WHO>', 'who keeps the rate: sw, this program (auto too); hw, the NIC of --backend ibverbs')
        .choices(['auto', 'sw', 'hw'])
        .default('auto'),
    )
    .optionsGroup('Way out:')
    .addOption(
      new Option(
        '--backend <KIND>',
        'ibverbs: raw packets past the kernel (Mellanox NICs); rdma-ud: datagrams of InfiniBand or RoCE, for recv --backend rdma-ud; udp: sendmmsg with segmentation offload (Linux); dgram: node:dgram; pcap: a file; memory: nowhere',
      )
        .choices(['auto', 'ibverbs', 'rdma-ud', 'udp', 'dgram', 'pcap', 'memory'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--udp-path <PATH>',
        'of udp, how packets reach the kernel: sendmmsg copies them; io_uring lends it large messages instead; auto: io_uring where it is faster',
      )
        .choices(['auto', 'io_uring', 'sendmmsg'])
        .default('auto'),
    )
    .option('--pcap <FILE>', 'write the frames to a pcap file instead of sending them (backend pcap)')
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
    .optionsGroup('Output:')
    .option('--deadline <SECONDS>', 'after Ctrl-C, send what is queued for so long at most', decimal(0), 5)
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .helpOption('-h, --help', 'this text')
    .addHelpText(
      'after',
      `
Without --input: item 0x1600 timestamp, an immediate with the index of the heap's first sample, and item 0x3300 adc_samples, int8, every
byte of heap i being i. With --input: the same items, filled with the samples. BYTES may have a unit: 8KiB, 1MiB, 9kB.
Ctrl-C sends what is queued, then prints the summary; Ctrl-C again ends at once (exit 130).
Exit status: 0 sent; 1 heaps were not sent, or the input ended within a sample or could not be read; 2 bad usage.

JSON: backend, reason (why that one), evidence (what "sent" rests on: accepted by the kernel, or written to the file), heaps (sent whole,
without descriptor and stop heaps), heapsFailed, heapsDropped (cut off by --deadline), heapsSuspect (sent while the link was lost or the
interface dropped), heapSizeBytes, packetSizeBytes; payloadBytes (samples of the heaps sent); packets, udpBytes (with SPEAD headers) and
wireBytes (with UDP, IP and Ethernet headers, FCS, preamble and gap) of all heaps; seconds (first fill to last completion),
payloadBytesPerSecond, packetsPerSecond, segmentation, segmentationReason, cpuSeconds, stats.

Examples:
  speadcast send 239.10.0.1:7148 --interface eth0 --ttl 4 --rate 10Gbps -p 8972
  speadcast send 10.0.0.5:7148 --input samples.i2 --dtype '<i2' -H 64KiB
  capture | speadcast send 239.10.10.0+15:7148 --input - -H 8KiB -p 8972 --json
  speadcast send 10.0.0.5:7148 -n 10 --pcap heaps.pcap
  speadcast send 10.0.0.5:7148 --backend rdma-ud --interface ib0 -p 4096`,
    )
    .action(async (endpoints: string[], flags: SendFlags) => (await import('./send-run.js')).runSend(endpoints, flags))
}
