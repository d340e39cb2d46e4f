/** Packets beyond the MTU: an error with the remedy, never fragments behind the user's back. */
import { expect } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

testOnPaths('MTU 1500 with packets of 9000 asked for is refused at open, with the size that fits', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  const wire = await capture(ns, 'b')
  const refusal = (to: string, packetSizeBytes: number) =>
    open(ns, { to, packetSizeBytes }).then(
      () => 'opened',
      (error) => `${error.code}: ${error.message}`,
    )
  const said = [
    await refusal('10.77.0.2:7148', 8972),
    await refusal('10.77.0.2:7148', 1473),
    await refusal('10.77.0.2:7148', 1472),
    await refusal('[fd77::2]:7148', 1453),
    await refusal('[fd77::2]:7148', 1452),
  ]
  expect(said).toEqual([
    'ERR_SPEADCAST_PACKET_SIZE: packetSizeBytes 8972 + 28 exceeds MTU 1500 of v0; pass packetSizeBytes ≤ 1472, raise the MTU, or allow fragmentation',
    'ERR_SPEADCAST_PACKET_SIZE: packetSizeBytes 1473 + 28 exceeds MTU 1500 of v0; pass packetSizeBytes ≤ 1472, raise the MTU, or allow fragmentation',
    'opened',
    'ERR_SPEADCAST_PACKET_SIZE: packetSizeBytes 1453 + 48 exceeds MTU 1500 of v0; pass packetSizeBytes ≤ 1452, raise the MTU, or allow fragmentation',
    'opened',
  ])
  expect(await wire.stop()).toEqual([])
  console.log(`mtu: ${said.length} sizes asked for, the two that fit opened, nothing on the wire`)
})

testOnPaths('fragments leave only where fragmentation is allowed', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  for (const to of ['10.77.0.2:7148', '[fd77::2]:7148']) {
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to, packetSizeBytes: 8952, allowFragmentation: true })
    await stream.batch({ heaps: 2, bytes: 17_000 })
    expect((await stream.send()).ok).toMatchObject({ packets: 4 })
    const stats = await stream.stats()
    await stream.close()
    const seen = await wire.stop()
    expect(seen.every(({ fragment }) => fragment)).toBe(true)
    expect(seen.length).toBe(4 * 6)
    console.log(
      `mtu: ${to}: 4 packets left as ${seen.length} fragments, segmentation ${stats.states.segmentation}: ${stats.states.segmentationReason}`,
    )
  }
})

testOnPaths('an MTU lowered under an open stream fails the heaps with EMSGSIZE, and raising it heals', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
  for (const to of ['10.77.0.2:7148', '[fd77::2]:7148']) {
    const v6 = to.startsWith('[')
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to, packetSizeBytes: 8000 })
    await stream.batch({ heaps: 3, bytes: 20_000 })
    await stream.batch({ name: 'small', heaps: 3, bytes: 1000 })
    expect((await stream.send()).ok).toMatchObject({ heaps: 3, packets: 12 })
    ns.ip('a', 'link set v0 mtu 1500')
    const { error } = await stream.send()
    expect(error).toMatchObject({
      code: 'ERR_SPEADCAST_SEND',
      outcome: {
        heaps: ['failed', 'failed', 'failed'],
        failedHeaps: [0, 1, 2],
        causes: [
          {
            substream: 0,
            errnoName: 'EMSGSIZE',
            packets: 12,
            message: expect.stringMatching(
              new RegExp(`exceeds MTU 1500 of v0; pass packetSizeBytes ≤ ${v6 ? 1452 : 1472}, raise the MTU`),
            ),
          },
        ],
      },
    })
    // Packets that still fit go, as one message.
    expect((await stream.send({ name: 'small' })).ok).toMatchObject({ heaps: 3, packets: 3 })
    ns.ip('a', 'link set v0 mtu 9000')
    expect((await stream.send()).ok).toMatchObject({ heaps: 3, packets: 12 })
    const stats = await stream.stats()
    await stream.close()
    const seen = await wire.stop()
    expect(seen.some(({ fragment }) => fragment)).toBe(false)
    // Heap cnts 4–6 were used up by the send that failed.
    expect([...new Set(seen.map(({ cnt }) => cnt))]).toEqual([1, 2, 3, 7, 8, 9, 10, 11, 12])
    expect(seen.length).toBe(27)
    expect(stats.packetsFailed).toBe(12)
    console.log(`mtu: ${to}: ${seen.length} packets on the wire, 12 refused: ${error!.outcome!.causes[0]!.message}`)
  }
})
