// The observation clock of a stream: what it refuses, which timestamps it finds, and that heaps go when they are due.
import { spawnSync } from 'node:child_process'
import {
  type ClockTime,
  Heap,
  ItemGroup,
  openStream,
  type Stream,
  type StreamClockOptions,
  type StreamEvent,
  type StreamOptions,
} from 'speadcast'
import { describe, expect, test } from 'vitest'
import { clockOpinion, TaiClock } from '#dist/ffi/clock.js'
import { parseTime } from '#dist/src/stream/clock-time.js'
import { memoryStream, parse, TIMESTAMP } from './support.js'

const RATE = 1712e6
const SAMPLES = 4096

/** A minute ago. */
const sync = (): number => Math.floor(Date.now() / 1000) - 60
const clock = (options: Partial<StreamClockOptions> = {}): StreamClockOptions => ({
  syncTime: sync(),
  sampleRateHz: RATE,
  samplesPerHeap: SAMPLES,
  unsynchronised: 'accept',
  ...options,
})
const itemsOf = (bits = 48) =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', bits]] })
    .add({ id: 0x3300, name: 'samples', dtype: 'i1', shape: [1024] })
const clocked = (options: Partial<StreamClockOptions> = {}, others: Partial<StreamOptions> = {}) =>
  memoryStream({ descriptors: 'none', clock: clock(options), ...others })

function taiNow(): number {
  const tai = new TaiClock()
  tai.read()
  return tai.seconds + tai.nanoseconds / 1e9
}

describe('times', () => {
  test.for<[ClockTime, number, number, 'UTC' | 'TAI']>([
    [0, 0, 0, 'UTC'],
    [1_790_000_000.25, 1_790_000_000, 250_000_000, 'UTC'],
    ['1790000000.123456789', 1_790_000_000, 123_456_789, 'UTC'],
    ['1790000000 TAI', 1_790_000_000, 0, 'TAI'],
    ['2026-12-01T00:00:00Z', 1_796_083_200, 0, 'UTC'],
    ['2026-12-01 00:00:00.000000001 UTC', 1_796_083_200, 1, 'UTC'],
    ['2026-12-01T02:00+02:00', 1_796_083_200, 0, 'UTC'],
    ['2026-11-30T19:00:00,5-0500', 1_796_083_200, 500_000_000, 'UTC'],
    ['2026-12-01T00:00:37 TAI', 1_796_083_237, 0, 'TAI'],
    [{ tai: '2026-12-01T00:00:37' }, 1_796_083_237, 0, 'TAI'],
    [{ tai: 1_796_083_237.5 }, 1_796_083_237, 500_000_000, 'TAI'],
    [new Date('2026-12-01T00:00:00.125Z'), 1_796_083_200, 125_000_000, 'UTC'],
  ])('%o', ([time, seconds, nanoseconds, scale]) => {
    expect(parseTime('x', time)).toEqual({ seconds, nanoseconds, scale })
  })

  test.for<[unknown, RegExp]>([
    [Number.NaN, /x is NaN; it must be seconds/],
    [Number.POSITIVE_INFINITY, /x is Infinity/],
    [-1, /before 1970/],
    [1_790_000_000_000, /after the year 5000; if those are milliseconds, divide them by 1000/],
    ['soon', /x is 'soon'; it must be a time such as/],
    ['', /it must be a time such as/],
    ['-5', /it must be a time such as/],
    ['2026-13-01T00:00:00Z', /no day or no time of a day/],
    ['2026-02-30T00:00:00Z', /no day/],
    ['2026-02-28T24:00:00Z', /no day/],
    ['2026-12-01T00:00:00', /zone is unknown; write Z behind it/],
    ['2016-12-31T23:59:60Z', /within a leap second; write it on TAI/],
    ['1969-12-31T23:59:59Z', /before 1970/],
    ['0070-01-01T00:00:00Z', /before 1970/],
    ['2026-12-01T00:00:00+99:00', /no zone/],
    ['2026-12-01T00:00:00+01:60', /no zone/],
    [{ tai: '2026-12-01T00:00:00Z' }, /says UTC too/],
    [{ tai: '2026-12-01T00:00:00+01:00' }, /TAI has no zones/],
    [{ tai: Number.NaN }, /is NaN/],
    [new Date(Number.NaN), /invalid Date/],
    [new Date(-1), /before 1970/],
    [null, /x is null; it must be a time/],
    [true, /x is true; it must be a time/],
    [{}, /it must be a time/],
    [5n, /x is 5n; it must be a time/],
  ])('%o is refused', ([time, message]) => {
    expect(() => parseTime('x', time as ClockTime)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }),
    )
  })
})

describe('openStream refuses', () => {
  const inDays = (days: number) => new Date(Date.now() + days * 86_400_000)
  test.for<[string, Partial<StreamClockOptions>, Partial<StreamOptions>, RegExp]>([
    ['a rate', {}, { rate: '1Gbps' }, /rate and clock are given.*leave rate out/],
    ['a share of the link', {}, { rate: '50%' }, /rate and clock are given/],
    ['pacing by the kernel', {}, { backend: 'udp', rateMethod: 'kernel' }, /rateMethod 'kernel' keeps a rate/],
    ['a syncTime of nonsense', { syncTime: 'yesterday' }, {}, /clock.syncTime is 'yesterday'/],
    ['a syncTime that is no number', { syncTime: Number.NaN }, {}, /syncTime.*NaN/],
    ['a syncTime that is no Date', { syncTime: new Date('yesterday') }, {}, /clock.syncTime is an invalid Date/],
    ['a syncTime far ahead', { syncTime: inDays(400) }, {}, /clock.syncTime is \d+ minutes ahead/],
    [
      'a startAt that has passed',
      { startAt: new Date(Date.now() - 5000) },
      {},
      /clock.startAt passed 5\.\d+ s ago; give a time ahead/,
    ],
    ['a startAt far ahead', { startAt: inDays(400) }, {}, /clock.startAt is \d+ minutes ahead; give a time within a year/],
    ['a startAt before syncTime', { syncTime: inDays(2), startAt: inDays(1) }, {}, /is before clock.syncTime/],
    ['a sample rate of 0', { sampleRateHz: 0 }, {}, /option 'clock.sampleRateHz' is 0; must be a number from/],
    ['a negative one', { sampleRateHz: -1 }, {}, /option 'clock.sampleRateHz' is -1/],
    ['an endless one', { sampleRateHz: Number.POSITIVE_INFINITY }, {}, /option 'clock.sampleRateHz' is Infinity/],
    ['no samples', { samplesPerHeap: 0 }, {}, /option 'clock.samplesPerHeap' is 0/],
    ['half a sample', { samplesPerHeap: 0.5 }, {}, /option 'clock.samplesPerHeap' is 0.5/],
    ['another policy', { late: 'drop' as 'skip' }, {}, /option 'clock.late' is "drop"; must be 'slip' or 'skip'/],
    ['a tolerance of nothing', { lateToleranceSeconds: 1 }, {}, /give clock.late 'skip' too/],
    ['a negative tolerance', { late: 'skip', lateToleranceSeconds: -1 }, {}, /option 'clock.lateToleranceSeconds' is -1/],
    ['an unknown key', { offset: 1 } as object, {}, /unknown option 'clock.offset'; known ones: syncTime, sampleRateHz/],
  ])('%s', async ([, options, others, message]) => {
    const opening = openStream({ to: '127.0.0.1:9', backend: 'memory', ...others, clock: clock(options) })
    await expect(opening).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) })
  })

  test('a clock that is none', async () => {
    for (const wrong of [true, 5, 'x', null, []]) {
      const opening = openStream({ to: '127.0.0.1:9', backend: 'memory', clock: wrong as unknown as StreamClockOptions })
      await expect(opening).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(/clock/) })
    }
  })

  test('a host whose clock nobody keeps, unless it is told to accept it', async () => {
    const { synchronised, taiOffsetSeconds } = clockOpinion()
    const opening = openStream({ to: '127.0.0.1:9', backend: 'memory', clock: clock({ unsynchronised: 'refuse' }) })
    if (synchronised && taiOffsetSeconds !== 0) await (await opening).close()
    else
      await expect(opening).rejects.toMatchObject({
        code: 'ERR_SPEADCAST_CLOCK',
        message: expect.stringMatching(/(STA_UNSYNC|TAI − UTC).*clock.unsynchronised 'warn' or 'accept'/),
      })
  })
})

describe('createBatch refuses heaps that do not say when they are due', () => {
  const samples = { id: 0x3300, name: 'samples', dtype: 'i1', shape: [1024] } as const
  test.for<[string, ItemGroup, RegExp]>([
    ['no timestamp', new ItemGroup().add(samples), /the items have no 'timestamp'.*clock\.item/],
    ['a signed one', new ItemGroup().add({ id: 0x1600, name: 'timestamp', dtype: '>i4', shape: [] }), /is not one unsigned number/],
    ['a float', new ItemGroup().add({ id: 0x1600, name: 'timestamp', dtype: '>f4', shape: [] }), /is not one unsigned number/],
    [
      'one of 42 bits',
      new ItemGroup().add({ id: 0x1600, name: 'timestamp', format: [['u', 42]] }),
      /has 42 bits, which are no whole bytes/,
    ],
    ['two numbers', new ItemGroup().add({ id: 0x1600, name: 'timestamp', dtype: '>u2', shape: [2] }), /is not one unsigned number/],
    [
      'one of 64 bits',
      new ItemGroup().add({ id: 0x1600, name: 'timestamp', dtype: '>u8', shape: [] }),
      /does not stand in its item pointer, which holds 48 bits/,
    ],
  ])('%s', async ([, items, message]) => {
    const stream = await clocked()
    expect(() => stream.createBatch({ items, heaps: 2 })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(message) }),
    )
  })

  test('sendHeap, which has no batch', async () => {
    const stream = await clocked()
    expect(() => stream.sendHeaps([{ heap: new Heap() }], 'serial')).toThrow(/goes by the timestamps of batches/)
  })

  test('and takes another item by name', async () => {
    const stream = await clocked({ item: 'sample_index' })
    const items = new ItemGroup().add({ id: 0x1600, name: 'sample_index', dtype: '<u4', shape: [] }).add(samples)
    expect(stream.createBatch({ items, heaps: 2 }).heaps).toBe(2)
  })
})

describe('nextTimestamp', () => {
  const exact = (samples: bigint, bits: number): number => Number(BigInt.asUintN(bits, samples))

  test('is the first multiple of a heap’s samples that can be sent in time', async () => {
    const syncTime = sync()
    const stream = await clocked({ syncTime })
    const { taiOffsetSeconds } = clockOpinion()
    const before = taiNow() - taiOffsetSeconds - syncTime
    const timestamp = stream.clock!.nextTimestamp()
    const after = taiNow() - taiOffsetSeconds - syncTime
    expect(timestamp % SAMPLES).toBe(0)
    expect(timestamp / RATE).toBeGreaterThanOrEqual(before + 0.049)
    expect(timestamp / RATE).toBeLessThan(after + 0.051)
  })

  test('after a time, to a period, at the width of the item, however long ago the synchronisation was', async () => {
    const syncTime = 1_600_000_000
    const stream = await clocked({ syncTime })
    const samples = 200_000_000n * 1_712_000_000n
    for (const period of [1, 4096, 2 ** 26, 3 * 4096]) {
      const up = ((samples + BigInt(period) - 1n) / BigInt(period)) * BigInt(period)
      for (const bits of [48, 40, 24])
        expect(stream.clock!.nextTimestamp({ after: 1_800_000_000, period, bits })).toBe(exact(up, bits))
    }
    expect(stream.clock!.nextTimestamp({ after: 1_500_000_000 })).toBe(0)
  })

  test('is the same for all who were given the same start, which is due then', async () => {
    const startAt = new Date(Date.now() + 3_600_000)
    const streams = [await clocked({ syncTime: 1_790_000_000, startAt }), await clocked({ syncTime: 1_790_000_000, startAt })]
    const [one, other] = streams.map((stream) => stream.clock!.nextTimestamp({ period: 2 ** 20 }))
    expect(one).toBe(other)
    const late = streams[0]!.clock!.dateOf(one!).getTime() - startAt.getTime()
    expect(late).toBeGreaterThanOrEqual(-1)
    expect(late).toBeLessThan((2 ** 20 / RATE) * 1000 + 1)
  })

  test('goes on where TAI is told', async () => {
    const stream = await clocked({ syncTime: { tai: 1_790_000_000 } })
    expect(stream.clock!.nextTimestamp({ after: { tai: 1_790_000_001 } })).toBe(Math.ceil(RATE / SAMPLES) * SAMPLES)
    expect(stream.clock!.nextTimestamp({ after: '1790000001 TAI' })).toBe(Math.ceil(RATE / SAMPLES) * SAMPLES)
  })

  test.for<[object, RegExp]>([
    [{ period: 0 }, /period is 0; it must be a whole number/],
    [{ period: Number.NaN }, /period is NaN/],
    [{ bits: 64 }, /bits is 64; it must be a whole number from 1 to 48/],
    [{ after: 'later' }, /after is 'later'; it must be a time/],
    [{ when: 1 }, /unknown option 'when'/],
  ])('refuses %o', async ([options, message]) => {
    const stream = await clocked()
    expect(() => stream.clock!.nextTimestamp(options)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }),
    )
  })

  test('refuses what no double holds', async () => {
    const stream = await clocked({ syncTime: 1_600_000_000 }, { flavour: { heapAddressBits: 56 } })
    expect(() => stream.clock!.nextTimestamp()).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
  })
})

test('a stream without a clock has none', async () => {
  const stream = await memoryStream()
  expect(stream.clock).toBeUndefined()
  expect(stream.stats()).toMatchObject({ timeErrorNanoseconds: 0, greatestTimeErrorNanoseconds: 0, clockSteps: 0, heapsSkipped: 0 })
})

test('heaps go when they are due, descriptors and the end of the stream at once', async () => {
  const stream = await clocked({ sampleRateHz: 4096e2 }, { descriptors: 'first' })
  expect(stream.stats().states).toMatchObject({ rateMethod: 'sw', rateMethodReason: 'the observation clock says when' })
  const batch = stream.createBatch({ items: itemsOf(), heaps: 20 })
  const first = stream.clock!.nextTimestamp()
  batch.immediate('timestamp').setRamp(first, SAMPLES)
  const done = stream.send(batch)
  await stream.flush()
  await done
  const due = stream.clock!.dateOf(first + 19 * SAMPLES).getTime()
  expect(Date.now()).toBeGreaterThanOrEqual(due)
  const timestamps = stream.packets.map(parse).map((packet) => packet.value(TIMESTAMP))
  expect(timestamps).toEqual([undefined, ...Array.from({ length: 20 }, (_, j) => first + j * SAMPLES)])
  const { timeErrors, timeErrorSeconds, greatestTimeErrorSeconds } = stream.clock!
  expect(timeErrors.count).toBe(20)
  expect(timeErrors.max).toBeCloseTo(greatestTimeErrorSeconds * 1e9, 0)
  expect(Math.abs(timeErrorSeconds)).toBeLessThanOrEqual(greatestTimeErrorSeconds)
  await stream.sendEnd()
})

test('heaps that are too late are left out, told, and no failure', async () => {
  const stream = await clocked({ syncTime: sync() - 1000, sampleRateHz: 4096e2, late: 'skip', lateToleranceSeconds: 20 })
  const heard: StreamEvent[] = []
  void (async () => {
    for await (const event of stream.events({ kinds: ['late'] })) heard.push(event)
  })()
  const batch = stream.createBatch({ items: itemsOf(), heaps: 20 })
  const first = stream.clock!.nextTimestamp()
  // Of a minute ago.
  batch.immediate('timestamp').setRamp(first - 6000 * SAMPLES, SAMPLES)
  const { heaps, packets, payloadBytes, skipped } = await stream.send(batch)
  expect({ heaps, packets, payloadBytes }).toEqual({ heaps: 0, packets: 0, payloadBytes: 0 })
  expect(skipped).toMatchObject({ heaps: [...Array(20).keys()], causes: [{ errnoName: 'LATE', substream: 0, packets: 20 }] })
  expect(skipped!.causes[0]!.message).toMatch(/^the heap was late by the observation clock/)
  const { heapsSkipped, heapsSent, heapsFailed } = stream.stats()
  expect([heapsSkipped, heapsSent, heapsFailed]).toEqual([20, 0, 0])
  expect(heard.reduce((sum, { after }) => sum + Number((after as { heaps: number }).heaps), 0)).toBe(heapsSkipped)
  const [told] = heard
  expect(told).toMatchObject({ kind: 'late', message: expect.stringMatching(/^left out \d+ heaps?, late by \d/) })
  expect((told!.after as { lateSeconds: number }).lateSeconds).toBeGreaterThan(20)
  // Nobody looks at this one.
  batch.immediate('timestamp').setRamp(first - 6000 * SAMPLES, SAMPLES)
  stream.send(batch)
  await batch.free
  await stream.flush()
  // Heap cnts are used up, so a receiver sees what is missing.
  batch.immediate('timestamp').setRamp(stream.clock!.nextTimestamp(), SAMPLES)
  await batch.free
  expect(await stream.send(batch)).toMatchObject({ heaps: 20, firstCnt: 41 })
})

test('ranges, masks and the first heaps of a batch have the times of their own timestamps', async () => {
  const stream = await clocked({ sampleRateHz: 4096e2 })
  const batch = stream.createBatch({ items: itemsOf(), heaps: 16 })
  const column = batch.immediate('timestamp')
  const mask = Uint8Array.from({ length: 16 }, (_, j) => Number(j >= 12 && j % 2 === 0))
  for (const options of [{ firstHeap: 12 }, { mask }, { heaps: 4 }]) {
    // Heaps that are left out would be due in a day, or long ago.
    column.fill(0)
    const first = stream.clock!.nextTimestamp()
    const sent = 'mask' in options ? [12, 14] : 'heaps' in options ? [0, 1, 2, 3] : [12, 13, 14, 15]
    for (const [k, j] of sent.entries()) column[j] = first + k * SAMPLES
    await stream.send(batch, options)
    expect(Date.now()).toBeGreaterThanOrEqual(stream.clock!.dateOf(first + (sent.length - 1) * SAMPLES).getTime())
    expect(stream.clock!.greatestTimeErrorSeconds).toBeLessThan(10)
  }
})

test('a stream that waits for its start ends when it is told to', async () => {
  const stream = await clocked({ startAt: new Date(Date.now() + 3_600_000) })
  const batch = stream.createBatch({ items: itemsOf(), heaps: 16 })
  batch.immediate('timestamp').setRamp(stream.clock!.nextTimestamp(), SAMPLES)
  const sent = stream.send(batch)
  expect(await stream.close({ deadlineSeconds: 0.05 })).toEqual({ droppedHeaps: 16 })
  await expect(sent).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SEND' })
})

describe.each(['inline', 'worker'] as const)('a send that waits for its start, thread %s,', (thread) => {
  const inAnHour = () => new Date(Date.now() + 3_600_000)
  const open = (options: Partial<StreamClockOptions> = {}) =>
    openStream({
      to: '10.0.0.1:7148',
      backend: 'pcap',
      pcapPath: '/dev/null',
      descriptors: 'none',
      clock: clock(options),
      thread,
    })
  const batchAt = (stream: Stream, first: number) => {
    const batch = stream.createBatch({ items: itemsOf(), heaps: 4 })
    batch.immediate('timestamp').setRamp(first, SAMPLES)
    return batch
  }

  test('is withdrawn by its signal, and the next one goes in time with its heap cnts', async () => {
    const stream = await open({ startAt: inAnHour() })
    const abort = new AbortController()
    const sent = stream.send(batchAt(stream, stream.clock!.nextTimestamp()), { signal: abort.signal })
    setTimeout(() => abort.abort(new Error('no more')), 30)
    await expect(sent).rejects.toThrow('no more')
    const soon = stream.clock!.nextTimestamp({ after: new Date(Date.now() + 300) })
    expect(await stream.send(batchAt(stream, soon))).toMatchObject({ heaps: 4, firstCnt: 1 })
    expect(stream.clock!.greatestTimeErrorSeconds).toBeLessThan(10)
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  })

  test('and whose signal nobody uses goes when it is due', async () => {
    const stream = await open()
    const first = stream.clock!.nextTimestamp({ after: new Date(Date.now() + 100) })
    await stream.send(batchAt(stream, first), { signal: new AbortController().signal })
    expect(Date.now()).toBeGreaterThanOrEqual(stream.clock!.dateOf(first).getTime())
    await stream.close()
  })

  test.for(['stop', 'signal'] as const)('is a loop, which ends by its %s', async (how) => {
    const stream = await open({ startAt: inAnHour() })
    const abort = new AbortController()
    const first = stream.clock!.nextTimestamp()
    const window = [0, 4, 8].map((heaps) => batchAt(stream, first + heaps * SAMPLES))
    const loop = stream.loop(window, { signal: abort.signal })
    setTimeout(() => (how === 'stop' ? loop.stop() : abort.abort(new Error('no more'))), 30)
    if (how === 'stop') expect(await loop.done).toMatchObject({ heaps: 0, failedHeaps: 0 })
    else await expect(loop.done).rejects.toThrow('no more')
    await window[0]!.free
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  })
})

test('what has no time of its own, as descriptors, makes no lag where it is refused for a while', async () => {
  let refusals = 0
  const memory = { failAt: () => (refusals++ < 3 ? ({ errno: 105, how: 'again' } as const) : undefined) }
  const clock = { syncTime: sync(), sampleRateHz: 1e6, samplesPerHeap: 1000, unsynchronised: 'accept' } as const
  await using stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory', memory, clock, descriptors: 'first' })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [1000] })
  const batch = stream.createBatch({ items, heaps: 2 })
  batch.immediate('timestamp').setRamp(stream.clock!.nextTimestamp(), 1000)
  await stream.send(batch)
  expect(refusals).toBeGreaterThan(3)
  // Not since for ever, and not since syncTime.
  expect(stream.stats().greatestLagNanoseconds).toBeLessThan(60e9)
  expect(stream.stats().bytesBehind).not.toBeNaN()
})

test('an unsynchronised clock is warned of', (ctx) => {
  const { synchronised, taiOffsetSeconds } = clockOpinion()
  if (synchronised && taiOffsetSeconds !== 0) return ctx.skip('this host has what a clock needs')
  const program = `
    const { openStream } = await import('speadcast')
    const clock = { syncTime: ${sync()}, sampleRateHz: 1e9, samplesPerHeap: 4096, unsynchronised: 'warn' }
    await (await openStream({ to: '127.0.0.1:9', backend: 'memory', clock })).close()`
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect(stderr).toMatch(/SPEADCAST_CLOCK.*heaps may not be in step/)
  expect(status).toBe(0)
})
