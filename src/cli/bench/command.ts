/** The options of `speadcast bench`. Its action loads run.ts, or agent/master.ts. */

import { Command, Option } from 'commander'
import { usageError } from '../common/exit.js'
import { footer } from '../common/help.js'
import { byteCount, byteCounts, decimal, seconds, wholeNumber } from '../common/quantity.js'
import { addReportOptions } from '../common/run-flags.js'
import { addTransportOptions, batchesOption, packetSizeOption, rateOption } from '../common/transport-options.js'
import { agentCommand } from './agent/command.js'
import type { BenchFlags } from './flags.js'

/** 256 B to 64 MiB. */
const SIZES = Array.from({ length: 19 }, (_, i) => 2 ** (i + 8))

/** A command with commands of its own, which get the settings that it inherits. */
class Parent extends Command {
  override copyInheritedSettings(source: Command): this {
    super.copyInheritedSettings(source)
    for (const command of this.commands) command.copyInheritedSettings(this)
    return this
  }
}

export function benchCommand(): Command {
  const bench: Command = new Parent('bench')
    .description('measure how fast this host sends to an endpoint, for heaps of many sizes')
    .helpCommand(false)
    .addCommand(agentCommand())
    .hook('preSubcommand', () => refuseOptions(bench))
    .argument(
      '[HOST:PORT...]',
      'endpoints, as for send. They are sent to as fast as possible, or at --rate, so choose what nobody minds',
    )
    .option('--to <HOST:PORT...>', 'the endpoints, in place of the arguments')
    .optionsGroup('What is measured:')
    .addOption(
      new Option('--sizes <LIST>', 'samples in a heap, as 256,8KiB,1MiB')
        .argParser(byteCounts(1, 2 ** 31))
        .default(SIZES, 'powers of two from 256 to 64MiB; with --agent 1KiB,16KiB,256KiB,4MiB'),
    )
    .option('--seconds <N>', 'time of each measurement', seconds(0.01), 1)
    .option('--warmup-seconds <N>', 'sent for so long before the clock starts', seconds(0), 0.5)
    .option('--repeats <N>', 'rounds: each measures every size once', wholeNumber(1, 1000), 1)
    .optionsGroup('The highest rate between two hosts:')
    .option(
      '--agent',
      'the endpoint is HOST[:PORT] of a speadcast bench agent on another host: find the highest rate at which all arrives; tcp://HOST: measure TCP',
    )
    .option('--accuracy <PERCENT>', 'the search ends that near to a rate that fails', decimal(0.1), 2)
    .option('--confirm <N>', 'further runs at the rate found, all of which must arrive whole', wholeNumber(0, 100), 2)
    .option(
      '--burst <BYTES>',
      'the longest burst, as of send (default: 65536, and shorter ones where a queue on the way has no room for them)',
      byteCount(1, 2 ** 31),
    )
    .option('--html <FILE>', 'a page with the tables and a chart')
    .optionsGroup('Packets, batches and pace:')
    .addOption(packetSizeOption())
    .addOption(batchesOption())
    .addOption(rateOption())
  addTransportOptions(bench, 'pcap')
  return addReportOptions(bench.optionsGroup('Output:'))
    .helpOption('-h, --help', 'this text')
    .addHelpText(
      'after',
      footer(`
The main thread fills every byte of every heap and its timestamp, as spead2's tutorial does, and hands batches over; the I/O thread sends
them. The clock runs from the first fill behind the warm-up to the last completion. Each measurement has a stream of its own; no stop
heaps are sent. CPU time is that of all threads. Nobody looks at what arrives: compare with speadcast recv, or the switch's counters.

Ctrl-C ends it with what was measured so far; Ctrl-C again ends at once (exit 130).

With --agent the endpoint's host runs speadcast bench agent, which says what arrived of each run, and --seconds is the time of a run. A run
passes if every packet arrived and no queue on the way held them back. The first is as fast as possible, or at --rate; the rates after
it come nearer to the highest that passes. Each line has the rate asked, sent and received (UDP payload, as --rate counts it), packets lost
and reordered, drops by the receiver's socket, and why it did not pass. The table also has payload (item data), frames (Ethernet without
FCS, as a shaper counts) and wire (with FCS, preamble and gap).

Exit status: 0 measured; 1 heaps were not sent, no rate passed, or it broke off; 2 bad usage.

JSON: machine { kind, date, cpu, cpus, memoryBytes, kernel, node, interface, mtuBytes, backend, reason, evidence, states },
interrupted, rows: [{ kind: "run", ground: "host", program, round, attempt, pointBatches, batches, batchHeaps, heapSizeBytes,
packetSizeBytes, heaps, payloadBytes, seconds, payloadBytesPerSecond, packetsPerSecond, cpuSeconds (all of the time measured), packets,
udpBytes (warm-up included), warmupHeaps, heapsFailed, heapsSuspect, refused (the kernel had no room, or an ICMP error came; sent
again), interrupted (cut short), stats }].

JSON of --json-stream: as of send, warm-ups included; the end is the object of --json. With --agent the start, an object
of kind step for each run as it ends, and the end.

JSON with --agent: agent, transport, packetSizeBytes, secondsOfRun, accuracyPercent, confirm, interrupted, sizes: [{ heapSizeBytes, packetSizeBytes,
rate, payloadRate, frameRate, wireRate (bytes a second), confirmed, limitedBy (none, way, queue, receiver-socket, receiver-memory,
receiver-interface, sender-interface, sender, silence, rate), why, steps }].

Examples:
  speadcast bench 239.10.0.1:7148 --interface eth0 -p 8972
  speadcast bench 10.0.0.5 --agent -p 8972 --html report.html
  speadcast bench --to 10.0.0.5:7148 --sizes 8KiB,64KiB,1MiB --seconds 5 --repeats 3 --json
  speadcast bench --to 239.10.0.1:7148 --interface eth2 --backend ibverbs -p 8972 --rate 40Gbps`),
    )
    .action(async (endpoints: string[], flags: BenchFlags, command: Command) => {
      const given = (option: string): boolean => command.getOptionValueSource(option) === 'cli'
      await (await import('./start.js')).startBench(endpoints, flags, given)
    })
}

/** Options of both commands go to `bench`, whichever name they stand behind. @throws ERR_SPEADCAST_CONFIG where one is not of `bench agent` */
function refuseOptions(bench: Command): void {
  for (const option of bench.options) {
    const name = option.attributeName()
    if (name !== 'json' && bench.getOptionValueSource(name) === 'cli')
      throw usageError(`${option.long} is no option of bench agent; the host that runs bench --agent has it`)
  }
}
