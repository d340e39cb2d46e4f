/** TCP servers to send to, one for each substream, which split what comes into packets by the lengths that they tell. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { pointersOf } from './cli.js'
import type { Arrival } from './receivers.js'

export interface TcpReceivers {
  readonly endpoints: readonly string[]
  readonly servers: readonly Server[]
  readonly sockets: Socket[]
  arrived(count: number): Promise<Arrival[]>
  close(): Promise<void>
}

const PAYLOAD_LENGTH = 4

/** Takes whole packets off the front; returns them and the rest. */
export function splitPackets(bytes: Buffer): { packets: Buffer[]; rest: Buffer } {
  const packets: Buffer[] = []
  let at = 0
  while (bytes.length - at >= 8) {
    const pointers = bytes.readUInt16BE(at + 6)
    const header = 8 + 8 * pointers
    if (bytes.length - at < header) break
    const length = pointersOf(bytes.subarray(at)).find(({ id, immediate }) => immediate && id === PAYLOAD_LENGTH)!.value
    if (bytes.length - at < header + length) break
    packets.push(bytes.subarray(at, at + header + length))
    at += header + length
  }
  return { packets, rest: bytes.subarray(at) }
}

export async function openTcpReceivers(substreams: number, address = '127.0.0.1'): Promise<TcpReceivers> {
  const arrivals: Arrival[] = []
  const sockets: Socket[] = []
  const servers = await Promise.all(
    Array.from({ length: substreams }, async (_, substream) => {
      const server = createServer((socket) => {
        sockets.push(socket)
        socket.on('error', () => {})
        let rest: Buffer = Buffer.alloc(0)
        socket.on('data', (chunk) => {
          const { packets, rest: left } = splitPackets(Buffer.concat([rest, chunk]))
          for (const packet of packets) arrivals.push({ substream, bytes: new Uint8Array(packet) })
          rest = left
        })
      })
      server.listen(0, address)
      await once(server, 'listening')
      return server
    }),
  )
  return {
    servers,
    sockets,
    endpoints: servers.map((server) => {
      const { port } = server.address() as AddressInfo
      return `tcp://${address.includes(':') ? `[${address}]` : address}:${port}`
    }),
    async arrived(count) {
      for (let tries = 0; arrivals.length < count && tries < 500; tries++) await new Promise((resolve) => setTimeout(resolve, 5))
      await new Promise((resolve) => setTimeout(resolve, 20)) // what nobody expects would come now
      return arrivals
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
    },
  }
}

/** Starts a receiver that never answers a new connection, and returns its endpoint. */
export async function silentReceiver(): Promise<string> {
  // Listens with the shortest queue, and never accepts: the kernel drops what comes when the queue is full (listen(2)).
  const silent = `const s = require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('fs').writeSync(1, String(s.address().port))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })`
  const child = spawn(process.execPath, ['-e', silent], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [port] = await once(child.stdout, 'data')
  for (let i = 0; i < 2; i++) {
    const socket = connect(Number(`${port}`), '127.0.0.1').on('error', () => {})
    onTestFinished(() => void socket.destroy())
    await once(socket, 'connect')
  }
  return `tcp://127.0.0.1:${port}`
}
