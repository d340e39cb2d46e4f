/** A socket that is made anew in place of another keeps what its holders rely on. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { MSG_DONTWAIT, OPT } from '#dist/ffi/layout.js'
import { libc } from '#dist/ffi/libc.js'
import { Scratch } from '#dist/ffi/memory/scratch.js'
import { NativeError } from '#dist/ffi/native-error.js'
import { UdpSocket } from '#dist/ffi/socket/udp-socket.js'
import { need } from '../support/need.js'

const LOOPBACK = { family: 4, bytes: Uint8Array.of(127, 0, 0, 1) } as const
const RATE = 123_456_789

test('a renewed socket has the same number, port, buffer and pacing rate, and sends', async (ctx) => {
  need(ctx, process.platform === 'linux', 'dup3 and SO_MAX_PACING_RATE are Linux’s')
  const receiver = createSocket('udp4').bind(0, '127.0.0.1')
  await once(receiver, 'listening')
  const { port: to } = receiver.address()
  const socket = new UdpSocket(4)
  socket.setOption(OPT.SO_SNDBUF, 54_321)
  socket.setOption(OPT.SO_MAX_PACING_RATE, new Uint8Array(BigUint64Array.of(BigInt(RATE)).buffer))
  socket.setOption(OPT.IP_TTL, 7)
  socket.bind({ ...LOOPBACK, port: 0 })
  const { fd } = socket
  const port = socket.localPort()
  const buffer = socket.getOption(OPT.SO_SNDBUF)
  const make = () => {
    socket.bind({ ...LOOPBACK, port })
    socket.connect({ ...LOOPBACK, port: to })
  }
  // An attempt that fails leaves a socket that the next one finds as it was.
  expect(() => socket.renew(() => socket.bind({ family: 4, bytes: Uint8Array.of(10, 255, 255, 1), port }))).toThrow(NativeError)
  socket.renew(make)
  expect(socket.fd).toBe(fd)
  expect(socket.localPort()).toBe(port)
  expect([...socket.localAddress()]).toEqual([127, 0, 0, 1])
  expect(socket.getOption(OPT.SO_SNDBUF)).toBe(buffer)
  expect(socket.getOption(OPT.SO_MAX_PACING_RATE)).toBe(RATE)
  // It is another socket: what was not asked for again is gone.
  expect(socket.getOption(OPT.IP_TTL)).not.toBe(7)
  const heard = once(receiver, 'message')
  expect(libc().sendto(fd, new Scratch(64).address, 33, MSG_DONTWAIT, 0, 0)).toBe(33)
  const [bytes, from] = await heard
  expect([bytes.length, from.port]).toEqual([33, port])
  socket.close()
  receiver.close()
})
