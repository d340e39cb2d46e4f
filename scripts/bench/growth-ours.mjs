// One point of `--measure growth`: a number of streams, each with batches of heaps of 1 KiB, divided into items; heap j goes to
// substream j mod n, or in blocks. Prints one JSON row: milliseconds to open the streams and to compile their batches, then CPU
// nanoseconds of all threads while sending for a while, and the memory in use. Samples are not touched, because only our own cost
// is asked for.
import { parseArgs } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    heaps: { type: 'string', default: '64' },
    items: { type: 'string', default: '1' },
    substreams: { type: 'string', default: '1' },
    // Neighbouring heaps go to the same substream: heap j to floor(j n / heaps).
    blocks: { type: 'boolean', default: false },
    'group-mode': { type: 'string', default: 'serial' },
    streams: { type: 'string', default: '1' },
    'heap-size': { type: 'string', default: '1024' },
    seconds: { type: 'string', default: '1' },
    'warmup-batches': { type: 'string', default: '5000' },
  },
})
const heaps = Number(values.heaps)
const items = Number(values.items)
const substreams = Number(values.substreams)
const streams = Number(values.streams)
const heapSize = Number(values['heap-size'])
const BATCHES = 4
const [host, port] = positionals[0].split(':')

const milliseconds = async (body) => {
  const start = performance.now()
  const result = await body()
  return [result, performance.now() - start]
}

const to = Array.from({ length: substreams }, (_, i) => `${host}:${Number(port) + i}`)
const open = async () => {
  const all = []
  for (let i = 0; i < streams; i++) all.push(await openStream({ to, backend: 'udp', packetSizeBytes: 9000 }))
  return all
}
const group = new ItemGroup().add({
  id: 0x1600,
  name: 'timestamp',
  description: 'Index of the first sample',
  format: [['u', 48]],
})
for (let i = 0; i < items; i++)
  group.add({ id: 0x3300 + i, name: `part${i}`, description: 'A part of the heap', dtype: 'i1', shape: [heapSize / items] })

const [opened, openMilliseconds] = await milliseconds(open)
const substreamOf = values.blocks ? (j) => Math.floor((j * substreams) / heaps) : (j) => j % substreams
const compile = () =>
  opened.map((stream) =>
    Array.from({ length: BATCHES }, () =>
      stream.createBatch({ items: group, heaps, substreams: substreamOf, groupMode: values['group-mode'] }),
    ),
  )
const [batches, compileMilliseconds] = await milliseconds(compile)

/** Sends whole rounds over all streams until the time is up, and at least the given number. Returns how many batches went. */
async function send(seconds, rounds = 0) {
  const end = performance.now() + seconds * 1000
  let sent = 0
  for (let round = 0; round < Math.max(1, rounds) || performance.now() < end; round++)
    for (const [s, stream] of opened.entries()) {
      const batch = batches[s][round % BATCHES]
      await batch.free
      batch.immediate('timestamp').setRamp(round * heaps, 1)
      stream.send(batch)
      sent++
    }
  await Promise.all(opened.map((stream) => stream.flush()))
  return sent
}

const [, firstMilliseconds] = await milliseconds(() => send(0))
// Each thread compiles what it runs for itself.
await send(Number(values.seconds), Number(values['warmup-batches']))
const cpu = process.cpuUsage()
const start = performance.now()
const sent = await send(Number(values.seconds))
const wall = performance.now() - start
const { user, system } = process.cpuUsage(cpu)
const { rss } = process.memoryUsage()
for (const stream of opened) await stream.close()
console.log(
  JSON.stringify({
    heaps,
    items,
    substreams,
    blocks: values.blocks,
    groupMode: values['group-mode'],
    streams,
    openMilliseconds,
    compileMilliseconds,
    firstMilliseconds,
    batches: sent,
    heapsPerSecond: (sent * heaps * 1000) / wall,
    cpuNanosecondsPerHeap: ((user + system) * 1000) / (sent * heaps),
    cpuNanosecondsPerBatch: ((user + system) * 1000) / sent,
    userNanosecondsPerHeap: (user * 1000) / (sent * heaps),
    rssBytes: rss,
  }),
)
