// `--interval`: lines whose numbers sum to the summary's, whatever holds the process up.
import { expect, test } from 'vitest'
import { type Interval, Intervals, type Totals } from '#dist/src/cli/common/interval.js'
import { freePort, sink, start } from '../support/cli.js'

interface Line {
  readonly startSeconds: number
  readonly endSeconds: number
  readonly heaps: number
  readonly bytes: number
}

/** The interval lines of an output, without their heads. */
const linesOf = (output: string): Line[] =>
  [...output.matchAll(/^([\d.]+)-([\d.]+) s +([\d,]+) +([\d,]+) /gm)].map(([, from, to, heaps, bytes]) => ({
    startSeconds: Number(from),
    endSeconds: Number(to),
    heaps: Number(heaps!.replaceAll(',', '')),
    bytes: Number(bytes!.replaceAll(',', '')),
  }))
const sumOf = (lines: readonly Line[], field: 'heaps' | 'bytes'): number => lines.reduce((sum, line) => sum + line[field], 0)

/** Each begins where the one before it ended, the first at 0. */
function expectContiguous(spans: readonly { startSeconds: number; endSeconds: number }[]): void {
  expect(spans.map(({ startSeconds }) => startSeconds)).toEqual([0, ...spans.slice(0, -1).map(({ endSeconds }) => endSeconds)])
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('send: lines on standard output before the summary, and their sums are the summary’s', async () => {
  const { to } = await sink()
  const sending = start(['send', to, '--seconds', '0.7', '--interval', '0.2', '-H', '8KiB', '--rate', '40MB/s'])
  const { code, stdout, stderr } = await sending.done
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const lines = linesOf(stdout)
  expect(lines.length).toBeGreaterThan(1)
  expectContiguous(lines)
  expect(stdout.indexOf('interval ')).toBe(0)
  expect(stdout.lastIndexOf(' s  ')).toBeLessThan(stdout.indexOf('backend '))
  const [, heaps] = /^heaps +([\d,]+) sent, 0 failed$/m.exec(stdout)!
  const [, bytes] = /^payload .*\((\d+) bytes\)$/m.exec(stdout)!
  expect(sumOf(lines, 'heaps')).toBe(Number(heaps!.replaceAll(',', '')))
  expect(sumOf(lines, 'bytes')).toBe(Number(bytes))
  expect(sumOf(lines, 'bytes')).toBe(8192 * sumOf(lines, 'heaps'))
})

test('with --json the lines go to standard error', async () => {
  const { to } = await sink()
  const args = ['send', to, '-n', '300', '--interval', '0.1', '-H', '8KiB', '--rate', '10MB/s', '--json']
  const { code, stdout, stderr } = await start(args).done
  expect(code).toBe(0)
  const json = JSON.parse(stdout)
  const lines = linesOf(stderr)
  expectContiguous(lines)
  expect([sumOf(lines, 'heaps'), sumOf(lines, 'bytes')]).toEqual([300, json.payloadBytes])
})

test('recv: the lines sum to the summary', async () => {
  const to = `127.0.0.1:${await freePort()}`
  const receiver = start(['recv', to, '--interval', '0.2', '--timeout', '20', '--json'])
  await receiver.saw(/listening on/)
  await start(['send', to, '-n', '200', '-H', '8KiB', '--rate', '4MB/s']).done
  const { code, stdout, stderr } = await receiver.done
  const json = JSON.parse(stdout)
  expect({ code, heaps: json.heaps }).toEqual({ code: 0, heaps: 200 })
  const lines = linesOf(stderr)
  expect(lines.length).toBeGreaterThan(1)
  expectContiguous(lines)
  expect([sumOf(lines, 'heaps'), sumOf(lines, 'bytes')]).toEqual([200, json.payloadBytes])
})

test('a process that was stopped for a while loses and doubles nothing', async () => {
  const { to } = await sink()
  const args = ['send', to, '--seconds', '2', '--interval', '0.1', '-H', '8KiB', '--rate', '10MB/s', '--json']
  const sending = start(args)
  await sending.saw(/-0\.\d\d s/)
  sending.child.kill('SIGSTOP')
  await pause(700)
  sending.child.kill('SIGCONT')
  const { code, stdout, stderr } = await sending.done
  const json = JSON.parse(stdout)
  expect(code).toBe(0)
  const lines = linesOf(stderr)
  expectContiguous(lines)
  expect(Math.max(...lines.map((line) => line.endSeconds - line.startSeconds))).toBeGreaterThan(0.6)
  expect([sumOf(lines, 'heaps'), sumOf(lines, 'bytes')]).toEqual([json.heaps, json.payloadBytes])
})

test('an event loop that is held up makes longer intervals, in which everything counts once', async () => {
  const given: Interval[] = []
  let counted = 0
  const totals = (): Totals => ({ counted, unknown: Number.NaN })
  const intervals = new Intervals(0.02, totals, (interval) => given.push(interval))
  for (let round = 0; round < 8; round++) {
    counted += 1 + round
    const until = performance.now() + 7 * round
    while (performance.now() < until);
    await pause(1)
  }
  counted += 1000
  intervals.end(totals())
  counted += 1e6
  await pause(60)
  expectContiguous(given)
  expect(given.reduce((sum, { rose }) => sum + rose.counted!, 0)).toBe(1036)
  expect(given.every(({ rose }) => Number.isNaN(rose.unknown))).toBe(true)
})

test('a run in which nothing happened has one interval', () => {
  const given: Interval[] = []
  new Intervals(
    3600,
    () => ({ a: 1 }),
    (interval) => given.push(interval),
  ).end({ a: 1 })
  expect(given).toMatchObject([{ startSeconds: 0, rose: { a: 0 } }])
})

test.for(['0', '-1', 'x', '1MB', '5ms'])('--interval %s is refused', async (value) => {
  const { code, stderr } = await start(['send', '127.0.0.1:7148', '--interval', value]).done
  expect({ code, stderr }).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--interval <SECONDS>' argument '.*' is invalid/),
  })
})
