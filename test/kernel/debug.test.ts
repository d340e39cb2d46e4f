/** NODE_DEBUG=speadcast: what it tells of a stream whose ways change, and that it says nothing unless it is asked. */
import { expect, type TestContext, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'

/** As the program prints what the channel of states tells. */
interface Change {
  readonly changed: string[]
  readonly from: unknown[]
  readonly to: unknown[]
  readonly recent: boolean
}

/** What the program says on standard error, without numbers that differ from run to run. */
async function said(ctx: TestContext, thread: string, debug: string): Promise<{ lines: string[]; stdout: string }> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  const argv = programArgv('kernel/debug', `${ns.addresses.b.v4}:7148`, thread)
  const { stdout, stderr } = await ns.exec('a', ['env', `NODE_DEBUG=${debug}`, ...argv])
  const lines = stderr
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replace(/^SPEADCAST \d+: /, '')
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
        .replace(/index \d+/g, 'index N'),
    )
  return { lines, stdout }
}

test.for(['worker', 'inline'])("sent from '%s': backend, way, changes, failures, the end", async (thread, ctx) => {
  const { lines } = await said(ctx, thread, 'speadcast')
  const [opens, backend, from] = ['opens to 10.77.0.2:7148', 'backend udp: sendmmsg with', 'sends from'].map((words) =>
    lines.find((line) => line.startsWith(`stream 1: ${words}`)),
  )
  expect(opens).toBe("stream 1: opens to 10.77.0.2:7148; backend 'auto', packets of at most 1472 bytes, no rate")
  expect(backend).toMatch(/^stream 1: backend udp: sendmmsg with segmentation offload; ibverbs: ./)
  expect(from).toBe(`stream 1: sends from ${thread === 'worker' ? "I/O thread 1 'speadcast I/O'" : 'the event loop'}`)
  const way = '10.77.0.2:7148 leaves by v0 (index N) from 10.77.0.1 (MTU 1500)'
  expect(lines).toContain(thread === 'worker' ? `I/O thread 1: ${way}` : way)
  expect(lines.find((line) => line.startsWith('stream 1: open; interface v0; sourceAddress 10.77.0.1; '))).toMatch(
    /; segmentation on; /,
  )
  const moved = lines.filter((line) => line.includes('lastPathChange'))
  // The thread may look between two commands of ip, and tell of both changes.
  expect(moved.join('\n')).toMatch(/^stream 1: .*\bsourceAddress 10\.77\.0\.1 → 10\.77\.0\.9; /m)
  expect(moved[0]).toMatch(/\bpathChanges 0 → 1; lastPathChange TIME 10\.77\.0\.2:7148 leaves /)
  expect(lines.find((line) => line.includes('a send of'))).toMatch(
    /^stream 1: a send of 4 heaps failed: 4 of 4 heaps were not sent whole: 10\.77\.0\.2:7148: .* \[4 packets\]$/,
  )
  expect(lines.at(-1)).toBe('stream 1: closed; 12 heaps sent, 4 failed, 0 dropped')
})

test.for(['worker', 'inline'])(
  "sent from '%s', and another module's lines asked for: silence, and the channel tells all the same",
  async (thread, ctx) => {
    const { lines, stdout } = await said(ctx, thread, 'other')
    expect(lines).toEqual([''])
    const changes = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Change)
    const moved = changes.find(({ changed }) => changed.includes('sourceAddress'))!
    const at = moved.changed.indexOf('sourceAddress')
    expect([moved.from[at], moved.to[at]]).toEqual(['10.77.0.1', '10.77.0.9'])
    const first = changes.find(({ changed }) => changed.includes('pathChanges'))!
    expect(first.changed).toContain('lastPathChange')
    expect(first.from[first.changed.indexOf('pathChanges')]).toBe(0)
    expect(changes.every(({ recent }) => recent)).toBe(true)
  },
)
