// AbortSignal: what is queued is withdrawn with the signal's reason and uses up no heap cnt; what is on its way goes on.
import { getEventListeners } from 'node:events'
import { type BatchResult, SendError, type Stream } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  DESCRIPTOR,
  fill,
  filledBatch,
  type Gate,
  itemsOf,
  memoryStream,
  numberHeap,
  OUTLETS,
  openOutlet,
  parse,
  timestampsOf,
  turn,
} from './support.js'

const REASON = Object.freeze({ why: 'no longer wanted' })
/** A single-packet heap takes a tenth of a second. */
const SLOW = { rate: '1560B/s', burstBytes: 1, descriptors: 'none' } as const

describe.for(OUTLETS)('%s', (kind) => {
  test('one signal withdraws every queued send and no other, and leaves no hole in the heap cnts', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, SLOW)
    const controller = new AbortController()
    const { signal } = controller
    const batches = [0, 4, 6, 8].map((first, i) => filledBatch(stream, first, { heaps: i === 0 ? 4 : 2 }))
    const sends = [
      stream.send(batches[0]!, { signal }),
      stream.send(batches[1]!, { signal }),
      stream.send(batches[2]!),
      stream.send(batches[3]!, { signal }),
      stream.sendHeap(numberHeap(10), { signal }),
      stream.sendHeaps([{ heap: numberHeap(11) }, { heap: numberHeap(12) }], 'serial', { signal }),
      stream.sendHeap(numberHeap(13)),
    ]
    const settled = Promise.allSettled(sends)
    // Three more packets of the first are to come.
    while (stream.stats().packets === 0) await turn(1)
    controller.abort(REASON)
    await batches[1]!.free
    expect(batches.map(({ state }) => state)).toEqual(['in-flight', 'free', 'in-flight', 'free'])
    // Its place in the queue is given up at once: it may be filled and sent again before the sender has passed it.
    const again = stream.send(fill(batches[1]!, 20))
    expect((await settled).map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.firstCnt : outcome.reason))).toEqual([
      1,
      REASON,
      5,
      REASON,
      REASON,
      REASON,
      7,
    ])
    expect(await again).toMatchObject({ firstCnt: 8 })
    const arrived = await packets(9)
    expect(timestampsOf(arrived)).toEqual([0, 1, 2, 3, 6, 7, 13, 20, 21])
    expect(arrived.map(({ cnt }) => cnt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    await stream.close()
  })
})

test('one whose turn has come is sent, though nothing of it could be posted yet', async () => {
  const gate: Gate = { shut: true }
  const stream = await memoryStream({}, gate)
  const controller = new AbortController()
  const [head, behind] = [0, 1].map((n) => stream.sendHeap(numberHeap(n), { signal: controller.signal }))
  const rejected = expect(behind).rejects.toBe(REASON)
  await turn()
  controller.abort(REASON)
  await rejected
  gate.shut = false
  expect(await head).toMatchObject({ firstCnt: 1 })
})

test('before the sender has had a turn everything can still be withdrawn', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const controller = new AbortController()
  const sends = [1, 2, 3].map((n) => stream.sendHeap(numberHeap(n), { signal: controller.signal }))
  controller.abort(REASON)
  for (const send of sends) await expect(send).rejects.toBe(REASON)
  await stream.sendHeap(numberHeap(4))
  expect(stream.packets.map(parse).map((packet) => [packet.cnt, ...timestampsOf([packet])])).toEqual([[1, 4]])
})

test('without a reason of its own the signal’s AbortError comes through', async () => {
  const stream = await memoryStream({}, { shut: true })
  const controller = new AbortController()
  stream.sendHeap(numberHeap(0))
  const send = stream.sendHeap(numberHeap(1), { signal: controller.signal })
  controller.abort()
  await expect(send).rejects.toMatchObject({ name: 'AbortError' })
  await expect(stream.sendHeap(numberHeap(2), { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ name: 'TimeoutError' })
})

test('an aborted signal throws its reason and queues nothing', async () => {
  const stream = await memoryStream()
  const batch = filledBatch(stream, 0)
  const signal = AbortSignal.abort(REASON)
  const attempts: ((stream: Stream) => unknown)[] = [
    () => stream.send(batch, { signal }),
    () => stream.sendHeap(numberHeap(1), { signal }),
    () => stream.sendHeaps([{ heap: numberHeap(1) }], 'serial', { signal }),
  ]
  for (const attempt of attempts) expect(() => attempt(stream)).toThrow(expect.objectContaining(REASON))
  expect(batch.state).toBe('free')
  await stream.flush()
  expect(stream.packets).toEqual([])
  // The group counts as not described: its descriptors still come first.
  await stream.send(batch)
  expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([2, 0, 0])
})

test('an abort after settlement has no effect', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const controller = new AbortController()
  const batch = filledBatch(stream, 0)
  const first = await stream.send(batch, { signal: controller.signal })
  // The batch is under way again, without the signal.
  const second = stream.send(batch)
  controller.abort(REASON)
  expect([first.firstCnt, (await second).firstCnt]).toEqual([1, 3])
})

test('withdrawing what waits for room in the ring keeps order and cnts of the rest', async () => {
  const gate: Gate = { shut: true }
  const stream = await memoryStream({}, gate)
  const controller = new AbortController()
  const N = 3000
  const sends = Array.from({ length: N }, (_, n) =>
    stream.sendHeap(numberHeap(n), n % 3 === 1 ? { signal: controller.signal } : {}),
  )
  const settled = Promise.allSettled(sends)
  await turn()
  controller.abort(REASON)
  gate.shut = false
  await stream.flush()
  const kept = Array.from({ length: N }, (_, n) => n).filter((n) => n % 3 !== 1)
  expect(timestampsOf(stream.packets.map(parse))).toEqual(kept)
  expect(stream.packets.map(parse).map(({ cnt }) => cnt)).toEqual(kept.map((_, i) => 1 + i))
  const outcomes = await settled
  expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(N - kept.length)
  expect(kept.map((n) => (outcomes[n] as PromiseFulfilledResult<BatchResult>).value.firstCnt)).toEqual(kept.map((_, i) => 1 + i))
})

test('descriptors that would have travelled in a withdrawn batch travel in the next', async () => {
  const gate: Gate = { shut: true }
  const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+1:7148' }, gate)
  const items = itemsOf()
  const make = (first: number, heaps: number) => fill(stream.createBatch({ items, heaps }), first)
  const controller = new AbortController()
  const first = stream.sendHeap(numberHeap(100))
  const withdrawn = stream.send(make(0, 2), { signal: controller.signal })
  await turn()
  controller.abort(REASON)
  await expect(withdrawn).rejects.toBe(REASON)
  gate.shut = false
  await first
  await stream.send(make(2, 1))
  await stream.send(make(3, 3))
  await stream.send(make(6, 2))
  const described = stream.packets.map(parse).map((packet) => [...timestampsOf([packet]), packet.substream, packet.descriptors])
  expect(described).toEqual([
    [100, 0, 0],
    [2, 0, 2],
    [3, 0, 0],
    [4, 1, 2],
    [5, 0, 0],
    [6, 0, 0],
    [7, 1, 0],
  ])
  expect(stream.packets.map(parse).flatMap(({ pointers }) => pointers.filter(({ id }) => id === DESCRIPTOR))).toHaveLength(4)
})

test('a withdrawn batch without descriptors takes none back that an earlier send of it carried', async () => {
  const gate: Gate = { shut: false }
  const stream = await memoryStream({ descriptors: 'in-band' }, gate)
  const batch = filledBatch(stream, 0)
  await stream.send(batch)
  gate.shut = true
  const controller = new AbortController()
  const head = stream.sendHeap(numberHeap(100))
  const withdrawn = stream.send(batch, { signal: controller.signal })
  await turn()
  controller.abort(REASON)
  await expect(withdrawn).rejects.toBe(REASON)
  gate.shut = false
  await head
  await stream.send(batch)
  expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([2, 0, 0, 0, 0])
})

test('a thousand sends with one signal leave one listener, and in the end none', async () => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  onTestFinished(() => void process.off('warning', onWarning))
  const gate: Gate = { shut: true }
  const stream = await memoryStream({}, gate)
  const { signal } = new AbortController()
  for (let n = 0; n < 1000; n++) stream.sendHeap(numberHeap(n), { signal })
  expect(getEventListeners(signal, 'abort')).toHaveLength(1)
  gate.shut = false
  await stream.flush()
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  await turn(1)
  expect(warnings).toEqual([])
})

test('a withdrawn send that nobody looks at is no failure to surface', async () => {
  const stream = await memoryStream({}, { shut: true })
  const controller = new AbortController()
  stream.sendHeap(numberHeap(1), { signal: controller.signal })
  controller.abort(REASON)
  // The caller that aborted knows.
  await stream.flush()
  expect(await stream.close()).toEqual({ droppedHeaps: 0 })
})

test('a failing send does not listen to its signal any more', async () => {
  const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: () => true })
  const controller = new AbortController()
  const send = stream.send(filledBatch(stream, 0), { signal: controller.signal })
  await expect(send).rejects.toBeInstanceOf(SendError)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  controller.abort(REASON)
  await expect(send).rejects.toBeInstanceOf(SendError)
})
