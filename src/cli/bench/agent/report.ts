/** Reports a search's findings as a table, JSON and a page. */
import { writeFileSync } from 'node:fs'
import { SpeadcastError } from '../../../errors.js'
import { printSummary, say } from '../../common/print.js'
import { binaryBytes, columns, table } from '../../common/table.js'
import { messageOf } from './protocol.js'
import { noteOf, rateText, type SearchReport, transportOf } from './search-report.js'

/** @throws ERR_SPEADCAST_INPUT where the page cannot be written */
export function reportSearch(report: SearchReport): void {
  const { flags, found } = report
  const summary = summaryOf(report)
  if (printSummary(flags, summary)) return
  if (found.length === 0) process.stdout.write('nothing was measured\n')
  else process.stdout.write(`${heading(report)}\n${sizes(report)}`)
}

export async function writePage(report: SearchReport): Promise<void> {
  const { html } = report.flags
  if (html === undefined) return
  const { pageOf } = await import('./page.js')
  try {
    writeFileSync(html, pageOf(report))
  } catch (cause) {
    throw new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot write ${html}: ${messageOf(cause)}`, { cause })
  }
  say(`speadcast bench: the page is in ${html}`)
}

function summaryOf({ endpoint, flags, found, interrupted }: SearchReport) {
  return {
    agent: endpoint,
    transport: transportOf(found),
    secondsOfRun: flags.seconds,
    accuracyPercent: flags.accuracy,
    confirm: flags.confirm,
    interrupted,
    sizes: found.map(({ rate = null, payloadRate = null, frameRate = null, wireRate = null, ...rest }) => ({
      ...rest,
      rate,
      payloadRate,
      frameRate,
      wireRate,
    })),
  }
}

function heading({ endpoint, flags, found }: SearchReport): string {
  const tcp = transportOf(found) === 'tcp'
  return table([
    ['agent', endpoint],
    ['each run', `${flags.seconds} s, packets of at most ${found[0]!.packetSizeBytes} bytes`],
    tcp
      ? ['rates', 'of TCP at full speed; payload is item data']
      : ['rates', '--rate is UDP payload, payload item data, frames Ethernet without FCS, wire with FCS, preamble and gap'],
  ])
}

function sizes({ found, flags }: SearchReport): string {
  const head = ['heap', 'payload', '--rate', 'frames', 'wire', '']
  const lines = found.map((one) => [
    binaryBytes(one.heapSizeBytes),
    rateText(one.payloadRate),
    rateText(one.rate),
    rateText(one.frameRate),
    rateText(one.wireRate),
    noteOf(one, flags),
  ])
  // The note is the last, so it stands flush left.
  const width = Math.max(...lines.map((line) => line.at(-1)!.length))
  return columns(
    head,
    lines.map((line) => [...line.slice(0, -1), line.at(-1)!.padEnd(width)]),
  )
}
