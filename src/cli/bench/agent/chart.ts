/** The charts of the page, as SVG inside it. */
import { binaryBytes, bitsPerSecond, count } from '../../common/table.js'
import type { Found } from './found.js'
import { html, type Markup } from './markup.js'
import type { Step } from './step.js'

const WIDTH = 400
const ROW = 26
const LABEL = 56
const VALUE = 78

const at = (value: number): number => Number(value.toFixed(1))

/** A bar for each heap size: item data before all that the link carries. */
export function ratesChart(found: readonly Found[]): Markup {
  const most = Math.max(1, ...found.map(({ wireRate = 0, payloadRate = 0 }) => Math.max(wireRate, payloadRate)))
  const scale = (rate: number): number => at((rate / most) * (WIDTH - LABEL - VALUE))
  const rows = found.map(({ heapSizeBytes, payloadRate, wireRate }, i) => {
    const y = i * ROW
    const label = html`<text x="${LABEL - 6}" y="${y + 17}" text-anchor="end">${binaryBytes(heapSizeBytes)}</text>`
    if (payloadRate === undefined) return html`${label}<text class="soft" x="${LABEL}" y="${y + 17}">none found</text>`
    const end = LABEL + scale(Math.max(wireRate ?? 0, payloadRate))
    return html`${label}<rect class="track" x="${LABEL}" y="${y + 4}" width="${scale(wireRate ?? payloadRate)}" height="18" rx="2"/><rect class="bar" x="${LABEL}" y="${y + 8}" width="${scale(payloadRate)}" height="10" rx="2"/><text x="${at(end + 6)}" y="${y + 17}">${bitsPerSecond(payloadRate)}</text>`
  })
  return html`<svg viewBox="0 0 ${WIDTH} ${Math.max(1, found.length) * ROW}" role="img" aria-label="Payload rate by heap size">${rows}</svg>`
}

const LEFT = 66
const TOP = 12
const BOTTOM = 148
const HEIGHT = 178

/** Each run by its number and the rate sent: a disc arrived whole, a cross did not. */
export function runsChart({ steps, rate }: Found): Markup {
  const rates = steps.map(({ rateReached }) => Math.max(1, rateReached))
  const least = Math.min(...rates, rate ?? Number.POSITIVE_INFINITY) / 1.15
  const most = Math.max(...rates) * 1.15
  const x = (i: number): number =>
    at(steps.length === 1 ? (LEFT + WIDTH) / 2 : LEFT + 14 + (i * (WIDTH - LEFT - 28)) / (steps.length - 1))
  const y = (value: number): number => at(BOTTOM - (Math.log(value / least) / Math.log(most / least)) * (BOTTOM - TOP))
  const grid = ticks(least, most).map(
    (value) =>
      html`<line class="grid" x1="${LEFT}" x2="${WIDTH}" y1="${y(value)}" y2="${y(value)}"/><text class="soft" x="${LEFT - 6}" y="${at(y(value) + 4)}" text-anchor="end">${bitsPerSecond(value).replace('.00', '')}</text>`,
  )
  const path = rates.map((value, i) => `${x(i)},${y(value)}`).join(' ')
  const every = Math.ceil(steps.length / 10)
  const numbers = steps.flatMap((_, i) =>
    i % every === 0 ? [html`<text class="soft" x="${x(i)}" y="${BOTTOM + 16}" text-anchor="middle">${count(i + 1)}</text>`] : [],
  )
  const found = rate === undefined ? html`` : html`<line class="found" x1="${LEFT}" x2="${WIDTH}" y1="${y(rate)}" y2="${y(rate)}"/>`
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Rate sent in each run">${grid}${found}<polyline class="path" points="${path}"/>${steps.map((step, i) => mark(step, x(i), y(rates[i]!)))}${numbers}<text class="soft" x="${at((LEFT + WIDTH) / 2)}" y="${HEIGHT - 5}" text-anchor="middle">run; disc: arrived whole, cross: did not pass, dashes: found</text></svg>`
}

function mark({ passed, rateReached, why }: Step, x: number, y: number): Markup {
  const title = html`<title>${bitsPerSecond(rateReached)}${why === '' ? '' : `: ${why}`}</title>`
  if (passed) return html`<circle class="pass" cx="${x}" cy="${y}" r="4.5">${title}</circle>`
  return html`<path class="fail" d="M${at(x - 4)} ${at(y - 4)}L${at(x + 4)} ${at(y + 4)}M${at(x + 4)} ${at(y - 4)}L${at(x - 4)} ${at(y + 4)}">${title}</path>`
}

/** Round bits a second between two rates in bytes a second, some three to six of them. */
function ticks(least: number, most: number): number[] {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8], Array.from({ length: 90 }, (_, i) => 1 + i / 10)]) {
    const found: number[] = []
    for (let decade = 10 ** Math.floor(Math.log10(least * 8)); decade <= most * 8; decade *= 10)
      for (const step of steps) if (step * decade >= least * 8 && step * decade <= most * 8) found.push((step * decade) / 8)
    if (found.length >= 3) return found.length > 8 ? found.filter((_, i) => i % Math.ceil(found.length / 6) === 0) : found
  }
  return [least, most]
}
