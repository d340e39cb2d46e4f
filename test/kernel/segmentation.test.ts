/** Segmentation offload where a device, a kernel or the MTU spoils it: the packets go all the same, and stats say how and why. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture, listen, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const TO = '10.77.0.2:7148'

testOnPaths('devices without checksum or segmentation offload', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('ethtool', ['--version']).status === 0, 'needs ethtool')
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  for (const features of ['tx off', 'tx on gso off', 'gso on tx-udp-segmentation off', 'tx off gso off sg off']) {
    await ns.exec('a', ['ethtool', '-K', 'v0', ...features.split(' ')])
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: TO })
    const { packetsPerHeap } = await stream.batch({ heaps: 6, bytes: 7001 })
    for (let i = 0; i < 3; i++) expect((await stream.send()).ok).toMatchObject({ heaps: 6 })
    const { states, segmentedMessages, plainMessages } = await stream.stats()
    await stream.close()
    const seen = await wire.stop()
    const heaps = packetsOfHeaps(seen)
    expect(heaps.size).toBe(18)
    expect(new Set(heaps.values())).toEqual(new Set([packetsPerHeap]))
    // This kernel segments in software. Older ones answer EIO (docs/ground-rules.md, "Segmentation and zero copy"), and the sender falls back.
    if (states.segmentation === 'on') expect([segmentedMessages > 0, plainMessages]).toEqual([true, 0])
    else expect([states.segmentation, states.segmentationReason]).toEqual(['off', expect.stringContaining('EIO')])
    console.log(
      `segmentation, ethtool -K ${features}: ${seen.length} packets on the wire once, ${segmentedMessages} messages, ${plainMessages} packets alone; ` +
        `${states.segmentation}: ${states.segmentationReason}`,
    )
  }
})

testOnPaths('part of a message, of a send of some heaps or of a burst, goes as a shorter message', async (ctx, open, path) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  await listen(ns, 7148)
  // 24 equal packets, which are one message; a burst ends within it.
  const udpPath = path === 'auto' ? 'sendmmsg' : path
  const ways: Partial<StreamOptions>[] = [{ udpPath }, { rate: 12.5e6, burstBytes: 4000 }]
  for (const options of ways) {
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: TO, ...options })
    const { packetsPerHeap } = await stream.batch({ heaps: 6, bytes: 5000 })
    for (const heaps of [1, 2, 3, 5, 6]) expect((await stream.send({ heaps })).ok).toMatchObject({ heaps })
    const { segmentedMessages, plainMessages, packets } = await stream.stats()
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    expect([seen.size, new Set(seen.values())]).toEqual([17, new Set([packetsPerHeap])])
    expect(packets).toBe(17 * packetsPerHeap)
    // One packet that is left over goes by itself.
    expect([segmentedMessages > 0, plainMessages <= (options.rate ? packets / 4 : 0)]).toEqual([true, true])
    console.log(
      `part of a message, ${JSON.stringify(options)}: ${packets} packets, ${segmentedMessages} messages, ${plainMessages} packets alone`,
    )
  }
})

// This kernel cannot be made to refuse segmentation, so strace answers in its place (once; every other call is the kernel's).
test('sendmmsg refuses a segmented message: every packet goes once, and segmentation is off, or paused where size was to blame', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('strace', ['-V']).status === 0, 'needs strace')
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  // Nothing comes back from a socket that listens: one call a batch, and the second call is the second batch's.
  await listen(ns, 7148)
  for (const [errno, state] of [
    ['EIO', 'off'],
    ['ENOPROTOOPT', 'off'],
    ['EINVAL', 'paused'],
    ['EMSGSIZE', 'paused'],
  ] as const) {
    const wire = await capture(ns, 'b')
    const inject = `inject=sendmmsg:error=${errno}:when=2`
    const strace = ['strace', '-qq', '-f', '-o', '/dev/null', '-e', 'trace=sendmmsg', '-e', inject]
    const stream = await RemoteStream.open(ns, { to: TO, udpPath: 'sendmmsg' }, strace)
    const { packetsPerHeap } = await stream.batch({ heaps: 3, bytes: 7000 })
    const results = [await stream.send()]
    const before = (await stream.stats()).states
    for (let i = 0; i < 2; i++) results.push(await stream.send())
    const { states, segmentedMessages, plainMessages } = await stream.stats()
    for (let i = 0; i < 70; i++) results.push(await stream.send())
    const after = (await stream.stats()).states
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    expect(results.filter(({ error }) => error)).toEqual([])
    expect(heaps.size).toBe(3 * results.length)
    expect(new Set(heaps.values())).toEqual(new Set([packetsPerHeap]))
    expect(before.segmentation).toBe('on')
    expect(plainMessages).toBe(2 * 3 * packetsPerHeap)
    expect(states.segmentation).toBe(state)
    expect(states.segmentationReason).toContain(errno)
    // Segmentation is tried again where size was to blame, and not where the device was.
    expect(after.segmentation).toBe(state === 'paused' ? 'on' : 'off')
    console.log(
      `segmentation, ${errno}: ${segmentedMessages} message, then ${plainMessages} packets alone; ${states.segmentation}: ${states.segmentationReason}; ` +
        `70 batches later ${after.segmentation}: ${after.segmentationReason}`,
    )
  }
})

testOnPaths(
  'a message too large for the MTU goes as packets while fragmentation is allowed, and as messages again when it fits',
  async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: TO, packetSizeBytes: 8000, allowFragmentation: true })
    const { packetsPerHeap } = await stream.batch({ heaps: 2, bytes: 30_000 })
    const said: unknown[] = []
    const sendAndSay = async (sends: number) => {
      for (let i = 0; i < sends; i++) expect((await stream.send()).error).toBeUndefined()
      said.push((await stream.stats()).states.segmentation)
    }
    await sendAndSay(1)
    ns.ip('a', 'link set v0 mtu 1500')
    await sendAndSay(2)
    ns.ip('a', 'link set v0 mtu 9000')
    await sendAndSay(1)
    await sendAndSay(64)
    const { states } = await stream.stats()
    await stream.close()
    const seen = await wire.stop()
    expect(said).toEqual(['on', 'paused', 'paused', 'on'])
    expect(states.segmentationReason).toMatch(/^up to (64|128) segments a message$/)
    const whole = packetsOfHeaps(seen.filter(({ fragment }) => !fragment))
    const packets = [...whole.values()].reduce((sum, n) => sum + n, 0)
    expect(packets).toBe((1 + 1 + 64) * 2 * packetsPerHeap)
    console.log(
      `segmentation, MTU 9000 → 1500 → 9000: ${said.join(', ')}; ${packets} packets whole, ${seen.length - packets} fragments of two batches`,
    )
  },
)

testOnPaths(
  'packets that a firewall refuses while a message is probed acquit segmentation, for the next send too',
  async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
    await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
    await listen(ns, 7148)
    const nft = (rule: string) => ns.exec('a', ['nft', ...rule.split(' ')])
    await nft('add table inet t')
    await nft('add chain inet t out { type filter hook output priority 0 ; }')
    for (const [rule, status, passed] of [
      ['udp dport 7148 drop', 'failed', 0],
      ['udp dport 7148 udp length < 8000 drop', 'partial', 6],
    ] as const) {
      const stream = await open(ns, { to: TO, packetSizeBytes: 8000, allowFragmentation: true, split: 'greedy' })
      await stream.batch({ heaps: 2, bytes: 30_000 })
      expect((await stream.send()).error).toBeUndefined()
      ns.ip('a', 'link set v0 mtu 1500')
      await nft(`add rule inet t out ${rule}`)
      // Three packets of 8000 bytes and a shorter one are a heap, and a message.
      const { heaps } = (await stream.send()).error!.outcome!
      ns.ip('a', 'link set v0 mtu 9000')
      await nft('flush chain inet t out')
      expect((await stream.send()).error).toBeUndefined()
      const { states, segmentedMessages, plainMessages } = await stream.stats()
      await stream.close()
      expect(heaps).toEqual([status, status])
      expect([states.segmentation, states.segmentationReason]).toEqual(['on', expect.stringMatching(/^up to (64|128) segments/)])
      expect([segmentedMessages, plainMessages]).toEqual([4, passed])
    }
  },
)
