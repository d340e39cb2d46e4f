/**
 * A process whose worker thread carries out PLAN of exit.program.ts. When the thread has told of itself, HOW it goes on:
 *   wait | tell (prints what it told) | terminate | exit (with code 5)
 * Prints how the thread ended, the descriptors that are open then and were not before, and `now NANOSECONDS`.
 */
import { readdirSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'

export type How = keyof typeof HOW

const say = (line: string) => void writeSync(1, `${line}\n`)
const now = () => say(`now ${process.hrtime.bigint()}`)
const descriptors = () => readdirSync('/proc/self/fd').length

const HOW = {
  wait() {},
  tell() {},
  terminate: () =>
    void setTimeout(async () => {
      const start = performance.now()
      await worker.terminate()
      say(`in ${performance.now() - start} ms`)
    }, 100),
  exit: () =>
    void setTimeout(() => {
      now()
      process.exit(5)
    }, 100),
}

const [plan, how] = process.argv.slice(2) as [string, How]
// The first worker costs a descriptor that is kept.
await new Promise((resolve) => new Worker(new URL('data:text/javascript,')).once('exit', resolve))
const before = descriptors()
const worker = new Worker(new URL('./exit.program.js', import.meta.url), { workerData: JSON.parse(plan) })
worker.on('error', (error: Error) => say(`error ${error.message}`))
worker.on('exit', (code) => {
  say(`ended ${code}, ${descriptors() - before} descriptors more`)
  now()
})
worker.once('message', (waited: boolean) => {
  if (how !== 'wait') say(`waited: ${waited}`)
  HOW[how]()
})
