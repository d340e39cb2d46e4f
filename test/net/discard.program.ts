/** Receives a datagram at port 9 of ADDRESS. Prints its length and where it is from. */
import { createSocket } from 'node:dgram'
import { print } from '../support/print.js'

const socket = createSocket('udp4')
socket.on('message', ({ length }, { address }) => {
  print({ length, from: address })
  socket.close()
})
socket.bind(9, process.argv[2]!)
