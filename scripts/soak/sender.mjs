// The sending half of a soak, in a namespace of its own. It prints a line of JSON for each run of heaps with one fate, each sample of its
// memory, and its end. Heap n of a stream has n as its timestamp, and samples that all have the number n mod NUMBERS.
import { readdirSync, readFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ItemGroup, openStream, SendError } from 'speadcast'
import { Runs } from './ranges.mjs'
import { HEAP_BYTES, HEAPS_A_BATCH, NUMBERS, PACKET_BYTES, STREAMS } from './streams.mjs'

const BATCHES = 4
/** Standard output has V8's lines about collections, which are not to be cut by ours. */
const REPORT_FD = 3
const tell = (line) => writeSync(REPORT_FD, `${JSON.stringify({ at: Date.now(), ...line })}\n`)

const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [HEAP_BYTES] })

let ended = false
process.on('SIGTERM', () => {
  ended = true
})

/** Sends until the end, and says what became of each heap. */
async function run(name, { to, rateBytesPerSecond, options, clock, loop }) {
  const syncTime = Date.now() / 1000 + 1
  const pace = clock ? { clock: { ...clock, syncTime, startAt: syncTime, unsynchronised: 'accept' } } : { rate: rateBytesPerSecond }
  const stream = await openStream({ to, ...pace, packetSizeBytes: PACKET_BYTES, descriptors: 'none', ...options })
  if (loop) return replay(name, stream)
  const batches = Array.from({ length: BATCHES }, () => stream.createBatch({ items, heaps: HEAPS_A_BATCH }))
  const fates = new Runs(({ from, to, word }) => tell({ kind: 'fate', stream: name, from, to, word }))
  // Promises settle in the order of sends.
  const note = (first, { heaps, skipped, suspect }) => {
    const leftOut = skipped?.heaps ?? []
    const fateOf = (j) => (Array.isArray(heaps) ? heaps[j] : leftOut.includes(j) ? 'skipped' : 'sent')
    for (let j = 0; j < HEAPS_A_BATCH; j++) {
      const fate = fateOf(j)
      fates.add(first + j, first + j + 1, fate === 'sent' && suspect ? 'suspect' : fate)
    }
  }
  const errnos = new Map()
  const counts = { name, stream, submitted: 0, settled: 0, errnos }
  const sending = async () => {
    for (let n = 0; !ended; n++) {
      const batch = batches[n % BATCHES]
      await batch.free
      const first = n * HEAPS_A_BATCH
      batch.immediate('timestamp').setRamp(first, 1)
      for (let j = 0; j < HEAPS_A_BATCH; j++) batch.heap(j).adc_samples.fill((first + j) % NUMBERS)
      counts.submitted += HEAPS_A_BATCH
      stream.send(batch).then(
        (result) => {
          counts.settled += HEAPS_A_BATCH
          note(first, result)
        },
        (error) => {
          if (!(error instanceof SendError)) throw error
          counts.settled += HEAPS_A_BATCH
          for (const { errnoName } of error.outcome.causes) errnos.set(errnoName, (errnos.get(errnoName) ?? 0) + 1)
          note(first, error.outcome)
        },
      )
    }
    await stream.flush()
    fates.flush()
  }
  return { ...counts, counts, done: sending() }
}

/** Sends a window over and over. Nobody hears of single heaps, so its account is compared in sum. */
function replay(name, stream) {
  const batch = stream.createBatch({ items, heaps: NUMBERS })
  batch.immediate('timestamp').setRamp(0, 1)
  for (let j = 0; j < NUMBERS; j++) batch.heap(j).adc_samples.fill(j)
  const loop = stream.loop([batch])
  const counts = { name, stream, errnos: new Map(), submitted: 0, settled: 0 }
  const sending = async () => {
    while (!ended) await sleep(100)
    loop.stop()
    const { heaps, failedHeaps, suspectHeaps } = await loop.done
    counts.submitted = heaps + failedHeaps
    counts.settled = counts.submitted
    tell({ kind: 'loop', stream: name, sentHeaps: heaps, failedHeaps, suspectHeaps })
  }
  return { ...counts, counts, done: sending() }
}

const runs = []
for (const [name, settings] of Object.entries(STREAMS)) runs.push(await run(name, settings))
tell({ kind: 'open' })

const V8_PAGE = 1 << 18
/** Lines of /proc/self/maps, less the pages of V8's heaps, which come and go with the heaps' sizes, of which the resident memory tells. */
function isMapping(line) {
  const [range, , , , , path] = line.split(/ +/)
  if (path) return true
  const [start, end] = range.split('-').map((address) => Number.parseInt(address, 16))
  return line !== '' && (start % V8_PAGE !== 0 || (end - start) % V8_PAGE !== 0)
}

/** Measures that may not grow, and the counters of that moment. */
function sample() {
  globalThis.gc()
  return {
    kind: 'sample',
    milliseconds: performance.now(),
    rssBytes: process.memoryUsage.rss(),
    descriptors: readdirSync('/proc/self/fd').length,
    mappings: readFileSync('/proc/self/maps', 'utf8').split('\n').filter(isMapping).length,
    streams: Object.fromEntries(
      runs.map(({ name, stream, counts: { submitted, settled } }) => [name, { submitted, settled, stats: stream.stats() }]),
    ),
  }
}

const done = Promise.all(runs.map((each) => each.done))
while (!ended) {
  await sleep(1000)
  // Nothing is sent any more behind the end, and the counters say so only when there is something to send again.
  if (!ended) tell(sample())
}
await done
for (const { name, stream, counts } of runs) {
  const stats = stream.stats()
  await stream.close()
  tell({
    kind: 'end',
    stream: name,
    submitted: counts.submitted,
    settled: counts.settled,
    errnos: Object.fromEntries(counts.errnos),
    stats,
  })
}
process.exit(0)
