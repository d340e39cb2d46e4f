/** Lays a live view out on a terminal of any size. */
import { printable } from '../../errors.js'
import { cut, padEnd, padStart, sparkline, widthOf } from './live-text.js'
import { bytesPerSecond, clock, many } from './table.js'

export interface LiveContent {
  /** The backend and its endpoints. */
  readonly title: string
  /** The rates now. */
  readonly headline: string
  readonly facts: readonly (readonly [name: string, value: string])[]
  /** Makes a table of at most `most` rows. */
  readonly table?: (most: number) => LiveTable
}

export interface LiveTable {
  readonly head: readonly string[]
  /** Each has a cell for each head. The first two columns stand flush left. */
  readonly rows: readonly (readonly string[])[]
  /** How many rows there are beyond these. */
  readonly more: number
  /** The name of the thing that a row shows. */
  readonly noun: string
}

export interface LiveEvent {
  /** HH:MM:SS. */
  readonly time: string
  readonly line: string
}

interface LiveState {
  readonly content: LiveContent
  readonly seconds: number
  /** Bytes per second, one for each column of the sparkline, and how long a column is. */
  readonly rates: readonly number[]
  readonly columnSeconds: number
  readonly events: readonly LiveEvent[]
}

const FACT_COLUMNS = 38
const FACT_NAME_COLUMNS = 16
const MOST_EVENTS = 5

/** How the rows of a terminal are shared out. The most important parts come first: the rate, the title, the sparkline, facts, events, table. */
interface Shares {
  readonly facts: number
  readonly events: number
  /** Rows of the table, without head and foot. */
  readonly table: number
}

function sharesOf(columns: number, rows: number, facts: number, events: number): Shares {
  let left = rows - 3
  const take = (wanted: number): number => {
    const taken = Math.max(0, Math.min(wanted, left))
    left -= taken
    return taken
  }
  const perRow = Math.max(1, Math.floor(columns / FACT_COLUMNS))
  const factRows = take(Math.ceil(facts / perRow))
  const eventRows = take(Math.min(events, left > 8 ? MOST_EVENTS : 2))
  // A blank line in front of each part, and the table's head and foot.
  const table = Math.max(0, left - 2 - 3)
  return { facts: factRows, events: eventRows, table }
}

/** @returns at most `rows` lines of at most `columns` columns each */
export function layOut({ content, seconds, rates, columnSeconds, events }: LiveState, columns: number, rows: number): string[] {
  const { title, headline, facts, table } = content
  const shares = sharesOf(columns, rows, facts.length, events.length)
  const time = clock(seconds)
  const room = columns - widthOf(time) - 1
  const head = room > 4 ? `${padEnd(cut(printable(title), room), room)} ${time}` : time
  const parts: string[][] = [
    [...(rows > 1 ? [head] : []), headline, ...(rows > 2 ? [sparkLine(rates, columnSeconds, columns)] : [])],
    factLines(facts, columns).slice(0, shares.facts),
    table && shares.table > 0 ? tableLines(table(shares.table), columns) : [],
    events
      .slice(events.length - shares.events)
      .map(({ time, line }) => `${time}  ${printable(line.replace(/^speadcast \w+: /, ''))}`),
  ]
  const lines = parts.filter((part) => part.length > 0)
  const used = lines.reduce((sum, part) => sum + part.length, 0)
  const spaced = used + lines.length - 1 <= rows
  return lines
    .flatMap((part, i) => (i > 0 && spaced ? ['', ...part] : part))
    .slice(0, rows)
    .map((line) => cut(line, columns).trimEnd())
}

function sparkLine(rates: readonly number[], columnSeconds: number, columns: number): string {
  const scale = `  ${bytesPerSecond(Math.max(0, ...rates.slice(-columns)))} at most, ${columnSeconds} s a column`
  if (columns < scale.length + 20) return sparkline(rates, columns)
  return `${padEnd(sparkline(rates, columns - scale.length), columns - scale.length)}${scale}`
}

function factLines(facts: LiveContent['facts'], columns: number): string[] {
  const perRow = Math.max(1, Math.floor(columns / FACT_COLUMNS))
  const lines: string[] = []
  for (let i = 0; i < facts.length; i += perRow)
    lines.push(
      facts
        .slice(i, i + perRow)
        .map(([name, value]) =>
          padEnd(cut(`${padEnd(name, FACT_NAME_COLUMNS)}${printable(value)}`, FACT_COLUMNS - 1), FACT_COLUMNS),
        )
        .join(''),
    )
  return lines
}

/** The second column gives way where the terminal is narrow. */
function tableLines({ head, rows, more, noun }: LiveTable, columns: number): string[] {
  const shown = [head, ...rows].map((row) => row.map(printable))
  const widths = head.map((_, c) => Math.max(...shown.map((row) => widthOf(row[c]!))))
  const needed = widths.reduce((sum, width) => sum + width + 2, -2)
  widths[1] = Math.max(4, widths[1]! - Math.max(0, needed - columns))
  const line = (row: readonly string[]): string =>
    row.map((cell, c) => (c < 2 ? padEnd(cut(cell, widths[c]!), widths[c]!) : padStart(cell, widths[c]!))).join('  ')
  return [...shown.map(line), ...(more > 0 ? [`and ${many(more, noun)} more`] : [])]
}
