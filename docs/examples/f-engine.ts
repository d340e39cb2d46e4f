/**
 * Sends channelised voltages from two F-engines to 16 multicast groups, as MeerKAT's F-engines do. Items, packets and heap cnts are those
 * of katgpucbf ("Data Interfaces" of its documentation). A receiver of all groups compares every voltage with what was sent. The groups
 * are those of the loopback interface, so nothing leaves this host.
 *
 *     $ npx tsx docs/examples/f-engine.ts
 *     16 groups: 1536 heaps of F-engines 0 and 1
 *     25165824 of 25165824 numbers are what was sent
 *     descriptors: … to … times to each group
 */
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver, type ReceivedHeap } from 'speadcast/receive'

// Any of your interfaces by name or address, and a time to live of 1 or more, takes it to other hosts.
const [to = '239.102.0.64+15:7221', address = '127.0.0.1', ttl = '0'] = process.argv.slice(2)
const fEngines = 2
const groups = 16
const channels = 256
const spectra = 256 // of a heap
const channelsPerHeap = channels / groups
const heapSamples = 2 * channels * spectra // of the digitiser
const shape = [channelsPerHeap, spectra, 2, 2] // channel, time, polarisation, real and imaginary part

/** Voltages of a band of channels. They stand in for those of a filter bank: each channel, spectrum and part has its own. */
function voltages(fengId: number, firstChannel: number, time: number): Int8Array {
  const numbers = new Int8Array(channelsPerHeap * spectra * 4)
  for (let i = 0, c = 0; c < channelsPerHeap; c++)
    for (let t = 0; t < spectra; t++)
      for (let part = 0; part < 4; part++) numbers[i++] = firstChannel + c + 3 * t + 50 * part + 101 * fengId + 7 * time
  return numbers
}

async function fEngine(fengId: number): Promise<void> {
  await using stream = await openStream({
    to,
    interface: address,
    ttl: Number(ttl),
    rate: '200Mbps',
    packetSizeBytes: 8192 + 72,
    repeatPointers: true, // every packet says which time and channels it has
    firstCnt: fengId, // receivers join the packets of all F-engines, so no two of them may use one heap cnt
    cntStep: fEngines,
    descriptors: { everySeconds: 0.1, stagger: true, firstCnt: 2 ** 47 + fengId, cntStep: fEngines },
  })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'ADC samples since the sync time', format: [['u', 48]] })
    .add({ id: 0x4101, name: 'feng_id', description: 'Source of the data', format: [['u', 48]], value: fengId })
    .add({ id: 0x4103, name: 'frequency', description: 'First channel of the heap', format: [['u', 48]] })
    .add({ id: 0x4300, name: 'feng_raw', description: 'Channelised complex voltages', dtype: 'i1', shape })
  // Heap j has time j / 16 of the batch, and goes to group j % 16. Each group gets its heaps of a batch one after the other, so a spead2
  // receiver of all F-engines needs a max_heaps of a few more than these, times the F-engines.
  const times = 4
  const batches = Array.from({ length: 3 }, () => stream.createBatch({ items, heaps: times * groups, groupMode: 'by-substream' }))
  const firstChannels = Array.from({ length: groups }, (_, group) => group * channelsPerHeap)
  // Once is enough, because a batch keeps its values.
  for (const batch of batches) batch.immediate('frequency').setRamp(firstChannels, 0, { per: 'substream' })
  for (let i = 0; i < 12; i++) {
    const batch = batches[i % batches.length]!
    await batch.free
    batch.immediate('timestamp').setRamp(i * times * heapSamples, heapSamples, { per: 'substream' })
    for (let j = 0; j < batch.heaps; j++)
      batch.heap(j).feng_raw.set(voltages(fengId, firstChannels[j % groups]!, i * times + Math.floor(j / groups)))
    stream.send(batch)
  }
  await stream.sendEnd()
}

const number = ({ items }: ReceivedHeap, id: number): number => Number(items.get(id)?.value)

await using receiver = await openReceiver({ endpoints: to, interface: address, anySource: true, stops: fEngines * groups })
const sending = Promise.all([fEngine(0), fEngine(1)])
const heaps = new Set<string>()
const described = new Array<number>(groups).fill(0)
let right = 0
for await (const heap of receiver) {
  if (heap.descriptors.length > 0) described[heap.endpoint]!++
  const raw = heap.items.get(0x4300)?.bytes
  if (!raw) continue
  const [fengId, timestamp, frequency] = [number(heap, 0x4101), number(heap, 0x1600), number(heap, 0x4103)]
  heaps.add(`F-engine ${fengId}, time ${timestamp}, channel ${frequency}`)
  if (frequency !== heap.endpoint * channelsPerHeap || Number(heap.cnt) % fEngines !== fengId) continue
  const sent = voltages(fengId, frequency, timestamp / heapSamples)
  for (let k = 0; k < sent.length; k++) if ((raw[k]! << 24) >> 24 === sent[k]) right++
}
await sending
console.log(`${groups} groups: ${heaps.size} heaps of F-engines 0 and 1`)
console.log(`${right} of ${heaps.size * channelsPerHeap * spectra * 4} numbers are what was sent`)
console.log(`descriptors: ${Math.min(...described)} to ${Math.max(...described)} times to each group`)
