// Memory of an endless run does not grow. Takes half a minute.
import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { sink, start } from '../support/cli.js'
import { need } from '../support/need.js'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const MIB = 2 ** 20

/** Resident bytes of a process (proc(5)). */
const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024

/** The slope of the least squares line, in units of y per unit of x. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const [mx, my] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))]
  return points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0)
}

async function endless(to: string, backend: string): Promise<void> {
  const args = ['send', to, '--forever', '-H', '8KiB', '--batch-heaps', '2', '--rate', '60MB/s', '--backend', backend]
  const sending = start([...args, '--json-stream', '--interval', '0.1'])
  // Code is compiled, and memory of the C library handed out, for the first ten seconds.
  await pause(12_000)
  const points: [number, number][] = []
  for (let at = 0; at < 12; at += 0.25) {
    points.push([performance.now() / 1000, residentBytes(sending.child.pid!)])
    await pause(250)
  }
  sending.child.kill('SIGINT')
  const { code, stdout } = await sending.done
  const objects = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const end = objects.at(-1)
  const bytes = objects.filter(({ kind }) => kind === 'interval').reduce((sum, { payloadBytes }) => sum + payloadBytes, 0)
  expect({ code, failed: end.heapsFailed, bytes }).toEqual({ code: 0, failed: 0, bytes: end.payloadBytes })
  const growth = slope(points) / MIB
  console.log(
    `--forever, ${backend}: ${end.heaps} heaps, ${growth.toFixed(3)} MiB/s of growth, ${(points[0]![1] / MIB).toFixed(0)} MiB resident`,
  )
  expect(end.heaps).toBeGreaterThan(20_000)
  // 200 bytes kept for each of 3,600 batches a second would be 0.7 MiB/s.
  expect(growth).toBeLessThan(0.4)
}

test('--forever with intervals, over udp and memory', { timeout: 90_000 }, async (ctx) => {
  need(ctx, process.platform === 'linux', 'needs /proc')
  const { to } = await sink()
  // A small heap, so that garbage is collected often and hides nothing; small batches, so that many settle.
  process.env.NODE_OPTIONS = '--max-old-space-size=32 --max-semi-space-size=1'
  onTestFinished(() => {
    delete process.env.NODE_OPTIONS
  })
  await Promise.all(['udp', 'memory'].map((backend) => endless(to, backend)))
})
