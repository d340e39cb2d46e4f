/**
 * Sends to TO from THREAD while COMMANDS change the host, each followed by the kinds of events that it is to bring. Prints what those who iterate
 * were told, and what the channel told.
 */
import { execFileSync } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { ItemGroup, openStream, type StreamEvent, type StreamMessages } from 'speadcast'
import { print } from '../support/print.js'

const [to = '', thread = '', commands = ''] = process.argv.slice(2)
const stream = await openStream({
  to,
  descriptors: 'none',
  packetSizeBytes: 1400,
  rate: '10MB/s',
  ...(thread === 'inline' && { thread }),
})
const published: StreamEvent[] = []
subscribe('speadcast:stream:event', (message) => {
  const { stream: of, event } = message as StreamMessages['speadcast:stream:event']
  if (of === stream) published.push(event)
})
const all: StreamEvent[] = []
const links: StreamEvent[] = []
const read = async (into: StreamEvent[], events: AsyncIterable<StreamEvent>) => {
  for await (const event of events) into.push(event)
}
const readers = [read(all, stream.events()), read(links, stream.events({ kinds: ['link'] }))]

const batch = stream.createBatch({ items: new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [5000] }), heaps: 4 })
let over = false
const sending = (async () => {
  while (!over) {
    await stream.send(batch).catch(() => {})
    await sleep(2)
  }
})()
await sleep(300)
const brought: string[][] = []
const startedAt = Date.now()
for (const [command, ...kinds] of JSON.parse(commands) as string[][]) {
  const from = all.length
  const [program = '', ...args] = command!.split(' ')
  execFileSync(program, args)
  const told = () => all.slice(from).map(({ kind }) => kind as string)
  for (let i = 0; i < 300 && !kinds.every((kind) => told().includes(kind)); i++) await sleep(10)
  // What comes late belongs to this change.
  await sleep(100)
  brought.push([...new Set(told())])
}
over = true
await sending
await stream.close().catch(() => {})
await Promise.all(readers)
const recent = all.every(({ time }) => time >= startedAt - 1000 && time <= Date.now())
print({ brought, all, links, same: JSON.stringify(published) === JSON.stringify(all), recent })
