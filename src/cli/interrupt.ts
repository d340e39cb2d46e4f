import { EXIT_INTERRUPTED } from './exit.js'

/** The first SIGINT or SIGTERM calls `first`, the second ends the process with 130. Returns what undoes it. */
export function onInterrupt(first: () => void): () => void {
  let seen = false
  const handler = (): void => {
    if (seen) process.exit(EXIT_INTERRUPTED)
    seen = true
    first()
  }
  process.on('SIGINT', handler).on('SIGTERM', handler)
  return () => process.off('SIGINT', handler).off('SIGTERM', handler)
}
