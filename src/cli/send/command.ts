/** The options of `speadcast send`. Its action loads run.ts. */

import { Command, Option } from 'commander'
import { bugCompatFlags, onErrorPolicy, senderIndex } from '../common/arguments.js'
import { footer } from '../common/help.js'
import { byteCount, counter, decimal, hertz, milliseconds, seconds, wholeNumber } from '../common/quantity.js'
import { addLengthOptions, addReportOptions } from '../common/run-flags.js'
import { addTransportOptions, batchesOption, packetSizeOption, rateOption } from '../common/transport-options.js'
import type { SendFlags } from './flags.js'
import { formatFields, itemId, itemList } from './item-flags.js'

const GIB = 2 ** 30

export function sendCommand(): Command {
  const send = new Command('send')
    .description('send SPEAD heaps over UDP: the tutorial pattern, or raw samples from a file or a pipe')
    .argument(
      '<HOST:PORT...>',
      'endpoints, one substream each; [::1]:7148 for IPv6, 239.10.10.0+15:7148 for sixteen; heap i goes to substream i mod n',
    )
    .optionsGroup('Heaps:')
    .option(
      '-n, --heaps <N>',
      'how many heaps; 0: until Ctrl-C (default: 1000, with --input all of it, with --loop or --seconds no limit)',
      wholeNumber(0),
    )
    .option(
      '-H, --heap-size <BYTES>',
      'samples in a heap (default: what the items’ shapes make, else 1048576)',
      byteCount(1, 2 * GIB),
    )
    .option(
      '--input <FILE>',
      "raw samples for item adc_samples; '-' is standard input. A last heap that is not full is sent shorter",
    )
    .option('--loop <FILE>', 'raw samples for the same item, sent over and over until Ctrl-C, -n or --seconds; timestamps go on')
    .option('--pad-last', 'with --input and --loop: fill a last heap that is not full up with zeros')
    .option('--stop', 'send a stop heap at the end, one per substream', true)
    .option('--no-stop', 'send none')
    .optionsGroup('Items:')
    .option('--dtype <DTYPE>', "the samples' type as numpy has it, such as i1, '<i2', '<c8' (default: i1)")
    .option('--format <FIELDS>', 'the samples’ type in bits instead, such as i10 or u1,i7', formatFields)
    .option('--items <N>', 'as many items of samples, of equal size, from 0x3300 adc_samples_0 up', wholeNumber(1, 1024))
    .option('--item <ITEM>', 'once for each item, in the place of adc_samples: NAME:ID:TYPE[:SHAPE][=VALUE], see below', itemList)
    .option('--timestamp-id <ID>', 'of the timestamp (default: 0x1600)', itemId)
    .option('--timestamp-format <FIELDS>', 'its bits (default: u48, or as many as an item pointer holds)', formatFields)
    .option('--first-timestamp <N>', 'of the first heap (default: 0)', wholeNumber(0))
    .option('--timestamp-step <N>', 'from one heap to the next (default: the samples of a heap)', wholeNumber(1))
    .addOption(new Option('--samples-per-heap <N>', 'the former name of --timestamp-step').argParser(wholeNumber(1)).hideHelp())
    .optionsGroup('Packets:')
    .addOption(packetSizeOption())
    .addOption(
      new Option(
        '--split <HOW>',
        'even: the fewest packets, of one size where possible; greedy: spead2’s packets; exact: see --payload-bytes',
      )
        .choices(['even', 'greedy', 'exact'])
        .default('even'),
    )
    .option(
      '--payload-bytes <BYTES>',
      'with --split exact: payload of every packet but a shorter last one, behind the pointers heap cnt, heap length, payload offset, ' +
        'payload length and, in the first packet, the items; the packet size follows from it',
      byteCount(1, 65507),
    )
    .option('--repeat-pointers', 'every packet carries all item pointers')
    .option('--heap-address-bits <BITS>', 'N of SPEAD-64-N: 8, 16 … 56', wholeNumber(8, 56), 48)
    .option(
      '--bug-compat <FLAGS>',
      'how descriptors differ from the specification: pyspead, or some of descriptor-widths, shape-bit-1, swap-endian; or their sum',
      bugCompatFlags,
    )
    .option('--first-cnt <N>', 'heap cnt of the first heap, descriptors included', counter, 1)
    .option('--cnt-step <N>', 'from one heap cnt to the next', counter, 1)
    .optionsGroup('Several senders:')
    .addOption(
      new Option('--index <I>', 'which of several senders of one stream this is, from 0 up: a number, or a name that ends in -I')
        .argParser(senderIndex)
        .env('SPEADCAST_INDEX'),
    )
    .addOption(
      new Option('--of <N>', 'how many there are; the heap cnts of --first-cnt and --cnt-step are dealt to them in turn')
        .argParser(wholeNumber(1, 1_000_000))
        .env('SPEADCAST_SENDERS'),
    )
    .option('--deal-endpoints', 'deal the endpoints to them too, instead of sending to all: with as many as senders one each')
    .optionsGroup('Packets:')
    .option(
      '--descriptors <WHEN>',
      'first: in a heap of their own before the data; SECONDS: so, and again that often; in-band: inside the first heap; none',
      'first',
    )
    .option(
      '--descriptor-first-cnt <N>',
      'first heap cnt of a sequence of the descriptors’ own (default: they take the data’s next)',
      wholeNumber(0),
    )
    .option('--descriptor-cnt-step <N>', 'from one of its heap cnts to the next (default: 1)', wholeNumber(1))
    .option('--descriptor-stagger', 'with --descriptors SECONDS: one substream after the other over that time, not all at once')
    .optionsGroup('Batches and pace:')
    .option('--batch-heaps <N>', 'heaps per batch (default: as many as make 512 KiB, at least 1)', wholeNumber(1, 2 ** 24 - 1))
    .option(
      '--max-delay <MS>',
      'with --input: how long a whole heap may wait for its batch to fill, in milliseconds (default: 10 from a pipe or a device, no bound from a file)',
      milliseconds(0),
    )
    .addOption(batchesOption())
    .option(
      '--max-queued <BYTES>',
      'headers and payload under way at most: what is beyond waits (default: no bound)',
      byteCount(1, 2 ** 40),
    )
    .addOption(
      new Option(
        '--group-mode <ORDER>',
        "packets of a batch heap after heap; one of each heap in turn; or all heaps of one substream before the next one's, which is " +
          'faster with small heaps for many',
      )
        .choices(['serial', 'round-robin', 'by-substream'])
        .default('serial'),
    )
    .addOption(rateOption())
    .addOption(
      new Option('--rate-basis <WHAT>', 'what --rate counts: udp, UDP payload; wire, all from preamble to gap, headers included')
        .choices(['udp', 'wire'])
        .default('udp'),
    )
    .option('--burst <BYTES>', 'UDP payload sent back to back at most, and a packet more', byteCount(1, 2 ** 31), 65536)
    .option('--burst-rate-ratio <RATIO>', 'how much faster than --rate to go to make up for a delay', decimal(1), 1.05)
    .option(
      '--catch-up <SECONDS>',
      'made up of a time in which no batch was waiting; what is longer is forgotten, with 0 all of it',
      seconds(0),
      0.05,
    )
    .option(
      '--on-error <POLICY>',
      'heaps to an endpoint that refuses them: fail; skip, so that their loss is no failure; retry, post them again while others go on, for 10 s, or retry:60 or retry:inf (default: fail)',
      onErrorPolicy,
    )
    .addOption(
      new Option(
        '--on-thread-death <POLICY>',
        'when the I/O thread dies: fail, as all that is queued does; restart: another sends what is queued, and what was under way fails',
      )
        .choices(['fail', 'restart'])
        .default('fail'),
    )
    .addOption(
      new Option(
        '--rate-method <WHO>',
        'who keeps the rate: sw, this program; kernel, the queueing discipline fq below --backend udp; hw, the NIC of --backend ibverbs; auto: kernel where packets wait in fq, else sw',
      )
        .choices(['auto', 'sw', 'kernel', 'hw'])
        .default('auto'),
    )
    .option(
      '--lag-bound <SECONDS>',
      'say when packets go later than that after --rate or --clock had them due, and when they are in time again',
      seconds(1e-6),
    )
  send
    .optionsGroup('Observation clock:')
    .option(
      '--clock <TIME>',
      'send each heap when its timestamp is due; timestamp 0 was due at this time, see below (--rate is then left out)',
    )
    .option('--sample-rate <HZ>', 'with --clock: samples a second, such as 1712e6 or 1.712GHz', hertz)
    .option('--start-at <TIME>', 'with --clock: when the first heap is due (default: at once)')
    .addOption(
      new Option(
        '--late <POLICY>',
        'with --clock: late heaps are sent late (slip, the default), or left out until it is in time again (skip)',
      ).choices(['slip', 'skip']),
    )
    .option(
      '--late-tolerance <MS>',
      'with --late skip: how late a heap may be, in milliseconds (default: the time of a heap, at least 5)',
      milliseconds(0),
    )
    .addOption(
      new Option(
        '--unsynchronised <POLICY>',
        'with --clock: what to do where nobody keeps the clock of this host in step, or TAI is not known (default: refuse)',
      ).choices(['refuse', 'warn', 'accept']),
    )
  addTransportOptions(send)
  addLengthOptions(send.optionsGroup('Heaps:')).optionsGroup('Transport:')
  send
    .option('--pcap <FILE>', 'write the frames to a pcap file instead of sending them (backend pcap)')
    .optionsGroup('Output:')
    .option(
      '--deadline <SECONDS>',
      'after Ctrl-C, or the time of --seconds, send what is queued for so long at most',
      seconds(0),
      5,
    )
  return addReportOptions(send)
    .helpOption('-h, --help', 'this text')
    .addHelpText(
      'after',
      footer(`
Every heap has item 0x1600 timestamp, an immediate with the index of its first sample, and item 0x3300 adc_samples, int8, or what --item
says. Without --input every byte of the samples of heap i is i.

BYTES may have a unit: 8KiB, 1MiB, 9kB.

In every argument, {index} stands for the index of --index, {index+2}, {index*8+100} and {index%4} for what follows from it, so that one
command line serves all senders: 239.10.0.{index+1}:7148 --affinity {index+2}.

ITEM: an ID such as 0x4300; a TYPE as of --dtype ('<i2', '[("re","<i2"),("im","<i2")]') or, where numpy has none of that name, as of --format
(u48); a SHAPE such as 4096 or 2x1024, without which a TYPE of --format has one element, and others share what --heap-size leaves; a VALUE,
which is the same in every heap. --input fills the items that have no VALUE and are longer than an item pointer, one after the other, heap
after heap. An item with the timestamp's ID is the timestamp.

Ctrl-C sends what is queued, then prints the summary; Ctrl-C again ends at once (exit 130).

A line of --interval: the time, heaps and bytes of samples sent in it, rate, heaps failed and suspect, how often the kernel had no room or an
ICMP error came (refused), and by how much the last packet was late for --rate (lag). The lines sum to the summary.

A TIME of --clock and --start-at is UTC, as 2026-12-01T00:00:00Z or seconds since 1970, or TAI, as '2026-12-01T00:00:37 TAI' or '1796083237 TAI'.
The first timestamp is then the first multiple of a heap's samples that can be sent in time, or is due at --start-at: hosts with the same
--clock and --start-at send in step.

A batch of --input goes when it is full or --max-delay has passed. Heap j of --loop's file goes to substream j mod n, each time.

Exit status: 0 sent; 1 heaps were not sent, or the input ended within a sample or could not be read; 2 bad usage, nothing was sent.

JSON: backend, reason (why that one), evidence (what "sent" rests on: accepted by the kernel, or written to the file), heaps (sent whole,
without descriptor and stop heaps), heapsFailed, heapsSkipped (by --on-error), heapsDropped (cut off by --deadline), heapsSuspect (sent
while the link was lost or the interface dropped), heapSizeBytes, packetSizeBytes; payloadBytes (samples of the heaps sent); packets, udpBytes (with SPEAD headers) and
wireBytes (with UDP, IP and Ethernet headers, FCS, preamble and gap) of all heaps; seconds (first fill to last completion),
payloadBytesPerSecond, packetsPerSecond, segmentation, segmentationReason, cpuSeconds, batches, batchHeaps (what was taken), stats,
portUnreachable (how often that came back: nobody listens there), histograms (count, mean, p50, p99, p999 and max of
batchLatencyNanoseconds, pacingLagNanoseconds and postPackets), substreams (counters of each endpoint, and packets by cause). With --rate also rate { bytesPerSecond (asked), basis, reached (share
of it), reachedBytesPerSecond, madeUp and givenUp { gaps, seconds } (times without a batch, by --catch-up), reasons (why not; how much of
the time no batch was waiting, the sending thread woke up late, the kernel or the device had no room, and packets that could not be sent
took) }. With --clock also clock { timeErrorSeconds { p50, p99, greatest } (between a heap's time and its sending), heapsSkipped (left out),
clockSteps (how often the wall clock was set) }. After a failure also error (speadcast --help).

JSON of --json-stream, an object a line: { kind: "start", command, date, intervalSeconds, endpoints, … (what was chosen) }, { kind:
"interval", startSeconds, endSeconds, heaps, heapsFailed, heapsSuspect, payloadBytes, packets, … (of that time; they sum to the end's),
lagSeconds, bytesBehind }, { kind: "event", type ("warning", "message", or what happened to the stream: "link", "route",
"address", "queue" …), atSeconds, message, of the latter time, before, after, inFlight, queuedBytes too }, { kind: "end", … (as --json) }.

Examples:
  speadcast send 239.10.0.1:7148 --interface eth0 --ttl 4 --rate 10Gbps -p 8972
  speadcast send 10.0.0.5:7148 --input samples.i2 --dtype '<i2' -H 64KiB
  speadcast send 10.0.0.5:7148 --item 'voltages:0x4300:<i2:1024x2' --item feng_id:0x4101:u48=3 --input voltages.i2
  capture | speadcast send 239.10.10.0+15:7148 --input - -H 8KiB -p 8972 --max-delay 2 --json
  speadcast send 239.10.10.0+15:7148 --loop noise.i1 -H 8KiB -p 8972 --rate 10Gbps
  speadcast send 10.0.0.5:7148 -n 10 --pcap heaps.pcap
  speadcast send 239.10.0.1:7148 -H 4KiB --clock 2026-11-30T00:00:00Z --sample-rate 1712e6 --start-at 2026-12-01T00:00:00Z --late skip
  speadcast send 239.10.0.1:7148 --interface eth0 --rate 10Gbps --forever --live
  speadcast send 10.0.0.5:7148 --backend rdma-ud --interface ib0 -p 4096`),
    )
    .action(async (endpoints: string[], flags: SendFlags) => (await import('./run.js')).runSend(endpoints, flags))
}
