/** IPv6 addresses in duplicate address detection, as streams and receivers meet them when they are opened. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

const HEAD = `
  import { execFileSync } from 'node:child_process'
  import { openStream } from '#dist/src/index.js'
  import { openReceiver } from '#dist/src/receive/index.js'
  import { localInterfaces } from '#dist/src/net/interface.js'
  const ip = (command) => execFileSync('ip', command.split(' '))
  const attempt = async (f) => { try { return await f() } catch (e) { return e.code + ': ' + e.message } }
  const source = async (options) => attempt(async () => {
    const stream = await openStream({ backend: 'udp', thread: 'inline', to: '[fd77::2]:7148', packetSizeBytes: 1024, ...options })
    const { sourceAddress } = stream.stats().states
    await stream.close()
    return sourceAddress
  })
`

test('opening waits for an address that is tentative, with and without an interface, and a receiver likewise', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: [], b: ['fd77::2/64'] } })
  const got = await ns.script<Record<string, unknown>>(
    'a',
    `${HEAD}
     const r = {}
     const anew = (address) => { ip('address flush dev v0 scope global'); ip('address add ' + address + '/64 dev v0') }
     anew('fd77::11')
     r.before = localInterfaces().find(({ name }) => name === 'v0').addresses.at(-1).state
     r.byName = await source({ interface: 'v0' })
     anew('fd77::12')
     r.byAddress = await source({ interface: 'fd77::12' })
     anew('fd77::13')
     r.byRoute = await source({})
     anew('fd77::14')
     r.dgram = await attempt(async () => { const s = await openStream({ backend: 'dgram', to: '[fd77::2]:7148', interface: 'v0', packetSizeBytes: 1024 }); await s.close(); return 'open' })
     anew('fd77::15')
     r.receiver = await attempt(async () => { const x = await openReceiver({ endpoints: '[fd77::15]:7148' }); await x.close(); return 'open' })
     anew('fd77::16')
     r.receiverByName = await attempt(async () => { const x = await openReceiver({ endpoints: '[ff15::1]:7148', interface: 'v0' }); await x.close(); return 'open' })
     out(r)`,
    { timeoutMs: 60_000 },
  )
  expect(got).toEqual({
    before: expect.stringMatching(/tentative|usable/),
    byName: 'fd77::11',
    byAddress: 'fd77::12',
    byRoute: 'fd77::13',
    dgram: 'open',
    receiver: 'open',
    receiverByName: 'open',
  })
})

test('an address that another host has is passed over, and named where there is no other', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: [], b: ['fd77::2/64', 'fd77::9/64'] } })
  const got = await ns.script<Record<string, unknown>>(
    'a',
    `${HEAD}
     const r = {}
     ip('address add fd77::9/64 dev v0')
     for (let i = 0; i < 300 && localInterfaces().find(({ name }) => name === 'v0').addresses.some(({ state }) => state === 'tentative'); i++)
       await new Promise((done) => setTimeout(done, 20))
     r.failed = await source({ interface: 'fd77::9' })
     ip('address add fd77::31/64 dev v0 nodad')
     // The kernel lists the newest first.
     r.order = localInterfaces().find(({ name }) => name === 'v0').addresses.map(({ state }) => state)
     r.byName = await source({ interface: 'v0' })
     ip('address add fd77::32/64 dev v0 nodad')
     ip('address change fd77::31/64 dev v0 preferred_lft 0')
     r.preferred = await source({ interface: 'v0' })
     out(r)`,
    { timeoutMs: 60_000 },
  )
  expect(got).toMatchObject({
    failed: expect.stringMatching(/^ERR_SPEADCAST_INTERFACE: address fd77::9 of v0 is in state dadfailed: another host has it/),
    order: expect.arrayContaining(['dadfailed']),
    byName: 'fd77::31',
    preferred: 'fd77::32',
  })
})
