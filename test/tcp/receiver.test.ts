// The receiver of TCP connections against senders that cut packets anywhere, lie, hold on, or come in crowds.
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { packetBytes } from '#dist/src/receive/framing.js'
import { openReceiver, type ReceivedHeap } from '#dist/src/receive/index.js'
import { freePort } from '../receive/support.js'
import { header, packet, payloadOf, pointer, receive, until } from './receiver-support.js'

test.for([1, 7, 8, 1000, 70_000])('a stream that comes in pieces of %i bytes is what was sent', async (piece) => {
  const { receiver, dial } = await receive()
  const sizes = [0, 1, 7, 100, 1400, 9000, 60_000]
  const bytes = Buffer.concat(sizes.map((size, i) => packet(i + 1, payloadOf(i + 1, size))))
  const heaps: ReceivedHeap[] = []
  const all = (async () => {
    for await (const heap of receiver) if (heaps.push(heap) === sizes.length) break
  })()
  const socket = await dial()
  const end = piece === 1 ? 1800 : bytes.length
  for (let at = 0; at < end; at += piece) {
    socket.write(bytes.subarray(at, Math.min(end, at + piece)))
    if (piece < 1000) await new Promise(setImmediate)
  }
  socket.write(bytes.subarray(end))
  await all
  expect(heaps.map(({ cnt, complete }) => [Number(cnt), complete])).toEqual(sizes.map((_, i) => [i + 1, true]))
  for (const [i, heap] of heaps.entries())
    expect(Buffer.from(heap.items.get(0x3300)?.bytes ?? []).equals(payloadOf(i + 1, sizes[i]!))).toBe(true)
})

test('of a packet that is not there whole more bytes are wanted than there are, and never more than it has', () => {
  const whole = Buffer.concat([header(2), pointer(1, 7), pointer(4, 100), Buffer.alloc(100)])
  const view = new DataView(whole.buffer, whole.byteOffset, whole.length)
  const wanted = Array.from({ length: whole.length + 1 }, (_, there) => packetBytes(view, 0, there))
  expect([...new Set(wanted)]).toEqual([8, 24, 124])
  expect(wanted.every((bytes, there) => bytes > there || there === 124)).toBe(true)
})

const LIES: Readonly<Record<string, Buffer>> = {
  'no SPEAD': Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  'widths that do not add up': Buffer.from([0x53, 4, 2, 7, 0, 0, 0, 1]),
  'more pointers than a packet may have': Buffer.concat([header(0xffff), Buffer.alloc(70_000)]),
  'no payload length': Buffer.concat([header(1), pointer(1, 5)]),
  'a payload of 2^47 bytes': Buffer.concat([header(2), pointer(1, 5), pointer(4, 2 ** 47)]),
}
test.for(Object.entries(LIES))('%s ends that connection alone, and is counted', async ([, lie]) => {
  const { receiver, dial } = await receive({ verify: false, deliver: true })
  const good = await dial()
  const bad = await dial()
  good.write(packet(1, payloadOf(1, 100)))
  await until(() => receiver.stats().heaps === 1)
  bad.write(lie)
  bad.resume()
  await until(() => bad.destroyed && receiver.stats().malformed === 1)
  good.write(packet(2, payloadOf(2, 100)))
  await until(() => receiver.stats().heaps === 2)
  expect(receiver.stats()).toMatchObject({ heaps: 2, malformed: 1 })
})

test('a packet that its sender never finishes counts when the connection ends, and costs no other', async () => {
  const { receiver, dial } = await receive()
  const socket = await dial()
  const whole = packet(1, payloadOf(1, 50_000))
  socket.write(whole.subarray(0, 40_000))
  const other = await dial()
  other.write(packet(9, payloadOf(9, 500)))
  await until(() => receiver.stats().heaps === 1)
  socket.destroy()
  await until(() => receiver.stats().malformed === 1)
  expect(receiver.stats()).toMatchObject({ heaps: 1, packets: 1 })
})

test('a crowd is turned away where it is too large, and those who were there before go on', async () => {
  const { receiver, dial } = await receive()
  const first = await dial()
  first.write(packet(1, payloadOf(1, 100)))
  const before = process.memoryUsage.rss()
  // Connections may be turned away before the last one is made.
  const crowd = await Promise.all(Array.from({ length: 300 }, () => dial()))
  const half = packet(5, payloadOf(5, 60_000)).subarray(0, 50_000)
  for (const socket of crowd) socket.write(half)
  for (const socket of crowd) socket.resume()
  const closed = () => crowd.filter((socket) => socket.closed).length
  // 64 connections of one address, the first among them.
  await until(() => closed() >= 300 - 63)
  await new Promise((done) => setTimeout(done, 100))
  expect(closed()).toBe(300 - 63)
  expect(receiver.stats().connectionsRefused).toBe(300 - 63)
  first.write(packet(2, payloadOf(2, 100)))
  await until(() => receiver.stats().heaps === 2)
  expect(process.memoryUsage.rss() - before).toBeLessThan(100 << 20)
})

test('a slow consumer holds the sender back, and nothing is lost', async () => {
  const { receiver, dial } = await receive({ heapMemoryBytes: 64 << 20 })
  const socket = await dial()
  const heaps = 600
  let written = 0
  const sending = (async () => {
    for (let i = 1; i <= heaps; i++) {
      if (!socket.write(packet(i, Buffer.alloc(60_000, i)))) await once(socket, 'drain')
      written = i
    }
  })()
  await new Promise((done) => setTimeout(done, 300))
  // 256 heaps in the queue to the consumer, some MiB in the sockets.
  expect(written).toBeLessThan(heaps)
  let next = 1
  for await (const heap of receiver) {
    expect(Number(heap.cnt)).toBe(next)
    if (next++ === heaps) break
  }
  await sending
})

test('a port in use says so', async () => {
  const port = await freePort()
  const endpoints = `tcp://127.0.0.1:${port}`
  const receiver = await openReceiver({ endpoints })
  onTestFinished(() => void receiver.close())
  await expect(openReceiver({ endpoints })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_ENDPOINT',
    message: expect.stringContaining('another socket has this port'),
  })
})
