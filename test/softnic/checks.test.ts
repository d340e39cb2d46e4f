/**
 * A C program (test/softnic/checks) breaks every rule that the software NIC keeps, and then all of them again under the sanitizers.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import {
  buildSoftnic,
  NOTHING_LEAKED,
  readReport,
  type Sanitizer,
  type SoftnicReport,
  softnicUnavailable,
} from '../support/softnic.js'

const SOURCES = fileURLToPath(new URL('checks', import.meta.url))
const CHECKS = readdirSync(SOURCES)
  .filter((file) => file.endsWith('.c'))
  .flatMap((file) => [...readFileSync(join(SOURCES, file), 'utf8').matchAll(/^CHECK\((\w+),\s*"([^"]*)"\) \{$/gm)])
  .map(([, name, rule]) => ({ name: name!, rule: rule! }))

/** Fields that the report of a check must have, besides no leaks. */
const REPORTS: Record<string, Partial<SoftnicReport>> = {
  a_program_that_leaks: {
    leaked: { contexts: 1, pds: 1, mrs: 1, channels: 1, cqs: 1, qps: 0, flows: 0, ahs: 0 },
    posted: 1,
    frames: 1,
  },
  frames_above_the_mtu: { posted: 1, completions: 1, frames: 0, droppedOversize: 1, received: 0 },
  nothing_passes_a_port_that_is_down: { posted: 2, completions: 2, frames: 1, droppedPortDown: 1, received: 1, portErrors: 2 },
  frames_arrive_where_a_rule_sends_them: { frames: 2, received: 1 },
  unsignalled_wrs_never_free_their_slots: { posts: 10, posted: 8, refused: 2, signalled: 0, maxOutstanding: 8 },
  cq_overrun: { cqOverruns: 1, qpFatals: 1 },
  device_removal: { deviceFatals: 1 },
  rate_limits: { rateLimitsKbps: [5000, 7000] },
}

let ns: Netns | undefined
const directory = mkdtempSync(join(tmpdir(), 'speadcast-softnic-'))
const unavailable = () => softnicUnavailable() || netnsUnavailable()

beforeAll(async () => {
  if (unavailable()) return
  buildSoftnic()
  ns = await makeNetns()
  ns.ip('a', 'link add w0 type veth peer name w1')
  for (const [device, last] of [['w0', 1] as const, ['w1', 2] as const]) {
    ns.ip('a', `link set ${device} up gso_max_segs 1`)
    ns.ip('a', `address add 10.88.0.${last}/24 dev ${device}`)
    ns.ip('a', `address add fd88::${last}/64 dev ${device} nodad`)
  }
}, 120_000)

afterAll(async () => {
  rmSync(directory, { recursive: true })
  await ns?.[Symbol.asyncDispose]()
})

async function runCheck(name: string, sanitizer?: Sanitizer): Promise<SoftnicReport> {
  const nic = buildSoftnic(sanitizer)
  const report = join(directory, `${name}.json`)
  const { stdout } = await ns!.exec('a', [nic.check, name], { env: nic.environment({ report }), timeoutMs: 25_000 })
  expect(stdout).toMatch(/^ok: [1-9]\d* expectations\n$/)
  return readReport(report)
}

for (const { name, rule } of CHECKS)
  test(`${name.replaceAll('_', ' ')}: ${rule}`, async (ctx) => {
    const why = unavailable()
    need(ctx, !why, why)
    const report = await runCheck(name)
    expect(report).toMatchObject({ leaked: NOTHING_LEAKED, ...REPORTS[name] })
  })

test('the program has no check that is not run', async (ctx) => {
  const why = unavailable()
  need(ctx, !why, why)
  const { stdout } = await ns!.exec('a', [buildSoftnic().check])
  const listed = stdout.trimEnd().split('\n').sort()
  expect(listed).toEqual(CHECKS.map(({ name, rule }) => `${name}: ${rule}`).sort())
  expect(listed.length).toBeGreaterThan(70)
})

const SANITIZERS: [string, Sanitizer][] = [
  ['AddressSanitizer and UBSan', 'address,undefined'],
  ['ThreadSanitizer', 'thread'],
]
for (const [what, sanitizer] of SANITIZERS)
  test(`every check is clean under ${what}`, { timeout: 240_000 }, async (ctx) => {
    const why = unavailable()
    need(ctx, !why, why)
    for (const { name } of CHECKS) await runCheck(name, sanitizer)
  })
