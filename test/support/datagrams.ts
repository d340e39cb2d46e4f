/**
 * Shared by the tests of rdma-ud, in the guest and on the software NIC: heaps whose every byte is known, and receivers that keep
 * them.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Batch, ItemGroup, openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { openReceiver, type ReceivedHeap, type Receiver, type ReceiverOptions } from '#dist/src/receive/index.js'

export const RX0 = '10.98.0.1'
export const RX1 = '10.98.0.2'
export const TIMESTAMP = 0x1600
export const SAMPLES = 0x3300

export const sh = (command: string): string => execFileSync('sh', ['-c', command], { encoding: 'utf8' })

/** Bytes of heap i of a stream: a multiplicative generator (Park and Miller), so that no two heaps or places are alike. */
export function samplesOf(seed: number, i: number, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes)
  let state = (seed * 7919 + i + 1) % 2147483647
  for (let k = 0; k < bytes; k++) {
    state = (state * 16807) % 2147483647
    out[k] = state >> 8
  }
  return out
}

export const itemsOf = (bytes: number) =>
  new ItemGroup()
    .add({ id: TIMESTAMP, name: 'timestamp', description: 'Number of the heap', format: [['u', 48]] })
    .add({ id: SAMPLES, name: 'adc_samples', description: 'Samples', dtype: 'u1', shape: [bytes] })

/** Opens a sender in this thread unless `options` say otherwise, because starting another takes two seconds in the guest. */
export const openSender = (options: StreamOptions): Promise<Stream> =>
  openStream({ backend: 'rdma-ud', interface: 'rx0', packetSizeBytes: 4096, thread: 'inline', ...options })

/** Sends heaps first … first+heaps−1 in batches of `perBatch`, `inFlight` of them under way; returns how each batch was settled. */
export async function sendHeaps(
  stream: Stream,
  { seed = 1, first = 0, heaps, perBatch = 4, inFlight = 4, bytes }: Sending,
): Promise<PromiseSettledResult<unknown>[]> {
  const items = itemsOf(bytes)
  const substreams = stream.endpoints.length
  const ring: Batch<{ adc_samples: Uint8Array }>[] = Array.from({ length: inFlight }, () =>
    stream.createBatch({
      items,
      heaps: perBatch,
      substreams: Array.from({ length: perBatch }, (_, j) => j % substreams),
    }),
  )
  const sends: Promise<unknown>[] = []
  for (let i = first, b = 0; i < first + heaps; i += perBatch, b++) {
    const batch = ring[b % inFlight]!
    await batch.free
    for (let j = 0; j < perBatch; j++) batch.heap(j).adc_samples.set(samplesOf(seed, i + j, bytes))
    batch.immediate('timestamp').setRamp(i, 1)
    sends.push(stream.send(batch))
  }
  return Promise.allSettled(sends)
}

export interface Sending {
  readonly seed?: number
  readonly first?: number
  readonly heaps: number
  readonly perBatch?: number
  readonly inFlight?: number
  readonly bytes: number
}

export const openTaker = (options: ReceiverOptions): Promise<Receiver> =>
  openReceiver({ backend: 'rdma-ud', timeoutSeconds: 40, deliver: true, ...options })

/** Every heap with data that a receiver delivers until its end. */
export async function collect(receiver: Receiver): Promise<ReceivedHeap[]> {
  const heaps: ReceivedHeap[] = []
  for await (const heap of receiver) if (heap.items.has(SAMPLES)) heaps.push(heap)
  return heaps
}

export const numberOf = (heap: ReceivedHeap): number => Buffer.from(heap.items.get(TIMESTAMP)!.bytes).readUIntBE(0, 6)

/** Asserts that heaps 0 … n−1 are there once each, whole, bit for bit, at the endpoint of their turn. */
export function checkHeaps(got: readonly ReceivedHeap[], { seed = 1, heaps, perBatch = 4, bytes }: Sending, endpoints = 1): void {
  assert.deepEqual(
    got.map(numberOf).toSorted((a, b) => a - b),
    Array.from({ length: heaps }, (_, i) => i),
  )
  for (const heap of got) {
    const i = numberOf(heap)
    assert.equal(heap.complete, true, `heap ${i} is whole`)
    assert.equal(heap.endpoint, (i % perBatch) % endpoints, `heap ${i} came to its endpoint`)
    assert.equal(Buffer.compare(heap.items.get(SAMPLES)!.bytes, samplesOf(seed, i, bytes)), 0, `heap ${i}, bit for bit`)
  }
}

/** Sends to a receiver on `endpoints` until the stop heaps, and compares the heaps that came with those that were sent. */
export async function across(endpoints: readonly string[], sending: Sending, options: Partial<StreamOptions> = {}): Promise<void> {
  const receiver = await openTaker({ endpoints, ...(endpoints[0]!.startsWith('239') && { interface: 'rx1' }) })
  const got = collect(receiver)
  const stream = await openSender({ to: endpoints, ...options })
  const results = await sendHeaps(stream, sending)
  assert.deepEqual(new Set(results.map(({ status }) => status)), new Set(['fulfilled']))
  await stream.sendEnd()
  const { packets, udpBytes, evidence } = stream.stats()
  await stream.close()
  checkHeaps(await got, sending, endpoints.length)
  const summary = await receiver.done
  assert.equal(summary.reason, 'stop')
  assert.deepEqual([summary.packets, summary.bytes], [packets, udpBytes])
  assert.equal(evidence, 'completed')
  assert.deepEqual([summary.malformed, summary.duplicates, summary.heapsIncomplete], [0, 0, 0])
}

/** Counts of the verbs objects that the kernel holds for this process: queue pairs, completion queues, registrations, domains. */
export function held(): Record<string, number> {
  const own = (kind: string): number =>
    (JSON.parse(sh(`rdma -j resource show ${kind} 2>/dev/null || echo []`)) as { pid?: number }[]).filter(
      ({ pid }) => pid === process.pid,
    ).length
  return { qp: own('qp'), cq: own('cq'), mr: own('mr'), pd: own('pd') }
}

export const NOTHING = { qp: 0, cq: 0, mr: 0, pd: 0 }

export async function eventually(what: string, holds: () => boolean, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms
  while (!holds()) {
    assert.ok(performance.now() < deadline, `${what}, in ${ms} ms`)
    await sleep(20)
  }
}
