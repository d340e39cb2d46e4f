/** Tests the output to terminals of several kinds: escape codes go only to those that understand them. */
import { expect, test } from 'vitest'
import { freePort, run, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { inTerminal, rawTerminalUnavailable } from '../support/raw-terminal.js'

/** Half a second of heaps, in which progress shows twice. */
const paced = async () => ['send', `127.0.0.1:${await freePort()}`, '-n', '60', '-H', '8KiB', '--rate', '1MB/s']
/** Goes back to the start of the line and clears it. */
const CLEAR = '\r\x1b[K'
/** Finds the codes in a text that move the cursor, clear or colour. */
const controls = (text: string): string[] => ['\x1b', '\r'].filter((code) => text.includes(code))

test('progress is rewritten in place in a terminal', async (ctx) => {
  const why = rawTerminalUnavailable()
  need(ctx, !why, why)
  const { code, text } = await inTerminal(await paced())
  expect(code).toBe(0)
  const parts = text.split(CLEAR)
  expect(parts.filter((part) => /^sent \d+ heaps?, /.test(part)).length).toBeGreaterThan(0)
  // Cleared before the summary, and nothing but that.
  expect(parts.at(-1)).toMatch(/^backend {2,}udp/)
  expect(controls(parts.join(''))).toEqual([])
})

test.for([
  ['TERM=dumb', { TERM: 'dumb' }],
  ['TERM=dumb, and colour asked for', { TERM: 'dumb', FORCE_COLOR: '1' }],
  ['TERM empty', { TERM: '' }],
] as const)('%s: neither escape codes nor returns', async ([, env], ctx) => {
  const why = rawTerminalUnavailable()
  need(ctx, !why, why)
  const { code, text } = await inTerminal(await paced(), { env })
  expect(code).toBe(0)
  expect(controls(text)).toEqual([])
  expect(text).toMatch(/^backend {2,}udp/)
  expect((await inTerminal(['send', '127.0.0.1'], { env })).text).toMatch(/^speadcast send: endpoint '127\.0\.0\.1'/)
})

test('NO_COLOR and FORCE_COLOR change nothing, because nothing has a colour', async (ctx) => {
  const why = rawTerminalUnavailable()
  need(ctx, !why, why)
  const told = async (env: Record<string, string>) => (await inTerminal(['send', '127.0.0.1'], { env })).text
  const [plain, without, forced] = await Promise.all([told({}), told({ NO_COLOR: '1' }), told({ FORCE_COLOR: '3' })])
  expect(plain).toContain("endpoint '127.0.0.1'")
  expect([without, forced]).toEqual([plain, plain])
})

test('without a terminal nothing but lines is printed', async () => {
  const { code, stdout, stderr } = await run(await paced())
  expect(code).toBe(0)
  expect(stderr).toBe('')
  expect(controls(stdout)).toEqual([])
  const folder = temporaryFolder()
  expect((await run(['send', '10.0.0.5:7148', '-n', '2', '-H', '64', '--pcap', `${folder}/x`])).stderr).toBe('')
})
