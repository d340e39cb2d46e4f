/**
 * Sends samples of 10 bits and two polarisations as a MeerKAT digitiser does, each heap when its timestamp is due. As in katgpucbf's dsim, a
 * window of the signal is made once and sent over and over, so that only timestamps change. A receiver compares every sample with what was
 * sent. The groups are those of the loopback interface; the first argument is the time in seconds.
 *
 *     $ npx tsx docs/examples/digitiser.ts
 *     1954 heaps of each polarisation, each within … ms of its time
 *     polarisation 0: 1954 heaps are what was sent, … saturated samples
 *     polarisation 1: 1954 heaps are what was sent, 0 saturated samples
 */
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver, type ReceivedHeap } from 'speadcast/receive'

const [seconds = '1', to = '239.102.0.80+3:7222', address = '127.0.0.1', ttl = '0'] = process.argv.slice(2)
const sampleRateHz = 8e6 // MeerKAT's is 1712 MHz
const heapSamples = 4096
const batchHeaps = 128
const packetSizeBytes = 72 + (heapSamples * 10) / 8 // a heap is one packet

/** A tone of an eighth of the sample rate in noise, as an ADC of 10 bits has it. */
function sampleOf(tone: number, n: number): number {
  const noise = 40 * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
  return Math.max(-512, Math.min(511, Math.round(tone * Math.cos((n * Math.PI) / 4) + noise)))
}

/** Sample k begins at bit 10 k, the most significant bit first, and lies in two bytes. */
function pack(samples: readonly number[], bytes: Uint8Array): void {
  for (const [k, sample] of samples.entries()) {
    const both = (sample & 0x3ff) << (6 - ((10 * k) % 8))
    bytes[(10 * k) >> 3]! |= both >> 8
    bytes[((10 * k) >> 3) + 1]! |= both & 0xff
  }
}

await using receiver = await openReceiver({ endpoints: to, interface: address })
// Several digitisers would be given the same syncTime. One alone need not be in step with anybody.
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
const window = [0, 1].map(() => stream.createBatch({ items, heaps: batchHeaps, substreams }))
const windowHeaps = window.length * batchHeaps
for (const batch of window)
  for (let j = 0; j < batch.heaps; j++) {
    const samples = Array.from({ length: heapSamples }, (_, n) => sampleOf(j % 2 === 0 ? 400 : 100, n))
    const saturated = samples.filter((sample) => sample === -512 || sample === 511).length
    pack(samples, batch.heap(j).adc_samples)
    batch.immediate('digitiser_id')[j] = 0x5a30 + (j % 2)
    batch.immediate('digitiser_status')[j] = saturated > 0 ? saturated * 2 ** 32 + 2 : 0
  }

// The window begins at a multiple of its length, so a timestamp says which heaps of the window it has.
const first = stream.clock!.nextTimestamp({ period: (windowHeaps / 2) * heapSamples })
for (const [i, batch] of window.entries())
  for (let j = 0; j < batch.heaps; j++) batch.immediate('timestamp')[j] = first + ((i * batchHeaps + j) >> 1) * heapSamples

const checked = check()
const { heaps } = await stream.loop(window, { until: { heaps: 2 * Math.ceil((Number(seconds) * sampleRateHz) / heapSamples) } })
  .done
await stream.sendEnd()
const error = (stream.clock!.greatestTimeErrorSeconds * 1000).toFixed(1)
console.log(`${heaps / 2} heaps of each polarisation, each within ${error} ms of its time`)
for (const [polarisation, { right, saturated }] of (await checked).entries())
  console.log(`polarisation ${polarisation}: ${right.size} heaps are what was sent, ${saturated} saturated samples`)

async function check() {
  const sent = window.flatMap((batch) => [...batch.item('adc_samples')])
  const found = [0, 1].map(() => ({ right: new Set<number>(), saturated: 0 }))
  const number = ({ items }: ReceivedHeap, id: number) => Number(items.get(id)?.value)
  for await (const heap of receiver) {
    const packed = heap.items.get(0x3300)?.bytes
    if (!packed) continue // descriptors
    const polarisation = number(heap, 0x3101) % 2
    const time = number(heap, 0x1600) / heapSamples
    const { right } = found[polarisation]!
    if (Buffer.compare(packed, sent[(2 * time + polarisation) % windowHeaps]!) === 0) right.add(time)
    found[polarisation]!.saturated += Math.floor(number(heap, 0x3102) / 2 ** 32)
  }
  return found
}
