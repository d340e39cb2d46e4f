/** Asks for 1 GiB in several ways and then for little; with 'many' it also fills what there is. Prints what became of each. */
import { createBatchRing, ItemGroup, openStream, Region, type SpeadcastError } from '#dist/src/index.js'
import { openReceiver } from '#dist/src/receive/index.js'
import { print } from '../support/print.js'

const MIB = 2 ** 20
const many = process.argv[2] === 'many'
const stream = await openStream({ to: '127.0.0.1:7148', backend: 'udp' })
const items = (bytes: number) => new ItemGroup().add({ name: 'samples', dtype: 'i1', shape: [bytes] })
const results: Record<string, unknown> = {}

async function attempt(name: string, call: () => number | Promise<number>): Promise<void> {
  try {
    results[name] = { made: await call() }
  } catch (error) {
    const { code, message } = error as SpeadcastError
    results[name] = { code, message }
  }
}

async function receiver(heapMemoryBytes?: number): Promise<number> {
  await (await openReceiver({ endpoints: '127.0.0.1:7150', ...(heapMemoryBytes !== undefined && { heapMemoryBytes }) })).close()
  return 1
}

function fill(): number {
  const batches = []
  try {
    for (let i = 0; i < 2048; i++) batches.push(stream.createBatch({ items: items(MIB / 2), heaps: 1 }))
  } finally {
    for (const batch of batches) batch.close()
  }
  return batches.length
}

await attempt('batch', () => stream.createBatch({ items: items(16 * MIB), heaps: 64 }).heaps)
if (many) await attempt('ring', () => createBatchRing(stream, { items: items(16 * MIB), heaps: 1, batches: 64 }).length)
await attempt('region', () => Region.allocate(1024 * MIB).byteLength)
if (many) await attempt('many', fill)
await attempt('receiver', () => receiver(1024 * MIB))
await attempt('little', async () => (await stream.send(stream.createBatch({ items: items(MIB / 2), heaps: 1 }))).heaps)
await attempt('littleReceiver', () => receiver())
print(results)
await stream.close()
