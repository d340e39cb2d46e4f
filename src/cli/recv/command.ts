/** `speadcast recv` receives heaps, checks them, writes them and says what came. */

import { Command, Option } from 'commander'
import { counted } from '../../errors.js'
import type { Receiver, ReceiverOptions, ReceiveSummary } from '../../receive/index.js'
import { complain, EXIT_FAILED } from '../common/exit.js'
import { footer } from '../common/help.js'
import { onInterrupt } from '../common/interrupt.js'
import { formatPeer } from '../common/peer.js'
import { printSummary, say } from '../common/print.js'
import { byteCount, seconds, wholeNumber } from '../common/quantity.js'
import { addReportOptions, type ReportFlags } from '../common/run-flags.js'
import { bytesPerSecond, count, table } from '../common/table.js'
import type { Watch } from '../common/watch.js'

interface RecvOptions extends ReportFlags {
  heaps?: number
  timeout?: number
  verify?: true
  output?: string
  order: NonNullable<ReceiverOptions['order']>
  item: string
  interface?: string
  stops?: number
  bugCompat?: number
  buffer?: number
  memory?: number
  anySource?: true
  cntStep?: number
  credits?: true
  backend: NonNullable<ReceiverOptions['backend']>
  device?: string
  verbsLibrary?: string
}

export function recvCommand(): Command {
  const recv = new Command('recv')
    .description('receive SPEAD heaps over UDP, or as datagrams of InfiniBand or RoCE: count, verify or store them')
    .argument(
      '<HOST:PORT...>',
      'addresses of this machine, or multicast groups to join; [::1]:7148 for IPv6, 239.10.10.0+15:7148 for sixteen',
    )
    .option('-n, --heaps <N>', 'end after N complete heaps with data', wholeNumber(1))
    .option('--timeout <SECONDS>', 'exit 1 with what was got if the end has not come by then', seconds(0.001))
    .option('--verify', 'check the tutorial pattern: every byte of item 0x3300 is the heap index, item 0x1600 its first sample')
    .option('--output <FILE>', "write an item's payload, at least every second; missing heaps leave nothing in the file")
    .addOption(
      new Option(
        '--order <ORDER>',
        "of --output and sha256. cnt: each sender's heaps by heap cnt, several senders' as their turns come; arrival: as heaps complete; sender: as cnt, in FILE.0, FILE.1 …, one for each sender",
      )
        .choices(['arrival', 'cnt', 'sender'] satisfies RecvOptions['order'][])
        .default('cnt'),
    )
    .option('--item <NAME>', 'the item of --output and of sha256: name, or id as 0x3300', 'adc_samples')
    .option(
      '--bug-compat <FLAGS>',
      "how descriptors differ from the specification; 7: as PySPEAD 0.5.2's (default: inferred from each heap's descriptors)",
      wholeNumber(0, 7),
    )
    .option(
      '--interface <NAME|ADDRESS>',
      'interface on which to join groups, whose packets alone are taken then (default, and 0.0.0.0 or ::: by route); of rdma-ud the RDMA device',
    )
    .option('--stops <N>', 'end after N stop heaps; 0: never (default: one per endpoint)', wholeNumber(0))
    .option(
      '--buffer <BYTES>',
      'socket buffer per endpoint (default: 64 MiB, without CAP_NET_ADMIN at most net.core.rmem_max); of rdma-ud, pinned memory (16 MiB)',
      byteCount(4096, 2 ** 30),
    )
    .addOption(
      new Option(
        '--backend <KIND>',
        'native: recvmmsg in a thread; dgram: node:dgram; rdma-ud: from send --backend rdma-ud, which finds it over TCP at HOST:PORT',
      )
        .choices(['auto', 'native', 'tcp', 'dgram', 'rdma-ud'] satisfies RecvOptions['backend'][])
        .default('auto'),
    )
    .option('--device <NAME[:PORT]>', 'of rdma-ud: RDMA device to receive on (default: the one behind the address or interface)')
    .option('--verbs-library <PATH>', 'of rdma-ud: libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)')
    .option(
      '--memory <BYTES>',
      'memory for heaps in the making or waiting for their turn; a larger heap is refused (default: 256MiB, at most a quarter of what there is)',
      byteCount(2 ** 20, 2 ** 32 - 2 ** 24),
    )
    .option('--any-source', 'join packets of one heap that come from several source ports, as spead2 does')
    .option('--cnt-step <N>', 'by how much the heap cnts of a sender rise from heap to heap (default: found out)', wholeNumber(1))
    .option('--credits', 'tell senders that ask how much was taken, so that they can spare the socket buffer (used by the demo)')
  return addReportOptions(recv)
    .addHelpText(
      'after',
      footer(`
Ends at the stop heap, after --heaps, at --timeout, or at Ctrl-C (again: at once, exit 130).
Exit status: 0 received; 1 the expected end did not come, memory was too small, the port is in use, --verify or --output found heaps
missing, incomplete, corrupt or none, or the output could not be written; 2 bad usage.
JSON: heaps (complete ones with data), heapsIncomplete, heapsCorrupt, payloadBytes (item data), packets, seconds (first packet to
last), items, sha256 (of the item's bytes as --output has them; null where there are several files), and reason, bytes, heapsMissing,
duplicates, malformed, droppedByKernel, outputBytes, outputLeftOut, outputError (what write failed, and where the file ends), outputFiles …
JSON of --json-stream, an object a line: { kind: "start", … }, { kind: "interval", startSeconds, endSeconds, heaps, heapsIncomplete,
payloadBytes, packets, droppedByKernel, … (of that time; they sum to the end's) }, { kind: "event", type, atSeconds, message },
{ kind: "end", … (as --json) }.

Examples:
  speadcast recv 239.10.0.1:7148 --interface eth0 --verify
  speadcast recv 0.0.0.0:7148 --output samples.i1 --timeout 60 --json
  speadcast recv 10.0.0.5:7148 --backend rdma-ud --verify`),
    )
    .action(run)
}

async function run(endpoints: string[], options: RecvOptions): Promise<void> {
  const { openReceiver } = await import('../../receive/index.js')
  const { Watch } = await import('../common/watch.js')
  let watch: Watch | undefined
  let receiver: Receiver
  try {
    watch = new Watch('recv', options)
    receiver = await openReceiver(receiverOptions(endpoints, options))
  } catch (error) {
    watch?.close()
    complain('recv', error)
    if (isTaken(error)) process.exitCode = EXIT_FAILED
    return
  }
  const undo = onInterrupt(() => void receiver.close().catch(() => undefined))
  const { backend, receiveBufferBytes, backendReason } = receiver.stats()
  const why = backendReason && ` (${backendReason})`
  say(
    `listening on ${receiver.endpoints.join(', ')}; ${backend}${why}, ${backend === 'rdma-ud' ? 'receives of' : 'socket buffer'} ${receiveBufferBytes} bytes`,
  )
  for (const [i, peer] of receiver.peers.entries())
    say(`${receiver.endpoints[i]} is --peer ${formatPeer(peer)}, datagrams of ${peer.mtuBytes} bytes`)
  const { receiving, receivingTotals } = await import('../common/receiving.js')
  try {
    await watch.start(receiving(receiver))
    const summary = await receiver.done
    watch.end(receivingTotals(summary))
    report(summary, options)
  } catch (error) {
    complain('recv', error)
  } finally {
    watch.close()
    undo()
  }
}

/** Whether another program has the port, which is no bad usage: it may be free in a moment. */
function isTaken(error: unknown): boolean {
  const cause = (error as Error).cause as { code?: unknown; errnoName?: unknown } | undefined
  return cause?.code === 'EADDRINUSE' || cause?.errnoName === 'EADDRINUSE'
}

function receiverOptions(endpoints: string[], options: RecvOptions): ReceiverOptions {
  const { heaps, timeout, stops, buffer, output, bugCompat, memory, cntStep } = options
  return {
    endpoints,
    onChange: (message) => say(`speadcast recv: ${message}`, 'path-change'),
    ...(options.interface !== undefined && { interface: options.interface }),
    ...(heaps !== undefined && { heaps }),
    ...(timeout !== undefined && { timeoutSeconds: timeout }),
    ...(stops !== undefined && { stops }),
    ...(bugCompat !== undefined && { bugCompat }),
    ...(buffer !== undefined && { receiveBufferBytes: buffer }),
    ...(output !== undefined && { output }),
    ...(memory !== undefined && { heapMemoryBytes: memory }),
    ...(cntStep !== undefined && { cntStep }),
    anySource: options.anySource ?? false,
    order: options.order,
    item: /^(0x[\da-f]+|\d+)$/i.test(options.item) ? Number(options.item) : options.item,
    verify: options.verify ?? false,
    hash: options.json === true || options.jsonStream === true || output !== undefined,
    deliver: false,
    credits: options.credits ?? false,
    backend: options.backend,
    ...(options.device !== undefined && { device: options.device }),
    ...(options.verbsLibrary !== undefined && { verbsLibrary: options.verbsLibrary }),
  }
}

const heapsAre = (heaps: number): string => `${counted(heaps, 'heap')} ${heaps === 1 ? 'is' : 'are'}`

/** Prints the result and sets the exit status; every problem is one line on standard error. */
function report(summary: ReceiveSummary, options: RecvOptions): void {
  const { reason, heaps, heapsIncomplete, heapsCorrupt, heapsMissing, verifyMissing, outputLeftOut, outputError } = summary
  const problems: string[] = []
  if (outputError !== null) problems.push(outputError)
  if (reason === 'timeout') problems.push(`the expected end did not come in ${options.timeout} s`)
  if (reason === 'stop' && options.heaps !== undefined && heaps < options.heaps)
    problems.push(`the stream stopped after ${heaps} of ${counted(options.heaps, 'heap')}`)
  if (options.verify && heaps === 0)
    problems.push(summary.controlHeaps > 0 ? 'descriptors or a stop came, and no data to verify' : 'no heap came to verify')
  const refused = summary.heapsRefused + summary.heapsEvicted + summary.packetsRefused + summary.tablesFull > 0
  if (refused) problems.push(...summary.refusals)
  if (heapsCorrupt > 0) problems.push(`${heapsAre(heapsCorrupt)} corrupt`)
  if (options.verify || options.output !== undefined) {
    if (heapsIncomplete > 0) problems.push(`${heapsAre(heapsIncomplete)} incomplete`)
    // Incomplete heaps are told above.
    const missing = options.verify ? Math.max(heapsMissing, verifyMissing - heapsIncomplete) : heapsMissing
    if (missing > 0) problems.push(`${heapsAre(missing)} missing`)
    if (options.output !== undefined && outputLeftOut > 0)
      problems.push(
        outputError === null
          ? `${heapsAre(outputLeftOut)} not in ${options.output}: too late for a place, without item '${options.item}', or of a sender beyond 256`
          : `${heapsAre(outputLeftOut)} not in ${options.output}`,
      )
  }
  for (const problem of problems) say(`speadcast recv: ${problem}`)
  for (const example of summary.corruptExamples) say(`  ${example}`)
  if (!refused) for (const refusal of summary.refusals) say(`  ${refusal}`)
  if (summary.droppedByKernel > 0)
    say(
      `  the socket buffer (${summary.receiveBufferBytes} bytes) overflowed ${summary.droppedByKernel === 1 ? 'once' : `${summary.droppedByKernel} times`}; ` +
        'raise it: sysctl -w net.core.rmem_max=67108864, or send more slowly',
    )
  if (!printSummary(options, json(summary))) process.stdout.write(people(summary, options))
  if (problems.length > 0) process.exitCode = EXIT_FAILED
}

function json(summary: ReceiveSummary): Record<string, unknown> {
  const { heaps, heapsIncomplete, heapsCorrupt, payloadBytes, packets, seconds, items, sha256, ...rest } = summary
  return { heaps, heapsIncomplete, heapsCorrupt, payloadBytes, packets, seconds, items, sha256, ...rest }
}

function people(summary: ReceiveSummary, options: RecvOptions): string {
  const { seconds, payloadBytes, packets, droppedByKernel } = summary
  const rows: [string, string][] = [
    ['ended by', summary.reason],
    ['heaps', count(summary.heaps)],
    ['  incomplete', count(summary.heapsIncomplete)],
    ['  missing', count(Math.max(summary.heapsMissing, summary.verifyMissing))],
    ['  corrupt', count(summary.heapsCorrupt)],
    ['payload', `${payloadBytes} bytes`],
    ['packets', count(packets)],
    ['  refused', count(summary.packetsRefused)],
    ['  duplicate', count(summary.duplicates)],
    ['  malformed', count(summary.malformed)],
    [
      '  dropped',
      Number.isNaN(droppedByKernel)
        ? 'unknown, nobody counts them'
        : `${count(droppedByKernel)} by the kernel; coalesced ones count once`,
    ],
    ['seconds', seconds.toFixed(3)],
    ['rate', seconds > 0 ? `${bytesPerSecond(payloadBytes / seconds)}, ${count(packets / seconds)} packets/s` : 'too short to say'],
  ]
  if (summary.sha256) rows.push(['sha256', summary.sha256])
  if (options.order === 'sender')
    for (const { path, sender, bytes: written, sha256 } of summary.outputFiles)
      rows.push([path, `${written} bytes of ${sender ?? 'a sender'}, sha256 ${sha256}`])
  for (const { id, name, dtype, shape, format } of summary.items) {
    const type = dtype ?? (format.map(([code, bits]) => `${code}${bits}`).join(' ') || 'undescribed')
    rows.push([`item 0x${id.toString(16)}`, `${name ?? '?'} ${type}${shape ? ` [${shape.map((n) => n ?? '?').join(', ')}]` : ''}`])
  }
  return table(rows)
}
