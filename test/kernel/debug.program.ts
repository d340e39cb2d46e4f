/** Sends to ENDPOINT, once as it is, once by another source address, and once where a route forbids it. Prints what channels tell. */
import { execFileSync } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'
import { ItemGroup, openStream, type StreamMessages } from 'speadcast'

const [endpoint = '', thread = ''] = process.argv.slice(2)
const to = endpoint.replace(/:\d+$/, '')
const ip = (command: string) => execFileSync('ip', command.split(' '))

subscribe('speadcast:stream:states', (message) => {
  const { changed, states, before, time } = message as StreamMessages['speadcast:stream:states']
  const from = changed.map((name) => before[name])
  const to = changed.map((name) => (name === 'lastPathChange' ? '' : states[name]))
  console.log(JSON.stringify({ changed, from, to, recent: Math.abs(Date.now() - time) < 60_000 }))
})
const stream = await openStream({ to: endpoint, ...(thread === 'inline' && { thread }), descriptors: 'none' })
const batch = stream.createBatch({ items: new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [1000] }), heaps: 4 })
await stream.send(batch)
ip('address add 10.77.0.9/24 dev v0')
ip(`route add ${to}/32 dev v0 src 10.77.0.9`)
await stream.send(batch)
await stream.send(batch)
ip(`route delete ${to}/32`)
ip(`route add prohibit ${to}/32`)
await stream.send(batch).catch(() => {})
await stream.close().catch(() => {})
