// Our side of --measure pacing and --measure streams: one stream or several, each with a rate of its own. Prints one JSON row: the
// bytes that the interface took between two looks at its counters, and the rate of each stream between its settlements in that
// time.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createBatchRing, openStream } from 'speadcast'
import { tutorialItems } from './arguments.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: 'string' },
    streams: { type: 'string', default: '1' },
    'heap-size': { type: 'string', default: '8192' },
    'batch-heaps': { type: 'string', default: '64' },
    'packet-size': { type: 'string', default: '9000' },
    'warmup-seconds': { type: 'string', default: '1' },
    seconds: { type: 'string', default: '5' },
    interface: { type: 'string' },
  },
})
const rateBytesPerSecond = Number(values.rate)
const heapSize = Number(values['heap-size'])
const batchHeaps = Number(values['batch-heaps'])
const [host, port] = positionals[0].split(':')

/** An ifb counts what it is given as received, and the headers of a message once. */
const counter = (name) => Number(readFileSync(`/sys/class/net/${values.interface}/statistics/rx_${name}`, 'utf8'))
const FRAME_OVERHEAD_BYTES = 42
const TRIES = 100

/** Reads clock and counters as near to one another as possible; an interruption in between makes it read again. */
function look() {
  let best
  for (let i = 0; i < TRIES && !(best?.width < 0.05); i++) {
    const before = performance.now()
    const udpBytes = counter('bytes') - counter('packets') * FRAME_OVERHEAD_BYTES
    const after = performance.now()
    if (!best || after - before < best.width) best = { width: after - before, at: (before + after) / 2, udpBytes }
  }
  return { ...best, cpu: process.cpuUsage() }
}

const status = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))[1])

let running = true
/** Fills and sends until it is told to stop. `settled` has the time of every settlement. */
async function keepSending(stream, ring, settled) {
  for (let b = 0; running; b++) {
    const batch = ring[b % ring.length]
    await batch.free
    for (let j = 0; j < batchHeaps; j++) batch.heap(j).adc_samples.fill(b * batchHeaps + j)
    batch.immediate('timestamp').setRamp(b * batchHeaps * heapSize, heapSize)
    stream.send(batch).then(() => settled.push(performance.now()))
  }
}

const streams = []
for (let i = 0; i < Number(values.streams); i++)
  streams.push(
    await openStream({
      to: `${host}:${Number(port) + i}`,
      backend: 'udp',
      rate: rateBytesPerSecond,
      // Without descriptors every packet is of a batch, and all are of one size.
      descriptors: 'none',
      packetSizeBytes: Number(values['packet-size']),
    }),
  )
const items = tutorialItems(heapSize)
const senders = streams.map((stream) => ({
  ring: createBatchRing(stream, { items, heaps: batchHeaps }),
  settled: [],
}))
const sending = senders.map(({ ring, settled }, i) => keepSending(streams[i], ring, settled))

await sleep(Number(values['warmup-seconds']) * 1000)
const first = look()
await sleep(Number(values.seconds) * 1000)
const last = look()
const threads = status('Threads')
const rssBytes = status('VmRSS') * 1024
const lag = Object.fromEntries(
  Object.entries(streams[0].stats()).filter(([name]) => /lag|behind|gaps?(MadeUp|GivenUp)/i.test(name)),
)
running = false
await Promise.all(sending)
for (const stream of streams) await stream.flush()
const { packets, udpBytes } = streams[0].stats()
const batchesSent = senders[0].settled.length
for (const stream of streams) await stream.close()

const heapUdpBytes = udpBytes / (batchesSent * batchHeaps)
const inside = senders.map(({ settled }) => settled.filter((at) => at >= first.at && at <= last.at))
/** Bytes a second from the first settlement to the last; none of a stream that came to fewer than two. */
const rateOf = (at) => (at.length < 2 ? 0 : ((at.length - 1) * batchHeaps * heapUdpBytes * 1000) / (at.at(-1) - at[0]))
const seconds = (last.at - first.at) / 1000
const cpuMicroseconds = last.cpu.user + last.cpu.system - first.cpu.user - first.cpu.system
console.log(
  JSON.stringify({
    program: 'ours',
    streams: streams.length,
    rateBytesPerSecond,
    heapSizeBytes: heapSize,
    packetBytes: udpBytes / packets,
    batches: senders[0].ring.length,
    batchHeaps,
    seconds,
    udpBytes: last.udpBytes - first.udpBytes,
    streamRates: inside.map(rateOf),
    cpuSeconds: cpuMicroseconds / 1e6,
    threads,
    rssBytes,
    lag,
  }),
)
