/** Sends while every subscriber throws, and prints what came of it. */
import { subscribe } from 'node:diagnostics_channel'
import { ItemGroup, openStream } from 'speadcast'

let caught = 0
process.on('uncaughtException', (error) => {
  if (error.message === 'thrown by a subscriber') caught++
  else console.error(error)
})
for (const name of ['speadcast:stream:open', 'speadcast:stream:close', 'speadcast:send:result'])
  subscribe(name, () => {
    throw new Error('thrown by a subscriber')
  })
const stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none' })
const batch = stream.createBatch({ items: new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [100] }), heaps: 1 })
let settled = 0
for (let i = 0; i < 20; i++) {
  await stream.send(batch)
  settled++
}
const packets = stream.packets.length
const { droppedHeaps } = await stream.close()
await new Promise(setImmediate)
console.log(JSON.stringify({ caught, settled, packets, droppedHeaps }))
