// `--json-stream`: one object a line: start, intervals and events in the order of time, end.
import { expect, test } from 'vitest'
import { freePort, run, runJson, sink, start } from '../support/cli.js'

const parse = (stdout: string): Record<string, never>[] => {
  expect(stdout.endsWith('\n')).toBe(true)
  return stdout
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line))
}
const ofKind = (objects: readonly Record<string, unknown>[], kind: string) => objects.filter((object) => object.kind === kind)

/** The sum over the intervals of each counter that the end has too. */
function expectSums(objects: readonly Record<string, unknown>[], names: readonly string[]): void {
  const end = objects.at(-1)!
  const intervals = ofKind(objects, 'interval')
  expect(intervals.length).toBeGreaterThan(0)
  for (const name of names)
    expect([name, intervals.reduce((sum, interval) => sum + (interval[name] as number), 0)]).toEqual([name, end[name]])
  const starts = intervals.map(({ startSeconds }) => startSeconds)
  expect(starts).toEqual([0, ...intervals.slice(0, -1).map(({ endSeconds }) => endSeconds)])
}

const SUMMED = ['heaps', 'heapsFailed', 'heapsDropped', 'heapsSuspect', 'payloadBytes', 'packets', 'udpBytes', 'wireBytes']

test('send: start, intervals, end; the end is the object of --json, and the sums are its own', async () => {
  const { to } = await sink()
  const args = ['send', to, '-H', '8KiB', '-n', '300', '--rate', '10MB/s']
  const { code, stdout, stderr } = await run([...args, '--json-stream', '--interval', '0.05'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const objects = parse(stdout)
  expect([...new Set(objects.map(({ kind }) => kind))]).toEqual(['start', 'interval', 'end'])
  expect(objects[0]).toMatchObject({
    command: 'send',
    endpoints: [to],
    intervalSeconds: 0.05,
    heapSizeBytes: 8192,
    heaps: 300,
    seconds: null,
    rateBytesPerSecond: 1e7,
  })
  expect(new Date(objects[0]!.date!).getTime()).toBeGreaterThan(0)
  expectSums(objects, SUMMED)
  const { json } = await runJson(args)
  expect(Object.keys(objects.at(-1)!)).toEqual(['kind', ...Object.keys(json)])
  expect(objects.at(-1)).toMatchObject({ heaps: 300, payloadBytes: 300 * 8192 })
})

test('recv: the same', async () => {
  const to = `127.0.0.1:${await freePort()}`
  const receiver = start(['recv', to, '--json-stream', '--interval', '0.1', '--timeout', '20'])
  await receiver.saw(/listening on/)
  await start(['send', to, '-n', '100', '-H', '8KiB', '--rate', '4MB/s']).done
  const { code, stdout } = await receiver.done
  const objects = parse(stdout)
  expect(code).toBe(0)
  expect(objects[0]).toMatchObject({ kind: 'start', command: 'recv', endpoints: [to] })
  expect(objects.at(-1)).toMatchObject({ kind: 'end', heaps: 100, reason: 'stop' })
  expectSums(objects, ['heaps', 'heapsIncomplete', 'payloadBytes', 'packets', 'bytes', 'malformed', 'droppedByKernel'])
  expect(objects.at(-1)).not.toHaveProperty('endpoints')
})

test('recv: the end has the counters of each of several endpoints', async () => {
  const to = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
  const receiver = start(['recv', ...to, '--json-stream', '--timeout', '20'])
  await receiver.saw(/listening on/)
  await start(['send', ...to, '-n', '31', '-H', '8KiB', '--rate', '4MB/s']).done
  const objects = parse((await receiver.done).stdout)
  expect(objects[0]).toMatchObject({ kind: 'start', endpoints: to })
  expect(objects.at(-1)).toMatchObject({
    heaps: 31,
    endpoints: [
      { endpoint: to[0], heaps: 16, heapsIncomplete: 0, payloadBytes: 16 * 8192, droppedByKernel: 0 },
      { endpoint: to[1], heaps: 15, heapsIncomplete: 0, payloadBytes: 15 * 8192, droppedByKernel: 0 },
    ],
  })
})

test('what is said meanwhile is an event too', async () => {
  const { to, got } = await sink()
  const sending = start([
    'send',
    to,
    '--forever',
    '-H',
    '8KiB',
    '--batch-heaps',
    '2',
    '--rate',
    '1MB/s',
    '--json-stream',
    '--interval',
    '3600',
  ])
  await got(2)
  sending.child.kill('SIGINT')
  const { code, stdout, stderr } = await sending.done
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/^interrupted: /) })
  const objects = parse(stdout)
  expect(objects[0]).toMatchObject({ kind: 'start', heaps: null })
  expect(ofKind(objects, 'event')).toMatchObject([{ type: 'message', message: expect.stringMatching(/^interrupted: /) }])
  expectSums(objects, SUMMED)
})

test('a warning before the start stands behind it', async () => {
  // lo leads to no other host, of which openStream warns.
  const { stdout, stderr } = await run(['send', '10.0.0.5:7148', '--interface', 'lo', '-n', '3', '-H', '64', '--json-stream'])
  expect(stderr).toMatch(/^speadcast: warning: /m)
  const objects = parse(stdout)
  expect(objects[0]!.kind).toBe('start')
  const warnings = ofKind(objects, 'event').filter(({ type }) => type === 'warning')
  expect(warnings.length).toBeGreaterThan(0)
  expect(warnings[0]!.message).not.toMatch(/^speadcast/)
})

test('what cannot be opened is an object of kind error', async () => {
  const { code, stdout } = await run(['send', '127.0.0.1:0', '--json-stream'])
  expect({ code, objects: parse(stdout) }).toMatchObject({ code: 2, objects: [{ kind: 'error', error: { exitStatus: 2 } }] })
})

test('an input that ends within a sample: the end has the error of --json', async () => {
  const { to } = await sink()
  const args = ['send', to, '--input', '-', '--dtype', '<i4', '-H', '1000', '--json-stream']
  const { code, stdout } = await run(args, Buffer.alloc(2502))
  const objects = parse(stdout)
  expect({ code, end: objects.at(-1) }).toMatchObject({
    code: 1,
    end: { kind: 'end', heaps: 3, error: { code: 'ERR_SPEADCAST_INPUT' } },
  })
  expectSums(objects, SUMMED)
})

test('--json and --json-stream contradict each other', async () => {
  for (const command of ['send', 'recv'])
    expect(await run([command, '127.0.0.1:7148', '--json', '--json-stream'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/drop one of the two/),
    })
})

test('bench: the intervals of all its streams sum to its rows, warm-ups included', async () => {
  const args = [
    'bench',
    '10.0.0.5:7148',
    '--backend',
    'memory',
    '--sizes',
    '8KiB,64KiB',
    '--seconds',
    '0.2',
    '--warmup-seconds',
    '0.1',
  ]
  const { code, stdout, stderr } = await run([...args, '--rate', '50MB/s', '--json-stream', '--interval', '0.05'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const objects = parse(stdout)
  const end = objects.at(-1)! as unknown as { rows: Record<string, number>[]; machine: object }
  expect(objects[0]).toMatchObject({ kind: 'start', command: 'bench', sizes: [8192, 65536] })
  expect(end).toMatchObject({ kind: 'end', interrupted: false, machine: { backend: 'memory' } })
  const sum = (name: string) => ofKind(objects, 'interval').reduce((all, interval) => all + (interval[name] as number), 0)
  const rows = (...names: string[]) =>
    end.rows.flatMap((row) => names.map((name) => row[name]!)).reduce((all, value) => all + value, 0)
  expect([sum('heaps'), sum('packets'), sum('udpBytes')]).toEqual([rows('heaps', 'warmupHeaps'), rows('packets'), rows('udpBytes')])
})
