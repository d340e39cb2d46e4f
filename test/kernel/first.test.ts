/**
 * A socket that is connected to the first of several endpoints, as fq wants it: what comes back of the others is heard all the
 * same.
 */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { FAR, forward } from '../support/forward.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { listen } from '../support/remote-stream.js'

interface Answers {
  accepted: [number, number]
  refused: [string | null, string | null]
  suspicions: number[]
  samePort: boolean[]
  queuedErrors: number
  portUnreachable: number
}

const FAMILIES = [
  {
    near: '10.77.0.2:7148',
    closed: '10.77.0.2:7149',
    rejected: '10.77.0.3',
    match: 'ip daddr 10.77.0.3',
    far: `${FAR.v4}:7148`,
    fits: 1472,
  },
  {
    near: '[fd77::2]:7148',
    closed: '[fd77::2]:7149',
    rejected: '[fd77::3]',
    match: 'ip6 daddr fd77::3',
    far: `[${FAR.v6}]:7148`,
    fits: 1452,
  },
] as const

test.for(FAMILIES)(
  'the second endpoint rejects, has a closed port, or is behind a smaller MTU: $near',
  async ({ near, closed, rejected, match, far, fits }, ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
    await using ns = await makeNetns({ veth: { mtu: 9000, b: ['10.77.0.2/24', 'fd77::2/64', '10.77.0.3/24', 'fd77::3/64'] } })
    await forward(ns, 1500)
    await listen(ns, 7148)
    await ns.exec('b', ['sh', '-c', 'cd /proc/sys/net; echo 0 > ipv4/icmp_ratemask; echo 0 > ipv6/icmp/ratelimit'])
    for (const rule of [
      'add table inet t',
      'add chain inet t in { type filter hook input priority 0 ; }',
      `add rule inet t in ${match} udp dport 7148 reject with ${match.startsWith('ip6') ? 'icmpv6' : 'icmp'} type admin-prohibited`,
    ])
      await ns.exec('b', ['nft', ...rule.split(' ')])
    const answers = async (second: string, bytes: number) => {
      const got = await ns.program<Answers>('a', 'kernel/first', { to: [near, second], bytes })
      console.log(`first ${near}, second ${second}: ${JSON.stringify(got)}`)
      expect(got.accepted[0]).toBe(100)
      expect(got.refused[0]).toBeNull()
      expect(got.samePort).toEqual([true, true])
      return got
    }
    const open = await answers(closed, 1000)
    expect(open.portUnreachable).toBe(100)
    expect(open.refused[1]).toBeNull()
    expect(open.suspicions.at(-1)).toBe(open.suspicions[0])

    const prohibited = await answers(`${rejected}:7148`, 1000)
    expect(prohibited.accepted[1]).toBeLessThan(100)
    expect(prohibited.refused[1]).toMatch(/administratively prohibited/)
    expect(prohibited.suspicions[1]).toBeGreaterThan(prohibited.suspicions[0]!)

    const large = await answers(far, 8900)
    expect(large.accepted[1]).toBeLessThan(100)
    expect(large.refused[1]).toMatch(new RegExp(`MTU 1500 .*as router (10\\.77\\.0\\.2|fd77::[23]) told.*${fits}`))
    expect(large.suspicions[1]).toBeGreaterThan(large.suspicions[0]!)
  },
)
