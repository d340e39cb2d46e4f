/** Packets leave the interface as the packet table has them, byte for byte, with and without segmentation. */
import { expect } from 'vitest'
import type { GroupMode, ItemInit, StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture, type RemoteStream } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

interface Case {
  what: string
  to: string | string[]
  options?: Partial<StreamOptions>
  heaps: number
  bytes: number
  groupMode?: GroupMode
  items?: ItemInit[]
  partial?: number
  /** sendmmsg messages of the first send, where the case is about them. */
  messages?: number
}

const V4 = '10.77.0.2:7148'
// Sizes of evenly split heaps leave udp no packet more to make them equal by, because the memory backend takes none.
const CASES: Case[] = [
  { what: 'one packet a heap, interleaved', to: V4, heaps: 40, bytes: 800 },
  { what: 'even split', to: V4, heaps: 3, bytes: 7001 },
  { what: 'greedy, odd tails', to: V4, options: { split: 'greedy' }, heaps: 5, bytes: 4097 },
  { what: 'greedy, tail of one byte', to: V4, options: { split: 'greedy' }, heaps: 3, bytes: 1424 + 1432 + 1 },
  { what: 'jumbo', to: V4, options: { packetSizeBytes: 8972 }, heaps: 3, bytes: 100_000 },
  { what: 'jumbo over IPv6', to: '[fd77::2]:7148', options: { packetSizeBytes: 8952 }, heaps: 3, bytes: 100_000 },
  {
    what: 'more than 128 segments in a row',
    to: V4,
    options: { packetSizeBytes: 200, split: 'greedy' },
    heaps: 2,
    bytes: 40_000,
  },
  {
    what: 'IPv6, small',
    to: '[fd77::2]:7148',
    options: { packetSizeBytes: 333, split: 'greedy', repeatPointers: true },
    heaps: 7,
    bytes: 2345,
  },
  { what: 'segmentation off', to: V4, options: { segmentation: 'off' }, heaps: 3, bytes: 7001 },
  {
    what: 'round-robin to two destinations',
    to: [V4, '10.77.0.2:7149'],
    options: { split: 'greedy' },
    groupMode: 'round-robin',
    heaps: 5,
    bytes: 5000,
  },
  {
    what: 'round-robin, first 3 of 5 heaps',
    to: [V4, '10.77.0.2:7149'],
    options: { split: 'greedy' },
    groupMode: 'round-robin',
    heaps: 5,
    bytes: 5000,
    partial: 3,
  },
  {
    what: 'by substream: a message for each of two destinations, not one for each of eight heaps',
    to: [V4, '10.77.0.2:7149'],
    groupMode: 'by-substream',
    heaps: 8,
    bytes: 1000,
    messages: 2,
  },
  {
    what: 'by substream, heaps of several packets, first 3 of 5',
    to: [V4, '10.77.0.2:7149'],
    options: { descriptors: 'in-band' },
    groupMode: 'by-substream',
    heaps: 5,
    bytes: 5000,
    partial: 3,
  },
  { what: 'serial, 2 of 4 heaps', to: [V4, '10.77.0.2:7149'], heaps: 4, bytes: 5000, partial: 2 },
  { what: 'in-band descriptors', to: [V4, '10.77.0.2:7149'], options: { descriptors: 'in-band' }, heaps: 4, bytes: 2989 },
  {
    what: 'two items, one unaligned, and an immediate',
    to: V4,
    heaps: 3,
    bytes: 0,
    items: [
      { id: 0x1600, name: 'timestamp', description: '', format: [['u', 48]] },
      { id: 0x1700, name: 'flags', description: '', dtype: 'u1', shape: [13] },
      { id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [5003] },
      { id: 0x3301, name: 'power', description: '', dtype: '<f8', shape: [33] },
    ],
  },
  // udp(7), and docs/ground-rules.md, "Segmentation and zero copy": one message of 7 × 8972 + 2703 = 65507 bytes is taken, one byte more is not.
  {
    what: 'total of 65507 bytes',
    to: V4,
    options: { packetSizeBytes: 8972, split: 'greedy' },
    heaps: 1,
    bytes: 65_179,
    messages: 1,
  },
  {
    what: 'total of 65508 bytes',
    to: V4,
    options: { packetSizeBytes: 8972, split: 'greedy' },
    heaps: 1,
    bytes: 65_180,
    messages: 2,
  },
  {
    what: 'total of 65487 bytes over IPv6',
    to: '[fd77::2]:7148',
    options: { packetSizeBytes: 8952, split: 'greedy' },
    heaps: 1,
    bytes: 65_159,
    messages: 1,
  },
  {
    what: 'total of 65488 bytes over IPv6',
    to: '[fd77::2]:7148',
    options: { packetSizeBytes: 8952, split: 'greedy' },
    heaps: 1,
    bytes: 65_160,
    messages: 2,
  },
]

/** Both sends of a case, through one backend and path. */
async function sendTwice(stream: RemoteStream, one: Case, by: Partial<StreamOptions>) {
  const { to, options, heaps, bytes, items, groupMode, partial } = one
  // The memory backend refuses what it has no use for.
  const { segmentation, ...others } = options ?? {}
  const cut = by.backend === 'udp' && segmentation !== undefined && { segmentation }
  await stream.reopen({ to, ...by, ...others, ...cut })
  await stream.batch({ heaps, bytes, ...(items && { items }), ...(groupMode && { groupMode }) })
  const results = [await stream.send(partial ? { heaps: partial } : {}), await stream.send()]
  expect(
    results.map(({ error }) => error),
    one.what,
  ).toEqual([undefined, undefined])
  return results.map(({ ok }) => ok!)
}

testOnPaths(
  'every packet on the wire is the packet table’s, in its order',
  async (ctx, open, udpPath) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
    const wire = await capture(ns, 'b', { ports: '7148-7149' })
    const stream = await open(ns, { to: V4, backend: 'memory' })
    const expected: { one: Case; packets: Awaited<ReturnType<RemoteStream['packets']>>; messages: string }[] = []
    for (const one of CASES) {
      await sendTwice(stream, one, { backend: 'memory' })
      const packets = await stream.packets()
      const results = await sendTwice(stream, one, { backend: 'udp', udpPath })
      const stats = await stream.stats()
      expect(results[0]!.packets + results[1]!.packets, one.what).toBe(packets.length)
      expect(stats.packets, one.what).toBe(packets.length)
      expect(stats.states.segmentation, one.what).toBe(one.options?.segmentation === 'off' ? 'off' : 'on')
      if (one.options?.segmentation === 'off') expect(stats.segmentedMessages).toBe(0)
      else expect(stats.plainMessages).toBe(0)
      if (one.messages) {
        const total = /total of (\d+)/.exec(one.what)
        const bytes = packets.reduce((sum, packet) => sum + packet.bytes.length, 0) / 2
        if (total) expect(bytes, one.what).toBe(Number(total[1]))
        expect(stats.segmentedMessages, one.what).toBe(2 * one.messages)
      }
      expected.push({ one, packets, messages: `${stats.segmentedMessages + stats.plainMessages} messages` })
    }
    await stream.close()
    const seen = await wire.stop()
    let at = 0
    for (const { one, packets, messages } of expected) {
      const told = seen.slice(at, at + packets.length)
      expect(
        told.map(({ port, bytes, sha1, fragment }) => ({ substream: port - 7148, bytes, sha1, fragment })),
        one.what,
      ).toEqual(packets.map(({ substream, bytes, sha1 }) => ({ substream, bytes: bytes.length, sha1, fragment: false })))
      at += packets.length
      const sizes = [...new Set(told.map(({ bytes }) => bytes))].sort((x, y) => y - x)
      console.log(`wire: ${one.what}: ${packets.length} packets of ${sizes.join(', ')} bytes in ${messages}`)
    }
    expect(seen.length).toBe(at)
    console.log(`wire: ${at} packets compared byte for byte`)
    expect(at).toBeGreaterThan(CASES.length * 2)
  },
  { timeout: 60_000 },
)
