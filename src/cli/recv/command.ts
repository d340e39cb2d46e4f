/** The options of `speadcast recv`. Its action loads run.ts. */

import { Command, Option } from 'commander'
import { bugCompatFlags, cpuList } from '../common/arguments.js'
import { footer } from '../common/help.js'
import { IO_CPU, mainCpuOption, PRIORITY, PRIORITY_VALUES, threadPriority } from '../common/place.js'
import { byteCount, seconds, wholeNumber } from '../common/quantity.js'
import { addReportOptions } from '../common/run-flags.js'
import type { RecvFlags } from './flags.js'

export function recvCommand(): Command {
  const recv = new Command('recv')
    .description(
      'receive SPEAD heaps over UDP or TCP, as datagrams of InfiniBand or RoCE, or from a capture: count, verify or store them',
    )
    .argument(
      '[HOST:PORT...]',
      'addresses of this machine, or multicast groups to join; [::1]:7148 for IPv6, 239.10.10.0+15:7148 for sixteen, tcp://0.0.0.0:7148 for TCP; with --pcap, those to take (default: all)',
    )
    .option('--pcap <FILE>', 'read a pcap file instead, such as tcpdump or send --pcap writes (backend pcap)')
    .option('-n, --heaps <N>', 'end after N complete heaps with data', wholeNumber(1))
    .option('--timeout <SECONDS>', 'exit 1 with what was got if the end has not come by then', seconds(0.001))
    .option('--values', "print each heap and its items' values on standard output, long ones shortened")
    .option('--descriptors', 'print each heap and the descriptors that come')
    .option('--verify', 'check the tutorial pattern: every byte of item 0x3300 is the heap index, item 0x1600 its first sample')
    .option('--output <FILE>', "write an item's payload, at least every second; missing heaps leave nothing in the file")
    .addOption(
      new Option(
        '--order <ORDER>',
        "of --output and sha256. cnt: each sender's heaps by heap cnt, several senders' as their turns come; arrival: as heaps complete; sender: as cnt, in FILE.0, FILE.1 …, one for each sender",
      )
        .choices(['arrival', 'cnt', 'sender'] satisfies RecvFlags['order'][])
        .default('cnt'),
    )
    .option('--item <NAME>', 'the item of --output and of sha256: name, or id as 0x3300', 'adc_samples')
    .option(
      '--bug-compat <FLAGS>',
      "how descriptors differ from the specification: pyspead, or some of descriptor-widths, shape-bit-1, swap-endian; or their sum (default: inferred from each heap's descriptors)",
      bugCompatFlags,
    )
    .option(
      '--interface <NAME|ADDRESS>',
      'interface on which to join groups, whose packets alone are taken then (default, and 0.0.0.0 or ::: by route); of tcp:// by which connections come; of rdma-ud the RDMA device',
    )
    .option('--stops <N>', 'end after N stop heaps; 0: never (default: one per endpoint, with --pcap 0)', wholeNumber(0))
    .option(
      '--buffer <BYTES>',
      'socket buffer per endpoint (default: 64 MiB, without CAP_NET_ADMIN at most net.core.rmem_max); of rdma-ud, pinned memory (16 MiB)',
      byteCount(4096, 2 ** 30),
    )
    .addOption(
      new Option(
        '--backend <KIND>',
        'native: recvmmsg in a thread; tcp: as tcp://HOST:PORT; dgram: node:dgram; rdma-ud: from send --backend rdma-ud, which finds it over TCP at HOST:PORT; pcap: see --pcap',
      )
        .choices(['auto', 'native', 'tcp', 'dgram', 'rdma-ud', 'pcap'] satisfies RecvFlags['backend'][])
        .default('auto'),
    )
    .option('--device <NAME[:PORT]>', 'of rdma-ud: RDMA device to receive on (default: the one behind the address or interface)')
    .option('--verbs-library <PATH>', 'of rdma-ud: libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)')
    .option(
      '--memory <BYTES>',
      'memory for heaps in the making or waiting for their turn; a larger heap is refused (default: 256MiB, at most a quarter of what there is)',
      byteCount(2 ** 20, 2 ** 32 - 2 ** 24),
    )
    .option(
      '--concurrent-heaps <N>',
      'most heaps in the making; the oldest is given up for the next (default: 1024)',
      wholeNumber(1, 65536),
    )
    .option('--no-gro', 'take datagrams as they are sent, not coalesced by the kernel (UDP_GRO)')
    .option('--any-source', 'join packets of one heap that come from several source ports, as spead2 does')
    .option('--cnt-step <N>', 'by how much the heap cnts of a sender rise from heap to heap (default: found out)', wholeNumber(1))
    .option('--credits', 'tell senders that ask how much was taken, so that they can spare the socket buffer (used by the demo)')
    .option(IO_CPU, 'CPUs for the receiving thread, such as 2,3 or 0-3 (default: any)', cpuList)
    .option(
      PRIORITY,
      `of the receiving thread: ${PRIORITY_VALUES} (default: -10 where the process may have it, else the process’s)`,
      threadPriority,
    )
    .addOption(mainCpuOption())
  return addReportOptions(recv)
    .addHelpText(
      'after',
      footer(`
Ends at the stop heap, after --heaps, at --timeout, at the end of --pcap's file, or at Ctrl-C (again: at once, exit 130).

Exit status: 0 received; 1 the expected end did not come, memory was too small, the port is in use, --verify or --output found heaps
missing, incomplete, corrupt or none, the output could not be written, or the file of --pcap is damaged or has no SPEAD; 2 bad usage.

With --json, --values and --descriptors print on standard error.

JSON: heaps (complete ones with data), heapsIncomplete, heapsCorrupt, payloadBytes (item data), packets, seconds (first packet to
last), items, sha256 (of the item's bytes as --output has them; null where there are several files), and reason (stop, heaps, end, timeout,
interrupted, output), bytes, heapsMissing,
duplicates, malformed, droppedByKernel, outputBytes, outputLeftOut, outputError (what write failed, and where the file ends), outputFiles …;
of several endpoints also endpoints: [{ endpoint, packets, bytes, heaps, heapsIncomplete, heapsCorrupt, droppedByKernel, … }].

JSON of --json-stream, an object a line: { kind: "start", … }, { kind: "interval", startSeconds, endSeconds, heaps, heapsIncomplete,
payloadBytes, packets, droppedByKernel, … (of that time; they sum to the end's) }, { kind: "event", type, atSeconds, message },
{ kind: "end", … (as --json) }.

Examples:
  speadcast recv 239.10.0.1:7148 --interface eth0 --verify
  speadcast recv 0.0.0.0:7148 --output samples.i1 --timeout 60 --json
  speadcast recv tcp://0.0.0.0:7148 --values
  speadcast recv --pcap heaps.pcap 239.10.0.1:7148 --verify
  speadcast recv 10.0.0.5:7148 --backend rdma-ud --verify`),
    )
    .action(async (endpoints: string[], flags: RecvFlags) => (await import('./run.js')).runRecv(endpoints, flags))
}
