// The measures (--measure): costs of sending beside time. JS heap per batch, event-loop delay of the main thread and garbage
// collections of the I/O thread are here, with ours.mjs as the sender; larger measures have files of their own.
import { at } from '../lib/process.mjs'
import { DESTINATION } from './blackhole.mjs'
import { growth } from './growth.mjs'
import { pacing, streams } from './pacing.mjs'
import { rss } from './rss.mjs'
import { startup } from './startup.mjs'
import { median } from './statistics.mjs'
import { limitOf } from './targets.mjs'
import { showBytes, table, verdict } from './text.mjs'

const PROGRAM = at('scripts/bench/ours.mjs')
const HEAP_SIZE = 8192

const ours = (hole, flags, name, options) =>
  hole.run([...flags, PROGRAM, '--measure', name, '--heap-size', String(HEAP_SIZE), ...options, DESTINATION])
const rowOf = (output) => JSON.parse(output.trimEnd().split('\n').at(-1))

async function heap(hole) {
  // The young generation holds all that the measured batches allocate, so that few collections blur the figure.
  const row = rowOf(await ours(hole, [process.execPath, '--expose-gc', '--max-semi-space-size=64'], 'heap', []))
  const { allocatedBytesPerBatch: allocated, heldBytesPerBatch: held, collections } = row
  console.log(
    `JS heap per batch on the main thread: ${allocated} bytes allocated (≤ 1024: ${verdict(allocated <= 1024)}), ${held} held`,
  )
  return { ...row, collections }
}

async function eventloop(hole, { pairs }) {
  const row = rowOf(await ours(hole, [process.execPath], 'eventloop', ['--pairs', pairs]))
  const ms = (value) => value.toFixed(2)
  const lines = row.pairs.map((p, i) => [
    i + 1,
    ms(p.sendingP99Milliseconds),
    ms(p.fillingP99Milliseconds),
    ms(p.addedMilliseconds),
  ])
  console.log(table(['pair', 'p99 sending (ms)', 'p99 filling only (ms)', 'added (ms)'], lines))
  const added = row.medianAddedMilliseconds
  const limit = limitOf('medianAddedMilliseconds')
  console.log(
    `event-loop p99 added by sending ${row.batchHeaps} × 8 KiB batches: ${ms(added)} ms (≤ ${limit}: ${verdict(added <= limit)})`,
  )
  return row
}

/**
 * Garbage collections per isolate, before and within the steady part, from --trace-gc's lines `[pid:isolate] … ms: Scavenge …`. The
 * isolate of the first line is the main thread's: ours.mjs forces a collection before it starts the I/O thread.
 */
function countCollections(text) {
  const isolates = new Map()
  let steady = false
  for (const line of text.split('\n')) {
    if (line.startsWith('mark: ')) steady = line === 'mark: steady'
    const [, isolate, kind] = /^\[\d+:(0x[0-9a-f]+)\]\s+\d+ ms: (Scavenge|Minor Mark-Compact|Mark-Compact)/.exec(line) ?? []
    if (!isolate) continue
    if (!isolates.has(isolate)) isolates.set(isolate, { thread: isolates.size ? 'io' : 'main', before: 0, minor: 0, major: 0 })
    const counts = isolates.get(isolate)
    if (!steady) counts.before++
    else if (kind === 'Mark-Compact') counts.major++
    else counts.minor++
  }
  return [...isolates.values()]
}

async function gc(hole, { seconds = 60 }) {
  // stdbuf, because V8 traces through stdio, which would hold its lines back until long behind the marks.
  const flags = ['stdbuf', '-oL', process.execPath, '--trace-gc', '--expose-gc']
  const result = await ours(hole, flags, 'gc', ['--seconds', String(seconds)])
  const row = rowOf(result)
  const threads = countCollections(result)
  if (threads[0]?.before < 1) throw new Error('--trace-gc showed not even the collection that was forced')
  const lines = threads.map((t) => [t.thread, t.before, t.minor, t.major])
  console.log(table(['thread', 'before', 'minor', 'major'], lines))
  if (threads.length === 1) console.log('the I/O thread collected nothing at all')
  const major = threads.filter((t) => t.thread === 'io').reduce((sum, t) => sum + t.major, 0)
  console.log(
    `major collections in the I/O thread in ${row.seconds} s (${row.batchesSent} batches): ${major} (0: ${verdict(major === 0)})`,
  )
  return { ...row, threads }
}

const MAIN_THREAD_SIZES = [256, 1024]
/** The heap size that costs more counts. */
async function mainthread(hole, { repeats }) {
  const program = at('scripts/bench/mainthread.mjs')
  const rows = []
  for (let round = 0; round < repeats; round++)
    for (const size of MAIN_THREAD_SIZES)
      rows.push({ round, ...rowOf(await hole.run([process.execPath, program, '--heap-size', String(size), DESTINATION])) })
  const beside = (row) => row.lookUpNanoseconds + row.sendNanoseconds
  const parts = {
    fill: (row) => row.fillNanoseconds,
    heap: (row) => row.lookUpNanoseconds,
    send: (row) => row.sendNanoseconds,
    beside,
  }
  const medianOf = (size, of) => median(rows.filter((row) => row.heapSizeBytes === size).map(of))
  const lines = MAIN_THREAD_SIZES.map((size) => [
    showBytes(size),
    ...Object.values(parts).map((of) => medianOf(size, of).toFixed(1)),
  ])
  console.log(`main thread, ns a heap, medians of ${repeats} rounds`)
  console.log(table(['heap', 'fill', 'batch.heap(j).adc_samples', 'timestamps, free and send', 'beside fill'], lines))
  return { program: 'ours', rows, besideFillNanoseconds: Math.max(...MAIN_THREAD_SIZES.map((size) => medianOf(size, beside))) }
}

const MEASURES = { heap, eventloop, gc, startup, rss, growth, mainthread }
/** Measures that run several programs in rounds, as rates do. */
const ROUNDS = { pacing, streams }
export const ROUND_MEASURES = Object.keys(ROUNDS)
export const MEASURE_NAMES = [...Object.keys(MEASURES), ...ROUND_MEASURES]
const ROUND_SECONDS = 5

/**
 * Prints a measure and adds its rows to `options.out`, unless `append` finds them there. Returns how many rounds there was no time
 * for.
 */
export async function measure(hole, name, options) {
  if (ROUNDS[name]) return ROUNDS[name](hole, { ...options, seconds: options.seconds ?? ROUND_SECONDS })
  if (options.append && options.out.rows.some((row) => row.measure === name)) return 0
  if (performance.now() >= options.endsAt) return 1
  const row = await MEASURES[name](hole, options)
  if (row) options.out.add({ kind: 'measure', measure: name, ...row })
  return 0
}
