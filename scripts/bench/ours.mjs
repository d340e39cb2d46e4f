// Our side of the comparison: the tutorial's batching program with speadcast's own API. Prints one JSON row.
// `seconds` runs from the fill of the first heap behind --warmup-heaps to the last settlement; the stop heap follows outside the
// clock. payloadBytes counts the timed heaps, packets and udpBytes all that was put on the wire.
//
// --measure heap | eventloop | gc: what sending costs beside time; see the functions. They run from `npm run bench -- --measure`.
import { writeSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import v8 from 'node:v8'
import { openStream } from 'speadcast'
import { runArguments, timed, tutorialItems } from './arguments.mjs'

const run = runArguments({
  backend: { type: 'string', default: 'udp' },
  'udp-path': { type: 'string', default: 'auto' },
  split: { type: 'string', default: 'even' },
  'no-fill': { type: 'boolean', default: false },
  measure: { type: 'string' },
  seconds: { type: 'string', default: '60' },
  pairs: { type: 'string', default: '5' },
})
const { values, positionals, heapSize, heaps, warmup, warmupPart, packetSize, batchHeaps } = run

// Before anything else runs, so that --trace-gc shows which isolate is the main thread's.
if (values.measure === 'gc') globalThis.gc()

const stream = await openStream({
  to: positionals,
  backend: values.backend,
  ...(values.backend === 'ibverbs' && { ibverbs: { poll: 'adaptive' } }),
  udpPath: values['udp-path'],
  split: values.split,
  packetSizeBytes: packetSize,
})
const items = tutorialItems(heapSize)
const batches = Array.from({ length: run.batches }, () => stream.createBatch({ items, heaps: batchHeaps }))

const noFill = values['no-fill']
function fill(batch, first, n) {
  if (!noFill) for (let j = 0; j < n; j++) batch.heap(j).adc_samples.fill(first + j)
  batch.immediate('timestamp').setRamp(first * heapSize, heapSize)
}

/** Sends heaps first … end−1, first at the start of a batch, or whole batches for so long. Returns the next heap. */
async function sendHeaps(first, end, seconds = Infinity) {
  const deadline = performance.now() + seconds * 1000
  let i = first
  for (; i < end && performance.now() < deadline; i += batchHeaps) {
    const batch = batches[(i / batchHeaps) % batches.length]
    const n = Math.min(batchHeaps, end - i)
    await batch.free // its previous use has settled
    fill(batch, i, n)
    stream.send(batch, { heaps: n }) // what goes wrong with it, flush throws
  }
  return i
}
const sendFor = (seconds, first) => sendHeaps(first, Infinity, seconds)

async function throughput() {
  for (let i = 0; i < warmup; i += warmupPart) await sendHeaps(i, Math.min(i + warmupPart, warmup))
  const cpu = process.cpuUsage()
  const start = performance.now()
  await sendHeaps(warmup, warmup + heaps)
  await stream.flush()
  const seconds = (performance.now() - start) / 1000
  return timed(run, seconds, process.cpuUsage(cpu))
}

/**
 * Bytes of JS heap that a batch costs on this thread: what was allocated over many batches, collected since or not (the heap's
 * growth plus what each collection freed), and what is still held after a full collection.
 */
async function jsHeapPerBatch() {
  const count = 4000
  const next = await sendFor(2, 0)
  await stream.flush()
  globalThis.gc()
  const heldBefore = v8.getHeapStatistics().used_heap_size
  const profiler = new v8.GCProfiler()
  profiler.start()
  const before = v8.getHeapStatistics().used_heap_size
  await sendHeaps(next, next + count * batchHeaps)
  const after = v8.getHeapStatistics().used_heap_size
  const { statistics } = profiler.stop()
  await stream.flush()
  globalThis.gc()
  const held = v8.getHeapStatistics().used_heap_size
  const used = (gc) => gc.heapStatistics.usedHeapSize
  const freed = statistics.reduce((sum, gc) => sum + used(gc.beforeGC) - used(gc.afterGC), 0)
  return {
    batchesSent: count,
    collections: statistics.length,
    allocatedBytesPerBatch: Math.round((after - before + freed) / count),
    heldBytesPerBatch: Math.round((held - heldBefore) / count),
  }
}

/**
 * Event-loop delay with sending against the same fill loop without it, alternating. Only the difference means anything: the
 * monitor's own timer period is in both.
 */
async function eventLoopDelay() {
  const seconds = 2
  let next = await sendFor(1, 0)
  const p99 = async (body) => {
    const monitor = monitorEventLoopDelay({ resolution: 1 })
    monitor.enable()
    await body()
    monitor.disable()
    return monitor.percentile(99) / 1e6
  }
  const pairs = []
  for (let i = 0; i < Number(values.pairs); i++) {
    const sending = await p99(async () => {
      next = await sendFor(seconds, next)
    })
    await stream.flush()
    const filling = await p99(() => fillFor(seconds))
    pairs.push({ sendingP99Milliseconds: sending, fillingP99Milliseconds: filling, addedMilliseconds: sending - filling })
  }
  const added = pairs.map((pair) => pair.addedMilliseconds).toSorted((a, b) => a - b)
  return { pairs, medianAddedMilliseconds: added[added.length >> 1] }
}

/** The loop of sendFor without the send. It gives way every 0.5 ms, as a program that only fills has to by itself. */
async function fillFor(seconds) {
  const end = performance.now() + seconds * 1000
  let turn = performance.now()
  for (let first = 0; performance.now() < end; first += batchHeaps) {
    const batch = batches[(first / batchHeaps) % batches.length]
    await batch.free
    fill(batch, first, batchHeaps)
    if (performance.now() - turn < 0.5) continue
    await new Promise(setImmediate)
    turn = performance.now()
  }
}

/** Steady sending between two marks in the output of --trace-gc, behind two seconds of warm-up. */
async function steady() {
  const seconds = Number(values.seconds)
  const start = await sendFor(2, 0)
  writeSync(1, 'mark: steady\n')
  const next = await sendFor(seconds, start)
  writeSync(1, 'mark: end\n')
  await stream.flush()
  return { seconds, batchesSent: (next - start) / batchHeaps }
}

const MODES = { heap: jsHeapPerBatch, eventloop: eventLoopDelay, gc: steady }
const mode = values.measure === undefined ? throughput : MODES[values.measure]
if (!mode) throw new Error(`--measure ${values.measure}: it is one of ${Object.keys(MODES).join(', ')}`)
const result = await mode()
await stream.sendEnd()
const { packets, udpBytes, ...stats } = stream.stats()
await stream.close()
const row = {
  program: 'ours',
  heapSizeBytes: heapSize,
  packetSizeBytes: packetSize,
  batches: batches.length,
  batchHeaps,
  ...result,
  packets,
  udpBytes,
  stats,
}
console.log(JSON.stringify(row))
