/** The route alone matters here, whatever sends, so these tests run on one path only. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

test('an interface that goes away as the route has just come to it makes sending suspect, no more', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns()
  const { interfaces, suspicions } = await ns.program<{ interfaces: string[]; suspicions: number[] }>('a', 'kernel/gone')
  expect(interfaces).toEqual(['d0', 'd1'])
  const [first, down, gone] = suspicions as [number, number, number]
  expect(down).toBeGreaterThan(first)
  expect(gone).toBeGreaterThan(down)
})
