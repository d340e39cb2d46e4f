/** Shows what streams and receivers do in a process that may start no thread: CALL… names them. With NO_MORE_THREADS it sees to that itself. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readlinkSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { IoThread, ItemGroup, openStream, type SpeadcastError, type StreamOptions } from '#dist/src/index.js'
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { print } from '../support/print.js'

const wanted = process.argv.slice(2)

if (process.env.NO_MORE_THREADS) {
  // libuv starts its pool at the first use, and aborts where it cannot.
  await stat('.')
  const { length } = readdirSync('/proc/self/task')
  const { status, stderr } = spawnSync('prlimit', ['--pid', `${process.pid}`, `--nproc=${length}`], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}

/** The sockets and eventfds that are open, without those that Node opened for itself before. */
function descriptors(): number {
  const all: string[] = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      all.push(readlinkSync(`/proc/self/fd/${fd}`))
    } catch {
      // it was the folder's own
    }
  }
  return all.filter((what) => /^socket:|eventfd|timerfd/.test(what)).length
}

const told = ({ name, code, message }: SpeadcastError) => ({ name, code, message })
const attempt = (call: () => Promise<unknown>) => call().catch(told)
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'i1', shape: [1024] })

/** Opens, sends a batch, closes. */
async function send(options: Partial<StreamOptions>) {
  const stream = await openStream({ to: '127.0.0.1:7148', ...options })
  try {
    const { evidence } = await stream.send(stream.createBatch({ items, heaps: 4 }))
    return { backend: stream.backend, reason: stream.reason, evidence }
  } finally {
    await stream.close()
  }
}

/** Opens, receives a batch from `send`, closes. */
async function receive(options: Partial<ReceiverOptions>) {
  const receiver = await openReceiver({ endpoints: '127.0.0.1:7149', ...options })
  try {
    await send({ to: '127.0.0.1:7149', backend: 'dgram' })
    for await (const heap of receiver) {
      const bytes = heap.items.get(0x3300)?.bytes.length
      const { backend, backendReason } = receiver.stats()
      if (bytes !== undefined) return { backend, backendReason, bytes }
    }
    return undefined
  } finally {
    await receiver.close()
  }
}

const CALLS: Record<string, () => Promise<unknown>> = {
  auto: () => send({}),
  paced: () => send({ rate: '100MB/s' }),
  worker: () => send({ thread: 'worker' }),
  affinity: () => send({ affinity: [0] }),
  dgram: () => send({ backend: 'dgram' }),
  ioThread: async () => void new IoThread(),
  receive: () => receive({}),
  receiveNative: () => receive({ backend: 'native' }),
  receiveDgram: () => receive({ backend: 'dgram' }),
}

const results: Record<string, unknown> = {}
let before: number | undefined
for (const name of wanted) {
  await attempt(CALLS[name]!)
  before ??= descriptors()
  results[name] = await attempt(CALLS[name]!)
}
print({ ...results, leaked: descriptors() - before! })
process.exit(0)
