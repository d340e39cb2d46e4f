/** Places its main thread as it is told, and prints, a line each, how it and a thread that it starts are placed then. */
import { Worker } from 'node:worker_threads'
import { getAffinity } from '#dist/ffi/affinity.js'
import { cpusForThreads, pinStarter, placeThread, type ThreadPriority } from '#dist/ffi/placement.js'
import { scheduling } from '#dist/ffi/scheduling.js'

interface Told {
  readonly priority?: ThreadPriority
  readonly affinity?: readonly number[]
  readonly pinned?: readonly number[]
  readonly again?: readonly number[]
}

const { priority, affinity = [], pinned, again }: Told = JSON.parse(process.argv[2]!)
const print = (what: unknown): void => console.log(JSON.stringify(what))

try {
  placeThread({ affinity, inherited: [], priority })
} catch (error) {
  const { code, message } = error as Error & { code: string }
  print({ code, message })
}
if (priority !== undefined) {
  print(scheduling())
  const source = `import(${JSON.stringify(import.meta.resolve('#dist/ffi/scheduling.js'))}).then(({ scheduling }) =>
    require('node:worker_threads').parentPort.postMessage(scheduling()))`
  new Worker(source, { eval: true }).on('message', print)
} else {
  if (pinned) pinStarter('pinThread', pinned)
  if (again) pinStarter('pinThread', again)
  print({ cpus: getAffinity() })
  if (pinned) print({ others: cpusForThreads() })
}
