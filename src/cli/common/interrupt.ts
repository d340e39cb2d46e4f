import type { Stream } from '../../index.js'
import { EXIT_INTERRUPTED } from './exit.js'
import { oweResult } from './print.js'
import type { Tally } from './tally.js'
import { callAt } from './timer.js'

/**
 * Calls `first` at the first SIGINT, SIGTERM or SIGHUP, and ends the process with 130 at the next SIGINT or SIGTERM. A terminal that closes sends
 * SIGHUP twice, by the kernel and by the shell. Returns a function that undoes it.
 */
export function onInterrupt(first: () => void): () => void {
  oweResult()
  let seen = false
  const handler = (signal: NodeJS.Signals): void => {
    if (seen && signal !== 'SIGHUP') process.exit(EXIT_INTERRUPTED)
    if (seen) return
    seen = true
    first()
  }
  for (const signal of SIGNALS) process.on(signal, handler)
  return () => {
    for (const signal of SIGNALS) process.off(signal, handler)
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Gives queued heaps `seconds` to go once `stopping` aborts; then they are cut off and counted as dropped. Returns a function that undoes
 * it.
 */
export function cutOffAfter(stream: Stream, tally: Tally, stopping: AbortSignal, seconds: number): () => void {
  let undo = (): void => undefined
  const cutOff = (): void => {
    tally.cut = true
    stream.close({ deadlineSeconds: 0 }).catch(() => undefined)
  }
  const begin = (): void => {
    undo = callAt(performance.now() + seconds * 1000, cutOff)
  }
  stopping.addEventListener('abort', begin)
  return () => {
    stopping.removeEventListener('abort', begin)
    undo()
  }
}
