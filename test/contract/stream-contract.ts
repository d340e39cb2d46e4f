/**
 * One suite for streams on every backend: what a program is promised whatever sends. Each backend's test file opens streams and
 * says how to see the packets that arrived.
 */
import { beforeEach, describe, expect, test } from 'vitest'
import { ItemGroup, type Stream, type StreamOptions, sampleWriter } from '#dist/src/index.js'
import { pointersOf } from '../support/cli.js'
import { need } from '../support/need.js'
import type { Arrival } from '../support/receivers.js'

interface OpenedStream {
  readonly stream: Stream
  /** Waits until `count` packets arrived since open, or a few seconds, and returns them all. */
  arrived(count: number): Promise<readonly Arrival[]>
  /** Takes away what `open` made. The stream may be closed. */
  close(): Promise<void>
}

export interface StreamContractOptions {
  readonly what: string
  readonly backend: string
  readonly evidence: 'accepted' | 'acknowledged' | 'completed' | 'written'
  /** States that it tells from the start; backends without a network have no interface to tell of. */
  readonly states: readonly string[]
  /** Why this machine cannot run it; empty if it can. */
  readonly unavailable?: () => string
  open(substreams: number, options: Partial<StreamOptions>): Promise<OpenedStream>
}

const BYTES = 200
const TIMESTAMP = 0x1600
const itemsOf = (bytes = BYTES) =>
  new ItemGroup()
    .add({ id: TIMESTAMP, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [bytes] })

function batchOf(stream: Stream, heaps: number, bytes = BYTES) {
  const batch = stream.createBatch({ items: itemsOf(bytes), heaps })
  for (let j = 0; j < heaps; j++) batch.heap(j).samples.fill(j)
  batch.immediate('timestamp').setRamp(0, 1)
  return batch
}

/** A packet's heap cnt, its timestamp, its samples, and whether it has descriptors. */
function read({ substream, bytes }: Arrival) {
  const pointers = pointersOf(bytes)
  return {
    substream,
    cnt: pointers[0]!.value,
    timestamp: pointers.find(({ id }) => id === TIMESTAMP)?.value,
    samples: bytes.subarray(8 + 8 * pointers.length),
    describes: pointers.some(({ id }) => id === 5),
  }
}

const dataOf = (arrivals: readonly Arrival[]) => arrivals.map(read).filter(({ timestamp }) => timestamp !== undefined)

/** The counters of each substream are those of the packets that arrived there, and in sum the stream's. */
function expectAccounts(stream: Stream, arrivals: readonly Arrival[]): void {
  const { substreams, packets, udpBytes, heapsSent, packetsFailed } = stream.stats({ substreams: true })
  const own = stream.endpoints.map((_, substream) => arrivals.filter((arrival) => arrival.substream === substream))
  const bytesOf = (list: readonly Arrival[]) => list.reduce((sum, { bytes }) => sum + bytes.length, 0)
  expect(substreams.map((each) => [each.heapsSent, each.packets, each.udpBytes, each.packetsFailed])).toEqual(
    own.map((list) => [new Set(list.map((arrival) => read(arrival).cnt)).size, list.length, bytesOf(list), 0]),
  )
  const heaps = substreams.reduce((sum, each) => sum + each.heapsSent, 0)
  expect([heapsSent, packets, udpBytes, packetsFailed]).toEqual([heaps, arrivals.length, bytesOf(arrivals), 0])
}

export function streamContract({ what, backend, evidence, states, unavailable = () => '', open }: StreamContractOptions): void {
  describe(`stream contract: ${what}`, () => {
    beforeEach((ctx) => {
      const why = unavailable()
      need(ctx, !why, why)
    })

    test('any run of a batch is sent, with the samples, immediates and substreams of its heaps', async () => {
      const { stream, arrived, close } = await open(2, { descriptors: 'none' })
      const batch = batchOf(stream, 6)
      expect(await stream.send(batch, { firstHeap: 1, heaps: 3 })).toMatchObject({ heaps: 3, packets: 3, firstCnt: 1, evidence })
      expect(await stream.send(batch)).toMatchObject({ heaps: 6, firstCnt: 4 })
      expect(await stream.send(batch, { firstHeap: 5 })).toMatchObject({ heaps: 1, firstCnt: 10 })
      await stream.close()
      const arrivals = await arrived(10)
      expectAccounts(stream, arrivals)
      const heaps = dataOf(arrivals).sort((a, b) => a.cnt - b.cnt)
      expect(heaps.map(({ cnt, timestamp, substream }) => [cnt, timestamp, substream])).toEqual(
        [1, 2, 3, 0, 1, 2, 3, 4, 5, 5].map((j, i) => [i + 1, j, j % 2]),
      )
      for (const { timestamp, samples } of heaps) expect(Buffer.from(samples)).toEqual(Buffer.alloc(BYTES, timestamp))
      await close()
    })

    test('a mask sends the heaps that it enables; the others take no heap cnt', async () => {
      const { stream, arrived, close } = await open(2, { descriptors: 'none' })
      const batch = batchOf(stream, 6)
      expect(await stream.send(batch, { mask: Uint8Array.of(1, 0, 0, 1, 1, 0) })).toMatchObject({ heaps: 3, packets: 3, evidence })
      expect(await stream.send(batch, { mask: new Uint8Array(6) })).toMatchObject({ heaps: 0, packets: 0 })
      expect(await stream.send(batch, { mask: Uint8Array.of(0, 0, 0, 0, 0, 1) })).toMatchObject({ heaps: 1, firstCnt: 4 })
      await stream.close()
      const arrivals = await arrived(4)
      expectAccounts(stream, arrivals)
      const heaps = dataOf(arrivals).sort((a, b) => a.cnt - b.cnt)
      expect(heaps.map(({ cnt, timestamp, substream }) => [cnt, timestamp, substream])).toEqual(
        [0, 3, 4, 5].map((j, i) => [i + 1, j, j % 2]),
      )
      for (const { timestamp, samples } of heaps) expect(Buffer.from(samples)).toEqual(Buffer.alloc(BYTES, timestamp))
      await close()
    })

    test('descriptors by a timer go on while nothing else is sent, to each substream, with cnts of their own', async () => {
      const { stream, arrived, close } = await open(2, { descriptors: { everySeconds: 0.01, firstCnt: 1000 } })
      await stream.send(batchOf(stream, 2))
      for (let tries = 0; stream.stats().heapsSent < 10 && tries < 500; tries++) await new Promise((done) => setTimeout(done, 10))
      expect(stream.stats().heapsSent).toBeGreaterThanOrEqual(10)
      await stream.close()
      const arrivals = await arrived(stream.stats().packets)
      expectAccounts(stream, arrivals)
      const all = arrivals.map(read)
      for (const substream of [0, 1]) {
        const word = all.filter((packet) => packet.substream === substream).map(({ describes }) => (describes ? 'd' : 'x'))
        expect(word.join('')).toMatch(/^d+xd+$/)
      }
      const own = all.filter(({ describes }) => describes).map(({ cnt }) => cnt)
      expect(own.toSorted((a, b) => a - b)).toEqual(own.map((_, i) => 1000 + i))
      await close()
    })

    test('a repeat of descriptors overtakes no queued heap of an earlier description', async () => {
      const { stream, arrived, close } = await open(1, { descriptors: { everySeconds: 0.001, firstCnt: 1e6 } })
      const batches = [100, 50].map((bytes) => batchOf(stream, 3, bytes))
      for (let sends = 0; sends < 60; sends++) {
        const batch = batches[sends % 2]!
        await batch.free
        stream.send(batch)
        if (sends % 4 === 0) await new Promise((done) => setTimeout(done, 1))
      }
      await stream.close()
      let told = 0
      let heaps = 0
      for (const { describes, samples } of (await arrived(stream.stats().packets)).map(read))
        if (describes) told = Number(/'shape': \((\d+),\)/.exec(Buffer.from(samples).toString('latin1'))![1])
        else {
          heaps++
          expect(samples.length).toBe(told)
        }
      expect(heaps).toBe(180)
      await close()
    })

    test('a partly filled batch goes by flush and after maxDelayMs, a heap that is not whole at the end', async () => {
      const { stream, arrived, close } = await open(1, { descriptors: 'none' })
      const writer = sampleWriter(stream, {
        items: itemsOf(),
        item: 'samples',
        timestamp: 'timestamp',
        heapsPerBatch: 64,
        maxDelayMs: 5,
      })
      const input = Uint8Array.from({ length: 3 * BYTES + 50 }, (_, i) => (i * 7) & 0xff)
      await writer.write(input.subarray(0, BYTES + 10))
      await writer.flush()
      expect(stream.stats()).toMatchObject({ heapsSent: 1, inFlight: 0 })
      await writer.write(input.subarray(BYTES + 10))
      for (let tries = 0; stream.stats().heapsSent < 3 && tries < 500; tries++) await new Promise((done) => setTimeout(done, 10))
      expect(stream.stats().heapsSent).toBe(3)
      expect(await writer.end()).toEqual({ heaps: 4, failedHeaps: 0, sampleBytes: input.length, droppedBytes: 0 })
      await stream.close()
      const heaps = dataOf(await arrived(4))
      expect(heaps.map(({ timestamp }) => timestamp)).toEqual([0, 1, 2, 3].map((j) => j * BYTES))
      expect(Buffer.concat(heaps.map(({ samples }) => samples)).equals(input)).toBe(true)
      await close()
    })

    test('stats count what went, and tell what the backend knows of itself', async () => {
      const { stream, close } = await open(2, { descriptors: 'none' })
      await stream.send(batchOf(stream, 4))
      const stats = stream.stats()
      expect(stats).toMatchObject({
        backend,
        evidence,
        heapsSent: 4,
        heapsFailed: 0,
        packets: 4,
        packetsFailed: 0,
        batches: 1,
        inFlight: 0,
      })
      // The kernel does not tell how many bytes TCP's headers take.
      if (backend === 'tcp') expect(stats.wireBytes).toBe(stats.udpBytes)
      else expect(stats.wireBytes).toBeGreaterThan(stats.udpBytes)
      expect(stats.udpBytes).toBeGreaterThan(4 * BYTES)
      expect(Object.keys(stats.states)).toEqual(expect.arrayContaining([...states]))
      for (const word of Object.values(stats.states)) expect(['string', 'number', 'boolean']).toContain(typeof word)
      await stream.close()
      expect(stream.stats()).toMatchObject({ heapsSent: 4, inFlight: 0 })
      await close()
    })

    test.for(['destroy', 'deadline'])('%s in the middle: every send settles, and what is told as sent has arrived', async (how) => {
      // 200 heaps take 0.5 s.
      const paced = { rate: 100_000, burstBytes: 2000, descriptors: { everySeconds: 0.01, firstCnt: 1e6 } }
      const { stream, arrived, close } = await open(1, paced)
      const batches = Array.from({ length: 10 }, () => batchOf(stream, 20))
      const sends = batches.map((batch) =>
        stream.send(batch).then(
          ({ heaps }) => heaps,
          (error) => error,
        ),
      )
      await new Promise((done) => setTimeout(done, 20))
      if (how === 'destroy') await stream.destroy()
      else expect((await stream.close({ deadlineSeconds: 0 })).droppedHeaps).toBeGreaterThan(0)
      let sent = 0
      const codes = new Set<string>()
      for (const outcome of await Promise.all(sends)) {
        if (typeof outcome === 'number') sent += outcome
        else codes.add(outcome.code)
      }
      expect([...codes].join()).toMatch(/^(ERR_SPEADCAST_SEND|ERR_SPEADCAST_ABORTED|,)+$/)
      expect(new Set(dataOf(await arrived(sent)).map(({ cnt }) => cnt)).size).toBeGreaterThanOrEqual(sent)
      expect(() => stream.createBatch({ items: itemsOf(), heaps: 1 })).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_CLOSED' }),
      )
      await close()
    })

    test('what cannot be sent is refused with a code, and the stream goes on', async () => {
      // The second heap waits for a quarter of a second, in which the batch is under way.
      const { stream, arrived, close } = await open(1, { descriptors: 'none', rate: 1000, burstBytes: 1 })
      const batch = batchOf(stream, 2)
      const refused = (call: () => unknown, code: string) =>
        expect(call).toThrow(expect.objectContaining({ code: `ERR_SPEADCAST_${code}` }))
      refused(() => stream.send(batch, { firstHeap: 2 }), 'VALUE')
      refused(() => stream.send(batch, { heaps: 3 }), 'VALUE')
      refused(() => stream.createBatch({ items: itemsOf(), heaps: 1, substreams: 1 }), 'SUBSTREAM')
      refused(() => stream.send({} as never), 'BATCH_STATE')
      const sent = stream.send(batch)
      refused(() => stream.send(batch), 'BATCH_STATE')
      expect(await sent).toMatchObject({ heaps: 2, firstCnt: 1 })
      await stream.close()
      refused(() => stream.send(batch), 'CLOSED')
      expect(dataOf(await arrived(2)).map(({ cnt }) => cnt)).toEqual([1, 2])
      await close()
    })
  })
}
