/** `onThreadDeath: 'restart'`: an I/O thread dies, another goes on, and every heap's fate is told once. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import {
  type BatchResult,
  IoThread,
  ItemGroup,
  openStream,
  SendError,
  type Stream,
  type StreamEvent,
  type StreamOptions,
} from '#dist/src/index.js'
import { pointersOf } from '../support/cli.js'
import { need } from '../support/need.js'
import { plantFault } from '../support/planted-fault.js'
import { randomOf } from '../support/random.js'
import { splitPackets } from '../support/tcp-receivers.js'
import { within } from './driver-support.js'

const WORKER = 'ERR_SPEADCAST_WORKER'
const HEAP_BYTES = 1000
const ITEMS = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: '|u1', shape: [HEAP_BYTES] })

/** A UDP socket, and what has come to it: the heap cnt and the first four bytes of data of each packet, in order. */
async function receiver() {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  const heaps: { readonly cnt: number; readonly id: number }[] = []
  socket.on('message', (packet) =>
    heaps.push({ cnt: packet.readUIntBE(10, 6), id: packet.readUInt32BE(packet.length - HEAP_BYTES) }),
  )
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  onTestFinished(() => void socket.close())
  return { to: `127.0.0.1:${socket.address().port}`, heaps }
}

async function open(ctx: TestContext, options: Partial<StreamOptions>): Promise<Stream> {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'udp is for Linux')
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none', onThreadDeath: 'restart', ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

/** An I/O thread of the test's own: what is planted hits no other. */
function ioThread(): IoThread {
  const thread = new IoThread()
  onTestFinished(() => thread.close())
  return thread
}

let ids = 0

/** Sends a batch whose heaps have numbers of their own; tells them, with the promise. */
function sendOne(stream: Stream, heaps = 4): { readonly ids: readonly number[]; readonly promise: Promise<BatchResult> } {
  const batch = stream.createBatch({ items: ITEMS, heaps })
  const all = Array.from({ length: heaps }, (_, j) => {
    const id = ++ids
    new DataView(batch.heap(j).adc.buffer, batch.heap(j).adc.byteOffset).setUint32(0, id)
    return id
  })
  const promise = stream.send(batch)
  void promise.catch(() => {}).finally(() => batch.close())
  return { ids: all, promise }
}

const fatesOf = (result: PromiseSettledResult<BatchResult>, heaps: number): readonly string[] =>
  result.status === 'fulfilled' ? new Array<string>(heaps).fill('sent') : (result.reason as SendError).outcome.heaps

/** Ten batches of 4 heaps of a tenth of a second. */
const SLOW = { rate: 40_000, burstBytes: 1 } as const

function eventsOf(stream: Stream): StreamEvent[] {
  const events: StreamEvent[] = []
  void (async () => {
    for await (const event of stream.events()) events.push(event)
  })()
  return events
}

for (const udpPath of ['sendmmsg', 'io_uring'] as const)
  test(`what was under way fails with its fate, and the rest goes on in order (${udpPath})`, async (ctx) => {
    const fault = plantFault()
    const { to, heaps } = await receiver()
    const stream = await open(ctx, { to, thread: ioThread(), udpPath, ...SLOW })
    const events = eventsOf(stream)
    const sends = Array.from({ length: 10 }, () => sendOne(stream))
    setTimeout(fault, 250)
    const results = await within('every send', Promise.allSettled(sends.map(({ promise }) => promise)), 30_000)
    const failed = results.findIndex(({ status }) => status === 'rejected')
    expect(results.map(({ status }) => status)).toEqual(results.map((_, i) => (i === failed ? 'rejected' : 'fulfilled')))
    const { reason } = results[failed] as PromiseRejectedResult
    expect(reason).toBeInstanceOf(SendError)
    expect(reason).toMatchObject({ code: WORKER, message: expect.stringMatching(/a planted fault/), cause: { code: WORKER } })
    expect(reason.outcome.heaps.join()).toMatch(/^(unknown,)*(unknown|flushed)(,flushed)*$/)
    expect(stream.state).toBe('open')
    expect(stream.stats()).toMatchObject({ threadRestarts: 1, heapsSent: 36, heapsFailed: 4, inFlight: 0 })
    // Packets of unknown heaps are counted as posted.
    expect(stream.stats().packets).toBe(36 + reason.outcome.heaps.filter((status: string) => status === 'unknown').length)
    expect(events.filter(({ kind }) => kind === 'thread').map(({ message }) => message)).toEqual([
      expect.stringMatching(/a planted fault; another takes its place$/),
      'the next I/O thread sends',
    ])
    await stream.close()
    const wanted = sends.flatMap(({ ids }, i) => ids.filter((_, j) => fatesOf(results[i]!, 4)[j] === 'sent'))
    const maybe = new Set(sends[failed]!.ids.filter((_, j) => reason.outcome.heaps[j] === 'unknown'))
    await expect.poll(() => heaps.filter(({ id }) => !maybe.has(id)).map(({ id }) => id)).toEqual(wanted)
    const cnts = heaps.map(({ cnt }) => cnt)
    expect(cnts).toEqual([...new Set(cnts)].sort((a, b) => a - b))
  })

test('many deaths at random: every fate is true and told once, and no heap cnt goes twice', async (ctx) => {
  const random = randomOf(20)
  const fault = plantFault()
  const { to, heaps } = await receiver()
  const onThreadDeath = { policy: 'restart', most: 1000, withinSeconds: 0.001 } as const
  const stream = await open(ctx, { to, thread: ioThread(), onThreadDeath, rate: '2MB/s', burstBytes: 2000 })
  const sends: ReturnType<typeof sendOne>[] = []
  let deaths = 0
  let over = false
  const killing = (async () => {
    for (; deaths < 10; deaths++) {
      const before = stream.stats().threadRestarts
      await sleep(random() * 60)
      fault(1 + Math.floor(random() * 200))
      while (stream.stats().threadRestarts === before) await sleep(2)
    }
    over = true
  })()
  for (let window: Promise<unknown>[] = []; !over; ) {
    const send = sendOne(stream, 1 + Math.floor(random() * 8))
    sends.push(send)
    window.push(send.promise.catch(() => {}))
    if (window.length === 32) await window[0]
    if (window.length === 32) window = window.slice(1)
  }
  await killing
  const results = await within('every send', Promise.allSettled(sends.map(({ promise }) => promise)), 30_000)
  const fates = new Map(sends.flatMap(({ ids }, i) => ids.map((id, j) => [id, fatesOf(results[i]!, ids.length)[j]!])))
  const count = (...statuses: string[]) => [...fates.values()].filter((status) => statuses.includes(status)).length
  expect(count('sent') + count('unknown') + count('flushed')).toBe(fates.size)
  expect(count('sent')).toBeGreaterThan(100)
  expect(stream.stats({ substreams: true })).toMatchObject({
    threadRestarts: 10,
    heapsSent: count('sent'),
    heapsFailed: count('unknown', 'flushed'),
    heapsFlushed: count('flushed'),
    inFlight: 0,
    queuedBytes: 0,
  })
  const { packets } = stream.stats()
  expect(packets).toBeGreaterThanOrEqual(count('sent'))
  expect(packets).toBeLessThanOrEqual(count('sent', 'unknown'))
  await stream.close()
  const sent = [...fates].filter(([, status]) => status === 'sent').map(([id]) => id)
  const missing = () => {
    const came = new Set(heaps.map(({ id }) => id))
    return sent.filter((id) => !came.has(id))
  }
  await expect.poll(missing).toEqual([])
  const came = heaps.map(({ id }) => id)
  expect(new Set(came).size).toBe(came.length)
  expect(came.filter((id) => fates.get(id) === 'flushed')).toEqual([])
  expect(came).toEqual(came.toSorted((a, b) => a - b))
  const cnts = heaps.map(({ cnt }) => cnt)
  expect(new Set(cnts).size).toBe(cnts.length)
})

test('a thread of several streams: those that ask go on, the others are dead, and the IoThread takes more', async (ctx) => {
  const fault = plantFault()
  const thread = ioThread()
  const asks = await open(ctx, { thread, ...SLOW })
  const alsoAsks = await open(ctx, { thread, ...SLOW })
  const dies = await open(ctx, { thread, ...SLOW, onThreadDeath: 'fail' })
  const waits = [asks, alsoAsks].map((stream) => [sendOne(stream, 8), sendOne(stream), sendOne(stream)])
  const last = sendOne(dies, 8).promise
  // A fault between two steps ends the thread, and one in a step the stream's engine alone: every 9th look or so.
  for (let look = 1; dies.state !== 'dead'; look++) {
    fault(look)
    await sleep(20)
  }
  await expect(last).rejects.toMatchObject({ code: WORKER })
  for (const sends of waits) await within('the last send', sends.at(-1)!.promise, 30_000)
  expect([asks.state, alsoAsks.state, dies.state]).toEqual(['open', 'open', 'dead'])
  expect(asks.stats().threadRestarts + alsoAsks.stats().threadRestarts).toBeGreaterThan(0)
  const next = await open(ctx, { thread })
  expect(await within('a send', sendOne(next).promise)).toMatchObject({ heaps: 4 })
  for (const stream of [asks, alsoAsks, dies, next]) await within('close', stream.close())
  await within('close of the thread', thread.close())
})

test('heap cnts and a change of them go on where they were', async (ctx) => {
  const fault = plantFault()
  const { to, heaps } = await receiver()
  const stream = await open(ctx, { to, thread: ioThread(), firstCnt: 1000, cntStep: 7, ...SLOW })
  const before = sendOne(stream, 8).promise.then(({ firstCnt }) => firstCnt)
  const broken = sendOne(stream, 40).promise
  const behind = sendOne(stream).promise
  stream.setCntSequence(2 ** 40, 3)
  const last = sendOne(stream).promise
  expect(await before).toBe(1000)
  setTimeout(fault, 100)
  await expect(broken).rejects.toMatchObject({ code: WORKER })
  // The heaps that failed have used theirs up.
  expect((await behind).firstCnt).toBe(1000 + 48 * 7)
  expect((await last).firstCnt).toBe(2 ** 40)
  await expect.poll(() => heaps.slice(-4).map(({ cnt }) => cnt)).toEqual([0, 3, 6, 9].map((n) => 2 ** 40 + n))
})

test('a loop that runs ends with the reason; one that waits for its turn, and what is behind it, go on', async (ctx) => {
  const fault = plantFault()
  const { to, heaps } = await receiver()
  const stream = await open(ctx, { to, thread: ioThread(), ...SLOW })
  const batches = Array.from({ length: 3 }, () => stream.createBatch({ items: ITEMS, heaps: 2 }))
  const running = stream.loop([batches[0]!])
  const waiting = stream.loop([batches[1]!, batches[2]!], { until: { heaps: 7 } })
  await expect.poll(() => running.position.settledHeaps).toBeGreaterThan(2)
  fault()
  await expect(within('the loop', running.done)).rejects.toMatchObject({ code: WORKER, message: expect.stringMatching(/planted/) })
  expect(batches[0]!.state).toBe('free')
  expect(await within('the next loop', waiting.done)).toMatchObject({ heaps: 7, failedHeaps: 0 })
  const { heapsSent, heapsFailed } = stream.stats()
  await stream.close()
  expect(heapsFailed).toBeLessThanOrEqual(running.position.heaps)
  await expect.poll(() => heaps.length).toBeGreaterThanOrEqual(heapsSent)
  expect(heaps.length).toBeLessThanOrEqual(heapsSent + heapsFailed)
  expect(heapsSent + heapsFailed).toBe(running.position.heaps + 7)
})

test('threads that die again and again end the stream, with the reason', async (ctx) => {
  const fault = plantFault()
  const stream = await open(ctx, { thread: ioThread(), onThreadDeath: { policy: 'restart', most: 2 }, ...SLOW })
  const sends = Array.from({ length: 4 }, () => sendOne(stream, 100).promise)
  for (let deaths = 0; deaths < 3; deaths++) {
    await expect.poll(() => stream.stats().threadRestarts, { timeout: 10_000 }).toBe(deaths)
    await sleep(50)
    fault()
  }
  const results = await within('every send', Promise.allSettled(sends))
  expect(results.map((result) => (result as PromiseRejectedResult).reason.code)).toEqual(Array(4).fill(WORKER))
  expect(results.at(-1)).toMatchObject({
    reason: { message: expect.stringMatching(/2 new I\/O threads within 60 s did not help/) },
  })
  expect(stream.state).toBe('dead')
  await within('close', stream.close())
})

test('close sends what is left, and destroy does not wait for another thread', async (ctx) => {
  const fault = plantFault()
  const closed = await open(ctx, { thread: ioThread(), ...SLOW })
  const sends = [sendOne(closed), sendOne(closed), sendOne(closed)]
  await sleep(50)
  const closing = closed.close()
  fault()
  const results = await within('every send', Promise.allSettled(sends.map(({ promise }) => promise)), 30_000)
  expect(results.map(({ status }) => status).filter((status) => status === 'rejected').length).toBeLessThanOrEqual(1)
  expect(results.at(-1)).toMatchObject({ status: 'fulfilled' })
  await within(
    'close',
    closing.catch(() => undefined),
  )
  expect(closed.state).toBe('closed')

  const destroyed = await open(ctx, { thread: ioThread(), ...SLOW })
  const events = eventsOf(destroyed)
  const lost = [sendOne(destroyed, 40), sendOne(destroyed)].map(({ promise }) => promise)
  await sleep(50)
  fault()
  await expect.poll(() => events.some(({ kind }) => kind === 'thread')).toBe(true)
  await within('destroy', destroyed.destroy())
  const codes = (await Promise.allSettled(lost)).map((result) => (result as PromiseRejectedResult).reason.code)
  expect(codes).toEqual([WORKER, expect.stringMatching(/^ERR_SPEADCAST_(ABORTED|SEND)$/)])
})

test('over TCP all that was queued fails, and the next send brings the descriptors on a new connection', async (ctx) => {
  const fault = plantFault()
  const connections: Buffer[] = []
  const server = createServer((socket) => {
    const k = connections.push(Buffer.alloc(0)) - 1
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      connections[k] = Buffer.concat([connections[k]!, bytes])
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const to = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`
  const stream = await open(ctx, { to, backend: 'tcp', descriptors: 'first', thread: ioThread(), ...SLOW })
  const sends = [sendOne(stream, 100), sendOne(stream), sendOne(stream)]
  // Some of these wait for a slot of the ring.
  const more = Array.from({ length: 1100 }, () => sendOne(stream, 1))
  await expect.poll(() => stream.stats().packets).toBeGreaterThan(2)
  fault()
  const results = await within('every send', Promise.allSettled(sends.map(({ promise }) => promise)))
  expect(results.map((result, i) => new Set(fatesOf(result, sends[i]!.ids.length)))).toEqual([
    new Set(['unknown', 'flushed']),
    new Set(['flushed']),
    new Set(['flushed']),
  ])
  const others = await within('every other send', Promise.allSettled(more.map(({ promise }) => promise)))
  expect(new Set(others.flatMap((result) => fatesOf(result, 1)))).toEqual(new Set(['flushed']))
  expect(await within('a send', sendOne(stream).promise)).toMatchObject({ heaps: 4 })
  expect(stream.stats()).toMatchObject({ threadRestarts: 1, heapsSent: 6, heapsFailed: 1208 })
  await stream.close()
  // The first heap describes: item 5 is a descriptor.
  const described = connections.map((bytes) => pointersOf(splitPackets(bytes).packets[0]!).some(({ id }) => id === 5))
  expect(described).toEqual([true, true])
})
