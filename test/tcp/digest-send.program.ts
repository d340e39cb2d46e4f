/**
 * Sends heaps of drawn bytes over TCP, and prints their number, the SHA-256 over them in the order of sending, and the most memory.
 *
 *     node digest-send.program.js '{"port", "flavour", "heaps", "bytes"}'
 */
import { createHash } from 'node:crypto'
import { ItemGroup, openStream } from '#dist/src/index.js'

const { port, flavour, heaps, bytes } = JSON.parse(process.argv[2]!) as Record<'port' | 'heaps' | 'bytes', number> & {
  flavour: 40 | 48
}
const BATCH = 1000
await using stream = await openStream({
  to: `tcp://127.0.0.1:${port}`,
  packetSizeBytes: 65_000,
  flavour: { heapAddressBits: flavour },
  descriptors: 'none',
})
const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: '|u1', shape: [bytes] })
const batches = Array.from({ length: 4 }, () => stream.createBatch({ items, heaps: BATCH }))
const hash = createHash('sha256')
const values = new Uint8Array(BATCH * bytes)
const words = new Uint32Array(values.buffer)
let state = flavour
let residentBytes = 0
for (let i = 0; i < heaps / BATCH; i++) {
  const batch = batches[i % batches.length]!
  await batch.free
  for (let k = 0; k < words.length; k++) {
    // xorshift32.
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[k] = state
  }
  hash.update(values)
  for (let j = 0; j < BATCH; j++) batch.heap(j).adc_samples.set(values.subarray(j * bytes, (j + 1) * bytes))
  stream.send(batch)
  if (i % 50 === 49) residentBytes = Math.max(residentBytes, process.memoryUsage.rss())
}
await stream.sendEnd()
await stream.close()
process.stdout.write(JSON.stringify({ heaps, sha256: hash.digest('hex'), residentBytes }))
