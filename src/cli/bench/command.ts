/** The options of `speadcast bench`. Its action loads run.ts. */

import { Command, Option } from 'commander'
import { footer } from '../common/help.js'
import { byteCounts, seconds, wholeNumber } from '../common/quantity.js'
import { addTransportOptions, batchesOption, packetSizeOption, rateOption } from '../common/transport-options.js'
import type { BenchFlags } from './flags.js'

/** 256 B to 64 MiB. */
const SIZES = Array.from({ length: 19 }, (_, i) => 2 ** (i + 8))

export function benchCommand(): Command {
  const bench = new Command('bench')
    .description('measure how fast this host sends to an endpoint, for heaps of many sizes')
    .requiredOption(
      '--to <HOST:PORT...>',
      'endpoints, as for send. They are sent to as fast as possible, or at --rate, so choose what nobody minds',
    )
    .optionsGroup('What is measured:')
    .addOption(
      new Option('--sizes <LIST>', 'samples in a heap, as 256,8KiB,1MiB')
        .argParser(byteCounts(1, 2 ** 31))
        .default(SIZES, 'powers of two from 256 to 64MiB'),
    )
    .option('--seconds <N>', 'time of each measurement', seconds(0.01), 1)
    .option('--warmup-seconds <N>', 'sent for so long before the clock starts', seconds(0), 0.5)
    .option('--repeats <N>', 'rounds: each measures every size once', wholeNumber(1, 1000), 1)
    .optionsGroup('Packets, batches and pace:')
    .addOption(packetSizeOption())
    .addOption(batchesOption())
    .addOption(rateOption())
  addTransportOptions(bench, 'pcap')
  return bench
    .optionsGroup('Output:')
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .helpOption('-h, --help', 'this text')
    .addHelpText(
      'after',
      footer(`
The main thread fills every byte of every heap and its timestamp, as spead2's tutorial does, and hands batches over; the I/O thread sends
them. The clock runs from the first fill behind the warm-up to the last completion. Each measurement has a stream of its own; no stop
heaps are sent. CPU time is that of all threads. Nobody looks at what arrives: compare with speadcast recv, or the switch's counters.
Ctrl-C ends it with what was measured so far; Ctrl-C again ends at once (exit 130).
Exit status: 0 measured; 1 heaps were not sent, or it broke off; 2 bad usage.

JSON: machine { kind, date, cpu, cpus, memoryBytes, kernel, node, interface, mtuBytes, backend, reason, evidence, states },
interrupted, rows: [{ kind: "run", ground: "host", program, round, attempt, pointBatches, batches, batchHeaps, heapSizeBytes,
packetSizeBytes, heaps, payloadBytes, seconds, payloadBytesPerSecond, packetsPerSecond, cpuSeconds (all of the time measured), packets,
udpBytes (warm-up included), warmupHeaps, heapsFailed, heapsSuspect, refused (the kernel had no room, or an ICMP error came; sent
again), interrupted (cut short), stats }].

Examples:
  speadcast bench --to 239.10.0.1:7148 --interface eth0 -p 8972
  speadcast bench --to 10.0.0.5:7148 --sizes 8KiB,64KiB,1MiB --seconds 5 --repeats 3 --json
  speadcast bench --to 239.10.0.1:7148 --interface eth2 --backend ibverbs -p 8972 --rate 40Gbps`),
    )
    .action(async (flags: BenchFlags) => (await import('./run.js')).runBench(flags))
}
