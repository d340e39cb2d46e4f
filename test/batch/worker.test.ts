/** Other threads fill: attachBatch over a handle is the batch's own memory, not a copy of it. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { Region } from '#dist/ffi/memory/region.js'
import { type Batch, openStream } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { programFile } from '../support/program.js'
import { groupOf, memoryStream, samples, taken, timestamp } from './support.js'

const DEADLINE = () => AbortSignal.timeout(10_000)
const HEAPS = 10
const SAMPLES = 400
const items = () => groupOf([timestamp(), samples('adc', '<i2', [SAMPLES])])

/** Starts threads, each with every n-th heap; resolves when all have filled theirs. */
async function fillers(batch: Batch, shares: number): Promise<(round: number) => Promise<void>> {
  const workers = Array.from(
    { length: shares },
    (_, share) => new Worker(programFile('batch/fill'), { workerData: { handle: batch.handle(), share, shares } }),
  )
  onTestFinished(async () => {
    await Promise.all(workers.map((worker) => worker.terminate()))
  })
  const answers = () => Promise.all(workers.map(async (worker) => (await once(worker, 'message', { signal: DEADLINE() }))[0]))
  expect(await answers()).toEqual(Array(shares).fill('ready'))
  return async (round) => {
    const filled = answers()
    for (const worker of workers) worker.postMessage(round)
    expect(await filled).toEqual(Array(shares).fill(round))
  }
}

/** [timestamp, every sample] by the specification: SPEAD-64-48, the timestamp is the fifth pointer, six pointers in all. */
function content(packet: Uint8Array): [number, number[]] {
  const data = Buffer.from(packet)
  return [data.readUIntBE(42, 6), [...new Set(new Int16Array(packet.slice(56).buffer))]]
}

const contentOf = (round: number) => Array.from({ length: HEAPS }, (_, j) => [round * 2 ** 40 + j, [round * 1000 + j]])

const needThreads = (ctx: { skip(note?: string): never }) =>
  need(ctx, nativeCallsWork(), 'ordinary buffers, which regions are here, do not cross to threads')

test.for([1, 3])('%i threads fill a batch of the memory backend, send after send', async (shares, ctx) => {
  needThreads(ctx)
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: items(), heaps: HEAPS })
  const fill = await fillers(batch, shares)
  for (let round = 1; round <= 3; round++) {
    await fill(round)
    await stream.send(batch)
    expect(taken(stream).map(content)).toEqual(contentOf(round))
  }
})

test('samples in shared memory of the user, filled by a thread', async (ctx) => {
  needThreads(ctx)
  const region = Region.allocate(HEAPS * SAMPLES * 2)
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: items(), heaps: HEAPS, memory: { adc: { region } } })
  const fill = await fillers(batch, 2)
  await fill(4)
  await stream.send(batch)
  expect(taken(stream).map(content)).toEqual(contentOf(4))
  expect(new Int16Array(region.buffer)[SAMPLES]).toBe(4001)
})

test.for(['worker', 'inline'] as const)('through the kernel: what threads filled arrives (udp, %s)', async (thread, ctx) => {
  needThreads(ctx)
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
  onTestFinished(() => void socket.close())
  const listening = once(socket, 'listening')
  socket.bind(0, '127.0.0.1')
  await listening
  const packets: Buffer[] = []
  socket.on('message', (message) => packets.push(message))
  const to = `127.0.0.1:${socket.address().port}`
  const stream = await openStream({ to, backend: 'udp', thread, descriptors: 'none' })
  onTestFinished(() => stream.destroy())
  const batches = [1, 2].map(() => stream.createBatch({ items: items(), heaps: HEAPS }))
  const fill = await Promise.all(batches.map((batch) => fillers(batch, 2)))
  for (let round = 0; round < 6; round++) {
    await batches[round % 2]!.free
    await fill[round % 2]!(round)
    void stream.send(batches[round % 2]!)
  }
  await stream.flush()
  for (let tries = 0; packets.length < 6 * HEAPS && tries < 500; tries++) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(packets.map((packet) => content(new Uint8Array(packet)))).toEqual([0, 1, 2, 3, 4, 5].flatMap(contentOf))
})
