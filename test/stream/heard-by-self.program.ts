/** Sends three heaps with OPTIONS to 239.1.2.3:7148, and prints how many packets a socket of its own hears there. */
import { createSocket } from 'node:dgram'
import { Heap, openStream } from 'speadcast'
import { print } from '../support/print.js'

const socket = createSocket('udp4')
await new Promise<void>((resolve) => socket.bind(7148, resolve))
socket.addMembership('239.1.2.3', '10.77.0.1')
let heard = 0
socket.on('message', () => heard++)
const stream = await openStream({ to: '239.1.2.3:7148', interface: 'v0', ...JSON.parse(process.argv[2]!) })
for (let n = 0; n < 3; n++) await stream.sendHeap(new Heap())
await new Promise((resolve) => setTimeout(resolve, 100))
await stream.close()
socket.close()
print(heard)
