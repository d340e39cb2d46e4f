// Micro-benchmarks of the hot loops, in nanoseconds per heap or packet: `node scripts/bench/micro.mjs`. Compare runs on one machine only.
import { Bench } from 'tinybench'
import { openMemory } from '#dist/src/backend/memory.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { BatchTemplate } from '#dist/src/batch/template.js'
import { Engine } from '#dist/src/engine/engine.js'
import * as R from '#dist/src/engine/ring.js'
import { CntPointers, ImmediatePointers, scatter, scatterExplicit, scatterImmediate } from '#dist/src/engine/scatter.js'
import { Histogram } from '#dist/src/histogram.js'
import { openStream } from '#dist/src/index.js'
import { DEFAULT_FLAVOUR, Heap, ItemGroup } from '#dist/src/spead/index.js'
import { tutorialItems } from './arguments.mjs'

const HEAPS = 2048
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x1601, name: 'offset', dtype: '<i2' })
  .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [256] })
const config = {
  items, heaps: HEAPS, flavour: DEFAULT_FLAVOUR, packetSizeBytes: 9000, split: 'even', repeatPointers: false, groupMode: 'serial',
  substreams: new Uint16Array(HEAPS), memory: {}, inBandDescriptors: false, headroomBytes: 0, mergesEqualPackets: false,
} // biome-ignore format: a table
const batch = new BatchTemplate(config)
const { scatter: places, table } = batch.compilation(HEAPS, false).compile()
const view = new DataView(batch.region.buffer)
const sequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
const cnt = new CntPointers(places)
const long = new BatchTemplate({ ...config, heaps: HEAPS / 16, packetSizeBytes: 80, substreams: new Uint16Array(HEAPS / 16) })
const longOnes = long.compilation(HEAPS / 16, false).compile()
const longView = new DataView(long.region.buffer)
const longCnt = new CntPointers(longOnes.scatter)
const [timestamp, offset] = places.immediates.map(
  (table) => new ImmediatePointers(table, batch.region, batch.region.buffer, HEAPS, cnt),
)
const far = new BatchTemplate({ ...config, items: tutorialItems(8192) })
const farOnes = far.compilation(HEAPS, false).compile().scatter
const farView = new DataView(far.region.buffer)
const farCnt = new CntPointers(farOnes)
const farTimestamp = new ImmediatePointers(farOnes.immediates[0], far.region, far.region.buffer, HEAPS, farCnt)
const turns = new BatchTemplate({
  ...config,
  groupMode: 'by-substream',
  substreams: Uint16Array.from({ length: HEAPS }, (_, j) => j % 16),
})
const turnsOnes = turns.compilation(HEAPS, false).compile().scatter
const turnsView = new DataView(turns.region.buffer)
const turnsCnt = new CntPointers(turnsOnes)
const turnsTimestamp = new ImmediatePointers(turnsOnes.immediates[0], turns.region, turns.region.buffer, HEAPS, turnsCnt)
turns.immediate('timestamp').setRamp(2 ** 40, 256)
turns.validate(HEAPS)
far.immediate('timestamp').setRamp(2 ** 40, 8192)
const unknown = (pointers) => {
  pointers.written(-1, 0)
  return pointers
}
const ramp = batch.immediate('timestamp')
ramp.setRamp(2 ** 40, 256)
const cnts = new Float64Array(HEAPS).fill(-1)
const uneven = new BatchTemplate(config)
uneven.immediate('timestamp').setRamp(2 ** 40, 256)
uneven.immediate('timestamp')[HEAPS - 1] += 1

const ring = new R.Ring()
const backend = openMemory({ substreams: 1, keepPackets: false }, { counters: ring.counters, wake: () => {} })
const engine = new Engine(
  backend,
  ring,
  { rateBytesPerSecond: 0, maxInFlight: 8 },
  () => {},
  () => {},
)
const one = new PreparedHeaps(
  [{ heap: new Heap().addRaw({ id: 0x1000, bytes: new Uint8Array(8), allowImmediate: false }) }],
  'serial',
  {
    packetSizeBytes: 1472,
    split: 'even',
  },
)
engine.addVariant(1, one.compilation().compile())
const submission = { variant: 1, heaps: 1, rows: 1, explicitCnts: false, sequence: undefined }

const bench = new Bench({ time: 300 })
const per = new Map()
const add = (name, units, run) => {
  per.set(name, units)
  bench.add(name, run)
}
const evenly = (step, immediate) => {
  view.setFloat64(immediate.rampAt, immediate.column[0], true)
  view.setFloat64(immediate.rampAt + 8, step, true)
  return immediate
}
add('scatter heap cnts from the sequence, per packet', table.rows, () => scatter(view, cnt, [], HEAPS, sequence))
add('the same in heaps of several packets', longOnes.table.rows, () => scatter(longView, longCnt, [], HEAPS / 16, sequence))
add('the same, upper halves too', table.rows, () => scatter(view, unknown(cnt), [], HEAPS, sequence))
add('scatter explicit heap cnts, per packet', table.rows, () => scatterExplicit(view, cnt, HEAPS, cnts, sequence))
add('both heap cnts and a ramp, per heap', HEAPS, () => scatter(view, cnt, [evenly(256, timestamp)], HEAPS, sequence))
add('the same, in a batch too large for the window', HEAPS, () => scatter(farView, farCnt, [farTimestamp], HEAPS, sequence))
add('the same, 16 substreams in turn, sent by substream', HEAPS, () =>
  scatter(turnsView, turnsCnt, [turnsTimestamp], HEAPS, sequence),
)
add('scatter a 48-bit unsigned immediate, a ramp, per heap', HEAPS, () => scatterImmediate(view, evenly(256, timestamp), HEAPS))
add('the same, any values, per heap', HEAPS, () => scatterImmediate(view, evenly(Number.NaN, timestamp), HEAPS))
add('the same, upper halves too, per heap', HEAPS, () => scatterImmediate(view, unknown(timestamp), HEAPS))
add('scatter a little-endian int16 immediate, per heap', HEAPS, () => scatterImmediate(view, offset, HEAPS))
add('check staged values at send, per heap', HEAPS, () => batch.validate(HEAPS))
add('the same, not evenly spaced, per heap', HEAPS, () => uneven.validate(HEAPS))
add('setRamp, per heap', HEAPS, () => ramp.setRamp(2 ** 40, 256))
const ring8 = Array.from({ length: 8 }, () => new BatchTemplate(config).views)
let turn = 0
add('heap(j) and an item of it, eight batches in turn, per heap', HEAPS, () => {
  const views = ring8[turn++ & 7]
  for (let j = 0; j < HEAPS; j++) views.heap(j).adc_samples[0] = j
})
const swappedItems = new ItemGroup().add({ id: 0x3300, name: 'x', dtype: '>i2', shape: [8192] })
const swapped = new BatchTemplate({ ...config, items: swappedItems, heaps: 1, substreams: new Uint16Array(1) }).views.heap(0).x
const native = new Int16Array(8192)
add('set a big-endian view from a typed array, per number', 8192, () => swapped.set(native))
add('engine: take, post and settle a one-packet submission', 1, () => {
  const count = ring.push(submission, R.STATE_FINAL)
  while (ring.settled === count) engine.step(0)
})
const wide = 4096
const spread = new R.Ring(R.Ring.memoryFor(wide))
const sink = openMemory({ substreams: wide, keepPackets: false }, { counters: spread.counters, wake: () => {} })
const toAll = new Engine(
  sink,
  spread,
  { rateBytesPerSecond: 0, maxInFlight: 8 },
  () => {},
  () => {},
)
const small = Array.from({ length: wide }, (_, substream) => ({ heap: new Heap().addStart(), substream }))
toAll.addVariant(1, new PreparedHeaps(small, 'serial', { packetSizeBytes: 1472, split: 'even' }).compilation().compile())
const all = { ...submission, heaps: wide, rows: wide }
add('the same of 4096 heaps to 4096 substreams, per heap', wide, () => {
  const count = spread.push(all, R.STATE_FINAL)
  while (spread.settled === count) toAll.step(0)
})
const histogram = new Histogram(new Float64Array(Histogram.DOUBLES))
let latency = 1
add('record a latency', 1000, () => {
  for (let i = 0; i < 1000; i++) {
    latency = (latency * 1.37 + 1) % 1e9
    histogram.record(latency)
  }
})
const streams = await Promise.all(
  [1, wide].map((n) => openStream({ to: `10.0.0.1+${n - 1}:7148`, backend: 'memory', memory: { keepPackets: false } })),
)
add('stats() of one substream', 1, () => streams[0].stats({ substreams: true }))
add('stats() of 4096 substreams, per substream', wide, () => streams[1].stats({ substreams: true }))
add('compile a batch of 2048 heaps, per packet', table.rows, () => batch.compilation(HEAPS, false).compile())
await bench.run()
console.table(
  bench.tasks.map(({ name, result }) => ({
    what: name,
    'median ns': result.state === 'completed' ? ((result.latency.p50 * 1e6) / per.get(name)).toFixed(2) : result.state,
  })),
)
