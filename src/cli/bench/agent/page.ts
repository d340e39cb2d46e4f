/** The page of a search: one file of HTML without scripts, that loads nothing. */
import { cpus, release, type } from 'node:os'
import { binaryBytes, count } from '../../common/table.js'
import { ratesChart, runsChart } from './chart.js'
import type { Found } from './found.js'
import { html, type Markup, raw } from './markup.js'
import { noteOf, rateText, type SearchReport, transportOf } from './search-report.js'
import type { Step } from './step.js'
import { lossOf, percent } from './step-line.js'

const STYLE = `
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2126; --soft: #5b6670; --line: #d5dbe0; --track: #dbe7f3; --bar: #1f6fb5; --well: #1a7f46; --bad: #c0362c }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181c; --ink: #e6eaee; --soft: #9aa6b1; --line: #38424b; --track: #26384a; --bar: #62aef0; --well: #4cc47f; --bad: #ff7b6e }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p, dd { margin: 0 0 .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0 }
dt { color: var(--soft) }
dd { margin: 0 }
.wide { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); overflow-wrap: normal }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left }
td:last-child { white-space: normal; min-width: 16rem }
th { color: var(--soft); font-weight: 600 }
.well { color: var(--well) }
.bad { color: var(--bad) }
.note { color: var(--soft); font-size: .9rem }
svg { display: block; width: 100%; max-width: 34rem; height: auto; font: 11px system-ui, sans-serif }
svg text { fill: var(--ink) }
svg .soft { fill: var(--soft) }
svg .grid { stroke: var(--line); stroke-width: 1 }
svg .track { fill: var(--track) }
svg .bar { fill: var(--bar) }
svg .found { stroke: var(--bar); stroke-width: 1.5; stroke-dasharray: 5 4 }
svg .path { fill: none; stroke: var(--line); stroke-width: 1 }
svg .pass { fill: var(--well) }
svg .fail { stroke: var(--bad); stroke-width: 2.5; fill: none }
`

export function pageOf(report: SearchReport, now = new Date()): string {
  const { endpoint, flags, found, interrupted } = report
  const transport = transportOf(found)?.toUpperCase() ?? ''
  const body = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>speadcast bench: ${endpoint}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>The highest rate without loss to ${endpoint}</h1>
${interrupted ? html`<p class="bad">Interrupted: this is what was found until then.</p>` : ''}
<dl>
<dt>Date</dt><dd>${now.toISOString().replace(/\.\d+Z$/, 'Z')}</dd>
<dt>Sender</dt><dd>${cpus()[0]?.model ?? 'unknown'} × ${count(cpus().length)}, ${type()} ${release()}, node ${process.version}</dd>
<dt>Transport</dt><dd>${transport}, packets of at most ${count(found[0]?.packetSizeBytes ?? 0)} bytes</dd>
<dt>Runs</dt><dd>of ${flags.seconds} s, to within ${flags.accuracy} %, ${count(flags.confirm)} rounds of confirmation</dd>
</dl>
${ratesChart(found)}
<p class="note">Solid bar: item data. Pale bar: all that the link carries. <b>--rate</b> is UDP payload, as <code>speadcast send --rate</code> takes it;
<b>frames</b> are Ethernet frames without FCS, as a shaper counts; <b>wire</b> is with FCS, preamble and gap.</p>
<div class="wide"><table>
<thead><tr><th>Heap</th><th>Payload</th><th>--rate</th><th>Frames</th><th>Wire</th><th>What limits it</th></tr></thead>
<tbody>${found.map((one) => foundRow(one, report))}</tbody>
</table></div>
${found.map(section)}
</body>
</html>
`
  return body.text
}

function foundRow(one: Found, { flags }: SearchReport): Markup {
  const { heapSizeBytes, payloadRate, rate, frameRate, wireRate } = one
  return html`<tr><td>${binaryBytes(heapSizeBytes)}</td><td>${rateText(payloadRate)}</td><td>${rateText(rate)}</td><td>${rateText(frameRate)}</td><td>${rateText(wireRate)}</td><td>${noteOf(one, flags)}</td></tr>
`
}

function section(one: Found): Markup {
  return html`<h2>Heaps of ${binaryBytes(one.heapSizeBytes)}</h2>
${runsChart(one)}
<div class="wide"><table>
<thead><tr><th>Run</th><th>Asked</th><th>Sent</th><th>Received</th><th>Lost</th><th>Reordered</th><th>Socket drops</th><th>Outcome</th></tr></thead>
<tbody>${one.steps.map(stepRow)}</tbody>
</table></div>
`
}

function stepRow(step: Step, i: number): Markup {
  const { rateAsked, rateReached, rateReceived, packetsReordered, droppedByReceiverSocket, passed, phase, why } = step
  const outcome = passed ? (phase === 'confirm' ? 'arrived whole, again' : 'arrived whole') : 'did not pass'
  return html`<tr><td>${count(i + 1)}</td><td>${rateAsked === 0 ? 'most' : rateText(rateAsked)}</td><td>${rateText(rateReached)}</td><td>${rateText(rateReceived)}</td><td>${percent(lossOf(step))}</td><td>${count(packetsReordered)}</td><td>${count(droppedByReceiverSocket)}</td><td class="${passed ? 'well' : 'bad'}">${outcome}${why === '' ? '' : `: ${why}`}</td></tr>
`
}
