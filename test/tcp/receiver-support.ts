/** Bytes for a receiver of TCP, written by hand, and connections to bring them by. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished } from 'vitest'
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { freePort } from '../receive/support.js'

const SPEAD_64_48 = [0x53, 4, 2, 6, 0, 0]
export const pointer = (id: number, value: number, immediate = true): Buffer => {
  const word = Buffer.alloc(8)
  word.writeBigUInt64BE((immediate ? 1n << 63n : 0n) | (BigInt(id) << 48n) | BigInt(value))
  return word
}
export const header = (pointers: number): Buffer => Buffer.from([...SPEAD_64_48, pointers >> 8, pointers & 0xff])

/** A heap of one packet: cnt, heap length, offset, payload length, item 0x3300 at 0 (SPEAD, section 8). */
export function packet(cnt: number, payload: Uint8Array, told = payload.length): Buffer {
  const pointers = [pointer(1, cnt), pointer(2, told), pointer(3, 0), pointer(4, told), pointer(0x3300, 0, false)]
  return Buffer.concat([header(5), ...pointers, payload])
}

export const payloadOf = (cnt: number, bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 7 + cnt) & 0xff))

/** A connection that is made; destroyed when the test ends. */
export async function dial(port: number, localAddress?: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', ...(localAddress !== undefined && { localAddress }) })
  socket.setNoDelay(true)
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

export async function receive(options: Partial<ReceiverOptions> = {}) {
  const port = await freePort()
  const receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${port}`, timeoutSeconds: 25, ...options })
  onTestFinished(() => void receiver.close())
  return { receiver, port, dial: (localAddress?: string) => dial(port, localAddress) }
}

export async function until(what: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1000 && !what(); tries++) await new Promise((done) => setTimeout(done, 5))
  expect(what()).toBe(true)
}
