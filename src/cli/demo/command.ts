/** The options of `speadcast demo`. Its action loads run.ts. */
import { Command } from 'commander'
import { footer } from '../common/help.js'
import { byteCount } from '../common/quantity.js'
import type { DemoFlags } from './run.js'

export function demoCommand(): Command {
  return new Command('demo')
    .description('send heaps over loopback to a receiver of its own, check every byte, and print a table')
    .option('--bytes <BYTES>', 'samples to send, rounded up to whole heaps', byteCount(1, 2 ** 50), 2 ** 30)
    .option('-H, --heap-size <BYTES>', 'samples in a heap', byteCount(8, 16 * 2 ** 20), 32768)
    .option('-p, --packet-size <BYTES>', 'largest UDP payload, SPEAD header included', byteCount(56, 65507), 8972)
    .option(
      '--buffer <BYTES>',
      "the receiver's socket buffer (default: 64 MiB, without CAP_NET_ADMIN at most net.core.rmem_max)",
      byteCount(4096, 2 ** 30),
    )
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .addHelpText(
      'after',
      footer(`
Sender and receiver run in this process, each in a thread of its own, and no packet leaves the machine. The receiver tells the sender how
much it has taken (credits, no part of SPEAD), so that an ordinary user's small socket buffer loses nothing: the rate is what one machine
does at both ends, not what a sender alone does.

Exit status: 0 if every heap arrived and every byte was right; 1 otherwise; 2 bad usage.

JSON: backend, reason, evidence, interrupted (by Ctrl-C), creditPaced, creditWindowBytes, heapsSent, heapsReceived, heapsLost, heapsIncomplete, heapsCorrupt,
heapSizeBytes, packetSizeBytes, packets, payloadBytes, seconds (first fill to last heap received), payloadBytesPerSecond,
packetsPerSecond, segmentation, segmentationReason, receiver.

Examples:
  speadcast demo
  speadcast demo --bytes 64MiB --json`),
    )
    .action(async (flags: DemoFlags) => (await import('./run.js')).runDemo(flags))
}
