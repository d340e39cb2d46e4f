/** Reports the result of `speadcast recv` at its end. */
import { counted } from '../../errors.js'
import type { ReceiveSummary } from '../../receive/index.js'
import { EXIT_FAILED } from '../common/exit.js'
import { printSummary, say } from '../common/print.js'
import { bytesPerSecond, count, many, table } from '../common/table.js'
import type { RecvFlags } from './flags.js'

const heapsAre = (heaps: number): string => `${counted(heaps, 'heap')} ${heaps === 1 ? 'is' : 'are'}`

/** Prints the result and sets the exit status; every problem is one line on standard error. */
export function report(summary: ReceiveSummary, options: RecvFlags): void {
  const { reason, heaps, heapsIncomplete, heapsCorrupt, heapsMissing, verifyMissing, outputLeftOut, outputError } = summary
  const problems: string[] = []
  if (outputError !== null) problems.push(outputError)
  if (reason === 'timeout') problems.push(`the expected end did not come in ${options.timeout} s`)
  if ((reason === 'stop' || reason === 'end') && options.heaps !== undefined && heaps < options.heaps)
    problems.push(`the ${reason === 'stop' ? 'stream stopped' : 'file ended'} after ${heaps} of ${counted(options.heaps, 'heap')}`)
  if (summary.inputError !== null) problems.push(summary.inputError)
  if (options.pcap !== undefined && summary.messages === 0)
    problems.push(`no SPEAD packet for these endpoints is in ${options.pcap}`)
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
  if (summary.fragmentsIgnored > 0)
    say(
      `  ${counted(summary.fragmentsIgnored, 'IP fragment')} ignored: datagrams larger than the MTU are not put together; send smaller packets`,
    )
  // Nothing but an interrupt makes this command close its receiver.
  const told = { ...summary, reason: reason === 'closed' ? 'interrupted' : reason }
  if (!printSummary(options, json(told))) process.stdout.write(people(told, options))
  if (problems.length > 0) process.exitCode = EXIT_FAILED
}

/** The summary as the command tells it. */
type Told = Omit<ReceiveSummary, 'reason'> & { readonly reason: string }

/** Rows that only some ways of receiving have. */
function ofBackend({ backend, connections, connectionsRefused, acceptsFailed, framesIgnored }: Told): [string, string][] {
  if (backend === 'pcap') return [['ignored', `${many(framesIgnored, 'frame')}`]]
  if (backend !== 'tcp') return []
  const more = [
    ...(connectionsRefused > 0 ? [`${count(connectionsRefused)} turned away`] : []),
    ...(acceptsFailed > 0
      ? [`could not be accepted at once ${acceptsFailed === 1 ? 'once' : `${count(acceptsFailed)} times`}`]
      : []),
  ]
  return [['connections', [count(connections), ...more].join(', ')]]
}

function json(summary: Told): Record<string, unknown> {
  const { heaps, heapsIncomplete, heapsCorrupt, payloadBytes, packets, seconds, items, sha256, ...rest } = summary
  return { heaps, heapsIncomplete, heapsCorrupt, payloadBytes, packets, seconds, items, sha256, ...rest }
}

function people(summary: Told, options: RecvFlags): string {
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
      summary.backend === 'tcp'
        ? 'none, TCP holds senders back'
        : Number.isNaN(droppedByKernel)
          ? 'unknown, nobody counts them'
          : `${count(droppedByKernel)} by the kernel; coalesced ones count once`,
    ],
    ...ofBackend(summary),
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
