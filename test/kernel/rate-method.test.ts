/** The rate of a paced stream where the kernel cannot keep it: 'kernel' is refused with the reason and the remedy, 'auto' paces by software. */
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { RemoteStream } from '../support/remote-stream.js'

const TO = '10.77.0.2:7148'
const LOCAL = '127.0.0.1:7148'

interface Case {
  what: string
  to?: string | string[]
  tc?: string[]
  options?: Partial<StreamOptions>
  refusal: RegExp
}

const CASES: Case[] = [
  {
    what: 'veth without a queue',
    refusal: /discipline of v0 is noqueue, not fq; as root: `tc qdisc replace dev v0 root fq`/,
  },
  { what: 'over IPv6', to: '[fd77::2]:7148', options: { packetSizeBytes: 1400 }, refusal: /discipline of v0 is noqueue, not fq/ },
  { what: 'loopback', to: LOCAL, refusal: /discipline of lo is noqueue, not fq; as root: `tc qdisc replace dev lo root fq`/ },
  {
    what: 'multicast',
    to: '239.77.0.1:7148',
    options: { interface: 'v0' },
    refusal: /discipline of v0 is noqueue, not fq/,
  },
  { what: 'a queue of another kind', tc: ['replace dev v0 root pfifo'], refusal: /discipline of v0 is pfifo, not fq/ },
  {
    what: 'a queue of another kind with one below',
    tc: ['replace dev v0 root handle 1: tbf rate 1gbit burst 64k limit 1m', 'add dev v0 parent 1:1 pfifo'],
    refusal: /discipline of v0 is tbf, not fq/,
  },
  {
    what: 'mq over queues that are not fq',
    tc: ['replace dev v0 root handle 7: mq', 'replace dev v0 parent 7:2 pfifo'],
    refusal: /discipline of v0 is mq over pfifo(_fast)?, not fq; as root: `tc qdisc replace dev v0 root fq`/,
  },
  {
    what: 'endpoints behind two interfaces',
    to: [TO, LOCAL],
    refusal: /packets to 10\.77\.0\.2:7148 leave by v0 and those to 127\.0\.0\.1:7148 by lo, and each would pace by itself/,
  },
  {
    what: 'fragments',
    options: { packetSizeBytes: 9000, allowFragmentation: true },
    refusal: /packets of 9000 bytes are sent in fragments/,
  },
]

async function netns(): Promise<Netns> {
  const ns = await makeNetns({ veth: {} })
  // mq wants several queues, and the pair must be made with them.
  ns.ip('a', 'link del v0')
  ns.ip('a', `link add v0 numtxqueues 2 type veth peer name v1 netns ${ns.name.b}`)
  for (const [where, link, host] of [
    ['a', 'v0', 1],
    ['b', 'v1', 2],
  ] as const) {
    ns.ip(where, `link set ${link} up`)
    ns.ip(where, `address add 10.77.0.${host}/24 dev ${link}`)
    ns.ip(where, `address add fd77::${host}/64 dev ${link} nodad`)
  }
  return ns
}

test('kernel by name is refused with the reason; auto says it, and paces by software', { timeout: 60_000 }, async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await netns()
  for (const { what, to = TO, tc = [], options, refusal } of CASES) {
    for (const command of tc) ns.tc('a', `qdisc ${command}`)
    const asked = { to, rate: '10MB/s' as const, ...options }
    const error = await RemoteStream.open(ns, { ...asked, rateMethod: 'kernel' }).catch((error) => error)
    expect(error, what).toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(new RegExp(`^rateMethod 'kernel': .*${refusal.source}.*; or use rateMethod 'sw'$`)),
    })
    const stream = await RemoteStream.open(ns, asked)
    const { states } = await stream.stats()
    expect(states, what).toMatchObject({ rateMethod: 'sw', rateMethodReason: expect.stringMatching(refusal) })
    await stream.close()
    if (tc.length > 0) ns.tc('a', 'qdisc del dev v0 root')
  }
})

test('stats say how the rate is kept only for a stream that has one', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await netns()
  const told = async (options: Partial<StreamOptions>) => {
    const stream = await RemoteStream.open(ns, { to: TO, ...options })
    const { rateMethod, rateMethodReason } = (await stream.stats()).states
    await stream.close()
    return [rateMethod, rateMethodReason]
  }
  expect(await told({})).toEqual([undefined, undefined])
  expect(await told({ rate: 1e6, rateMethod: 'sw' })).toEqual(['sw', 'asked for'])
  expect(await told({ rate: 1e6, udpPath: 'io_uring' })).toEqual(['sw', expect.stringContaining("udpPath 'io_uring'")])
  expect(await told({ rate: 1e6, backend: 'dgram' })).toEqual(['sw', expect.stringContaining("backend 'dgram'")])
})

test('a queue that is replaced may take packets with it: the batch is suspect', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await netns()
  ns.tc('a', 'qdisc replace dev v0 root pfifo')
  const stream = await RemoteStream.open(ns, { to: TO, rate: '2MB/s' })
  await stream.batch({ heaps: 100, bytes: 2000 })
  const sent = stream.send()
  await new Promise((resolve) => setTimeout(resolve, 30))
  ns.tc('a', 'qdisc replace dev v0 root bfifo')
  expect((await sent).ok).toMatchObject({ suspect: true })
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect((await stream.send()).ok).toMatchObject({ suspect: false })
})
