/** Closes the receiver's socket under its thread, and prints what events and `done` tell of it. */
import { closeSync, readdirSync, readlinkSync } from 'node:fs'
import { openReceiver } from 'speadcast/receive'
import { print } from '../support/print.js'
import { freePort } from './support.js'

const sockets = (): string[] =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
    } catch {
      return false // that of the folder itself
    }
  })

const port = await freePort()
const before = sockets()
const receiver = await openReceiver({ endpoints: `127.0.0.1:${port}` })
const events: [string, string][] = []
const iterator = receiver.events()
const reading = (async () => {
  for await (const { kind, message } of iterator) events.push([kind, message])
})()
for (const fd of sockets().filter((fd) => !before.includes(fd))) closeSync(Number(fd))
// Another socket would get the number. The thread wakes up by itself.
const done = await receiver.done.then(
  () => 'ended',
  (error) => error.code,
)
await reading
print({ events, done, next: await iterator.next() })
process.exit()
