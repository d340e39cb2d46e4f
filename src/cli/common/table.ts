/** Plain text for people: aligned rows of escaped cells, and numbers with units. */
import { counted, printable } from '../../errors.js'

export function table(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => printable(name).length)) + 2
  return rows.map(([name, value]) => `${printable(name).padEnd(width)}${printable(value)}\n`).join('')
}

/** Makes columns under their heads, the first flush left, the others right. Every line has a cell for each head. */
export function columns(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const rows = [head, ...lines].map((line) => line.map(printable))
  const widths = head.map((_, c) => Math.max(...rows.map((line) => line[c]!.length)))
  const show = (line: readonly string[]): string =>
    line.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join('  ')
  return rows.map((line) => `${show(line).trimEnd()}\n`).join('')
}

/** Writes 256 B, 8 KiB, 1.5 MiB. */
export function binaryBytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB']
  let i = 0
  for (; value >= 1024 && i < units.length - 1; i++) value /= 1024
  return `${Number(value.toFixed(2))} ${units[i]}`
}

const scaled = (value: number, unit: string, digits: number): string => {
  const prefixes = ['', 'k', 'M', 'G', 'T']
  let i = 0
  for (; value >= 1000 && i < prefixes.length - 1; i++) value /= 1000
  return `${value.toFixed(i === 0 ? 0 : digits)} ${prefixes[i]}${unit}`
}

export const bytes = (value: number): string => scaled(value, 'B', 2)
export const bytesPerSecond = (value: number): string => scaled(value, 'B/s', 2)
export const bitsPerSecond = (bytesPerSecond: number): string => scaled(bytesPerSecond * 8, 'b/s', 2)
export const count = (value: number): string => Math.round(value).toLocaleString('en')
/** Writes 1 heap, 1,000 heaps. */
export const many = (value: number, noun: string): string => counted(value, noun).replace(/^\S+/, count(value))

/** Writes 0:05, 12:34, 1:02:03. */
export function clock(seconds: number): string {
  const whole = Math.round(seconds)
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (n: number): string => `${n}`.padStart(2, '0')
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}

/** Writes 0.2 ms, 35 ms, 1.20 s. */
export function milliseconds(value: number): string {
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ms`
}
