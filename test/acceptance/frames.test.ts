// The acceptance script reads frames whose contents others vouch for: a header printed in a textbook, and the kernel's.
import { expect, test } from 'vitest'
import { datagramOf, framesOf } from '../../scripts/acceptance/frames.mjs'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'

test('IPv4 and UDP checksums of what the kernel sent are right, and wrong when any byte of theirs is another', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  // Without offload the kernel sums itself, and the veth carries what a wire would.
  const off = await ns.exec('a', ['ethtool', '-K', 'v0', 'tx', 'off'], { check: false })
  need(ctx, off.code === 0, 'needs ethtool')
  for (const target of ['10.77.0.2', 'fd77::2']) {
    const capture = ns.exec('b', ['sh', '-c', 'timeout 10 tcpdump -i v1 -U -s 0 -c 1 -w - udp port 9 2>/dev/null | base64 -w 0'])
    for (let tries = 0; tries < 100; tries++) {
      if (/^\S+\s+\d+\s+3\s/m.test((await ns.exec('b', ['cat', '/proc/net/packet'])).stdout)) break
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    await ns.exec('a', programArgv('support/send-datagram', 'an odd one', target, '9'))
    const [frame] = framesOf(Buffer.from((await capture).stdout, 'base64'))
    const v6 = target.includes(':')
    expect(datagramOf(frame!.bytes)).toMatchObject({
      udpChecksum: 'right',
      ipChecksum: v6 ? 'none' : 'right',
      destinationPort: 9,
      fragment: false,
    })
    const end = frame!.bytes.length
    const udp = end - 18
    for (let at = udp; at < end; at++) {
      // The length field says how much there is to sum.
      if (at === udp + 4 || at === udp + 5) continue
      const damaged = Buffer.from(frame!.bytes)
      damaged[at]! ^= 0x10
      expect(datagramOf(damaged)!.udpChecksum, `byte ${at}`).toBe('wrong')
    }
    if (v6) continue
    const damaged = Buffer.from(frame!.bytes)
    damaged[22]! ^= 1
    expect(datagramOf(damaged)).toMatchObject({ ipChecksum: 'wrong' })
  }
})
