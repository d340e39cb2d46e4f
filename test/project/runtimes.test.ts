/**
 * Runtimes other than Node with glibc: each sends to a receiver here, by the package's name, and every value is compared. scripts/runtimes.mjs
 * fetches them, and docs/platforms.md says what they can do.
 */
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { freePort } from '../receive/support.js'
import { runToEnd } from '../support/child.js'
import { page } from '../support/documents.js'
import { need } from '../support/need.js'
import { programFile } from '../support/program.js'
import { ROOT, runIn } from './support.js'

const SECONDS = 1000
/** Fetching one takes half a minute. */
const FETCH_MS = 180 * SECONDS
/** Ways to send, and the backend that each gets. */
const WAYS = [
  { options: {}, backend: 'udp' },
  { options: { rate: '100Mbps' }, backend: 'udp' },
  { options: { thread: 'inline', rate: '100Mbps' }, backend: 'udp' },
  { options: { backend: 'dgram' }, backend: 'dgram' },
] as const

interface Answer {
  readonly backend: string
  readonly reason: string
  readonly heaps: number
}

/** Runs the program under a runtime, and returns what it said and what was received: of each heap its timestamp, and how many samples of which values. */
async function exchange(argv: readonly string[], options: object): Promise<{ answer: Answer; heaps: [number, string][] }> {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 25 })
  const heaps: [number, string][] = []
  const all = (async () => {
    for await (const { items, complete } of receiver) {
      const timestamp = items.get(0x1600)
      const samples = items.get(0x3300)
      if (!timestamp || !samples) continue
      expect(complete).toBe(true)
      const { buffer, byteOffset, byteLength } = samples.bytes
      const values = Array.from({ length: byteLength / 2 }, (_, i) => new DataView(buffer, byteOffset).getInt16(2 * i, true))
      heaps.push([Buffer.from(timestamp.bytes).readUIntBE(0, 6), `${values.length} of ${[...new Set(values)]}`])
    }
  })()
  const ended = await runToEnd([...argv, programFile('project/other-runtime'), String(port), JSON.stringify(options)], 25 * SECONDS)
  expect({ ...ended, stdout: '' }).toMatchObject({ code: 0, stderr: '' })
  await all
  expect((await receiver.done).reason).toBe('stop')
  return { answer: JSON.parse(ended.stdout), heaps }
}

const EXPECTED = Array.from({ length: 8 }, (_, heap) => [heap * 1000, `1000 of ${1000 + heap}`])

/** Deno's node:dgram does not keep the order of packets. */
const inOrder = (heaps: [number, string][]) => heaps.toSorted(([a], [b]) => a - b)

function command(name: string): { argv: string[]; why: string } {
  const { status, stdout, stderr } = runIn(ROOT, process.execPath, [join(ROOT, 'scripts/runtimes.mjs'), name])
  return status === 0 ? { argv: JSON.parse(stdout), why: '' } : { argv: [], why: `cannot be fetched: ${stderr}` }
}

describe.each(['bun', 'deno', 'musl'])('%s', (name) => {
  let argv: string[] = []
  let why = ''
  beforeAll(() => {
    ;({ argv, why } = command(name))
  }, FETCH_MS)

  test.for(WAYS)('sends with $options by $backend', { timeout: 60 * SECONDS }, async ({ options, backend }, ctx) => {
    need(ctx, why === '', why)
    const { answer, heaps } = await exchange(argv, options)
    expect(answer).toMatchObject({ backend, heaps: 8 })
    expect(name === 'deno' && backend === 'dgram' ? inOrder(heaps) : heaps).toEqual(EXPECTED)
  })
})

describe('deno with fewer rights', () => {
  let deno: string[] = []
  let why = ''
  beforeAll(() => {
    ;({ argv: deno, why } = command('deno'))
  }, FETCH_MS)

  test('is run with the rights that the page names', (ctx) => {
    need(ctx, why === '', why)
    const rights = deno.filter((flag) => flag.startsWith('--allow-'))
    expect(rights.length).toBeGreaterThan(0)
    expect(page('docs/platforms.md').text).toContain(`deno run ${rights.join(' ')} `)
  })

  test('sends by dgram with --allow-net alone, and names the right that koffi lacks', async (ctx) => {
    need(ctx, why === '', why)
    const { answer, heaps } = await exchange([deno[0]!, 'run', '--no-prompt', '--allow-net'], {})
    expect(answer).toMatchObject({ backend: 'dgram', heaps: 8 })
    expect(answer.reason).toMatch(/koffi could not be loaded \(Requires read access .*--allow-read/)
    expect(inOrder(heaps)).toEqual(EXPECTED)
  })
})
