/** The route alone matters here, whatever sends, so these tests run on one path only. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

test('an interface that goes away as the route has just come to it makes sending suspect, no more', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns()
  const { stdout } = await ns.exec('a', [process.execPath, fileURLToPath(new URL('scripts/gone.mjs', import.meta.url))])
  const { interfaces, suspicions } = JSON.parse(stdout)
  expect(interfaces).toEqual(['d0', 'd1'])
  const [first, down, gone] = suspicions
  expect(down).toBeGreaterThan(first)
  expect(gone).toBeGreaterThan(down)
})
