/** Gives options in units that were probably not meant, twice each, and prints the warnings of the process. */
import { ItemGroup, openStream, type StreamOptions } from 'speadcast'
import { print } from '../support/print.js'

const said: string[] = []
process.on('warning', ({ message, ...rest }) => said.push(`${(rest as { code?: string }).code}: ${message}`))
const open = (options: Partial<StreamOptions>) =>
  openStream({ to: '127.0.0.1:9', backend: 'memory', descriptors: 'none', ...options })
for (let i = 0; i < 2; i++) {
  for (const rate of [10, 999, '10bps', '0', 0, 1000, '1kB/s', 1e9] as const) await (await open({ rate })).destroy()
  for (const catchUpSeconds of [0, 5, 50]) await (await open({ catchUpSeconds })).destroy()
  for (const everySeconds of [5, 600, 5000]) await (await open({ descriptors: { everySeconds } })).destroy()
  const stream = await open({ rate: 1e6 })
  const items = new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [64] })
  stream.createBatch({ items, heaps: 3, rates: [-1, 0, 40] })
  items.get('x').value = new Int8Array(64)
  await stream.sendHeap(items.getHeap({ data: 'all' }), { rateBytesPerSecond: 500 })
  await stream.close({ deadlineSeconds: i === 0 ? 5000 : 5 })
}
await new Promise((resolve) => setImmediate(resolve))
print(said)
