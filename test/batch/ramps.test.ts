/** Ramps of each substream, as its receiver sees them: whatever the group mode and the substreams are. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { createBatchRing, type GroupMode, ItemGroup } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { programFile } from '../support/program.js'
import { memoryStream } from './support.js'

const MODES: readonly GroupMode[] = ['serial', 'round-robin', 'by-substream']
const TO = ['10.0.0.1:7148', '10.0.0.2:7148', '10.0.0.3:7148', '10.0.0.4:7148']
const itemsOf = () => new ItemGroup().add({ name: 'timestamp', format: [['u', 48]] }).add({ name: 'x', dtype: 'u1', shape: [2000] })

/** The timestamps of each substream's packets as they went out, two packets a heap: SPEAD-64-48 has the item's pointer as its sixth. */
function timestamps(packets: readonly { substream: number; bytes: Uint8Array }[]): number[][] {
  const seen: number[][] = TO.map(() => [])
  for (const { substream, bytes } of packets) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const pointers = view.getUint16(6)
    for (let i = 0; i < pointers; i++)
      if (view.getUint16(8 + 8 * i) === 0x8000 + 0x1000)
        seen[substream]!.push(view.getUint16(10 + 8 * i) * 2 ** 32 + view.getUint32(12 + 8 * i))
  }
  return seen
}

/** Substreams of the heaps, where a ramp begins, and the timestamps that each receiver sees. */
const CASES: [string, undefined | number | number[] | ((j: number) => number), number | number[], number[][]][] = [
  ['heap j to j mod 4', undefined, 1000, [[1000, 1010, 1020], [1000, 1010, 1020], [1000, 1010], [1000, 1010]]],
  ['one for all', 2, 1000, [[], [], [1000, 1010, 1020, 1030, 1040, 1050, 1060, 1070, 1080, 1090], []]],
  ['a list', [3, 3, 0, 1, 3, 0, 0, 0, 2, 1], 0, [[0, 10, 20, 30], [0, 10], [0], [0, 10, 20]]],
  ['a function', (j) => 3 - (j % 4), 5, [[5, 15], [5, 15], [5, 15, 25], [5, 15, 25]]],
  ['a beginning for each', undefined, [0, 100, 200, 300], [[0, 10, 20], [100, 110, 120], [200, 210], [300, 310]]],
] // biome-ignore format: a table

const WAYS = CASES.flatMap((it) => MODES.map((mode) => [it[0], mode, it] as const))

/** A batch of 10 heaps, and the timestamps that are seen when it is sent. */
async function batchOf(groupMode: GroupMode, substreams: (typeof CASES)[number][1]) {
  const stream = await memoryStream({ to: TO })
  const options = { items: itemsOf(), heaps: 10, groupMode, ...(substreams !== undefined && { substreams }) }
  const batch = stream.createBatch(options)
  const sent = async (): Promise<number[][]> => {
    await stream.send(batch)
    // The item's pointer stands in the first packet of a heap.
    return timestamps(stream.packets)
  }
  return { batch, sent }
}

test.for(WAYS)('%s, %s', async ([, groupMode, [, substreams, first, expected]]) => {
  const { batch, sent } = await batchOf(groupMode, substreams)
  batch.immediate('timestamp').setRamp(first, 10, { per: 'substream' })
  expect(await sent()).toEqual(expected)
})

test.for(WAYS)('%s, %s, written by another thread', async ([, groupMode, [, substreams, first, expected]], ctx) => {
  need(ctx, nativeCallsWork(), 'ordinary buffers, which regions are here, do not cross to threads')
  const { batch, sent } = await batchOf(groupMode, substreams)
  const worker = new Worker(programFile('batch/ramps'), { workerData: { handle: batch.handle(), first, step: 10 } })
  const [message] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
  expect(message).toEqual(['done'])
  expect(await sent()).toEqual(expected)
})

test('batches of a ring go on where the one before ended', async () => {
  const stream = await memoryStream({ to: TO })
  const ring = createBatchRing(stream, { items: itemsOf(), heaps: 6, batches: 2 })
  expect(ring).toHaveLength(2)
  // Six heaps for four substreams: 0 1 2 3 0 1, then 2 3 0 1 2 3.
  ring[0]!.immediate('timestamp').setRamp(0, 10, { per: 'substream' })
  ring[1]!.immediate('timestamp').setRamp([20, 20, 10, 10], 10, { per: 'substream' })
  for (const batch of ring) await stream.send(batch)
  expect(timestamps(stream.packets)).toEqual([[0, 10, 20], [0, 10, 20], [0, 10, 20], [0, 10, 20]]) // biome-ignore format: one line
})

test('per heap, the default, counts all heaps', async () => {
  const stream = await memoryStream({ to: TO })
  const batch = stream.createBatch({ items: itemsOf(), heaps: 5 })
  const column = batch.immediate('timestamp')
  column.setRamp(100, 5, { per: 'heap' })
  expect([...column]).toEqual([100, 105, 110, 115, 120])
  column.setRamp(0, -1)
  expect([...column]).toEqual([0, -1, -2, -3, -4])
})

test('what is no ramp is refused', async () => {
  const stream = await memoryStream({ to: TO })
  const column = stream.createBatch({ items: itemsOf(), heaps: 5 }).immediate('timestamp')
  const refused = (message: RegExp, code = 'VALUE') =>
    expect.objectContaining({ code: `ERR_SPEADCAST_${code}`, message: expect.stringMatching(message) })
  expect(() => column.setRamp([0, 1, 2], 1, { per: 'substream' })).toThrow(refused(/first has 3 numbers.*up to 3; give 4/))
  expect(() => column.setRamp([0, 1, 2, 'x'] as never, 1, { per: 'substream' })).toThrow(refused(/both must be numbers/))
  expect(() => column.setRamp([0, 1, 2, 3], 1)).toThrow(refused(/both must be numbers, or first a list/))
  expect(() => column.setRamp(0, 1, { per: 'endpoint' as never })).toThrow(
    refused(/per is 'endpoint'; it must be 'heap' or 'substream'/, 'CONFIG'),
  )
  expect(() => column.setRamp(0, 1, { pre: 'heap' } as never)).toThrow(refused(/unknown option 'pre'/, 'CONFIG'))
  expect(() => (column.subarray(1) as typeof column).setRamp(0, 1, { per: 'substream' })).toThrow(
    refused(/a part or a copy of a column has no substreams/),
  )
  expect([...column]).toEqual([0, 0, 0, 0, 0])
})
