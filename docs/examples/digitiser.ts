/**
 * Sends samples of 10 bits and two polarisations as a MeerKAT digitiser does, each heap when its timestamp is due. As in katgpucbf's dsim a
 * window of the signal is made once and sent again and again, so that only timestamps change. A receiver compares the samples and measures
 * the tone in the noise. The groups are those of the loopback interface; the first argument is the time in seconds.
 *
 *     $ npx tsx docs/examples/digitiser.ts
 *     8126464 samples of each polarisation in … s, each within … ms of its time
 *     polarisation 0: 1984 of 1984 heaps are what was sent, … saturated samples, a tone of 400
 *     polarisation 1: 1984 of 1984 heaps are what was sent, 0 saturated samples, a tone of 100
 */
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver, type ReceivedHeap } from 'speadcast/receive'

const [seconds = '1', to = '239.102.0.80+3:7222', address = '127.0.0.1', ttl = '0'] = process.argv.slice(2)
const sampleRateHz = 8e6 // MeerKAT's is 1712 MHz
const heapSamples = 4096
const batchTimes = 64 // half of the window
const packetSizeBytes = 72 + (heapSamples * 10) / 8 // a heap is one packet

/** A tone of an eighth of the sample rate in noise, as an ADC of 10 bits has it. */
function sampleOf(tone: number, n: number): number {
  const noise = 40 * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
  return Math.max(-512, Math.min(511, Math.round(tone * Math.cos((n * Math.PI) / 4) + noise)))
}

// Sample k begins at bit 10 k, the most significant bit first, and lies in two bytes.
function pack(samples: readonly number[], bytes: Uint8Array): void {
  for (const [k, sample] of samples.entries()) {
    const both = (sample & 0x3ff) << (6 - ((10 * k) % 8))
    bytes[(10 * k) >> 3]! |= both >> 8
    bytes[((10 * k) >> 3) + 1]! |= both & 0xff
  }
}

function unpack(bytes: Uint8Array, k: number): number {
  const both = (bytes[(10 * k) >> 3]! << 8) | bytes[((10 * k) >> 3) + 1]!
  return (both << (16 + ((10 * k) % 8))) >> 22
}

await using receiver = await openReceiver({ endpoints: to, interface: address })
// Several digitisers would be given the same time. One alone need not be in step with anybody.
const syncTime = Math.floor(Date.now() / 1000) - 3600
const clock = { syncTime, sampleRateHz, samplesPerHeap: heapSamples, unsynchronised: 'accept' } as const
await using stream = await openStream({ to, interface: address, ttl: Number(ttl), packetSizeBytes, clock })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Samples since the sync time', format: [['u', 48]] })
  .add({ id: 0x3101, name: 'digitiser_id', description: 'Serial number; bit 0: polarisation', format: [['u', 48]] })
  .add({ id: 0x3102, name: 'digitiser_status', description: 'Bit 1: saturated; from bit 32 on: how often', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'Raw samples', format: [['i', 10]], shape: [heapSamples] })

// Heap j has polarisation j % 2 of time j / 2. Each polarisation has two groups, for even and odd times.
const substreams = (j: number) => 2 * (j % 2) + ((j >> 1) % 2)
const tones = [400, 100]
const batches = [0, 1].map(() => stream.createBatch({ items, heaps: 2 * batchTimes, substreams }))
for (const batch of batches)
  for (let j = 0; j < batch.heaps; j++) {
    const samples = Array.from({ length: heapSamples }, (_, n) => sampleOf(tones[j % 2]!, n))
    const saturated = samples.filter((sample) => sample === -512 || sample === 511).length
    pack(samples, batch.heap(j).adc_samples)
    batch.immediate('digitiser_id')[j] = 0x5a30 + (j % 2)
    batch.immediate('digitiser_status')[j] = saturated > 0 ? saturated * 2 ** 32 + 2 : 0
  }

// The first time is an even one, for the groups.
const firstTimestamp = stream.clock!.nextTimestamp({ period: 2 * heapSamples })
const checked = check()
const start = performance.now()
const sends = Math.ceil((Number(seconds) * sampleRateHz) / (batchTimes * heapSamples))
for (let i = 0; i < sends; i++) {
  const batch = batches[i % 2]!
  await batch.free
  // Each group has every second time.
  const even = firstTimestamp + i * batchTimes * heapSamples
  const odd = even + heapSamples
  batch.immediate('timestamp').setRamp([even, odd, even, odd], 2 * heapSamples, { per: 'substream' })
  stream.send(batch)
}
await stream.sendEnd()
const took = ((performance.now() - start) / 1000).toFixed(3)
const error = (stream.clock!.greatestTimeErrorSeconds * 1000).toFixed(1)
console.log(`${sends * batchTimes * heapSamples} samples of each polarisation in ${took} s, each within ${error} ms of its time`)
for (const [polarisation, { right, saturated, measured, re, im }] of (await checked).entries()) {
  const tone = ((2 * Math.hypot(re, im)) / measured).toFixed(0)
  console.log(
    `polarisation ${polarisation}: ${right.size} of ${sends * batchTimes} heaps are what was sent, ${saturated} saturated samples, a tone of ${tone}`,
  )
}

async function check() {
  const found = tones.map(() => ({ right: new Set<number>(), saturated: 0, measured: 0, re: 0, im: 0 }))
  const number = ({ items }: ReceivedHeap, id: number) => Number(items.get(id)?.value)
  for await (const heap of receiver) {
    const packed = heap.items.get(0x3300)?.bytes
    if (!packed) continue
    const polarisation = number(heap, 0x3101) % 2
    const time = (number(heap, 0x1600) - firstTimestamp) / heapSamples
    const pol = found[polarisation]!
    const sent = batches[Math.floor(time / batchTimes) % 2]!.heap(2 * (time % batchTimes) + polarisation)
    if (Buffer.compare(packed, sent.adc_samples) === 0) pol.right.add(time)
    pol.saturated += Math.floor(number(heap, 0x3102) / 2 ** 32)
    if (time >= 2 * batchTimes) continue // the window is known by now
    pol.measured += heapSamples
    for (let k = 0; k < heapSamples; k++) {
      pol.re += unpack(packed, k) * Math.cos((k * Math.PI) / 4)
      pol.im += unpack(packed, k) * Math.sin((k * Math.PI) / 4)
    }
  }
  return found
}
