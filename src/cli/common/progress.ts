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

/** Asks `state` four times a second. Returns a function that ends it and clears the line. */
export function showProgress(what: string, state: () => ProgressState): () => void {
  const { stderr } = process
  if (!rewritesLines()) return () => undefined
  const start = performance.now()
  let lastAt = start
  let lastBytes = 0
  const timer = setInterval(() => {
    const now = performance.now()
    const { heaps, payloadBytes, totalBytes, failed, notes = [] } = state()
    const parts = [`${what} ${many(heaps, 'heap')}`, bytesPerSecond(((payloadBytes - lastBytes) / (now - lastAt)) * 1000)]
    if (totalBytes && payloadBytes > 0) {
      const left = ((totalBytes - payloadBytes) * (now - start)) / payloadBytes / 1000
      parts.push(`${((payloadBytes / totalBytes) * 100).toFixed(0)} %`, `ETA ${clock(Math.max(0, left))}`)
    }
    if (failed > 0) parts.push(`${count(failed)} failed`)
    parts.push(...notes)
    sayProgress(cut(printable(parts.join(', ')), Math.max(1, (stderr.columns || 80) - 1)))
    lastAt = now
    lastBytes = payloadBytes
  }, EVERY_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    sayProgress('')
  }
}
