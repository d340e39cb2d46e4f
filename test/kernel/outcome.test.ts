/** Every packet of a batch fails in turn, in every way a kernel can be made to refuse one: the outcome names the packets that the wire lacks. */
import { spawnSync } from 'node:child_process'
import { expect } from 'vitest'
import type { BatchOutcome, StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { capture, listen, type PlainError, packetsOfHeaps, type RemoteStream } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const TO = '10.77.0.2:7148'
const HEAPS = 3
const PACKETS = 5
const BYTES = 5000
const PACKET = 1048

async function firewall(ns: Netns): Promise<(rules: string[]) => Promise<unknown>> {
  const run = (input: string) => ns.exec('a', ['nft', '-f', '-'], { input })
  await run('add table inet t\nadd chain inet t out { type filter hook output priority 0 ; }\n')
  return (rules) => run(['flush chain inet t out', ...rules.map((rule) => `add rule inet t out ${rule}`)].join('\n'))
}

/** Matches one SPEAD-64-48 packet: heap cnt and payload offset stand in the first and third pointer, behind 8 bytes of UDP and 8 of SPEAD. */
const isPacket = (cnt: number, payloadOffset: number) => `udp dport 7148 @th,144,48 ${cnt} @th,272,48 ${payloadOffset}`

/** Where the packets of a heap begin in its payload, as the wire tells. */
async function payloadOffsets(ns: Netns, stream: RemoteStream): Promise<number[]> {
  const wire = await capture(ns, 'b')
  expect((await stream.send()).error).toBeUndefined()
  const offsets = (await wire.stop()).filter(({ cnt }) => cnt === 1).map(({ payloadOffset }) => payloadOffset)
  expect(offsets.length).toBe(PACKETS)
  return offsets
}

/** The outcome expected of a heap that lacks `missing` packets. */
const statusOf = (missing: number) => (missing === 0 ? 'sent' : missing === PACKETS ? 'failed' : 'partial')

function compare(result: { ok?: object; error?: PlainError }, firstCnt: number, wire: Map<number, number>): BatchOutcome['heaps'] {
  const missing = Array.from({ length: HEAPS }, (_, j) => PACKETS - (wire.get(firstCnt + j) ?? 0))
  const expected = missing.map(statusOf)
  const told = result.ok ? Array(HEAPS).fill('sent') : result.error!.outcome!.heaps
  expect(told).toEqual(expected)
  const failed = expected.flatMap((status, j) => (status === 'sent' ? [] : [j]))
  expect(result.error?.outcome?.failedHeaps ?? []).toEqual(failed)
  const lost = result.error?.outcome?.causes.reduce((sum, { packets }) => sum + packets, 0) ?? 0
  expect(lost).toBe(missing.reduce((sum, n) => sum + n, 0))
  return expected as BatchOutcome['heaps']
}

const PASSES: { what: string; options: Partial<StreamOptions>; groupMode: 'serial' | 'round-robin' }[] = [
  { what: 'udp, packet by packet, serial', options: { segmentation: 'off' }, groupMode: 'serial' },
  {
    what: 'udp, packet by packet, round-robin, inline',
    options: { segmentation: 'off', thread: 'inline' },
    groupMode: 'round-robin',
  },
  { what: 'dgram', options: { backend: 'dgram' }, groupMode: 'serial' },
]

testOnPaths('each of the 15 packets of a batch forbidden in turn: its heap is partial, the others sent', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  await listen(ns, 7148)
  const forbid = await firewall(ns)
  for (const { what, options, groupMode } of PASSES) {
    await forbid([])
    const stream = await open(ns, { to: TO, packetSizeBytes: PACKET, ...options })
    expect(await stream.batch({ heaps: HEAPS, bytes: BYTES, groupMode })).toEqual({ packetsPerHeap: PACKETS })
    const offsets = await payloadOffsets(ns, stream)
    const wire = await capture(ns, 'b')
    const results = []
    for (let k = 0; k < HEAPS * PACKETS; k++) {
      await forbid([`${isPacket(1 + (k + 1) * HEAPS + Math.floor(k / PACKETS), offsets[k % PACKETS]!)} drop`])
      results.push(await stream.send())
    }
    await forbid([])
    results.push(await stream.send())
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    const told = results.map((result, n) => compare(result, 1 + (n + 1) * HEAPS, seen))
    for (let k = 0; k < HEAPS * PACKETS; k++) {
      expect(told[k]!.map((status) => status === 'partial')).toEqual([0, 1, 2].map((j) => j === Math.floor(k / PACKETS)))
      expect(results[k]!.error!.outcome!.causes).toMatchObject([{ substream: 0, errnoName: 'EPERM', packets: 1 }])
    }
    expect(told.at(-1)).toEqual(['sent', 'sent', 'sent'])
    console.log(
      `outcome, ${what}: 15 packets forbidden in turn, ${results.length * HEAPS} heaps compared with the wire: ${results[0]!.error!.message}`,
    )
  }
})

testOnPaths('with segmentation a message is all or nothing: the firewall sees its first packet only', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  await listen(ns, 7148)
  const forbid = await firewall(ns)
  // Heaps to destinations by turns, so that each is a message.
  const stream = await open(ns, { to: [TO, TO], packetSizeBytes: PACKET })
  await stream.batch({ heaps: HEAPS, bytes: BYTES, substreams: [0, 1, 0] })
  const offsets = await payloadOffsets(ns, stream)
  const wire = await capture(ns, 'b')
  const results = []
  for (let k = 0; k < HEAPS * PACKETS; k++) {
    await forbid([`${isPacket(1 + (k + 1) * HEAPS + Math.floor(k / PACKETS), offsets[k % PACKETS]!)} drop`])
    results.push(await stream.send())
  }
  const stats = await stream.stats()
  await stream.close()
  const seen = packetsOfHeaps((await wire.stop()).map((packet) => ({ ...packet, port: 0 })))
  const told = results.map((result, n) => compare(result, 1 + (n + 1) * HEAPS, seen))
  for (let k = 0; k < HEAPS * PACKETS; k++) {
    expect(told[k]).toEqual([0, 1, 2].map((j) => (k === j * PACKETS ? 'failed' : 'sent')))
  }
  // The first send and 15 more of three messages each, three of which were forbidden.
  expect(stats.segmentedMessages).toBe(HEAPS + results.length * HEAPS - HEAPS)
  console.log(
    `outcome, segmented: ${results.length * HEAPS} heaps compared with the wire, ${stats.heapsFailed} failed whole, none partial`,
  )
})

testOnPaths('each of the 3 heaps has an endpoint that fails in each way, the others go', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const addresses = ['10.77.0.11', '10.77.0.12', '10.77.0.13']
  await using ns = await makeNetns({
    veth: { mtu: 1500, gsoMaxSegs: 1, a: ['10.77.0.1/24'], b: ['10.77.0.2/24', ...addresses.map((address) => `${address}/32`)] },
  })
  await listen(ns, 7148)
  const mac = JSON.parse(ns.ip('b', '-json link show v1'))[0].address
  const WAYS: [string, (address: string) => void, (address: string) => void, string, RegExp][] = [
    [
      'nobody answers',
      (address) => {
        ns.ip('b', `address del ${address}/32 dev v1`)
        ns.ip('a', `neigh del ${address} dev v0`)
      },
      (address) => {
        ns.ip('b', `address add ${address}/32 dev v1`)
        // Otherwise it would be asked for again within a second.
        ns.ip('a', `neigh replace ${address} lladdr ${mac} dev v0 nud reachable`)
      },
      'EHOSTUNREACH',
      /nobody answers for its address on v0/,
    ],
    [
      'route of type unreachable',
      (address) => ns.ip('a', `route add unreachable ${address}`),
      (address) => ns.ip('a', `route del unreachable ${address}`),
      'EHOSTUNREACH',
      /EHOSTUNREACH/,
    ],
    [
      'route of type prohibit',
      (address) => ns.ip('a', `route add prohibit ${address}`),
      (address) => ns.ip('a', `route del prohibit ${address}`),
      'EACCES',
      /route or rule of type prohibit or blackhole/,
    ],
    [
      'route of type blackhole',
      (address) => ns.ip('a', `route add blackhole ${address}`),
      (address) => ns.ip('a', `route del blackhole ${address}`),
      'EINVAL',
      /route or rule of type prohibit or blackhole/,
    ],
  ]
  for (const segmentation of ['auto', 'off'] as const) {
    const wire = await capture(ns, 'b')
    const stream = await open(ns, {
      to: addresses.map((address) => `${address}:7148`),
      packetSizeBytes: PACKET,
      segmentation,
      neighbourTimeoutMs: 150,
    })
    await stream.batch({ heaps: HEAPS, bytes: BYTES })
    const results: {
      what: string
      j: number
      errnoName: string
      message: RegExp
      result: Awaited<ReturnType<RemoteStream['send']>>
    }[] = []
    for (const [what, spoil, mend, errnoName, message] of WAYS)
      for (let j = 0; j < HEAPS; j++) {
        spoil(addresses[j]!)
        // Behind a pause of 10 ms the kernel is asked what happened before anything is posted.
        await new Promise((resolve) => setTimeout(resolve, 20))
        const result = await stream.send()
        mend(addresses[j]!)
        results.push({ what, j, errnoName, message, result })
      }
    const after = await stream.send()
    await stream.close()
    const seen = packetsOfHeaps((await wire.stop()).map((packet) => ({ ...packet, address: '' })))
    for (const [n, { what, j, errnoName, message, result }] of results.entries()) {
      expect(compare(result, 1 + n * HEAPS, seen), what).toEqual([0, 1, 2].map((i) => (i === j ? 'failed' : 'sent')))
      expect(result.error!.outcome!.causes, what).toEqual([
        { substream: j, errno: expect.any(Number), errnoName, packets: PACKETS, message: expect.stringMatching(message) },
      ])
      if (j === 0) console.log(`outcome, segmentation ${segmentation}, ${what}: ${result.error!.message}`)
    }
    expect(compare(after, 1 + results.length * HEAPS, seen)).toEqual(['sent', 'sent', 'sent'])
    console.log(`outcome, segmentation ${segmentation}: ${(results.length + 1) * HEAPS} heaps compared with the wire`)
  }
})
