/** Prints 'ready', then as hex each of COUNT datagrams that come to port 7148 of any address, and ends. */
import { createSocket } from 'node:dgram'

let left = Number(process.argv[2])
const socket = createSocket({ type: 'udp6', recvBufferSize: 1 << 20 })
socket.on('message', (message) => {
  console.log(message.toString('hex'))
  if (--left === 0) socket.close()
})
socket.bind(7148, () => console.log('ready'))
