/** Listens at port 7148. When standard input ends, prints where each SPEAD packet came from. */
import { createSocket } from 'node:dgram'
import { print } from '../support/print.js'

const socket = createSocket('udp4')
const seen: string[] = []
socket.on('message', (bytes, { address, port }) => {
  if (bytes[0] === 0x53) seen.push(`${address}:${port}`)
})
socket.bind(7148, () => console.log('ready'))
process.stdin
  .on('end', () =>
    setTimeout(() => {
      print(seen)
      process.exit()
    }, 200),
  )
  .resume()
