// node:dgram as a careful user would send the tutorial's heaps: a connected socket, packets built before the clock starts, header and
// samples in one buffer where a heap is one packet, else [header, samples]; per heap only samples, timestamp and heap cnt are written.
// Same bytes as the floor's and ours; a batch is refilled when the callbacks of all its packets have come. Prints a row as ours.mjs does.
import dgram from 'node:dgram'
import { once } from 'node:events'
import { Heap, packetsOf } from 'speadcast'
import { runArguments, timed, tutorialItems } from './arguments.mjs'

const run = runArguments()
const { positionals, heapSize, heaps, warmup, warmupPart, packetSize, batchHeaps } = run

/** SPEAD-64-48: where the heap cnt's pointer is in every packet and the timestamp's in a heap's first; values are their last 6 bytes. */
const CNT_AT = 8
const TIMESTAMP_AT = 40
const HEADER_BYTES = 40
const FIRST_HEADER_BYTES = 56

const items = tutorialItems(heapSize)
items.get('timestamp').value = 0
items.get('adc_samples').value = new Int8Array(heapSize)
const options = { maxPacketSizeBytes: packetSize, mergesEqualPackets: true }
const template = packetsOf(items.getHeap({ descriptors: 'none', data: 'all' }), 0, options)
const descriptors = packetsOf(items.getHeap({ descriptors: 'all', data: 'none' }), 1, options)
const stop = packetsOf(new Heap().addEnd(), warmup + heaps + 2, options)

function makeHeap(samples) {
  if (template.length === 1) {
    const packet = Buffer.from(template[0])
    return { headers: [packet], samples: packet.subarray(FIRST_HEADER_BYTES), messages: [packet] }
  }
  const headers = template.map((packet, p) => Buffer.from(packet.subarray(0, p ? HEADER_BYTES : FIRST_HEADER_BYTES)))
  let offset = 0
  const messages = headers.map((header, p) => {
    const length = template[p].length - header.length
    offset += length
    return [header, samples.subarray(offset - length, offset)]
  })
  return { headers, samples, messages }
}

const batches = Array.from({ length: run.batches }, () => {
  const memory = template.length === 1 ? Buffer.alloc(0) : Buffer.alloc(batchHeaps * heapSize)
  const own = Array.from({ length: batchHeaps }, (_, j) => makeHeap(memory.subarray(j * heapSize, (j + 1) * heapSize)))
  return { heaps: own, left: 0, free: Promise.resolve() }
})

const socket = dgram.createSocket('udp4')
const [host, port] = positionals[0].split(':')
socket.connect(Number(port), host)
await once(socket, 'connect')
socket.setSendBufferSize(2 << 20)
const sendOne = (packet) =>
  new Promise((resolve, reject) => socket.send(packet, (error) => (error ? reject(error) : resolve(undefined))))
for (const packet of descriptors) await sendOne(packet)

function fill(heap, index) {
  for (const header of heap.headers) header.writeUIntBE(index + 2, CNT_AT + 2, 6) // 1 was the descriptors'
  heap.headers[0].writeUIntBE((index * heapSize) % 2 ** 48, TIMESTAMP_AT + 2, 6)
  heap.samples.fill(index & 255)
}

function sendBatch(batch, n) {
  batch.left = n * template.length
  batch.free = new Promise((resolve, reject) => {
    const sent = (error) => {
      if (error) reject(error)
      else if (--batch.left === 0) resolve(undefined)
    }
    for (let j = 0; j < n; j++) for (const message of batch.heaps[j].messages) socket.send(message, sent)
  })
}

async function sendHeaps(first, end) {
  for (let i = first; i < end; i += batchHeaps) {
    const batch = batches[(i / batchHeaps) % batches.length]
    const n = Math.min(batchHeaps, end - i)
    await batch.free
    for (let j = 0; j < n; j++) fill(batch.heaps[j], i + j)
    sendBatch(batch, n)
  }
}

for (let i = 0; i < warmup; i += warmupPart) await sendHeaps(i, Math.min(i + warmupPart, warmup))
const cpu = process.cpuUsage()
const start = performance.now()
await sendHeaps(warmup, warmup + heaps)
await Promise.all(batches.map((batch) => batch.free))
const seconds = (performance.now() - start) / 1000
const used = process.cpuUsage(cpu)
for (const packet of stop) await sendOne(packet)
socket.close()

const all = heaps + warmup
const bytesOf = (packets) => packets.reduce((sum, packet) => sum + packet.length, 0)
const row = {
  program: 'dgram',
  heapSizeBytes: heapSize,
  packetSizeBytes: packetSize,
  packetsPerHeap: template.length,
  batches: batches.length,
  batchHeaps,
  ...timed(run, seconds, used),
  packets: all * template.length + descriptors.length + stop.length,
  udpBytes: all * bytesOf(template) + bytesOf(descriptors) + bytesOf(stop),
}
console.log(JSON.stringify(row))
