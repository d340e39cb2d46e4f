/** fe80::/10 and multicast of link scope mean nothing without an interface, which the endpoint's zone or the option may name. */
import { expect } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture, listen, packetsOfHeaps } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

testOnPaths('link-local destinations by zone and by the interface option, one and several', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const [own, peer] = ['fe80::a', 'fe80::b']
  await using ns = await makeNetns({
    veth: { mtu: 1500, gsoMaxSegs: 1, a: [`${own}/64`], b: [`${peer}/64`, 'fe80::c/64'] },
    sink: { addresses: ['fe80::d/64'] },
  })
  // The kernel's own address, which the interface would be known by, may not be used for a second or two.
  ns.ip('a', 'address flush dev v0 scope link')
  ns.ip('a', `address add ${own}/64 dev v0 nodad`)
  // Packets that name no interface would go to the sink, which has the better route.
  ns.ip('a', 'route add fe80::/64 dev ifb9 metric 1')
  await listen(ns, 7148)
  const cases: { to: string | string[]; options?: Partial<StreamOptions> }[] = [
    { to: `[${peer}%v0]:7148` },
    { to: `[${peer}]:7148`, options: { interface: 'v0' } },
    { to: `[${peer}]:7148`, options: { interface: own } },
    { to: [`[${peer}]:7148`, '[fe80::c]:7148'], options: { interface: 'v0' } },
    { to: [`[${peer}%v0]:7148`, '[fe80::c%v0]:7148'] },
    { to: '[ff12::5%v0]:7148' },
    { to: '[ff12::5]:7148', options: { interface: 'v0' } },
    { to: `[${peer}%v0]:7148`, options: { backend: 'dgram' } },
    { to: `[${peer}]:7148`, options: { backend: 'dgram', interface: 'v0' } },
    { to: '[ff12::5]:7148', options: { backend: 'dgram', interface: 'v0' } },
  ]
  for (const { to, options } of cases) {
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to, packetSizeBytes: 1048, ...options })
    await stream.batch({ heaps: 4, bytes: 5000 })
    const { ok, error } = await stream.send()
    expect({ to, options, error }).toEqual({ to, options, error: undefined })
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    expect([...heaps]).toEqual([1, 2, 3, 4].map((cnt) => [cnt, 5]))
    expect(ok!.suspect).toBe(false)
  }
})
