/** The options of `speadcast bench agent`. */
import { Command } from 'commander'
import { footer } from '../../common/help.js'
import { byteCount, seconds, wholeNumber } from '../../common/quantity.js'
import type { AgentFlags } from './flags.js'
import { DEFAULT_AGENT_PORT } from './protocol.js'

export function agentCommand(): Command {
  return new Command('agent')
    .description('receive for bench --agent on another host, which looks for the highest rate without loss')
    .option(
      '--listen <[HOST:]PORT>',
      'where masters connect (TCP), all addresses unless HOST is given. Anybody who reaches it can make this host receive',
      `${DEFAULT_AGENT_PORT}`,
    )
    .option(
      '--data-port <PORT>',
      'port that heaps come to, for a firewall to let through (default: any free one)',
      wholeNumber(1, 65535),
    )
    .option(
      '--buffer <BYTES>',
      'socket buffer (default: 64 MiB, without CAP_NET_ADMIN at most net.core.rmem_max)',
      byteCount(4096, 2 ** 30),
    )
    .option(
      '--memory <BYTES>',
      'memory for heaps in the making (default: 256MiB, at most a quarter of what there is)',
      byteCount(2 ** 20, 2 ** 32 - 2 ** 24),
    )
    .option('--most-seconds <N>', 'the longest run that a master may ask for', seconds(0.1), 60)
    .option('--json', 'one JSON object for each run on standard output, a line each, and one of all at the end')
    .helpOption('-h, --help', 'this text')
    .addHelpText(
      'after',
      footer(`
Serves one master at a time, run by run, until Ctrl-C; others are told that it is busy. Each run has a receiver of its own, on the address that
the master connected to, which ends with the run, when the master goes away, or when its time is over. It sends nothing but its answers.

It asks nobody who they are: keep it on a network that you trust, or give an address of such a network.

Exit status: 0 ended by Ctrl-C; 1 the port is in use, or it broke off; 2 bad usage.

JSON: master (its address), heapSizeBytes, transport, packets, bytes, messages (reads that gave them), heaps, heapsIncomplete,
payloadBytes, duplicates, reordered, malformed, packetsRefused, heapsRefused, heapsEvicted, droppedByKernel, droppedByInterface,
seconds, cpuSeconds. At the end: reason (interrupted), masters, runs, packets, bytes, heaps, heapsIncomplete, payloadBytes of all runs.

Examples:
  speadcast bench agent
  speadcast bench agent --listen 10.0.0.5:7150 --data-port 7148`),
    )
    .action(async (_: AgentFlags, command: Command) => (await import('./agent.js')).runAgent(command.optsWithGlobals<AgentFlags>()))
}
