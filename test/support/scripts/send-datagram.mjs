// send-datagram.mjs TEXT ADDRESS PORT: sends one datagram.
import { createSocket } from 'node:dgram'

const [text, address, port] = process.argv.slice(2)
const socket = createSocket('udp4')
socket.send(text, Number(port), address, () => socket.close())
