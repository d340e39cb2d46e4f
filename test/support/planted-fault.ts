/**
 * Ends I/O threads that are started from now on, by an error that one of them throws when it looks at the clock: in its engine, or between two steps.
 * Unlike worker.terminate() it never ends a thread inside a call of koffi's, which ends the process now and then.
 */
import { fileURLToPath } from 'node:url'
import { setEnvironmentData } from 'node:worker_threads'
import { onTestFinished } from 'vitest'

/** @returns has the first thread that looks fail at the look with this number, from 1 up */
export function plantFault(): (look?: number) => void {
  const words = new Int32Array(new SharedArrayBuffer(4))
  const before = process.env.NODE_OPTIONS
  setEnvironmentData('planted-fault', words)
  process.env.NODE_OPTIONS = `${before ?? ''} --require=${fileURLToPath(new URL('planted-fault.cjs', import.meta.url))}`
  onTestFinished(() => {
    setEnvironmentData('planted-fault', undefined)
    if (before === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = before
  })
  return (look = 1) => Atomics.store(words, 0, look)
}
