/** Holds what docs/coming-from-spead2.md says of spead2 against the real one. */
import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { sendCommand } from '#dist/src/cli/send/command.js'
import { type GroupMode, Heap, Item, ItemGroup, openStream, type SpeadcastError, type StreamOptions } from '#dist/src/index.js'
import { page } from '../support/documents.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { transfer } from '../support/spead2-receiver.js'

const { text } = page('docs/coming-from-spead2.md')
/** The cells of the page's table whose first row begins so. */
function table(head: string): string[][] {
  const rows = text.slice(text.indexOf(head)).split('\n\n')[0]!.split('\n')
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

const python = (code: string): unknown =>
  JSON.parse(execFileSync(spead2Python()!, ['-c', `import json, numpy as np, spead2, spead2.send\n${code}`], { encoding: 'utf8' }))
const needSpead2 = (ctx: { skip(note?: string): never }) => need(ctx, spead2Python() !== undefined, 'spead2 is not installed')

async function ours(options: Partial<StreamOptions>): Promise<number[]> {
  await using stream = await openStream({
    to: '127.0.0.1:7148',
    backend: 'memory',
    descriptors: 'none',
    flavour: { heapAddressBits: 40 },
    ...options,
  })
  await stream.send(
    stream.createBatch({ items: new ItemGroup().add({ id: 0x1000, name: 'x', dtype: 'i1', shape: [16384] }), heaps: 1 }),
  )
  return stream.packets.map(({ bytes }) => bytes.length)
}

test('the flavours that are defaults', (ctx) => {
  needSpead2(ctx)
  expect(
    python('f = spead2.Flavour(); print(json.dumps([f.version, f.item_pointer_bits, f.heap_address_bits, f.bug_compat]))'),
  ).toEqual([4, 64, 40, 0])
  expect(new Heap().flavour).toMatchObject({ heapAddressBits: 48, bugCompat: 0 })
  expect(text).toContain('spead2 sends SPEAD-64-40 unless told otherwise, speadcast SPEAD-64-48')
})

test('whose flavour a heap and a batch have', async () => {
  const flavour = { heapAddressBits: 48, bugCompat: 0 }
  await using stream = await openStream({
    to: '127.0.0.1:7148',
    backend: 'memory',
    descriptors: 'none',
    flavour: { heapAddressBits: 40 },
  })
  const items = new ItemGroup({ flavour }).add({ name: 'x', dtype: 'i1', shape: [64], value: new Int8Array(64) })
  await stream.sendHeap(items.getHeap({ descriptors: 'none' }))
  await stream.send(stream.createBatch({ items, heaps: 1 }))
  // The fourth byte of a packet is the width of a heap address in bytes.
  expect(stream.packets.map(({ bytes }) => 8 * bytes[3]!)).toEqual([48, 40])
})

test('how 16384 bytes are cut', async (ctx) => {
  needSpead2(ctx)
  const cut = python(`group = spead2.send.ItemGroup()
group.add_item(0x1000, 'x', '', (16384,), np.int8, value=np.zeros(16384, np.int8))
heap = group.get_heap(descriptors='none', data='all')
print(json.dumps([[len(p) for p in spead2.send.PacketGenerator(heap, 1, size)] for size in (1472, 9000)]))`)
  const greedy = [
    [...Array(11).fill(1472), 680],
    [9000, 7472],
  ]
  const even = [Array(12).fill(1406), [8236, 8236]]
  expect(cut).toEqual(greedy)
  for (const [i, packetSizeBytes] of [1472, 9000].entries()) {
    expect(await ours({ packetSizeBytes, split: 'greedy' })).toEqual(greedy[i])
    expect(await ours({ packetSizeBytes })).toEqual(even[i])
  }
  expect(table('| 16384 bytes').slice(2)).toEqual([
    [expect.stringContaining("'greedy'"), '11 of 1472, one of 680', '9000 and 7472'],
    [expect.stringContaining("'even'"), '12 of 1406', 'two of 8236'],
  ])
})

test('what becomes of values that do not fit', (ctx) => {
  needSpead2(ctx)
  const payload = python(`group = spead2.send.ItemGroup()
group.add_item(0x1000, 'x', '', (2,), np.int8, value=np.array([300, 1.7]))
packet, = spead2.send.PacketGenerator(group.get_heap(descriptors='none', data='all'), 1, 1472)
print(json.dumps(list(packet[46:48])))`)
  expect(payload).toEqual([44, 1])
  const item = new Item({ id: 0x1000, name: 'x', dtype: 'i1', shape: [2] })
  expect(() => {
    item.value = [300, 1.7]
    new Heap().addItem(item)
  }).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }) as SpeadcastError)
})

test('what spead2 does when its queue is full', (ctx) => {
  needSpead2(ctx)
  const results = python(`import asyncio, logging, spead2.send.asyncio
logging.disable()
async def main():
    stream = spead2.send.asyncio.UdpStream(spead2.ThreadPool(), [('127.0.0.1', 7148)], spead2.send.StreamConfig(max_heaps=4))
    heap = spead2.send.Heap()
    many = stream.async_send_heaps([spead2.send.HeapReference(heap)] * 5, spead2.send.GroupMode.SERIAL)
    fits = stream.async_send_heaps([spead2.send.HeapReference(heap)] * 4, spead2.send.GroupMode.SERIAL)
    print(json.dumps([type(it).__name__ for it in await asyncio.gather(many, fits, return_exceptions=True)]))
asyncio.run(main())`)
  expect(results).toEqual(['BlockingIOError', 'int'])
})

describe('heaps that a spead2 receiver completes', () => {
  const [head, , ...rows] = table('| order |')
  const cells = rows.flatMap(([modes, ...counts]) =>
    [...modes!.matchAll(/'([\w-]+)'/g)].flatMap(([, mode]) =>
      counts.map((count, i) => [mode as GroupMode, Number(/\d+/.exec(head![i + 1]!)), Number(count)] as const),
    ),
  )

  test('are in the table', () => {
    expect(cells).toHaveLength(12)
  })

  const telling = cells.filter(([mode, most]) => mode === 'round-robin' || most === 4)
  test.for(telling)('%s, max_heaps %i: %i of 64', async ([groupMode, maxHeaps, whole], ctx) => {
    needSpead2(ctx)
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    const { received } = await transfer(ns, {
      options: { rate: '200Mbps' },
      endpoints: [[ns.addresses.b.v4, 7148]],
      how: 'batch',
      heaps: 64,
      batchHeaps: 64,
      groupMode,
      maxHeaps,
      items: [{ name: 'x', dtype: '|i1', shape: [16384] }],
    })
    expect(received.done).toMatchObject({ ended: true, heaps: whole, rcvbufErrors: 0 })
  })
})

test('the table of spead2_send has every option that it has, and flags that speadcast send has', (ctx) => {
  needSpead2(ctx)
  const tool = spead2Python()!.replace(/python$/, 'spead2_send.py')
  const help = execFileSync(spead2Python()!, [tool, '--help'], { encoding: 'utf8' })
  const theirs = [...new Set(help.match(/--[a-z][a-z-]*/g))]
  expect(theirs.length).toBeGreaterThan(20)
  const [, , ...rows] = table('| `spead2_send` |')
  const flagsIn = (cell = ''): string[] => [...cell.matchAll(/`(--[a-z-]+)/g)].map(([, flag]) => flag!)
  expect(rows.flatMap(([cell]) => flagsIn(cell)).toSorted()).toEqual(theirs.toSorted())
  const known = ['--help', ...sendCommand().options.map(({ long }) => long)]
  expect(rows.flatMap(([, cell]) => flagsIn(cell)).filter((flag) => !known.includes(flag))).toEqual([])
  // Each says what takes its place, or that nothing does.
  expect(rows.filter(([, cell = '']) => !/`--|^none: |tcp:|the same/.test(cell))).toEqual([])
})
