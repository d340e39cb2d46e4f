/**
 * The real spead2 receives what ibverbs sends, through its kernel's UDP and through its own ibverbs, and compares every element.
 */
import { expect, test } from 'vitest'
import type { GroupMode } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns } from '../support/netns.js'
import { Nic, needNic } from '../support/nic.js'
import { spead2Python } from '../support/peer.js'
import { exchange, type InteropItem, type Scenario } from '../support/spead2-receiver.js'

const ADC: InteropItem = { name: 'adc', dtype: '|i1', shape: [10_000] }
const ITEMS: InteropItem[] = [ADC, { name: 'power', dtype: '<f8', shape: [33] }, { name: 'flags', dtype: '|u1', shape: [13] }]

const ports = (host: string, n: number) => Array.from({ length: n }, (_, i): [string, number] => [host, 7148 + i])
const groups4 = (n: number) => Array.from({ length: n }, (_, i): [string, number, string] => [`239.77.0.${i}`, 7148, 'v1'])
const groups6 = (n: number) =>
  Array.from({ length: n }, (_, i): [string, number, string] => [`ff15::${(i + 1).toString(16)}`, 7148, 'v1'])

/** The largest packets by IP version, with an MTU of 1500 and of 9000. */
const SMALL = { 4: 1472, 6: 1452 } as const
const LARGE = { 4: 8972, 6: 8952 } as const

function scenario(
  endpoints: Scenario['endpoints'],
  packetSizeBytes: number,
  groupMode: GroupMode,
  more: Partial<Scenario> = {},
): Scenario {
  const n = endpoints.length
  return {
    endpoints,
    how: 'batch',
    heaps: Math.max(40, 2 * n),
    items: packetSizeBytes > 2000 ? [{ ...ADC, shape: [100_000] }] : ITEMS,
    batchHeaps: Math.max(16, n),
    groupMode,
    // spead2 must hold all the heaps whose packets take turns on one substream.
    maxHeaps: groupMode === 'round-robin' ? 16 : groupMode === 'by-substream' ? 1 : 4,
    ...more,
    options: { backend: 'ibverbs', packetSizeBytes, ...(endpoints[0]!.length > 2 && { interface: 'v0' }), ...more.options },
  }
}

const THROUGH_THE_KERNEL: Record<string, Scenario> = {
  'IPv4, one substream, serial': scenario(ports('10.77.0.2', 1), SMALL[4], 'serial'),
  'IPv4, one substream, round-robin, jumbo': scenario(ports('10.77.0.2', 1), LARGE[4], 'round-robin'),
  'IPv4, 64 substreams, round-robin': scenario(ports('10.77.0.2', 64), SMALL[4], 'round-robin'),
  'IPv4, 64 substreams, serial, jumbo': scenario(ports('10.77.0.2', 64), LARGE[4], 'serial'),
  'IPv6, one substream, round-robin': scenario(ports('fd77::2', 1), SMALL[6], 'round-robin'),
  'IPv6, 64 substreams, serial': scenario(ports('fd77::2', 64), SMALL[6], 'serial'),
  'IPv6, one substream, serial, jumbo': scenario(ports('fd77::2', 1), LARGE[6], 'serial'),
  'IPv4 multicast, one group, serial': scenario(groups4(1), SMALL[4], 'serial'),
  'IPv4 multicast, 64 groups, round-robin, jumbo': scenario(groups4(64), LARGE[4], 'round-robin'),
  'IPv4 multicast, 16 groups, by substream': scenario(groups4(16), SMALL[4], 'by-substream', { heaps: 96, batchHeaps: 48 }),
  'IPv6 multicast, one group, round-robin, jumbo': scenario(groups6(1), LARGE[6], 'round-robin'),
  'IPv6 multicast, 64 groups, serial': scenario(groups6(64), SMALL[6], 'serial'),
  'sendHeap on the event loop, in-band descriptors': scenario(ports('10.77.0.2', 3), SMALL[4], 'serial', {
    how: 'sendHeap',
    heaps: 30,
    options: { thread: 'inline', descriptors: 'in-band' },
  }),
  'partial batches, greedy, 40 address bits, a short queue': scenario(ports('fd77::2', 4), SMALL[6], 'round-robin', {
    partial: 8,
    options: { split: 'greedy', flavour: { heapAddressBits: 40 }, ibverbs: { queueDepth: 16 } },
  }),
}

test('every scenario arrives at spead2 through its kernel, heap by heap', { timeout: 120_000 }, async (ctx) => {
  needNic(ctx)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  let compared = 0
  for (const [what, one] of Object.entries(THROUGH_THE_KERNEL)) {
    const nic = new Nic()
    compared += await exchange(ns, what, one, { sender: nic.prefix })
    expect(nic.cleanReport(), what).toMatchObject({ errors: 0, refused: 0, droppedByKernel: 0, droppedOversize: 0, cqOverruns: 0 })
  }
  console.log(`peer spead2: ${compared} heaps from ibverbs compared in ${Object.keys(THROUGH_THE_KERNEL).length} scenarios`)
  expect(compared).toBeGreaterThan(700)
})

/** spead2's ibverbs takes IPv4 only. */
const THROUGH_IBVERBS: Record<string, Scenario> = {
  'IPv4, one substream, serial, jumbo': scenario(ports('10.77.0.2', 1), LARGE[4], 'serial', { ibverbs: '10.77.0.2' }),
  'IPv4, 8 substreams, round-robin': scenario(ports('10.77.0.2', 8), SMALL[4], 'round-robin', { ibverbs: '10.77.0.2' }),
  'IPv4 multicast, one group, round-robin': scenario(groups4(1), SMALL[4], 'round-robin', { ibverbs: '10.77.0.2' }),
  'IPv4 multicast, 8 groups, serial, jumbo': scenario(groups4(8), LARGE[4], 'serial', { ibverbs: '10.77.0.2' }),
}

test('and at its own ibverbs, from one software NIC to another', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  let compared = 0
  for (const [what, one] of Object.entries(THROUGH_IBVERBS)) {
    const nic = new Nic()
    const theirs = new Nic()
    compared += await exchange(ns, `${what}, to ibverbs`, one, { sender: nic.prefix, receiver: theirs.prefix })
    const sent = nic.cleanReport()
    const received = theirs.report()
    expect(received.received, what).toBe(sent.frames)
    expect(received.droppedNoBuffer, what).toBe(0)
  }
  console.log(`peer spead2: ${compared} heaps from ibverbs to ibverbs compared`)
  expect(compared).toBeGreaterThan(100)
})
