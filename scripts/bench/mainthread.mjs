// One process of --measure mainthread: measures the cost of a heap for the thread that fills and sends it, beside `fill` itself.
// Prints one JSON row of nanoseconds a heap. Three loops run over the same batches in turn; each does one thing more than
// the one before:
//   fill   every heap's samples, whose views are at hand in an array
//   heap   the same, each view asked of its batch: batch.heap(j).adc_samples
//   send   the same, and batch.free, the timestamps and stream.send
// The third begins when all batches are free and sends each once, so this thread never waits for the other.
import { openStream } from 'speadcast'
import { runArguments, tutorialItems } from './arguments.mjs'
import { median } from './statistics.mjs'

const { positionals, heapSize, packetSize, batchHeaps } = runArguments()
const BATCHES = 8
const SEGMENTS = 400
/** V8 compiles each loop, and the send path, in these. */
const WARMUP_SEGMENTS = 200

const stream = await openStream({ to: positionals, backend: 'udp', packetSizeBytes: packetSize })
const items = tutorialItems(heapSize)
const batches = Array.from({ length: BATCHES }, () => stream.createBatch({ items, heaps: batchHeaps }))
const views = batches.map((batch) => Array.from({ length: batchHeaps }, (_, j) => batch.heap(j).adc_samples))

function fillViews(own, first) {
  for (let j = 0; j < batchHeaps; j++) own[j].fill(first + j)
}
function fillHeaps(batch, first) {
  for (let j = 0; j < batchHeaps; j++) batch.heap(j).adc_samples.fill(first + j)
}

const LOOPS = {
  fill(first) {
    for (let b = 0; b < BATCHES; b++) fillViews(views[b], first + b * batchHeaps)
  },
  heap(first) {
    for (let b = 0; b < BATCHES; b++) fillHeaps(batches[b], first + b * batchHeaps)
  },
  async send(first) {
    for (let b = 0; b < BATCHES; b++) {
      const batch = batches[b]
      const next = first + b * batchHeaps
      await batch.free
      fillHeaps(batch, next)
      batch.immediate('timestamp').setRamp(next * heapSize, heapSize)
      stream.send(batch)
    }
  },
}
const times = { fill: [], heap: [], send: [] }
for (let segment = 0; segment < WARMUP_SEGMENTS + SEGMENTS; segment++)
  for (const [name, loop] of Object.entries(LOOPS)) {
    const start = performance.now()
    await loop(segment * BATCHES * batchHeaps)
    const milliseconds = performance.now() - start
    await stream.flush()
    if (segment >= WARMUP_SEGMENTS) times[name].push((milliseconds * 1e6) / (BATCHES * batchHeaps))
  }
await stream.close()
const [fill, heap, send] = Object.values(times).map(median)
console.log(
  JSON.stringify({
    heapSizeBytes: heapSize,
    batchHeaps,
    fillNanoseconds: fill,
    lookUpNanoseconds: heap - fill,
    sendNanoseconds: send - heap,
  }),
)
