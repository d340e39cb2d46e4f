/** IPv6 addresses in duplicate address detection, as streams and receivers meet them when they are opened. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'
import type { Question } from './dad.program.js'

/** Detection takes a second or two of each address. */
async function ask(ns: Netns, question: Question): Promise<Record<string, unknown>> {
  const { stdout } = await ns.exec('a', programArgv('net/dad', question), { timeoutMs: 60_000 })
  return JSON.parse(stdout)
}

test('opening waits for an address that is tentative, with and without an interface, and a receiver likewise', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: [], b: ['fd77::2/64'] } })
  expect(await ask(ns, 'tentative')).toEqual({
    before: 'tentative',
    byName: 'fd77::11',
    byAddress: 'fd77::12',
    byRoute: 'fd77::13',
    dgram: 'fd77::14',
    receiver: 'open',
    receiverByName: 'open',
  })
})

test('an address that another host has is passed over, and named where there is no other', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: [], b: ['fd77::2/64', 'fd77::9/64'] } })
  expect(await ask(ns, 'failed')).toMatchObject({
    failed: expect.stringMatching(/^ERR_SPEADCAST_INTERFACE: address fd77::9 of v0 is in state dadfailed: another host has it/),
    order: expect.arrayContaining(['dadfailed']),
    byName: 'fd77::31',
    preferred: 'fd77::32',
  })
})
