/** Real sockets to send to: one node:dgram receiver per substream. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { parseEndpoints, type ResolvedEndpoint, resolveEndpoints } from '#dist/src/net/endpoint.js'

/** One datagram as a socket got it. */
export interface Arrival {
  readonly substream: number
  readonly bytes: Uint8Array
}

export interface Receivers {
  readonly endpoints: ResolvedEndpoint[]
  arrived(count: number): Promise<Arrival[]>
  close(): Promise<void>
}

export async function openReceivers(substreams: number, address = '127.0.0.1'): Promise<Receivers> {
  const arrivals: Arrival[] = []
  const sockets = await Promise.all(
    Array.from({ length: substreams }, async (_, substream) => {
      const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 })
      const listening = once(socket, 'listening')
      socket.bind(0, address)
      await listening
      socket.on('message', (message) => arrivals.push({ substream, bytes: new Uint8Array(message) }))
      return socket
    }),
  )
  return {
    endpoints: await resolveEndpoints(
      parseEndpoints(sockets.map((socket) => `${address.includes(':') ? `[${address}]` : address}:${socket.address().port}`)),
    ),
    async arrived(count) {
      for (let tries = 0; arrivals.length < count && tries < 500; tries++) await new Promise((resolve) => setTimeout(resolve, 5))
      await new Promise((resolve) => setTimeout(resolve, 20)) // duplicates would come now
      return arrivals
    },
    async close() {
      await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))))
    },
  }
}
