import { networkInterfaces } from 'node:os'
import { expect, test } from 'vitest'
import { localInterfaces, portableInterfaces, resolveInterface } from '#dist/src/net/interface.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

test('an interface by name or address, of either family; every refusal lists those there are', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  ns.ip('a', 'link add only6 type ifb')
  ns.ip('a', 'link set only6 up')
  ns.ip('a', 'address add fd88::1/64 dev only6 nodad')
  ns.ip('a', 'link add dark type ifb')
  ns.ip('a', 'address add 10.88.0.1/24 dev dark')
  const { address: mac, ifindex: index } = JSON.parse(ns.ip('a', '-json link show v0'))[0]
  type Info = { addr_info: { local: string; scope: string; family: string }[] }
  const linkLocal = (JSON.parse(ns.ip('a', '-json address show v0')) as Info[])[0]!.addr_info.find((a) => a.scope === 'link')!.local
  ns.ip('b', 'link set v1 down') // no carrier: still there, with its addresses
  const r = await ns.program<Record<string, unknown>>('a', 'net/interface', linkLocal, `${index}`)
  const common = { name: 'v0', index, mtu: 9000, mac: mac.replaceAll(':', ''), loopback: false, addressState: 'usable' }
  const v4 = { ...common, family: 4, address: '10.77.0.1', addressBytes: '0a4d0001' }
  const v6 = { ...common, family: 6, address: 'fd77::1', addressBytes: 'fd770000000000000000000000000001' }
  expect(r).toEqual({
    name4: { ...v4, given: 'v0' },
    address4: { ...v4, given: '10.77.0.1' },
    name6: { ...v6, given: 'v0' },
    address6: { ...v6, given: 'fd77::1' },
    linkLocal: 'v0',
    zone: 'v0',
    otherZone: expect.stringContaining(`no interface has the address ${linkLocal}%lo`),
    lo: expect.objectContaining({ name: 'lo', index: 1, address: '127.0.0.1', mtu: 65536, loopback: true }),
    lo6: '::1',
    index,
    byIndex: index,
    none: expect.stringMatching(
      /^ERR_SPEADCAST_INTERFACE: no interface is named 'eth9'; there are: .*v0 \(10\.77\.0\.1, fd77::1.*dark \(10\.88\.0\.1, down\)/,
    ),
    noneAddress: expect.stringMatching(/^ERR_SPEADCAST_INTERFACE: no interface has the address 10\.1\.1\.1; there are: lo /),
    v4for6: "ERR_SPEADCAST_INTERFACE: interface 10.77.0.1 is an IPv4 address but the endpoints are IPv6; give 'v0' or fd77::1",
    v6for4: "ERR_SPEADCAST_INTERFACE: interface fd77::1 is an IPv6 address but the endpoints are IPv4; give 'v0' or 10.77.0.1",
    no4: expect.stringMatching(
      /^ERR_SPEADCAST_INTERFACE: interface only6 has no IPv4 address, which IPv4 endpoints need; its addresses: fd88::1/,
    ),
    no4address: expect.stringContaining('only6 has no IPv4 address'),
    down: 'ERR_SPEADCAST_INTERFACE: interface dark is down; bring it up with: ip link set dark up',
    empty: expect.stringContaining("no interface is named ''"),
  })
})

test('where Node alone knows (macOS, sandboxes) the answers are the same, as far as it has them', async (ctx) => {
  const portable = portableInterfaces()
  expect(portable.map(({ name }) => name)).toEqual(Object.keys(networkInterfaces()))
  const loopback = portable.find(({ loopback }) => loopback)!
  expect(resolveInterface('127.0.0.1', 4, portable)).toMatchObject({ name: loopback.name, address: '127.0.0.1', loopback: true })
  expect(() => resolveInterface('nosuch0', 4, portable)).toThrow(/no interface is named 'nosuch0'; there are: /)
  need(ctx, process.platform === 'linux', 'comparing with netlink needs Linux')
  const all = localInterfaces()
  for (const one of portable) {
    const same = all.find(({ name }) => name === one.name)!
    expect({ ...one, addresses: new Set(one.addresses.map(String)) }).toMatchObject({
      index: same.index,
      mtu: same.mtu,
      mac: same.mac,
      loopback: same.loopback,
    })
    expect(same.addresses.length).toBeGreaterThanOrEqual(one.addresses.length)
  }
})
