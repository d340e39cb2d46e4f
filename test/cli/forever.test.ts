// Runs without an end, and runs for a time: how they end, and what wraps on the way.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { datagramsOf, pointersOf, run, runJson, sink, start, temporaryFolder } from '../support/cli.js'

const TIMESTAMP = 0x1600
const STREAM_CTRL = 6
const STOP = { id: STREAM_CTRL, immediate: true, value: 2 }

const isData = (packet: Buffer): boolean => pointersOf(packet).some(({ id }) => id === TIMESTAMP)
const isStop = (packet: Buffer): boolean => pointersOf(packet).some((pointer) => JSON.stringify(pointer) === JSON.stringify(STOP))
const values = (packets: readonly Buffer[], wanted: number): number[] =>
  packets.map((packet) => pointersOf(packet).find(({ id }) => id === wanted)!.value)

test.for([['--forever'], ['-n', '0']])('%j sends until Ctrl-C: exit status 0, stop heap, summary', async (args) => {
  const { to, datagrams, got } = await sink()
  const sending = start(['send', to, ...args, '-H', '1000', '--batch-heaps', '2', '--rate', '1MB/s', '--json'])
  await got(50)
  sending.child.kill('SIGINT')
  const { code, stdout } = await sending.done
  const json = JSON.parse(stdout)
  expect({ code, json }).toMatchObject({ code: 0, json: { heapsFailed: 0, heapsDropped: 0 } })
  await got(json.packets)
  expect(datagrams.filter(isData)).toHaveLength(json.heaps)
  expect(isStop(datagrams.at(-1)!)).toBe(true)
})

test('--seconds ends by itself, without a limit of heaps', async () => {
  const { to, datagrams, got } = await sink()
  const args = ['send', to, '--seconds', '0.5', '-H', '1000', '--rate', '3MB/s']
  const { code, stderr, json } = await runJson(args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(json.heaps).toBeGreaterThan(1000)
  expect(json).toMatchObject({ heapsFailed: 0, heapsDropped: 0 })
  await got(json.packets)
  expect(datagrams.filter(isData)).toHaveLength(json.heaps)
  expect(isStop(datagrams.at(-1)!)).toBe(true)
})

test('--seconds does not wait for what is queued: heaps that have not begun count neither as sent nor as failed', async () => {
  const { to, datagrams, got } = await sink()
  // Ten heaps a second, of which four may be queued.
  const args = ['send', to, '--seconds', '0.3', '-H', '100kB', '--batch-heaps', '1', '--rate', '1MB/s', '--burst', '1000']
  const { code, stderr, json } = await runJson(args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(json).toMatchObject({ heapsFailed: 0, heapsDropped: 0, payloadBytes: 100_000 * json.heaps })
  expect(json.stats.heapsFailed).toBe(0)
  await got(json.packets)
  expect(new Set(values(datagrams.filter(isData), 1)).size).toBe(json.heaps)
})

test('--seconds and -n: what comes first', async () => {
  const args = ['send', '10.0.0.5:7148', '--backend', 'memory', '-H', '64', '-n', '5', '--seconds', '60']
  expect(await runJson(args)).toMatchObject({ code: 0, json: { heaps: 5 } })
})

test('--seconds reads an input for that time, and sends what it has read', async () => {
  const { to, datagrams, got } = await sink()
  const args = ['send', to, '--input', '-', '-H', '1000', '--descriptors', 'none', '--seconds', '1', '--json']
  const sending = start(args, { stdin: 'pipe' })
  sending.child.stdin!.write(Buffer.alloc(2500, 1))
  const { code, stdout } = await sending.done
  expect({ code, json: JSON.parse(stdout) }).toMatchObject({ code: 0, json: { heaps: 3, payloadBytes: 2500 } })
  await got(4)
  expect(isStop(datagrams.at(-1)!)).toBe(true)
})

test('--forever with a file is refused, because a file ends; with a pipe it is what happens anyway', async () => {
  const file = join(temporaryFolder(), 'samples')
  writeFileSync(file, Buffer.alloc(1000))
  for (const args of [['--forever'], ['-n', '0']]) {
    const refused = await run(['send', '10.0.0.5:7148', '--backend', 'memory', '--input', file, ...args])
    expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/is a file, which ends/) })
    const piped = ['send', '10.0.0.5:7148', '--backend', 'memory', '--input', '-', '-H', '100', ...args]
    expect(await runJson(piped, Buffer.alloc(1000))).toMatchObject({ code: 0, json: { heaps: 10 } })
  }
})

test('--forever and a number of heaps contradict each other', async () => {
  expect(await run(['send', '10.0.0.5:7148', '--backend', 'memory', '--forever', '-n', '5'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--forever/),
  })
})

test('heap cnts and timestamps wrap at their widths', async () => {
  const path = join(temporaryFolder(), 'x.pcap')
  const size = 20_000
  const args = [
    '--heap-address-bits',
    '16',
    '-p',
    '60000',
    '-H',
    `${size}`,
    '--batch-heaps',
    '3',
    '--first-cnt',
    '65530',
    '-n',
    '12',
  ]
  const { code } = await run(['send', '10.0.0.5:7148', ...args, '--descriptors', 'none', '--no-stop', '--pcap', path])
  expect(code).toBe(0)
  const packets = datagramsOf(readFileSync(path)).map(({ payload }) => payload)
  expect(values(packets, 1)).toEqual(Array.from({ length: 12 }, (_, i) => (65530 + i) % 65536))
  expect(values(packets, TIMESTAMP)).toEqual(Array.from({ length: 12 }, (_, i) => (i * size) % 65536))
})

test('counters are exact beyond 2^32', async () => {
  const args = ['send', '10.0.0.5:7148', '--backend', 'memory', '-n', '5000', '--json-stream', '--interval', '0.1']
  const { code, stdout } = await run(args)
  const objects = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect({ code, end: objects.at(-1) }).toMatchObject({ code: 0, end: { heaps: 5000, payloadBytes: 5000 * 2 ** 20 } })
  const bytes = objects.filter(({ kind }) => kind === 'interval').reduce((sum, { payloadBytes }) => sum + payloadBytes, 0)
  expect(bytes).toBe(5000 * 2 ** 20)
})

test('--seconds bounds what -n has queued, too', async () => {
  const startAt = Math.floor(Date.now() / 1000) + 3600
  const clock = [
    '--clock',
    String(startAt - 7200),
    '--sample-rate',
    '1e6',
    '--start-at',
    String(startAt),
    '--unsynchronised',
    'accept',
  ]
  const { code, json } = await runJson([
    'send',
    '10.0.0.1:7148',
    '-H',
    '1000',
    '--pcap',
    '/dev/null',
    ...clock,
    '-n',
    '2',
    '--seconds',
    '0.3',
  ])
  expect({ code, heaps: json.heaps, heapsFailed: json.heapsFailed }).toEqual({ code: 0, heaps: 0, heapsFailed: 0 })
})
