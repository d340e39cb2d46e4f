/** Prints 'ready', then every datagram that comes to ADDRESS PORT, with its sender's address. */
import { createSocket } from 'node:dgram'

const [address, port] = process.argv.slice(2) as [string, string]
const socket = createSocket('udp4')
socket.on('message', (message, { address: sender }) => console.log(`got ${message} from ${sender}`))
socket.bind(Number(port), address, () => console.log('ready'))
