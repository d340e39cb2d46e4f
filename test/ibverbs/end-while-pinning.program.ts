/** Ends a stream in a way (HOW) while another thread pins the memory of its batch. */
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [to, how, bytes] = process.argv.slice(2) as [string, 'batch closed' | 'destroyed' | 'destroyed after send', string]
const stream = await openStream({ to, backend: 'ibverbs', packetSizeBytes: 1400, descriptors: 'none' })
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [Number(bytes)] })
const batch = stream.createBatch({ items, heaps: 1 })
await new Promise((resolve) => setTimeout(resolve, 100))
if (how === 'batch closed') batch.close()
else {
  if (how === 'destroyed after send') stream.send(batch).catch(() => {})
  await stream.destroy()
}
await stream.close()
print('closed')
