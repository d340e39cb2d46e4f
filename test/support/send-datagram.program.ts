/** Sends a datagram of TEXT to ADDRESS PORT. */
import { createSocket } from 'node:dgram'

const [text, address, port] = process.argv.slice(2) as [string, string, string]
const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
socket.send(text, Number(port), address, () => socket.close())
