/** Events of a stream while its host changes: link, route, address, queue. */
import type { StreamEvent } from 'speadcast'
import { expect, test } from 'vitest'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'

interface Told {
  /** The kinds of events behind each command. */
  readonly brought: readonly string[][]
  readonly all: readonly StreamEvent[]
  readonly links: readonly StreamEvent[]
  /** Whether the channel told the same. */
  readonly same: boolean
  readonly recent: boolean
}

async function twoWays(): Promise<Netns> {
  const ns = await makeNetns({ veth: {} })
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  await ns.exec('a', ['sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/w0/accept_dad'])
  for (const [where, device, host] of [
    ['a', 'w0', 1],
    ['b', 'w1', 2],
  ] as const) {
    ns.ip(where, `link set ${device} up`)
    ns.ip(where, `address add 10.78.0.${host}/24 dev ${device}`)
    ns.ip(where, `address add fd78::${host}/64 dev ${device} nodad`)
  }
  ns.ip('b', 'address add 10.99.0.1/32 dev lo')
  ns.ip('b', 'address add fd99::1/128 dev lo nodad')
  ns.ip('a', 'route add 10.99.0.0/24 via 10.77.0.2')
  ns.ip('a', 'route add fd99::/64 via fd77::2')
  return ns
}

const WAYS = {
  IPv4: {
    to: '10.99.0.1:7148',
    net: '10.99.0.0/24',
    second: '10.78.0.2',
    was: '10.77.0.1',
    own: '10.78.0.1',
    other: '10.78.0.9',
    length: 24,
  },
  IPv6: { to: '[fd99::1]:7148', net: 'fd99::/64', second: 'fd78::2', was: 'fd77::1', own: 'fd78::1', other: 'fd78::9', length: 64 },
} as const

for (const family of ['IPv4', 'IPv6'] as const)
  for (const thread of ['worker', 'inline'])
    test(`${family} sent from '${thread}': route, address, queue and link`, async (ctx) => {
      const why = netnsUnavailable()
      need(ctx, !why, why)
      await using ns = await twoWays()
      const { to, net, second, was, own, other, length } = WAYS[family]
      // The kernel sends from the newest IPv6 address, and from the first of IPv4's.
      const again =
        family === 'IPv6'
          ? [`ip address add ${other}/${length} dev w0 nodad`]
          : [`ip route replace ${net} via ${second} src ${other}`]
      if (family === 'IPv4') ns.ip('a', `address add ${other}/${length} dev w0`)
      const commands = [
        [`ip route replace ${net} via ${second}`, 'route', 'address'],
        [...again, 'address'],
        ['tc qdisc replace dev w0 root pfifo limit 500', 'queue'],
        ['tc qdisc replace dev w0 root pfifo_fast', 'queue'],
        [`ip netns exec ${ns.name.b} ip link set w1 down`, 'link'],
        [`ip netns exec ${ns.name.b} ip link set w1 up`, 'link'],
        ['ip link set w0 down', 'link'],
      ]
      const { brought, all, links, ...rest } = await ns.program<Told>('a', 'kernel/events', to, thread, commands)
      console.log(all.map(({ kind, message }) => `${kind}: ${message}`).join('\n'))
      expect(rest).toEqual({ same: true, recent: true })
      for (const [i, [command, ...kinds]] of commands.entries()) expect(brought[i], command).toEqual(expect.arrayContaining(kinds))
      const told = (kind: string) => all.filter((event) => event.kind === kind)
      expect(told('route')[0]).toMatchObject({
        message: expect.stringMatching(/ leaves by w0 \(index \d+\) .* instead of v0 /),
        before: { interface: 'v0', pathChanges: 0 },
        after: { interface: 'w0', pathChanges: 1 },
        inFlight: expect.any(Number),
        queuedBytes: expect.any(Number),
      })
      expect(told('address').slice(0, 2)).toMatchObject([
        { message: `packets come from ${own} instead of ${was}`, before: { sourceAddress: was }, after: { sourceAddress: own } },
        {
          message: expect.stringContaining(` from ${other} via `),
          before: { sourceAddress: own },
          after: { sourceAddress: other },
        },
      ])
      const replaced = told('queue').filter(({ after }) => after && 'queueChanges' in after)
      expect(replaced.map(({ after }) => after)).toEqual([{ queueChanges: 1 }, { queueChanges: 2 }])
      expect(links).toEqual(told('link'))
      expect(links.map(({ after }) => after)).toEqual([{ carrier: false }, { carrier: true }, { carrier: false }])
      expect(links[1]!.message).toBe('w0 has a signal again')
    })

test('the command tells each in its JSON stream, with what has changed', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  const args = ['10.99.0.1:7148', '--rate', '1MB/s', '-H', '8KiB', '--forever', '--json-stream', '--interval', '3600']
  const child = ns.spawn('a', ['node', CLI, 'send', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [out, err] = [child.stdout!, child.stderr!].map((stream) => {
    const text = { text: '' }
    stream.setEncoding('utf8').on('data', (part: string) => {
      text.text += part
    })
    return text
  })
  await waitForOutput(child, /"type":"refusal"/)
  ns.ip('a', 'route replace 10.99.0.0/24 via 10.78.0.2')
  await waitForOutput(child, /"type":"route".*\n/)
  child.kill('SIGINT')
  await new Promise((resolve) => child.once('close', resolve))
  const objects = out!.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(objects.find(({ type }) => type === 'route')).toEqual({
    kind: 'event',
    type: 'route',
    atSeconds: expect.any(Number),
    time: expect.any(Number),
    message: expect.stringMatching(/^10\.99\.0\.1:7148 leaves by w0 /),
    before: { interface: 'v0', pathChanges: 0 },
    after: { interface: 'w0', pathChanges: 1, lastPathChange: expect.stringContaining(' leaves by w0 ') },
    inFlight: expect.any(Number),
    queuedBytes: expect.any(Number),
  })
  // Counts are for those who watch.
  expect(err!.text).toMatch(/^speadcast send: \S+Z 10\.99\.0\.1:7148 leaves by w0 /m)
  expect(err!.text).not.toContain('nobody listens')
})
