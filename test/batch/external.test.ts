/** Samples that live outside the batch: what another process writes into shared memory is what the next send carries, uncopied. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, onTestFinished, test } from 'vitest'
import { checkCall, libc, nativeCallsWork } from '#dist/ffi/libc.js'
import { Region } from '#dist/ffi/memory/region.js'
import { type Batch, openStream, type SendError } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { peerScript } from '../support/peer.js'
import { sharedFile } from '../support/shared-file.js'
import { dump } from '../support/spead-cases.js'
import { compiledOf, fill, groupOf, memoryStream, planned, rawBytes, samples, segmentsOf, taken, timestamp } from './support.js'

/** Another process with the file mapped, which writes when told `OFFSET LENGTH BYTE`. */
function otherMapper(fd: number): (offset: number, length: number, byte: number) => Promise<void> {
  const child = spawn('python3', [peerScript('shared_memory.py')], { stdio: ['pipe', 'pipe', 'inherit', fd] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout! })
  return async (offset, length, byte) => {
    const done = once(lines, 'line', { signal: AbortSignal.timeout(10_000) })
    child.stdin!.write(`${offset} ${length} ${byte}\n`)
    expect(await done).toEqual(['done'])
  }
}

const needSharedMemory = (ctx: { skip(note?: string): never }) =>
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'shared memory regions need Linux')

const payloads = (batch: Batch, packets: Uint8Array[], bytes: number): number[][] => {
  expect(packets).toHaveLength(batch.heaps * batch.packetsPerHeap)
  return packets.map((packet) => [...new Set(packet.subarray(packet.length - bytes))])
}

describe('another process writes', () => {
  for (const kind of ['a tmpfs file', 'a memfd'] as const)
    test(`${kind}: every send carries what is there at that moment`, async (ctx) => {
      needSharedMemory(ctx)
      need(ctx, spawnSync('python3', ['--version']).status === 0, 'the other process is python3')
      const bytes = 8 * 4096
      let fd: number
      if (kind === 'a memfd') {
        fd = checkCall('memfd_create', libc().memfd_create('speadcast-test', 1))
        onTestFinished(() => closeSync(fd))
        ftruncateSync(fd, bytes)
      } else fd = sharedFile(bytes)
      const write = otherMapper(fd)
      const region = Region.fromFd(fd)
      expect(region.byteLength).toBe(bytes)
      const stream = await memoryStream({ packetSizeBytes: 8972, debug: true })
      const items = [timestamp(), samples('adc', '|u1', [4096])]
      const batch = stream.createBatch({ items: groupOf(items), heaps: 8, memory: { adc: { region } } })
      expect(batch.interleaved).toBe(false)
      await stream.send(batch)
      expect(payloads(batch, taken(stream), 4096)).toEqual(Array(8).fill([0]))
      for (let round = 1; round <= 3; round++) {
        for (let j = 0; j < 8; j++) await write(j * 4096, 4096, 16 * round + j)
        await stream.send(batch)
        expect(payloads(batch, taken(stream), 4096)).toEqual(Array.from({ length: 8 }, (_, j) => [16 * round + j]))
      }
      // The view is that memory too, both ways.
      expect([...new Set(batch.heap(7).adc)]).toEqual([16 * 3 + 7])
      batch.heap(7).adc!.fill(99)
      const back = Buffer.alloc(4096)
      expect(readSync(fd, back, 0, 4096, 7 * 4096)).toBe(4096)
      expect([...new Set(back)]).toEqual([99])
    })

  test('between the packets of one send: each packet is read when it is posted', async (ctx) => {
    needSharedMemory(ctx)
    const fd = sharedFile(4096)
    // A writer that does not wait for the batch to be free: a mixture goes out, which debug mode is there to tell.
    const failAt = (row: number) => void writeSync(fd, Buffer.alloc(4096, row + 1), 0, 4096, 0)
    const stream = await memoryStream({ packetSizeBytes: 1072, memory: { failAt } })
    const items = [samples('adc', '|u1', [4096])]
    const batch = stream.createBatch({ items: groupOf(items), heaps: 1, memory: { adc: { region: Region.fromFd(fd) } } })
    expect(batch.packetsPerHeap).toBe(4)
    await stream.send(batch)
    expect(payloads(batch, taken(stream), 1000)).toEqual([[1], [2], [3], [4]])
  })
})

test('files may be closed and unlinked once they are mapped', async (ctx) => {
  needSharedMemory(ctx)
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-'))
  const fd = openSync(join(folder, 'samples'), 'w+')
  writeSync(fd, Buffer.alloc(3000, 7))
  const region = Region.fromFd(fd)
  closeSync(fd)
  rmSync(folder, { recursive: true })
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: groupOf([samples('adc', '|u1', [1000])]), heaps: 3, memory: { adc: { region } } })
  await stream.send(batch)
  expect(payloads(batch, taken(stream), 1000)).toEqual([[7], [7], [7]])
})

describe('where heap j lies', () => {
  test('offset + j × stride, of several items in one region and in several, beside items in the batch', async () => {
    const items = [
      samples('a', '<i2', [500]),
      samples('inside', '<f4', [30]),
      timestamp(),
      samples('b', '|u1', [333]),
      samples('c', '<f8', [40]),
    ]
    const [shared, own] = [Region.allocate(16384), Region.allocate(4096)]
    const memory = {
      // Interleaved in one region: a of heap 0, b of heap 0, a of heap 1, …
      a: { region: shared, offsetBytes: 2, strideBytes: 1400 },
      b: { region: shared, offsetBytes: 1010, strideBytes: 1400 },
      c: { region: own },
    }
    const substreams = [1, 0, 1, 1, 0]
    for (const groupMode of ['serial', 'round-robin', 'by-substream'] as const) {
      const stream = await memoryStream({ to: '10.0.0.1+1:7148', packetSizeBytes: 600 })
      const batch = stream.createBatch({ items: groupOf(items), heaps: 5, groupMode, substreams, memory })
      fill(batch, items)
      for (const heaps of [5, 2]) {
        await stream.send(batch, { heaps })
        const first = heaps === 5 ? 1 : 6
        const options = { packetSizeBytes: 600 }
        expect(dump(taken(stream))).toBe(
          dump(planned({ items, heaps, mode: groupMode, substreams, options, cnt: (j) => first + j })),
        )
      }
      const bytes = new Uint8Array(shared.buffer)
      expect(bytes.subarray(2 + 3 * 1400, 2 + 3 * 1400 + 1000)).toEqual(items[0]!.value(3))
      expect(bytes.subarray(1010 + 4 * 1400, 1010 + 4 * 1400 + 333)).toEqual(items[3]!.value(4))
      expect(new Uint8Array(own.buffer).subarray(2 * 320, 3 * 320)).toEqual(items[4]!.value(2))
      batch.close()
    }
    shared.release()
    own.release()
  })

  test('packets are gathered from there: what adjoins is one segment', async () => {
    const region = Region.allocate(8 * 8192, { hugePages: 'never' })
    const stream = await memoryStream({ packetSizeBytes: 1400 })
    const items = [samples('a', '<i2', [2048]), samples('b', '<i2', [2048])]
    // b lies right behind a, so a heap is 8192 bytes in one piece.
    const memory = { a: { region, strideBytes: 8192 }, b: { region, offsetBytes: 4096, strideBytes: 8192 } }
    const batch = stream.createBatch({ items: groupOf(items), heaps: 8, memory })
    const segments = segmentsOf(compiledOf(batch))
    expect(segments.every((packet) => packet.length === 2 && packet[0]![0] === 0 && packet[1]![0] === 1)).toBe(true)
    const pieces = segments.map(([, piece]) => piece!)
    for (let r = 1; r < pieces.length; r++) expect(pieces[r]![1]).toBe(pieces[r - 1]![1] + pieces[r - 1]![2])
    batch.close()
    region.release()
  })

  test('two heaps may share one place', async () => {
    const region = Region.allocate(4096)
    const stream = await memoryStream()
    const items = [samples('fixed', '|u1', [200]), samples('adc', '|u1', [300])]
    const options = { items: groupOf(items), heaps: 1, memory: { fixed: { region } } }
    const [one, two] = [stream.createBatch(options), stream.createBatch(options)]
    rawBytes(one.heap(0).fixed!).fill(5)
    await Promise.all([stream.send(one), stream.send(two)])
    expect(taken(stream).map((packet) => packet[8 + 6 * 8])).toEqual([5, 5])
    one.close()
    two.close()
    region.release()
  })
})

describe('what docs/memory.md says of mistakes', () => {
  for (const segmentation of ['auto', 'off'] as const)
    test(`a file made shorter fails the send, and the error says where to look: udp, segmentation ${segmentation}`, async (ctx) => {
      needSharedMemory(ctx)
      const fd = sharedFile(4 * 8192)
      const stream = await openStream({ to: '127.0.0.1:7148', backend: 'udp', segmentation, descriptors: 'none' })
      onTestFinished(() => stream.destroy())
      const memory = { adc: { region: Region.fromFd(fd) } }
      const batch = stream.createBatch({ items: groupOf([samples('adc', '|u1', [8192])]), heaps: 4, memory })
      await stream.send(batch)
      ftruncateSync(fd, 2 * 8192)
      const { outcome, message } = (await stream.send(batch).catch((error) => error)) as SendError
      expect(outcome.causes).toMatchObject([{ substream: 0, errnoName: 'EFAULT' }])
      expect(outcome.heaps.slice(2)).toEqual(['failed', 'failed'])
      expect(message).toMatch(/memory of the batch is not there \(EFAULT\).*Region\.fromFd.*go on/)
    })

  test('a region is not cloned, nor what holds one, and the error says what to post', (ctx) => {
    need(ctx, process.platform === 'linux', 'elsewhere no other thread can have a region')
    const region = Region.allocate(4096)
    const { port1 } = new MessageChannel()
    for (const clone of [() => structuredClone(region), () => port1.postMessage({ memory: [region] })])
      expect(clone).toThrow(
        expect.objectContaining({ name: 'DataCloneError', message: expect.stringContaining('post batch.handle()') }),
      )
    port1.close()
    expect(structuredClone(region.handle())).toEqual(region.handle())
    region.release()
  })

  test('structuredClone of a region’s buffer, with a transfer too, leaves the views of this thread as they are', async (ctx) => {
    needSharedMemory(ctx)
    const { buffer } = Region.allocate(65536)
    const view = new Uint8Array(buffer).fill(3)
    for (const options of [{}, { transfer: [buffer] }]) {
      // Node 20 copies where later versions throw DataCloneError.
      const copy = await Promise.resolve()
        .then(() => structuredClone(buffer, options))
        .catch((error: Error) => error.name)
      if (copy instanceof ArrayBuffer) new Uint8Array(copy).fill(4)
      else expect(copy).toBe('DataCloneError')
      expect([view.length, ...new Set(view)]).toEqual([65536, 3])
    }
  })
})
