/**
 * A process, or a thread, with streams that ends as PLAN says. Prints `now NANOSECONDS` when its end begins: hrtime is CLOCK_MONOTONIC,
 * one for all processes.
 */
import { writeSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { ItemGroup, openStream, type Stream, type StreamOptions } from 'speadcast'

export interface Plan {
  /** Every stream has these; none is opened without them. */
  readonly options?: StreamOptions
  /** The first is the one that sends. Default 1. */
  readonly streams?: number
  /** The errno that backend memory answers for every packet. */
  readonly errno?: number
  /** Twenty batches of a hundred single-packet heaps, 100 bytes of samples each: once, or again and again. */
  readonly send?: 'once' | 'forever'
  readonly end?: keyof typeof ENDS
  /** The end waits until the stream has had to wait for its socket. */
  readonly onceWaiting?: boolean
  /** Default 100. */
  readonly afterMs?: number
  /** Default 7. */
  readonly code?: number
}

const plan = (isMainThread ? JSON.parse(process.argv[2]!) : workerData) as Plan
const { afterMs = 100, code = 7 } = plan
const say = (line: string) => void writeSync(1, `${line}\n`)
const now = () => say(`now ${process.hrtime.bigint()}`)

/** Tells the thread that waits for this one whether the stream had to wait for its socket. */
const tell = () => parentPort?.postMessage(stream!.stats().waits > 0)

function after(action: () => void): void {
  if (plan.onceWaiting && stream!.stats().waits === 0) setTimeout(after, 10, action)
  else setTimeout(action, afterMs)
}

const ENDS = {
  exit: () =>
    after(() => {
      tell()
      now()
      process.exit(code)
    }),
  throw: () =>
    after(() => {
      tell()
      now()
      throw new Error('on purpose')
    }),
  reject: () =>
    after(() => {
      now()
      void Promise.reject(new Error('on purpose'))
    }),
  /** Is ended by somebody else. */
  stay: () =>
    after(() => {
      tell()
      if (isMainThread) say('ready')
      setInterval(() => {}, 1000)
    }),
  count: () => void process.on('exit', () => say(`${stream!.stats().heapsSent} sent`)),
  async flush() {
    await stream!.flush()
    now()
  },
}

async function open({ options, streams = 1, errno, send }: Plan): Promise<Stream | undefined> {
  if (!options) return
  const stream = await openStream(errno === undefined ? options : { ...options, memory: { failAt: () => errno } })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [100] })
  const batches = Array.from({ length: 20 }, () => stream.createBatch({ items, heaps: 100 }))
  async function forever() {
    for (;;)
      for (const batch of batches) {
        await batch.free
        stream.send(batch)
      }
  }
  if (send === 'once') for (const batch of batches) stream.send(batch)
  if (send === 'forever') void forever()
  for (let i = 1; i < streams; i++) await openStream(options)
  return stream
}

const stream = await open(plan)
if (plan.end) await ENDS[plan.end]()
