/** Streams to test with, and what came out of them, whatever the backend. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { type Batch, type BatchOptions, Heap, ItemGroup, openStream, type Stream, type StreamOptions } from 'speadcast'
import { onTestFinished, type TestContext } from 'vitest'
import { datagramsOf, pointersOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { openReceivers } from '../support/receivers.js'

const HEAP_CNT = 1
export const DESCRIPTOR = 5
export const STREAM_CTRL = 6
export const TIMESTAMP = 0x1600
export const SAMPLES = 0x3300

export const EAGAIN = 11
const ENETUNREACH = 101

/** Holds the memory backend back: it takes nothing while `shut`, and refuses the rows that `refuse` names. */
export interface Gate {
  shut: boolean
  refuse?: (row: number, substream: number) => boolean
}

function faultOf(gate: Gate, row: number, substream: number) {
  if (gate.shut) return { errno: EAGAIN, how: 'again' } as const
  return gate.refuse?.(row, substream) ? ENETUNREACH : undefined
}

export async function memoryStream(options: Partial<StreamOptions> = {}, gate?: Gate): Promise<Stream> {
  const failAt = gate && ((row: number, substream: number) => faultOf(gate, row, substream))
  const stream = await openStream({
    to: '10.0.0.1:7148',
    backend: 'memory',
    memory: { ...(failAt && { failAt, pauseNanoseconds: 1e6 }) },
    ...options,
  })
  onTestFinished(() => stream.destroy())
  return stream
}

/** Resolves with 'pending': for races with promises that must not have settled. */
export const turn = (ms = 20): Promise<string> => new Promise((resolve) => setTimeout(resolve, ms, 'pending'))

export interface Packet {
  readonly substream: number
  readonly bytes: Uint8Array
  readonly cnt: number
  readonly pointers: ReturnType<typeof pointersOf>
  /** The value of the first item pointer with this id. */
  value(id: number): number | undefined
  /** Payload. */
  readonly data: Buffer
  readonly descriptors: number
}

export function parse({ substream, bytes }: { substream: number; bytes: Uint8Array }): Packet {
  const pointers = pointersOf(bytes)
  const value = (id: number) => pointers.find((pointer) => pointer.id === id)?.value
  return {
    substream,
    bytes,
    cnt: value(HEAP_CNT)!,
    pointers,
    value,
    data: Buffer.from(bytes.subarray(8 + 8 * pointers.length)),
    descriptors: pointers.filter(({ id }) => id === DESCRIPTOR).length,
  }
}

export const OUTLETS = ['memory', 'pcap', 'dgram', 'udp', 'udp inline'] as const
export type OutletKind = (typeof OUTLETS)[number]

export interface Outlet {
  readonly stream: Stream
  /** The packets so far; with sockets, when this many have come or 2.5 seconds have passed. In order per substream. */
  packets(count: number): Promise<Packet[]>
}

/** A stream and the other end of it: memory, a file, sockets on 127.0.0.1. Everything is gone when the test ends. */
export async function openOutlet(
  ctx: TestContext,
  kind: OutletKind,
  options: Partial<StreamOptions> = {},
  substreams = 1,
): Promise<Outlet> {
  const range = `10.0.0.1+${substreams - 1}:7148`
  if (kind === 'memory') {
    const stream = await memoryStream({ to: range, ...options })
    return { stream, packets: async () => stream.packets.map(parse) }
  }
  if (kind === 'pcap') {
    const pcapPath = join(temporaryFolder(), 'out.pcap')
    const stream = await openStream({ to: range, backend: 'pcap', pcapPath, ...options })
    onTestFinished(() => stream.destroy())
    return {
      stream,
      packets: async () =>
        datagramsOf(readFileSync(pcapPath)).map(({ to, payload }) =>
          parse({ substream: Number(to.match(/10\.0\.0\.(\d+):/)![1]) - 1, bytes: payload }),
        ),
    }
  }
  need(ctx, kind === 'dgram' || process.platform === 'linux', 'backend udp needs Linux')
  const receivers = await openReceivers(substreams)
  onTestFinished(() => receivers.close())
  const stream = await openStream({
    to: receivers.endpoints.map(({ text }) => text),
    backend: kind === 'dgram' ? 'dgram' : 'udp',
    ...(kind === 'udp inline' && { thread: 'inline' }),
    ...options,
  })
  onTestFinished(() => stream.destroy())
  return { stream, packets: async (count) => (await receivers.arrived(count)).map(parse) }
}

export const itemsOf = (bytes = 100) =>
  new ItemGroup()
    .add({ id: TIMESTAMP, name: 'timestamp', format: [['u', 48]] })
    .add({ id: SAMPLES, name: 'adc_samples', dtype: 'i1', shape: [bytes] })

/** For batches of items that are not known when this is compiled. */
export const SAMPLE_VIEWS = { adc_samples: Int8Array }
type Samples = { adc_samples: Int8Array }
export type SampleBatch = Batch<Samples>

/** A batch whose heap j has the timestamp first + j, and that number modulo 128 in every sample. */
export function filledBatch(stream: Stream, first: number, options: Partial<BatchOptions> = {}): SampleBatch {
  return fill(stream.createBatch({ items: itemsOf(), heaps: 2, ...options, views: SAMPLE_VIEWS }), first)
}

export function fill(batch: SampleBatch, first: number): SampleBatch {
  for (let j = 0; j < batch.heaps; j++) batch.heap(j).adc_samples.fill((first + j) & 0x7f)
  batch.immediate('timestamp').setRamp(first, 1)
  return batch
}

export const timestampsOf = (packets: readonly Packet[]): (number | undefined)[] =>
  packets.map((packet) => packet.value(TIMESTAMP)).filter((value) => value !== undefined)

/** Timestamps of heaps all of whose packets are there and have the right bytes; throws where a byte is wrong. */
export function wholeHeaps(packets: readonly Packet[], packetsPerHeap: number): number[] {
  const heaps = new Map<number, Packet[]>()
  for (const packet of packets) heaps.set(packet.cnt, [...(heaps.get(packet.cnt) ?? []), packet])
  return [...heaps.values()]
    .filter((heap) => heap.length === packetsPerHeap && heap[0]!.value(TIMESTAMP) !== undefined)
    .map((heap) => {
      const timestamp = heap[0]!.value(TIMESTAMP)!
      const data = Buffer.concat(heap.map((packet) => packet.data))
      if (!data.equals(Buffer.alloc(data.length, timestamp & 0x7f))) throw new Error(`heap ${timestamp} has other samples`)
      return timestamp
    })
}

/** A heap of one item, the number `value`. */
export const numberHeap = (value: number): Heap =>
  new Heap().addRaw({
    id: TIMESTAMP,
    name: 'timestamp',
    bytes: Uint8Array.of(0, 0, 0, 0, value >> 8, value & 0xff),
    allowImmediate: true,
  })

/** Runs `open` and returns the I/O threads that were started meanwhile. */
export async function threadsOf<T>(open: () => Promise<T>): Promise<{ result: T; threads: Worker[] }> {
  const threads: Worker[] = []
  const onWorker = (worker: Worker) => threads.push(worker)
  process.on('worker', onWorker)
  try {
    const result = await open()
    await new Promise(setImmediate)
    return { result, threads }
  } finally {
    process.off('worker', onWorker)
  }
}
