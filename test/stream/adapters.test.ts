// The adapters in front of a stream: raw samples into heaps, sources of heaps, rings of batches. Packets are read from the memory backend.
import { totalmem } from 'node:os'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  batchesFor,
  createBatchRing,
  Heap,
  type HeapsToSend,
  Item,
  ItemGroup,
  type ItemInit,
  type SampleWriterOptions,
  SendError,
  type SettledHeaps,
  type Stream,
  sampleWriter,
  sendAll,
  toWritable,
} from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { pointersOf } from '../support/cli.js'
import { need } from '../support/need.js'
import { PythonPeer } from '../support/python-peer.js'
import { memoryStream, parse, SAMPLES, TIMESTAMP, turn } from './support.js'

const TIMESTAMP_ITEM: ItemInit = { id: TIMESTAMP, name: 'timestamp', format: [['u', 48]] }
const itemsOf = (samples: Partial<ItemInit> = {}): ItemGroup =>
  new ItemGroup().add(TIMESTAMP_ITEM).add({ id: SAMPLES, name: 'adc_samples', ...samples, ...typeOf(samples) })
const typeOf = ({ dtype, format, shape = [100] }: Partial<ItemInit>) => ({
  shape,
  ...(format ? { format } : { dtype: dtype ?? 'i1' }),
})

const WRITER = { item: 'adc_samples', timestamp: 'timestamp', heapsPerBatch: 3, batches: 2 } as const
const writerOn = (stream: Stream, options: Partial<SampleWriterOptions> = {}) =>
  sampleWriter(stream, { items: itemsOf(), ...WRITER, ...options })

/** Single-packet heaps in sending order; `data` is the payload. */
const sentOn = (stream: Stream) => stream.packets.map(parse).map((packet) => ({ ...packet, timestamp: packet.value(TIMESTAMP) }))
const dataOn = (stream: Stream) => sentOn(stream).filter(({ timestamp }) => timestamp !== undefined)
const shapesOn = (stream: Stream): string[] =>
  sentOn(stream)
    .filter(({ descriptors }) => descriptors > 0)
    .map(({ data }) => data.toString('latin1').match(/'shape': (\([^)]*\))/)![1]!)

const bytesUpTo = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 11) & 0xff)

describe('sampleWriter', () => {
  test.for([[[1]], [[99, 1, 0, 250]], [[300]], [[7]], [[2111]], [[100, 600]]])(
    'takes pieces of any length: %j',
    async ([lengths]) => {
      const stream = await memoryStream()
      const writer = writerOn(stream)
      const input = bytesUpTo(2111)
      for (let at = 0, i = 0; at < input.length; i++) {
        const piece = input.slice(at, at + lengths![i % lengths!.length]!)
        at += piece.length
        await writer.write(piece)
        // The heaps that were taken were copied.
        piece.fill(0)
      }
      expect(await writer.end()).toEqual({ heaps: 22, failedHeaps: 0, sampleBytes: 2111, droppedBytes: 0 })
      const heaps = dataOn(stream)
      expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
      expect(heaps.map(({ timestamp }) => timestamp)).toEqual(Array.from({ length: 22 }, (_, i) => 100 * i))
      expect(heaps.map(({ data }) => data.length)).toEqual([...Array(21).fill(100), 11])
    },
  )

  describe('several items', () => {
    const items = () =>
      new ItemGroup()
        .add(TIMESTAMP_ITEM)
        .add({ id: 0x4000, name: 'a', dtype: '<i2', shape: [20] })
        .add({ id: 0x4001, name: 'b', dtype: '<i2', shape: [5, 3] })
    const SEVERAL = { items: items(), item: ['a', 'b'], timestamp: 'timestamp', heapsPerBatch: 3, batches: 2 } as const

    test.for([[[1]], [[39, 1, 0, 31]], [[70]], [[7]], [[1400]], [[40, 600]]])(
      'of a heap take one after the other of pieces of any length: %j',
      async ([lengths]) => {
        for (const maxDelayMs of [undefined, 0]) {
          const stream = await memoryStream()
          const writer = sampleWriter(stream, { ...SEVERAL, ...(maxDelayMs !== undefined && { maxDelayMs }) })
          expect([writer.heapBytes, writer.sampleBytes, writer.samplesPerHeap]).toEqual([70, 70, 20])
          const input = bytesUpTo(1400)
          for (let at = 0, i = 0; at < input.length; i++) {
            const piece = input.slice(at, at + lengths![i % lengths!.length]!)
            at += piece.length
            await writer.write(piece)
          }
          expect(await writer.end()).toEqual({ heaps: 20, failedHeaps: 0, sampleBytes: 1400, droppedBytes: 0 })
          const heaps = dataOn(stream)
          expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
          expect(heaps.map(({ timestamp }) => timestamp)).toEqual(Array.from({ length: 20 }, (_, i) => 20 * i))
        }
      },
    )

    test('are never sent in part: what is over is an error, or dropped', async () => {
      const stream = await memoryStream()
      const writer = sampleWriter(stream, SEVERAL)
      await writer.write(new Int16Array(60))
      await expect(writer.end()).rejects.toMatchObject({
        code: 'ERR_SPEADCAST_INPUT',
        message: expect.stringContaining("50 bytes left over at the end: items 'a', 'b' of a heap take 70 bytes"),
      })
      expect(dataOn(stream)).toHaveLength(1)
      const other = sampleWriter(stream, SEVERAL)
      await other.write(new Int16Array(60))
      expect(await other.end({ dropPartialSample: true })).toEqual({ heaps: 1, failedHeaps: 0, sampleBytes: 70, droppedBytes: 50 })
    })

    test.for([[[]], [['a', 'a']], [undefined], [{}]] as const)('refuses %j', async ([item]) => {
      const stream = await memoryStream()
      expect(() => sampleWriter(stream, { ...SEVERAL, item: item as never })).toThrow(
        expect.objectContaining({
          code: 'ERR_SPEADCAST_CONFIG',
          message: expect.stringMatching(/sampleWriter: item is .*list of different ones/),
        }),
      )
    })
  })

  test('a last heap that is not full tells its own shape first', async () => {
    const stream = await memoryStream()
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(742))
    await writer.end()
    expect(shapesOn(stream)).toEqual(['(100,)', '(42,)'])
    // Descriptors, seven heaps, descriptors, the short one.
    expect(sentOn(stream).map(({ descriptors }) => descriptors)).toEqual([2, 0, 0, 0, 0, 0, 0, 0, 2, 0])
    expect(sentOn(stream).map(({ cnt }) => cnt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  test.for([
    [{ shape: [10, 4], dtype: '<i2' }, 8, '(3, 4)'],
    [{ shape: [4, 10], dtype: '<i2', order: 'F' }, 8, '(4, 3)'],
    [{ shape: [10], dtype: '>c16' }, 16, '(3,)'],
    [{ shape: [25], format: [['u', 24]] }, 3, null],
  ] as [Partial<ItemInit>, number, string | null][])(
    'samples are steps of the slowest dimension: %j',
    async ([samples, sampleBytes, shape]) => {
      const stream = await memoryStream()
      const writer = writerOn(stream, { items: itemsOf(samples) })
      const perHeap = writer.samplesPerHeap
      expect(writer).toMatchObject({ sampleBytes, heapBytes: sampleBytes * perHeap })
      const input = bytesUpTo(sampleBytes * (2 * perHeap + 3))
      await writer.write(input)
      await writer.end()
      const heaps = dataOn(stream)
      expect(heaps.map(({ timestamp }) => timestamp)).toEqual([0, perHeap, 2 * perHeap])
      expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
      if (shape) expect(shapesOn(stream).at(-1)).toBe(shape)
    },
  )

  test('spead2 reads a short heap with its own descriptor', async (ctx) => {
    const peer = PythonPeer.start()
    need(ctx, peer, 'no Python with spead2 (npm test sets it up)')
    onTestFinished(() => peer.close())
    let compared = 0
    for (const samples of [1, 2, 3, 4, 50, 99]) {
      const stream = await memoryStream({ descriptors: 'in-band' })
      const writer = writerOn(stream, { items: itemsOf({ dtype: '<u2' }), firstSample: 5000 })
      const values = Uint16Array.from({ length: samples }, (_, i) => 1000 * i + samples)
      await writer.write(values)
      await writer.end()
      const packets = stream.packets.map(({ bytes }) => Buffer.from(bytes).toString('base64'))
      const [heap] = await peer.decode([{ packets }])
      expect(heap!.error ?? heap!.valueError).toBeUndefined()
      expect(heap!.descriptors!.find(({ name }) => name === 'adc_samples')).toMatchObject({
        dtype: `{'descr': '<u2', 'fortran_order': False, 'shape': (${samples},)}`,
      })
      const item = heap!.items.find(({ id }) => id === `${SAMPLES}`)!
      const wire = Buffer.from(item.bytes, 'base64')
      expect(wire.subarray(wire.length - 2 * samples).equals(Buffer.from(values.buffer))).toBe(true)
      expect(Number(`0x${Buffer.from(heap!.items.find(({ id }) => id === `${TIMESTAMP}`)!.bytes, 'base64').toString('hex')}`)).toBe(
        5000,
      )
      compared++
    }
    const { spead2 } = await peer.versions()
    console.log(`peer spead2 ${spead2}: ${compared} short heaps compared`)
  })

  test('descriptors none: the short heap comes without', async () => {
    const stream = await memoryStream({ descriptors: 'none' })
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(150))
    await writer.end()
    expect(sentOn(stream).map(({ descriptors, data }) => [descriptors, data.length])).toEqual([
      [0, 100],
      [0, 50],
    ])
  })

  test('an exact layout holds for the short heap too', async () => {
    const pointers = ['heap-cnt', 'payload-offset', { item: SAMPLES }, { item: TIMESTAMP }] as const
    const stream = await memoryStream({ split: { payloadBytes: 64, pointers } })
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(170))
    await writer.end()
    const sizes = sentOn(stream).flatMap(({ timestamp, data }) => (timestamp === undefined ? [] : [data.length]))
    expect(sizes).toEqual([64, 36, 64, 6])
  })

  test('heaps go round the substreams, the short one included', async () => {
    const stream = await memoryStream({ to: '10.0.0.1+4:7148', descriptors: 'none' })
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(100 * 40 + 10))
    await writer.end()
    expect(dataOn(stream).map(({ substream }) => substream)).toEqual(Array.from({ length: 41 }, (_, i) => i % 5))
  })

  test('timestamps start where told and wrap at their width', async () => {
    const stream = await memoryStream()
    const items = itemsOf().add({ id: 0x1601, name: 'small', format: [['u', 8]] })
    const writer = writerOn(stream, { items, timestamp: 'small', firstSample: 1000 })
    await writer.write(bytesUpTo(550))
    await writer.end()
    const small = stream.packets.flatMap(({ bytes }) => pointersOf(bytes).filter(({ id }) => id === 0x1601))
    expect(small.map(({ value }) => value)).toEqual([1000, 1100, 1200, 1300, 1400, 1500].map((sample) => sample % 256))
  })

  test('other items keep their values', async () => {
    const stream = await memoryStream({ descriptors: 'none' })
    const items = itemsOf().add({ id: 0x4000, name: 'antenna', dtype: 'S8', value: 'm012' })
    const writer = writerOn(stream, { items })
    await writer.write(bytesUpTo(150))
    await writer.end()
    for (const { data } of dataOn(stream)) expect(data.subarray(-8).toString('latin1')).toBe('m012\0\0\0\0')
  })

  test('bytes after the last whole sample are an error that counts them, unless they are to be dropped', async () => {
    const stream = await memoryStream()
    const items = itemsOf({ dtype: '<i4' })
    const strict = writerOn(stream, { items })
    await strict.write(bytesUpTo(411))
    await expect(strict.end()).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_INPUT',
      message: expect.stringMatching(/^3 bytes left over/),
    })
    expect(dataOn(stream).map(({ data }) => data.length)).toEqual([400, 8])

    const lenient = writerOn(stream, { items })
    await lenient.write(bytesUpTo(401))
    expect(await lenient.end({ dropPartialSample: true })).toMatchObject({ heaps: 1, sampleBytes: 400, droppedBytes: 1 })
  })

  test('writing waits while all batches are under way', async () => {
    const gate = { shut: true }
    const stream = await memoryStream({ descriptors: 'none' }, gate)
    const writer = writerOn(stream, { heapsPerBatch: 1, batches: 2 })
    await writer.write(bytesUpTo(200))
    const third = writer.write(bytesUpTo(100))
    expect(await Promise.race([third, turn()])).toBe('pending')
    gate.shut = false
    await third
    expect(await writer.end()).toMatchObject({ heaps: 3 })
  })

  describe('failures', () => {
    test('with onSettled are told there, and writing goes on', async () => {
      const stream = await memoryStream(
        { descriptors: 'none' },
        { shut: false, refuse: (row) => row === 4 || row === 5 || row === 11 },
      )
      const told: SettledHeaps[] = []
      const writer = writerOn(stream, { onSettled: (settled) => told.push(settled) })
      for (let i = 0; i < 12; i++) await writer.write(bytesUpTo(100))
      expect(await writer.end()).toEqual({ heaps: 9, failedHeaps: 3, sampleBytes: 900, droppedBytes: 0 })
      expect(told.map(({ heaps, failedHeaps, sampleBytes }) => [heaps, failedHeaps, sampleBytes])).toEqual([
        [3, 0, 300],
        [3, 2, 100],
        [3, 0, 300],
        [3, 1, 200],
      ])
      expect(told[0]!.result).toMatchObject({ heaps: 3, evidence: 'written' })
      expect(told[1]!.error).toBeInstanceOf(SendError)
      expect(dataOn(stream)).toHaveLength(9)
    })

    test('without it reject the next write, and end', async () => {
      const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: (row) => row === 1 })
      const writer = writerOn(stream)
      await writer.write(bytesUpTo(300))
      await turn()
      const failed = { code: 'ERR_SPEADCAST_SEND' }
      await expect(writer.write(bytesUpTo(1))).rejects.toMatchObject(failed)
      await expect(writer.end()).rejects.toMatchObject(failed)
      // The stream itself is none the worse, and nothing is thrown twice.
      await stream.flush()
    })

    test('the last batch’s rejects end', async () => {
      const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: (row) => row === 0 })
      const writer = writerOn(stream)
      await writer.write(bytesUpTo(10))
      await expect(writer.end()).rejects.toBeInstanceOf(SendError)
    })

    test('an onSettled that throws rejects end, and is no unhandled rejection', async () => {
      const stream = await memoryStream()
      const error = new Error('from the callback')
      const writer = writerOn(stream, {
        onSettled: () => {
          throw error
        },
      })
      await writer.write(bytesUpTo(10))
      await expect(writer.end()).rejects.toBe(error)
    })
  })

  describe('aborting', () => {
    test.for(['abort()', 'signal'])('by %s withdraws what is queued and rejects with the reason', async (how) => {
      const gate = { shut: true }
      const stream = await memoryStream({ descriptors: 'none' }, gate)
      const controller = new AbortController()
      const told: SettledHeaps[] = []
      const options = {
        heapsPerBatch: 1,
        batches: 3,
        signal: controller.signal,
        onSettled: (settled: SettledHeaps) => told.push(settled),
      }
      const writer = writerOn(stream, options)
      const reason = new Error('no longer wanted')
      await writer.write(bytesUpTo(300))
      const waiting = writer.write(bytesUpTo(100))
      const outcome = expect(waiting).rejects.toBe(reason)
      await turn()
      if (how === 'signal') controller.abort(reason)
      else writer.abort(reason)
      gate.shut = false
      await outcome
      await expect(writer.write(bytesUpTo(1))).rejects.toBe(reason)
      await expect(writer.end()).rejects.toBe(reason)
      expect(told.reduce((sum, { heaps }) => sum + heaps, 0)).toBe(3)
      const sent = dataOn(stream).length
      expect(told.reduce((sum, { failedHeaps }) => sum + failedHeaps, 0)).toBe(3 - sent)
      expect(sent).toBeLessThan(3)
      // Aborted heaps leave no hole.
      const heap = new Heap()
      heap.addRaw({ id: TIMESTAMP, bytes: new Uint8Array(6), allowImmediate: true })
      await stream.sendHeap(heap)
      expect(dataOn(stream).map(({ cnt }) => cnt)).toEqual(Array.from({ length: sent + 1 }, (_, i) => i + 1))
    })

    test('with a signal that is aborted already makes none', async () => {
      const stream = await memoryStream()
      const reason = new Error('too late')
      expect(() => writerOn(stream, { signal: AbortSignal.abort(reason) })).toThrow(reason)
    })
  })

  describe('misuse', () => {
    test('one call at a time', async () => {
      const stream = await memoryStream()
      const writer = writerOn(stream)
      const first = writer.write(bytesUpTo(2000))
      const overlap = { code: 'ERR_SPEADCAST_BATCH_STATE', message: expect.stringMatching(/await each/) }
      await expect(writer.write(bytesUpTo(1))).rejects.toMatchObject(overlap)
      await expect(writer.end()).rejects.toMatchObject(overlap)
      await first
      const end = writer.end()
      expect(writer.end()).toBe(end)
      expect(await end).toMatchObject({ heaps: 20, sampleBytes: 2000 })
      await expect(writer.write(bytesUpTo(1))).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
    })

    test('what is no samples', async () => {
      const stream = await memoryStream()
      const writer = writerOn(stream)
      for (const wrong of ['text', 7, null, undefined, [1, 2]])
        await expect(writer.write(wrong as unknown as Uint8Array)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE' })
      const detached = new Uint8Array(8)
      structuredClone(detached.buffer, { transfer: [detached.buffer] })
      await expect(writer.write(detached)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE', message: /detached/ })
      await writer.write(new Uint8Array())
      expect(await writer.end()).toMatchObject({ heaps: 0 })
    })

    test.for([
      [{ item: 'no_such' }, 'ERR_SPEADCAST_ITEM', /no item of name 'no_such'/],
      [{ items: itemsOf({ shape: [6] }) }, 'ERR_SPEADCAST_ITEM', /6 bytes a heap, which travel inside the item pointer/],
      [{ items: itemsOf({ shape: [0] }) }, 'ERR_SPEADCAST_ITEM', /takes no samples/],
      [{ items: itemsOf({ shape: [null], format: [['i', 8]] }) }, 'ERR_SPEADCAST_ITEM', /variable shape/],
      [{ items: itemsOf({ shape: [100], format: [['i', 10]] }) }, 'ERR_SPEADCAST_ITEM', /a sample must be whole bytes/],
      [{ timestamp: 'adc_samples' }, 'ERR_SPEADCAST_ITEM', /cannot be the timestamp/],
      [{ firstSample: -1 }, 'ERR_SPEADCAST_CONFIG', /firstSample is -1/],
      [{ batches: 0 }, 'ERR_SPEADCAST_CONFIG', /batches is 0/],
      [{ heapsPerBatch: 0.5 }, 'ERR_SPEADCAST_CONFIG', /heaps is 0.5/],
      [{ heapPerBatch: 1 }, 'ERR_SPEADCAST_CONFIG', /unknown option 'heapPerBatch'; there are: items, item/],
    ] as [Partial<SampleWriterOptions>, string, RegExp][])('options: %j', async ([options, code, message]) => {
      const stream = await memoryStream()
      expect(() => writerOn(stream, options)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
    })

    test('a stream closed under it rejects, and does not hang', async () => {
      const stream = await memoryStream()
      const writer = writerOn(stream)
      await writer.write(bytesUpTo(150))
      await stream.close()
      await expect(writer.end()).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
    })
  })
})

describe('toWritable', () => {
  test('takes the place of a WHATWG stream', async () => {
    const stream = await memoryStream()
    const input = bytesUpTo(12_345)
    const writable = toWritable(writerOn(stream))
    await new Blob([input]).stream().pipeTo(writable)
    expect(Buffer.concat(dataOn(stream).map(({ data }) => data)).equals(input)).toBe(true)
  })

  test('and of a node stream', async () => {
    const stream = await memoryStream()
    const input = bytesUpTo(5000)
    await pipeline(
      [Buffer.from(input.subarray(0, 1)), Buffer.from(input.subarray(1))],
      Writable.fromWeb(toWritable(writerOn(stream)) as never),
    )
    expect(Buffer.concat(dataOn(stream).map(({ data }) => data)).equals(input)).toBe(true)
  })

  test('passes on the error of a partial sample, and of a source that fails', async () => {
    const stream = await memoryStream()
    const items = itemsOf({ dtype: '<i4' })
    await expect(new Blob([bytesUpTo(9)]).stream().pipeTo(toWritable(writerOn(stream, { items })))).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_INPUT',
    })
    const broken = new Error('the source broke')
    const writer = writerOn(stream)
    const source = new ReadableStream({
      pull(controller) {
        controller.error(broken)
      },
    })
    await expect(source.pipeTo(toWritable(writer))).rejects.toBe(broken)
    await expect(writer.end()).rejects.toBe(broken)
  })
})

describe('sendAll', () => {
  const item = (bytes: Uint8Array) => new Item({ id: TIMESTAMP, name: 'timestamp', format: [['u', 48]], value: () => bytes })
  const heapOf = (n: number): Heap => new Heap().addItem(item(Uint8Array.of(0, 0, 0, 0, 0, n)))

  test('sends heaps, references and groups, from an async or a plain source, in order', async () => {
    const stream = await memoryStream({ to: '10.0.0.1+2:7148' })
    async function* source(): AsyncGenerator<HeapsToSend> {
      yield heapOf(1)
      yield { heap: heapOf(2), substream: 2, cnt: 77 }
      yield [{ heap: heapOf(3), substream: 1 }, { heap: heapOf(4) }]
    }
    expect(await sendAll(stream, source())).toMatchObject({ heaps: 4, packets: 4 })
    expect(await sendAll(stream, [heapOf(5)])).toMatchObject({ heaps: 1 })
    expect(sentOn(stream).map(({ timestamp, substream, cnt }) => [timestamp, substream, cnt])).toEqual([
      [1, 0, 1],
      [2, 2, 77],
      [3, 1, 2],
      [4, 0, 3],
      [5, 0, 4],
    ])
  })

  test('a source may give the same heap again with new samples in the same memory', async () => {
    const stream = await memoryStream()
    const memory = new Uint8Array(6)
    const heap = new Heap().addItem(item(memory))
    function* source(): Generator<Heap> {
      for (let i = 0; i < 100; i++) {
        memory[5] = i
        yield heap
      }
    }
    await sendAll(stream, source())
    expect(sentOn(stream).map(({ timestamp }) => timestamp)).toEqual(Array.from({ length: 100 }, (_, i) => i))
  })

  test('takes no more than inFlight ahead of what is sent', async () => {
    const gate = { shut: true }
    const stream = await memoryStream({}, gate)
    let taken = 0
    async function* source(): AsyncGenerator<Heap> {
      for (; taken < 20; ) yield heapOf(++taken)
    }
    const all = sendAll(stream, source(), { inFlight: 3 })
    await turn()
    expect(taken).toBe(3)
    gate.shut = false
    expect(await all).toMatchObject({ heaps: 20 })
  })

  test('ends at the first failure, which it rejects with, when what was under way has settled', async () => {
    const stream = await memoryStream({}, { shut: false, refuse: (row) => row === 5 })
    let taken = 0
    let closed = false
    async function* source(): AsyncGenerator<Heap> {
      try {
        for (;;) {
          await turn(1)
          yield heapOf(++taken & 0xff)
        }
      } finally {
        closed = true
      }
    }
    await expect(sendAll(stream, source(), { inFlight: 2 })).rejects.toBeInstanceOf(SendError)
    expect(taken).toBeLessThan(10)
    expect(stream.stats().inFlight).toBe(0)
    await turn()
    expect(closed).toBe(true)
  })

  test('an abort ends a wait for the source, and withdraws what is queued', async () => {
    const gate = { shut: true }
    const stream = await memoryStream({}, gate)
    const controller = new AbortController()
    const reason = new Error('enough')
    async function* source(): AsyncGenerator<Heap> {
      for (let i = 0; i < 5; i++) yield heapOf(i)
      await new Promise(() => undefined)
    }
    const all = sendAll(stream, source(), { signal: controller.signal })
    const outcome = expect(all).rejects.toBe(reason)
    await turn()
    controller.abort(reason)
    gate.shut = false
    await outcome
    expect(stream.packets.length).toBeLessThan(5)
    await expect(sendAll(stream, [heapOf(1)], { signal: controller.signal })).rejects.toBe(reason)
  })

  test('passes on what the source throws, and refuses what is no heap', async () => {
    const stream = await memoryStream()
    const broken = new Error('the source broke')
    async function* source(): AsyncGenerator<Heap> {
      yield heapOf(1)
      throw broken
    }
    await expect(sendAll(stream, source())).rejects.toBe(broken)
    expect(sentOn(stream)).toHaveLength(1)
    for (const wrong of ['text', {}, [{}], null])
      await expect(sendAll(stream, [wrong as unknown as Heap])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE' })
    await expect(sendAll(stream, [], { inFlight: 0 })).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG' })
    expect(await sendAll(stream, [])).toEqual({ heaps: 0, packets: 0, payloadBytes: 0 })
  })
})

describe('createBatchRing', () => {
  test.for([
    [1, 3, 4, 4],
    [3, 4, 2, 3],
    [4, 6, 4, 4],
    [5, 5, 1, 1],
    [16, 1, 4, 16],
  ])('%i endpoints, %i heaps, %i batches: %i batches', async ([endpoints, heaps, batches, length]) => {
    const stream = await memoryStream({ to: `10.0.0.1+${endpoints! - 1}:7148`, descriptors: 'none' })
    const ring = createBatchRing(stream, { items: itemsOf(), heaps: heaps!, batches: batches! })
    expect(ring).toHaveLength(length!)
    for (let i = 0; i < 2 * length!; i++) {
      const batch = ring[i % length!]!
      await batch.free
      await stream.send(batch)
    }
    expect(sentOn(stream).map(({ substream }) => substream)).toEqual(
      Array.from({ length: 2 * length! * heaps! }, (_, i) => i % endpoints!),
    )
  })

  test.for([
    ['without a rate, four', 0, 100_000, 4],
    ['at a low rate too', 1e6, 100_000, 4],
    ['as many as hold 50 ms of the rate', 100e6, 100_000, 50],
    ['of small ones too', 100e6, 1000, 5000],
    ['within 256 MiB', 100e9, 2 ** 22, 64],
    ['but four, however large they are', 100e9, 2 ** 27, 4],
  ] as const)('where nobody says how many: %s', async ([, rate, bytes, length], ctx) => {
    need(ctx, totalmem() >= 2 ** 31, 'less than 2 GiB of memory')
    expect(batchesFor(await memoryStream({ rate }), bytes)).toBe(length)
  })

  test('the ring takes as many', async () => {
    const stream = await memoryStream({ rate: 10e6, descriptors: 'none' })
    expect(createBatchRing(stream, { items: itemsOf({ shape: [10_000] }), heaps: 2 })).toHaveLength(25)
    const writer = sampleWriter(stream, { items: itemsOf({ shape: [10_000] }), item: 'adc_samples', heapsPerBatch: 2 })
    expect(writer.batches).toBe(25)
    await writer.end()
  })

  test('refuses what would take more than half of the memory', async () => {
    const stream = await memoryStream({ to: '10.0.0.1+9999:7148' })
    const items = itemsOf({ shape: [2 ** 26] })
    expect(() => createBatchRing(stream, { items, heaps: 1 })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(/use smaller heaps/) }),
    )
  })
})
