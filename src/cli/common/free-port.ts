import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'

/** Returns a port of the address that nobody has now. */
export function freePort(address: string, transport: 'udp' | 'tcp'): Promise<number> {
  return new Promise((resolve, reject) => {
    if (transport === 'tcp') {
      const server = createServer()
      server.once('error', reject)
      server.listen({ host: address, port: 0 }, () => {
        const { port } = server.address() as { port: number }
        server.close(() => resolve(port))
      })
    } else {
      const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
      socket.once('error', reject)
      socket.bind(0, address, () => {
        const { port } = socket.address()
        socket.close(() => resolve(port))
      })
    }
  })
}
