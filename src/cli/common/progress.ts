/** Shows progress as one line on standard error, rewritten as it goes; shows nothing where that is no terminal. */
import { printable } from '../../errors.js'
import { cut } from './live-text.js'
import { rewritesLines, sayProgress } from './print.js'
import { bytesPerSecond, clock, count, many } from './table.js'

export interface ProgressState {
  /** The number of settled heaps. */
  readonly heaps: number
  readonly payloadBytes: number
  /** Undefined where nobody knows the end. */
  readonly totalBytes: number | undefined
  readonly failed: number
  /** Further facts for the end of the line. */
  readonly notes?: readonly string[]
}

const EVERY_MS = 250

/** Shows a line four times a second. Returns a function that ends it and clears the line. */
export function showLine(text: () => string): () => void {
  const { stderr } = process
  if (!rewritesLines()) return () => undefined
  const show = (): void => sayProgress(cut(printable(text()), Math.max(1, (stderr.columns || 80) - 1)))
  const timer = setInterval(show, EVERY_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    sayProgress('')
  }
}

/** Asks `state` four times a second. Returns a function that ends it and clears the line. */
export function showProgress(what: string, state: () => ProgressState): () => void {
  const start = performance.now()
  let lastAt = start
  let lastBytes = 0
  return showLine(() => {
    const now = performance.now()
    const { heaps, payloadBytes, totalBytes, failed, notes = [] } = state()
    const parts = [`${what} ${many(heaps, 'heap')}`, bytesPerSecond(((payloadBytes - lastBytes) / (now - lastAt)) * 1000)]
    if (totalBytes && payloadBytes > 0) {
      const left = ((totalBytes - payloadBytes) * (now - start)) / payloadBytes / 1000
      parts.push(`${((payloadBytes / totalBytes) * 100).toFixed(0)} %`, `ETA ${clock(Math.max(0, left))}`)
    }
    if (failed > 0) parts.push(`${count(failed)} failed`)
    parts.push(...notes)
    lastAt = now
    lastBytes = payloadBytes
    return parts.join(', ')
  })
}
