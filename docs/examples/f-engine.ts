/**
 * Sends channelised voltages from two F-engines to 16 multicast groups, as MeerKAT's F-engines do, each heap when its timestamp is due. Items,
 * packets and heap cnts are those of katgpucbf ("Data Interfaces" of its documentation). A receiver of all groups compares every heap with
 * what was sent. The groups are those of the loopback interface, so nothing leaves this host.
 *
 *     $ npx tsx docs/examples/f-engine.ts
 *     F-engine 0: … to … heaps to each group, each within … ms of its time
 *     F-engine 1: … to … heaps to each group, each within … ms of its time
 *     16 groups: 1536 of 1536 heaps are what was sent
 */
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver, type ReceivedHeap } from 'speadcast/receive'

// Any of your interfaces by name or address, and a time to live of 1 or more, takes it to other hosts.
const [to = '239.102.0.64+15:7221', address = '127.0.0.1', ttl = '0'] = process.argv.slice(2)
const fEngines = 2
const groups = 16
const times = 48
const channels = 256
const spectra = 256 // of a heap
const channelsPerHeap = channels / groups
const samplesPerHeap = 2 * channels * spectra // of the digitiser
const shape = [channelsPerHeap, spectra, 2, 2] // channel, time, polarisation, real and imaginary part

/** Voltages of a band of channels. They stand in for those of a filter bank: each channel, spectrum and part has its own. */
function voltages(fengId: number, firstChannel: number, time: number): Int8Array {
  const numbers = new Int8Array(channelsPerHeap * spectra * 4)
  for (let i = 0, c = 0; c < channelsPerHeap; c++)
    for (let t = 0; t < spectra; t++)
      for (let part = 0; part < 4; part++) numbers[i++] = firstChannel + c + 3 * t + 50 * part + 101 * fengId + 7 * time
  return numbers
}

async function fEngine(fengId: number, syncTime: Date): Promise<string> {
  await using stream = await openStream({
    to,
    interface: address,
    ttl: Number(ttl),
    clock: { syncTime, sampleRateHz: 8e6, samplesPerHeap, unsynchronised: 'accept' }, // between hosts leave 'accept' out
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
  // A batch has all heaps of a time; heap j goes to group j. One is filled while others are sent.
  const batches = [0, 1, 2, 3].map(() => stream.createBatch({ items, heaps: groups }))
  for (let time = 0; time < times; time++) {
    const batch = batches[time % batches.length]!
    await batch.free
    batch.immediate('timestamp').fill(time * samplesPerHeap)
    batch.immediate('frequency').setRamp(0, channelsPerHeap)
    for (let j = 0; j < groups; j++) batch.heap(j).feng_raw.set(voltages(fengId, j * channelsPerHeap, time))
    stream.send(batch)
  }
  await stream.sendEnd()
  // Descriptors and the end of the stream are heaps too.
  const sent = stream.stats({ substreams: true }).substreams.map(({ heapsSent }) => heapsSent)
  const error = (stream.clock!.greatestTimeErrorSeconds * 1000).toFixed(1)
  return `F-engine ${fengId}: ${Math.min(...sent)} to ${Math.max(...sent)} heaps to each group, each within ${error} ms of its time`
}

await using receiver = await openReceiver({ endpoints: to, interface: address, anySource: true, stops: fEngines * groups })
const syncTime = new Date(Date.now() + 500) // when both send timestamp 0
const sending = Promise.all([fEngine(0, syncTime), fEngine(1, syncTime)])
const number = ({ items }: ReceivedHeap, id: number): number => Number(items.get(id)?.value)
const right = new Set<string>()
for await (const heap of receiver) {
  const raw = heap.items.get(0x4300)?.bytes
  if (!raw) continue // descriptors
  const [fengId, timestamp, frequency] = [number(heap, 0x4101), number(heap, 0x1600), number(heap, 0x4103)]
  if (frequency !== heap.endpoint * channelsPerHeap || Number(heap.cnt) % fEngines !== fengId) continue
  const sent = voltages(fengId, frequency, timestamp / samplesPerHeap)
  if (Buffer.compare(raw, new Uint8Array(sent.buffer)) === 0) right.add(`${fengId} ${timestamp} ${frequency}`)
}
console.log((await sending).join('\n'))
console.log(`${groups} groups: ${right.size} of ${fEngines * times * groups} heaps are what was sent`)
