/** Adds one to the file 'counter' twenty times, with the lock of MUTEX (the bootstrap's module) in folder 'lock' each time. */
import { readFileSync, writeFileSync } from 'node:fs'

const { lock } = (await import(process.argv[2]!)) as typeof import('../../scripts/lib/mutex.mjs')
for (let i = 0; i < 20; i++) {
  const release = await lock('lock')
  const n = Number(readFileSync('counter', 'utf8'))
  // Adding one without a lock loses counts: the read and the write are a turn of the event loop apart.
  await new Promise(setImmediate)
  writeFileSync('counter', String(n + 1))
  release()
}
