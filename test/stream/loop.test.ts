// stream.loop: what goes out is what ordinary sends of the same heaps would send, round after round, also where the window is swapped.
import { type Batch, type FormatField, ItemGroup, LoopError, type LoopOptions, type Stream, type StreamOptions } from 'speadcast'
import { expect, test } from 'vitest'
import { type Gate, memoryStream, OUTLETS, openOutlet, type Packet, parse, SAMPLES, TIMESTAMP, turn } from './support.js'

const GROUP_MODES = ['serial', 'round-robin', 'by-substream'] as const
const BYTES = 100

const itemsOf = (format: FormatField = ['u', 48]) =>
  new ItemGroup()
    .add({ id: TIMESTAMP, name: 'timestamp', format: [format] })
    .add({ id: SAMPLES, name: 'adc_samples', dtype: 'i1', shape: [BYTES] })

interface Shape {
  readonly heaps: number
  readonly groupMode?: (typeof GROUP_MODES)[number]
  readonly items?: ItemGroup
}

/** A batch with these timestamps, and `mark` + j in the samples of heap j. */
function batchOf(stream: Stream, stamps: readonly number[], mark: number, shape: Partial<Shape> = {}) {
  const batch = stream.createBatch({
    items: itemsOf(),
    heaps: stamps.length,
    ...shape,
    views: { adc_samples: Int8Array },
  })
  batch.immediate('timestamp').set(stamps)
  for (let j = 0; j < stamps.length; j++) batch.heap(j).adc_samples.fill(mark + j)
  return batch
}

const ramp = (first: number, step: number, heaps: number) => Array.from({ length: heaps }, (_, j) => first + j * step)

/** What a receiver needs to know of a heap. */
const heapOf = (packet: Packet) => [packet.cnt, packet.value(TIMESTAMP)!, packet.data.readInt8(0)] as const
const heapsOf = (packets: readonly Packet[]) => {
  const byCnt = new Map(
    packets.filter((packet) => packet.value(TIMESTAMP) !== undefined).map((packet) => [packet.cnt, heapOf(packet)]),
  )
  return [...byCnt.values()]
}

const ahead = (value: number, before: number) => (value - before + 2 ** 48) % 2 ** 48

async function looped(stream: Stream, batches: readonly Batch<object>[], options: LoopOptions) {
  return stream.loop(batches, options).done
}

test.for(GROUP_MODES)('%s: every byte is that of ordinary sends, over rounds that are not all whole', async (groupMode) => {
  const options: Partial<StreamOptions> = { to: '10.0.0.1+2:7148', descriptors: 'none', packetSizeBytes: 128 }
  const shape = { groupMode }
  const sent = await memoryStream(options)
  const rounds = [0, 70, 140].map((first) => [
    batchOf(sent, ramp(first, 10, 4), 0, shape),
    batchOf(sent, ramp(first + 40, 10, 3), 4, shape),
  ])
  const last = rounds.pop()!
  for (const batch of rounds.flat()) await sent.send(batch)
  await sent.send(last[0]!, { heaps: 2 })

  const stream = await memoryStream(options)
  const window = [batchOf(stream, ramp(0, 10, 4), 0, shape), batchOf(stream, ramp(40, 10, 3), 4, shape)]
  for (const until of [160, { heaps: 16 }]) {
    stream.packets.length = 0
    stream.setCntSequence(1, 1)
    expect(await looped(stream, window, { until })).toEqual({
      rounds: 2,
      heaps: 16,
      packets: sent.packets.length,
      failedHeaps: 0,
      failedPackets: 0,
      skippedHeaps: 0,
      suspectHeaps: 0,
      causes: [],
      swaps: 0,
      firstCnt: 1,
      evidence: 'written',
    })
    expect(stream.packets).toEqual(sent.packets)
  }
  expect(stream.stats()).toMatchObject({ heapsSent: 32, inFlight: 0 })
})

test.for(OUTLETS)('%s: heap cnts and timestamps go on, samples return, and what is sent later follows', async (kind, ctx) => {
  const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none' }, 2)
  const window = [batchOf(stream, ramp(0, 8, 4), 0), batchOf(stream, ramp(32, 8, 4), 4)]
  const loop = stream.loop(window, { until: { rounds: 5 } })
  expect(window.map(({ state }) => state)).toEqual(['in-flight', 'in-flight'])
  const later = stream.send(batchOf(stream, [7, 7], 100))
  expect(await loop.done).toMatchObject({ rounds: 5, heaps: 40, failedHeaps: 0 })
  expect(await later).toMatchObject({ heaps: 2, firstCnt: 41 })
  const heaps = heapsOf(await packets(42)).sort(([a], [b]) => a - b)
  expect(heaps).toEqual([...Array.from({ length: 40 }, (_, i) => [i + 1, i * 8, i % 8]), [41, 7, 100], [42, 7, 101]])
})

test('the batches are in flight until the loop ends; then their staged values are those of before', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const batch = batchOf(stream, ramp(3, 1, 4), 0)
  const loop = stream.loop([batch])
  expect(batch.state).toBe('in-flight')
  expect(() => stream.send(batch)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' }))
  expect(() => stream.loop([batch])).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' }))
  expect(() => batch.close()).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' }))
  const free = batch.free
  expect(await Promise.race([free, loop.done, turn()])).toBe('pending')
  loop.stop()
  loop.stop()
  const { heaps } = await loop.done
  await free
  expect(batch.state).toBe('free')
  expect(heaps).toBeGreaterThan(4)
  expect(heaps % 4).toBe(0)
  expect([...batch.immediate('timestamp')]).toEqual([3, 4, 5, 6])
  expect(loop.position).toEqual({
    rounds: heaps / 4,
    heaps,
    timestamp: 3 + heaps,
    settledHeaps: heaps,
    failedHeaps: 0,
    skippedHeaps: 0,
    suspectHeaps: 0,
  })
})

test.for(GROUP_MODES.flatMap((groupMode) => [130, 135, 140, 150, 151].map((at) => [groupMode, at] as const)))(
  '%s: swapped at %i, to the heap',
  async ([groupMode, at]) => {
    const stream = await memoryStream({ to: '10.0.0.1+2:7148', descriptors: 'none', packetSizeBytes: 128 })
    const shape = { groupMode }
    const old = [batchOf(stream, ramp(0, 10, 3), 0, shape), batchOf(stream, ramp(30, 10, 2), 3, shape)]
    const young = [batchOf(stream, ramp(1000, 10, 2), 50, shape), batchOf(stream, ramp(1020, 10, 2), 52, shape)]
    const loop = stream.loop(old, { until: 300 })
    const swap = loop.swap(young, { at })
    await swap
    expect(old.map(({ state }) => state)).toEqual(['free', 'free'])
    expect(await loop.done).toMatchObject({ heaps: 30, swaps: 1 })
    const first = Math.ceil(at / 10)
    expect(heapsOf(stream.packets.map(parse)).sort(([a], [b]) => a - b)).toEqual(
      Array.from({ length: 30 }, (_, i) => [i + 1, i * 10, i < first ? i % 5 : 50 + ((i - first) % 4)]),
    )
    expect([...young[0]!.immediate('timestamp')]).toEqual([1000, 1010])
    expect(loop.position).toMatchObject({ heaps: 30, timestamp: 300 })
  },
)

test('substreams that have the same timestamps are swapped at the same one', async () => {
  const stream = await memoryStream({ to: '10.0.0.1+3:7148', descriptors: 'none' })
  const stamps = (first: number) => Array.from({ length: 16 }, (_, j) => first + 512 * Math.floor(j / 4))
  const loop = stream.loop([batchOf(stream, stamps(0), 0)], { until: { heaps: 64 } })
  await loop.swap([batchOf(stream, stamps(0), 50)], { at: 512 * 6 })
  expect(await loop.done).toMatchObject({ heaps: 64, rounds: 3 })
  const heaps = stream.packets.map((packet) => [packet.substream, ...heapOf(parse(packet))])
  expect(heaps).toEqual(
    Array.from({ length: 64 }, (_, i) => [i % 4, i + 1, 512 * Math.floor(i / 4), i < 24 ? i % 16 : 50 + ((i - 24) % 16)]),
  )
})

test('window after window, each as soon as possible', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const windows = [0, 20, 40, 60].map((mark) => [batchOf(stream, ramp(0, 1, 3), mark), batchOf(stream, ramp(3, 1, 2), mark + 3)])
  const loop = stream.loop(windows[0]!)
  for (let i = 1; i < 9; i++) {
    await loop.swap(windows[i % 4]!)
    await turn(1)
  }
  loop.stop()
  const { heaps, swaps } = await loop.done
  expect(swaps).toBe(8)
  const all = heapsOf(stream.packets.map(parse))
  expect(all.map(([cnt, stamp]) => [cnt, stamp])).toEqual(Array.from({ length: heaps }, (_, i) => [i + 1, i]))
  const marks = all.map(([, , mark]) => Math.floor(mark / 20))
  expect(marks.filter((mark, i) => mark !== marks[i - 1])).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 0])
  // Whole batches, so that each window begins with its first heap.
  for (const [i, [, , mark]] of all.entries()) if (i > 0 && marks[i] !== marks[i - 1]) expect(mark % 20).toBe(0)
})

test('heap cnts and timestamps wrap at their widths, also within a batch, and where a swap falls there', async () => {
  const stream = await memoryStream({ descriptors: 'none', firstCnt: 2 ** 48 - 20 })
  const first = 2 ** 48 - 100
  const stamps = (from: number) => ramp(from, 7, 5).map((value) => value % 2 ** 48)
  const loop = stream.loop([batchOf(stream, stamps(first), 0), batchOf(stream, stamps(first + 35), 5)], { until: { heaps: 100 } })
  const at = (first + 7 * 33 + 3) % 2 ** 48
  await loop.swap([batchOf(stream, stamps(2 ** 48 - 14), 50)], { at })
  await loop.done
  expect(heapsOf(stream.packets.map(parse))).toEqual(
    Array.from({ length: 100 }, (_, i) => [
      (2 ** 48 - 20 + i) % 2 ** 48,
      (first + 7 * i) % 2 ** 48,
      i < 34 ? i % 10 : 50 + ((i - 34) % 5),
    ]),
  )
})

test.for([
  [['i', 16], -(2 ** 15), 2 ** 16],
  [['u', 8], 0, 2 ** 8],
  [['u', 24], 0, 2 ** 24],
] as const)('a timestamp of %j wraps to %i', async ([[kind, bits], low, modulus]) => {
  const stream = await memoryStream({ descriptors: 'none' })
  const first = low + modulus - 11
  const items = itemsOf([kind, bits])
  const wrapped = (value: number) => (value >= low + modulus ? value - modulus : value)
  const stamps = ramp(first, 3, 6).map(wrapped)
  await looped(stream, [batchOf(stream, stamps, 0, { items })], { until: { heaps: 60 } })
  const unsigned = (value: number) => ((value % modulus) + modulus) % modulus
  expect(heapsOf(stream.packets.map(parse)).map(([, stamp]) => stamp)).toEqual(
    Array.from({ length: 60 }, (_, i) => unsigned(first + 3 * i)),
  )
})

test('advance, no timestamps, and values that are no ramp', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const stampsOf = async (values: number[], options: LoopOptions) => {
    stream.packets.length = 0
    await looped(stream, [batchOf(stream, values, 0)], { until: { rounds: 3 }, ...options })
    return heapsOf(stream.packets.map(parse)).map(([, stamp]) => stamp)
  }
  expect(await stampsOf([5], { advance: 100 })).toEqual([5, 105, 205])
  expect(await stampsOf([5, 5], { timestamp: false })).toEqual([5, 5, 5, 5, 5, 5])
  expect(await stampsOf([3, 10, 5], {})).toEqual([3, 10, 5, 17, 24, 19, 31, 38, 33])
  expect(await stampsOf([300, 200, 100], { advance: -300 })).toEqual(
    [300, 200, 100, 0, -100, -200, -300, -400, -500].map((v) => ahead(v, 0)),
  )
})

test('batches that others send before and behind keep their order, and so do two loops', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const [a, b, c, d] = [0, 10, 20, 30].map((mark) => batchOf(stream, ramp(0, 1, 2), mark))
  const fates = [stream.send(a!), stream.loop([b!], { until: { heaps: 5 } }).done, stream.loop([c!], { until: { heaps: 3 } }).done]
  stream.setCntSequence(100, 1)
  await Promise.all([...fates, stream.send(d!)])
  expect(heapsOf(stream.packets.map(parse)).map(([cnt, , mark]) => [cnt, mark])).toEqual([
    ...[0, 1].map((mark, i) => [1 + i, mark]),
    ...[10, 11, 10, 11, 10].map((mark, i) => [3 + i, mark]),
    ...[20, 21, 20].map((mark, i) => [8 + i, mark]),
    ...[30, 31].map((mark, i) => [100 + i, mark]),
  ])
})

test('a loop that waits for its turn can be stopped, and sends nothing', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const [a, b] = [0, 10].map((mark) => batchOf(stream, ramp(0, 1, 2), mark))
  const first = stream.loop([a!])
  const second = stream.loop([b!])
  second.stop()
  await turn()
  first.stop()
  expect(await second.done).toMatchObject({ heaps: 0, rounds: 0, firstCnt: Number.NaN })
  expect(b!.state).toBe('free')
  expect(heapsOf(stream.packets.map(parse)).every(([, , mark]) => mark < 10)).toBe(true)
})

test('a swap whose timestamp has passed is refused, and nothing is lost', async () => {
  const stream = await memoryStream({ descriptors: 'none', rate: 1e7, burstBytes: 4096 })
  const loop = stream.loop([batchOf(stream, ramp(0, 1, 4), 0), batchOf(stream, ramp(4, 1, 4), 4)])
  while (loop.position.heaps < 100) await turn(1)
  const young = batchOf(stream, ramp(0, 1, 4), 50)
  const error = await loop.swap([young], { at: 50 }).catch((error) => error)
  expect(error).toMatchObject({ code: 'ERR_SPEADCAST_LATE' })
  expect(Number(/(\d+) or later/.exec(error.message)![1])).toBeGreaterThan(99)
  expect(young.state).toBe('free')
  await loop.swap([young], { at: loop.position.timestamp! + 5000 })
  loop.stop()
  const { heaps } = await loop.done
  expect(heapsOf(stream.packets.map(parse)).map(([cnt, stamp]) => [cnt, stamp])).toEqual(
    Array.from({ length: heaps }, (_, i) => [i + 1, i]),
  )
})

test('heaps that cannot be sent are counted, and the loop goes on', async () => {
  const gate: Gate = { shut: false, refuse: (row) => row % 10 === 3 }
  const stream = await memoryStream({ descriptors: 'none' }, gate)
  const report = await looped(stream, [batchOf(stream, ramp(0, 1, 4), 0), batchOf(stream, ramp(4, 1, 4), 4)], {
    until: { heaps: 80 },
  })
  expect(report).toMatchObject({
    heaps: 72,
    packets: 72,
    failedHeaps: 8,
    failedPackets: 8,
    causes: [{ substream: 0, errnoName: 'ENETUNREACH', packets: 8 }],
  })
  expect(stream.stats()).toMatchObject({ heapsSent: 72, heapsFailed: 8, packetsFailed: 8 })
  await stream.flush()
})

test.for(['continue', 'stop'] as const)(
  'heaps that a policy or the clock leaves out are no failures, onFailure %s',
  async (onFailure) => {
    const gate: Gate = { shut: false, refuse: (row) => row % 10 === 3 }
    const refused = await memoryStream({ descriptors: 'none', onError: 'skip' }, gate)
    const options: LoopOptions = { until: { heaps: 80 }, onFailure }
    const skipped = { failedHeaps: 0, skippedHeaps: 8, packets: 72, failedPackets: 8, heaps: 72 }
    expect(await looped(refused, [batchOf(refused, ramp(0, 1, 40), 0)], options)).toMatchObject(skipped)

    const clock = { syncTime: Date.now() / 1000 - 60, sampleRateHz: 1e3, samplesPerHeap: 1, unsynchronised: 'accept' } as const
    const late = await memoryStream({ descriptors: 'none', clock: { ...clock, late: 'skip' } })
    const past = late.clock!.nextTimestamp() - 150
    const loop = late.loop([batchOf(late, ramp(past, 1, 40), 0), batchOf(late, ramp(past + 40, 1, 40), 0)], {
      ...options,
      until: { heaps: 240 },
    })
    const { heaps, packets, failedHeaps, skippedHeaps, failedPackets, causes } = await loop.done
    expect(skippedHeaps).toBeGreaterThanOrEqual(100)
    expect({ heaps, packets, failedHeaps, failedPackets }).toEqual({
      heaps: 240 - skippedHeaps,
      packets: 240 - skippedHeaps,
      failedHeaps: 0,
      failedPackets: skippedHeaps,
    })
    expect(causes).toMatchObject([{ errnoName: 'LATE', packets: skippedHeaps }])
    expect(late.stats()).toMatchObject({ heapsSent: heaps, heapsSkipped: skippedHeaps, heapsFailed: 0 })
    expect(loop.position).toMatchObject({ settledHeaps: 240, failedHeaps: 0, skippedHeaps })
  },
)

test("onFailure 'stop' ends the loop; nobody who looked away misses it", async () => {
  const gate: Gate = { shut: false, refuse: (row) => row === 21 }
  const stream = await memoryStream({ descriptors: 'none' }, gate)
  const batch = batchOf(stream, ramp(0, 1, 4), 0)
  const error = await looped(stream, [batch], { onFailure: 'stop' }).catch((error) => error)
  expect(error).toBeInstanceOf(LoopError)
  expect(error).toMatchObject({ code: 'ERR_SPEADCAST_SEND', report: { heaps: 23, failedHeaps: 1 } })
  expect(batch.state).toBe('free')
  gate.refuse = () => true
  const unseen = stream.loop([batch], { onFailure: 'stop' })
  while (unseen.state !== 'over') await turn(1)
  expect(() => stream.send(batch)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_SEND' }))
})

test('a backend that breaks ends the loop', async () => {
  const stream = await memoryStream({
    descriptors: 'none',
    memory: { failAt: (row) => (row === 17 ? { errno: 5, how: 'fatal' } : undefined) },
  })
  const loop = stream.loop([batchOf(stream, ramp(0, 1, 4), 0)])
  await expect(loop.done).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SEND', report: { heaps: 17, failedHeaps: 3 } })
})

test('its signal ends it, and is the reason', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const batch = batchOf(stream, ramp(0, 1, 4), 0)
  const controller = new AbortController()
  const loop = stream.loop([batch], { signal: controller.signal })
  await turn()
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(loop.done).rejects.toBe(reason)
  expect(batch.state).toBe('free')
  expect(() => stream.loop([batch], { signal: AbortSignal.abort(reason) })).toThrow(reason)
  await stream.send(batch)
})

test('close stops a loop, and what it has taken up goes out', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const loop = stream.loop([batchOf(stream, ramp(0, 1, 4), 0)])
  const swap = loop.swap([batchOf(stream, ramp(0, 1, 4), 50)], { at: 2 ** 40 }).catch((error) => error)
  await turn()
  expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  const { heaps } = await loop.done
  expect(stream.packets).toHaveLength(heaps)
  expect(await swap).toMatchObject({ code: 'ERR_SPEADCAST_ABORTED' })
  await expect(loop.swap([])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_ABORTED' })
})

test.for(['destroy', 'deadline'] as const)('%s: everything settles once, the loop, its swap and what waits behind', async (how) => {
  const gate: Gate = { shut: false }
  const stream = await memoryStream({ descriptors: 'none' }, gate)
  const batches = [0, 20, 40].map((mark) => batchOf(stream, ramp(0, 1, 4), mark))
  const loop = stream.loop([batches[0]!])
  await turn()
  gate.shut = true
  await turn()
  const fates = Promise.allSettled([loop.done, loop.swap([batches[1]!]), stream.send(batches[2]!)])
  if (how === 'destroy') await stream.destroy()
  else expect((await stream.close({ deadlineSeconds: 0.01 })).droppedHeaps).toBeGreaterThan(4)
  const aborted = { status: 'rejected', reason: { code: 'ERR_SPEADCAST_ABORTED' } }
  expect(await fates).toMatchObject([aborted, aborted, aborted])
  expect(batches.map(({ state }) => state)).toEqual(['closed', 'closed', 'closed'])
})

test('descriptors go ahead of a loop and, by a timer, between its heaps', async () => {
  for (const descriptors of ['first', 'in-band', { everySeconds: 0.005, firstCnt: 1e6 }] as const) {
    const stream = await memoryStream({ descriptors, rate: 1e6, to: '10.0.0.1+1:7148' })
    const loop = stream.loop([batchOf(stream, ramp(0, 1, 4), 0), batchOf(stream, ramp(4, 1, 4), 4)])
    const told = () => stream.packets.map(parse).filter((packet) => packet.descriptors > 0)
    const enough = typeof descriptors === 'string' ? 2 : 8
    for (let tries = 0; (loop.position.heaps < 100 || told().length < enough) && tries < 1000; tries++) await turn(5)
    loop.stop()
    const { heaps } = await loop.done
    const seen = stream.packets.map(parse)
    expect(seen.slice(0, 2).map((packet) => packet.descriptors)).toEqual([2, 2])
    if (typeof descriptors === 'string') expect(told()).toHaveLength(2)
    else expect(told().length).toBeGreaterThanOrEqual(8)
    expect(heapsOf(seen).map(([, stamp]) => stamp)).toEqual(Array.from({ length: heaps }, (_, i) => i))
  }
})

test('a window of items that receivers do not know is refused', async () => {
  const stream = await memoryStream({ rate: 1e8 })
  const loop = stream.loop([batchOf(stream, ramp(0, 1, 4), 0)])
  const other = stream.createBatch({
    items: itemsOf().add({ id: 0x4000, name: 'more', dtype: 'u1', shape: [100] }),
    heaps: 4,
  })
  other.immediate('timestamp').setRamp(0, 1)
  await expect(loop.swap([other])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_ITEM' })
  await loop.swap([batchOf(stream, ramp(0, 1, 4), 0)])
  loop.stop()
  await loop.done
})

test('what cannot be looped is refused, and nothing is queued', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const other = await memoryStream()
  const batch = batchOf(stream, ramp(0, 1, 4), 0)
  const refusal = (call: () => unknown) => {
    try {
      call()
    } catch (error) {
      return error
    }
    return undefined
  }
  const codes: [string, () => unknown][] = [
    ['VALUE', () => stream.loop([])],
    ['VALUE', () => stream.loop(batch as never)],
    ['VALUE', () => stream.loop([batch, batch])],
    ['BATCH_STATE', () => stream.loop([batchOf(other, [1, 2], 0)])],
    ['CONFIG', () => stream.loop([batch], { untill: 1 } as never)],
    ['CONFIG', () => stream.loop([batch], { onFailure: 'perhaps' as never })],
    ['ITEM', () => stream.loop([batch], { timestamp: 'time' })],
    ['ITEM', () => stream.loop([batch], { timestamp: 'adc_samples' })],
    ['ITEM', () => stream.loop([batch], { timestamp: 5 as never })],
    ['VALUE', () => stream.loop([batch], { advance: 0.5 })],
    ['VALUE', () => stream.loop([batch], { advance: 0 })],
    ['CONFIG', () => stream.loop([batch], { advance: 1, timestamp: false })],
    ['VALUE', () => stream.loop([batch], { until: -1 })],
    ['VALUE', () => stream.loop([batch], { until: 0 })],
    ['VALUE', () => stream.loop([batch], { until: Number.NaN })],
    ['CONFIG', () => stream.loop([batch], { until: 5, timestamp: false })],
    ['CONFIG', () => stream.loop([batch], { until: null as never })],
    ['CONFIG', () => stream.loop([batch], { until: 'end' as never })],
    ['CONFIG', () => stream.loop([batch], { until: { heaps: 1, rounds: 1 } })],
    ['VALUE', () => stream.loop([batch], { until: { heaps: 0 } })],
    ['VALUE', () => stream.loop([batch], { until: { rounds: 1.5 } })],
    ['VALUE', () => stream.loop([batchOf(stream, [1, 1], 0)])],
    ['VALUE', () => stream.loop([batchOf(stream, [1, -1], 0)])],
  ]
  for (const [code, call] of codes) expect(refusal(call), `${call}`).toMatchObject({ code: `ERR_SPEADCAST_${code}` })
  batch.cnts[2] = 7
  expect(refusal(() => stream.loop([batch]))).toMatchObject({ code: 'ERR_SPEADCAST_HEAP_CNT' })
  batch.cnts[2] = -1
  expect(batch.state).toBe('free')
  expect(stream.stats().inFlight).toBe(0)

  const loop = stream.loop([batch], { until: { heaps: 1e9 } })
  const young = batchOf(stream, ramp(0, 1, 4), 0)
  const swaps: [string, () => Promise<unknown>][] = [
    ['VALUE', () => loop.swap([young], { at: 1e9 + 1 })],
    ['VALUE', () => loop.swap([young], { at: 1.5 })],
    ['VALUE', () => loop.swap([young], { at: '1' as never })],
    ['CONFIG', () => loop.swap([young], { when: 1 } as never)],
    ['BATCH_STATE', () => loop.swap([batch])],
    ['VALUE', () => loop.swap([])],
  ]
  for (const [code, call] of swaps) await expect(call(), `${call}`).rejects.toMatchObject({ code: `ERR_SPEADCAST_${code}` })
  const pending = loop.swap([young], { at: 1e9 - 1 })
  await expect(loop.swap([batchOf(stream, ramp(0, 1, 4), 0)])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_BATCH_STATE' })
  loop.stop()
  await expect(pending).rejects.toMatchObject({ code: 'ERR_SPEADCAST_ABORTED' })
  await loop.done
})
