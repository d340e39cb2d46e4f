/**
 * OPTIONS SECONDS: sends a loop of 8 KiB heaps, and looks on. Prints what this thread and all threads of the process took of a CPU meanwhile,
 * and what was sent.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

export interface Report {
  readonly mainShare: number
  readonly processShare: number
  readonly payloadBytesPerSecond: number
  readonly heaps: number
  readonly swaps: number
}

const HEAP_BYTES = 8192
const HEAPS = 64

/** Nanoseconds that the main thread has run: proc(5), schedstat. */
const ran = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0])

const [options, seconds] = process.argv.slice(2).map((text) => JSON.parse(text))
const stream = await openStream({ descriptors: 'none', ...options })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [HEAP_BYTES] })
const windowOf = () =>
  Array.from({ length: 4 }, (_, i) => {
    const batch = stream.createBatch({ items, heaps: HEAPS })
    batch.immediate('timestamp').setRamp(i * HEAPS, 1)
    return batch
  })
const next = windowOf()
const loop = stream.loop(windowOf())
await sleep(1000)
const from = { at: performance.now(), ran: ran(), cpu: process.cpuUsage(), heaps: loop.position.heaps }
await sleep(seconds * 1000)
const passed = performance.now() - from.at
const { user, system } = process.cpuUsage(from.cpu)
const heaps = loop.position.heaps - from.heaps
const mainShare = (ran() - from.ran) / 1e6 / passed
await loop.swap(next)
loop.stop()
const report = await loop.done
print({
  mainShare,
  processShare: (user + system) / 1e3 / passed,
  payloadBytesPerSecond: (heaps * HEAP_BYTES) / (passed / 1000),
  heaps: report.heaps,
  swaps: report.swaps,
} satisfies Report)
await stream.close()
