/** Messages through an io_uring on loopback: what completes when, and what a failed one does to those behind it. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { expect, type TestContext, test } from 'vitest'
import { IORING_CQE_F_MORE, IORING_CQE_F_NOTIF, IORING_NOTIF_USAGE_ZC_COPIED, MMSGHDR } from '#dist/ffi/layout.js'
import { Region } from '#dist/ffi/memory/region.js'
import { ERRNO, NativeError } from '#dist/ffi/native-error.js'
import { COPY, IoUring, LEND, REGISTERED } from '#dist/ffi/socket/io-uring.js'
import { MessageVector } from '#dist/ffi/socket/message-vector.js'
import { UdpSocket } from '#dist/ffi/socket/udp-socket.js'
import { need } from '../support/need.js'

function openRing(ctx: TestContext): IoUring {
  need(ctx, process.platform === 'linux', 'io_uring is Linux’s')
  try {
    return new IoUring(8, 64)
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    need(ctx, false, `no io_uring here: ${error.message}`)
    throw error
  }
}

/** A socket to a receiver, and messages of these sizes, the k-th filled with k + 1. */
async function sender(sizes: readonly number[]) {
  const receiver: Socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(receiver, 'listening')
  const heard: number[][] = []
  receiver.on('message', (bytes) => heard.push([bytes[0]!, bytes.length]))
  const socket = new UdpSocket(4)
  socket.connect({ family: 4, bytes: Uint8Array.of(127, 0, 0, 1), port: receiver.address().port })
  const region = Region.allocate(sizes.reduce((sum, size) => sum + size, 0))
  const vector = new MessageVector(sizes.length, sizes.length, [])
  let at = 0
  for (const [k, size] of sizes.entries()) {
    new Uint8Array(region.buffer, at, size).fill(k + 1)
    vector.iovec(k, region.address, at, size)
    vector.message(k, 0, k, 1, 0)
    at += size
  }
  const close = (): void => {
    receiver.close()
    socket.close()
    vector.release()
    region.release()
  }
  return { heard, fd: socket.fd, region, headers: vector.headersAddress, close }
}

interface Completion {
  number: number
  result: number
  more: boolean
  notification: boolean
}

function take(ring: IoUring): Completion[] {
  const out: Completion[] = []
  for (; ring.next(); ring.done()) {
    const flags = ring.flags()
    const [more, notification] = [(flags & IORING_CQE_F_MORE) !== 0, (flags & IORING_CQE_F_NOTIF) !== 0]
    out.push({ number: ring.number(), result: ring.result(), more, notification })
  }
  return out
}

async function until<T>(done: () => T | false | undefined): Promise<T> {
  for (const end = performance.now() + 5000; ; ) {
    const value = done()
    if (value) return value
    if (performance.now() > end) throw new Error('nothing after 5 s')
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

for (const [how, mode] of [
  ['copied', COPY],
  ['lent', LEND],
] as const)
  test(`messages ${how}: the results are there at once, in order, and a message that fails takes those behind it along`, async (ctx) => {
    const ring = openRing(ctx)
    // 65507 bytes are the most that UDP over IPv4 carries.
    const { heard, fd, headers, close } = await sender([100, 200, 65508, 300, 400])
    expect(ring.submit(fd, headers, MMSGHDR.size, 5, 0x7fffffff, mode)).toBe(5)
    const all = take(ring)
    const results = all.filter(({ notification }) => !notification)
    // Numbers are 32 bits and wrap.
    expect(results.map(({ number }) => number)).toEqual([0, 1, 2, 3, 4].map((i) => (0x7fffffff + i) | 0))
    expect(results.map(({ result }) => result)).toEqual([100, 200, -ERRNO.EMSGSIZE, -ERRNO.ECANCELED, -ERRNO.ECANCELED])
    // The kernel reports twice on memory that was lent.
    expect(results.slice(0, 2).map(({ more }) => more)).toEqual(mode === COPY ? [false, false] : [true, true])
    if (mode === LEND) {
      const lent = results.slice(0, 2).map(({ number }) => number)
      const notifications = await until(() => {
        all.push(...take(ring))
        const some = all.filter(({ notification, number }) => notification && lent.includes(number))
        return some.length === 2 && some
      })
      // Loopback copies, and says so.
      expect(notifications.map(({ result }) => result)).toEqual([IORING_NOTIF_USAGE_ZC_COPIED, IORING_NOTIF_USAGE_ZC_COPIED])
    }
    await until(() => heard.length >= 2)
    expect(heard).toEqual([
      [1, 100],
      [2, 200],
    ])
    // Goes on behind the failure.
    expect(ring.submit(fd, headers + 3 * MMSGHDR.size, MMSGHDR.size, 2, 50, mode)).toBe(2)
    await until(() => heard.length === 4)
    expect(heard.slice(2)).toEqual([
      [4, 300],
      [5, 400],
    ])
    ring.close()
    ring.close()
    close()
  })

test('messages out of registered memory arrive; memory that is not there cannot be registered', async (ctx) => {
  const ring = openRing(ctx)
  const { heard, fd, headers, region, close } = await sender([1000, 2000])
  need(ctx, ring.buffers > 0, 'needs Linux 5.19')
  const [first, last] = [0, ring.buffers - 1]
  expect(ring.registerBuffer(first, 4096, 4096)).toBe(ERRNO.EFAULT)
  expect(ring.registerBuffer(ring.buffers, region.address, region.byteLength)).not.toBe(0)
  expect(ring.registerBuffer(last, region.address, region.byteLength)).toBe(0)
  expect(ring.submit(fd, headers, MMSGHDR.size, 2, 7, REGISTERED, last)).toBe(2)
  const results = take(ring).filter(({ notification }) => !notification)
  need(ctx, results[0]?.result !== -ERRNO.EINVAL, 'needs Linux 6.15')
  expect(results.map(({ number, result }) => [number, result])).toEqual([
    [7, 1000],
    [8, 2000],
  ])
  await until(() => heard.length === 2)
  expect(heard).toEqual([
    [1, 1000],
    [2, 2000],
  ])
  // Unregistered, it is no memory to send from.
  expect(ring.registerBuffer(last, 0, 0)).toBe(0)
  ring.submit(fd, headers, MMSGHDR.size, 1, 9, REGISTERED, last)
  const after = await until(() => take(ring).find(({ number, notification }) => number === 9 && !notification))
  expect(after.result).toBe(-ERRNO.EFAULT)
  ring.close()
  close()
})
