import { sayProgress } from '../common/print.js'

const EVERY_MS = 250

/** Shows a line on standard error, four times a second, where that is a terminal. Returns a function that ends it and clears the line. */
export function showLine(text: () => string): () => void {
  const { stderr } = process
  if (!stderr.isTTY) return () => undefined
  const show = (): void => sayProgress(text().slice(0, Math.max(20, (stderr.columns || 80) - 1)))
  const timer = setInterval(show, EVERY_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    sayProgress('')
  }
}
