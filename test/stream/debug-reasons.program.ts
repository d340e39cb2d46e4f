/** Withdraws sends for reasons that are no errors, and prints which of them the promises rejected with. */
import { ItemGroup, openStream } from 'speadcast'

const stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none', rate: 1000, burstBytes: 2000 })
const items = new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [1024] })
void stream.send(stream.createBatch({ items, heaps: 8 })).catch(() => undefined)
const same = []
for (const reason of [Symbol('why'), Object.create(null), null, 'enough']) {
  const abort = new AbortController()
  const promise = stream.send(stream.createBatch({ items, heaps: 1 }), { signal: abort.signal })
  abort.abort(reason)
  same.push((await promise.catch((error: unknown) => error)) === reason)
}
await stream.destroy()
console.log(JSON.stringify(same))
