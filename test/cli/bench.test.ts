// `speadcast bench`: what it counts is what left, it ends when asked to, and it refuses what it cannot measure.
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { CLI, pointersOf, run, runJson, sink, start } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

/** Fields of a row that docs/bench/README.md describes. */
interface Row extends Record<string, unknown> {
  readonly round: number
  readonly heapSizeBytes: number
  readonly heaps: number
  readonly warmupHeaps: number
  readonly payloadBytes: number
  readonly seconds: number
  readonly payloadBytesPerSecond: number
  readonly packetsPerSecond: number
  readonly cpuSeconds: number
  readonly packets: number
  readonly udpBytes: number
  readonly stats: { readonly segmentedMessages: number; readonly plainMessages: number }
}
const TO = '127.0.0.1:7148'
const SHORT = ['--seconds', '0.1', '--warmup-seconds', '0.05']
const MEMORY = ['bench', '--to', TO, '--backend', 'memory', ...SHORT]
const CNT = 1
const DESCRIPTOR = 5
const TIMESTAMP = 0x1600
/** SPEAD-64-48: header, four standard pointers, timestamp and adc_samples. */
const HEADER_BYTES = 8 + 6 * 8

test('a row for each size and round, whose figures agree with one another', async () => {
  const { code, stderr, json } = await runJson([...MEMORY, '--sizes', '256,4KiB', '--repeats', '2', '-p', '8972'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(json).toMatchObject({ interrupted: false, machine: { kind: 'machine', node: process.version, backend: 'memory' } })
  const rows = json.rows as Row[]
  expect(rows.map(({ round, heapSizeBytes }) => [round, heapSizeBytes])).toEqual([
    [0, 256],
    [0, 4096],
    [1, 256],
    [1, 4096],
  ])
  for (const row of rows) {
    const { heaps, warmupHeaps, heapSizeBytes, payloadBytes, seconds } = row
    expect(row).toMatchObject({
      kind: 'run',
      ground: 'host',
      pointBatches: 4,
      batches: 4,
      packetSizeBytes: 8972,
      heapsFailed: 0,
      refused: 0,
    })
    expect(row.batchHeaps).toBe(2 ** 19 / heapSizeBytes)
    expect(Math.min(heaps, warmupHeaps)).toBeGreaterThan(0)
    expect(payloadBytes).toBe(heaps * heapSizeBytes)
    expect(seconds).toBeGreaterThan(0.09)
    expect(row.payloadBytesPerSecond).toBe(Math.round(payloadBytes / seconds))
    // A packet a heap.
    expect(row.packetsPerSecond).toBe(Math.round(heaps / seconds))
    // All that went: the heap of descriptors too.
    expect(row.packets).toBe(heaps + warmupHeaps + 1)
    expect(row.udpBytes - (heaps + warmupHeaps) * (HEADER_BYTES + heapSizeBytes)).toBeGreaterThan(HEADER_BYTES)
    expect(row.cpuSeconds).toBeGreaterThan(0)
  }
})

test('endpoints stand behind the command, or behind --to', async () => {
  const args = ['--backend', 'memory', '--seconds', '0.05', '--warmup-seconds', '0', '--sizes', '1KiB']
  const lines = await Promise.all([
    run(['bench', TO, '127.0.0.1:7149', ...args]),
    run(['bench', ...args, '--to', TO, '127.0.0.1:7149']),
  ])
  for (const { code, stdout, stderr } of lines) {
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^to +127\.0\.0\.1:7148, 127\.0\.0\.1:7149$/m)
  }
})

test('without --json: the host, and a line for each size', async () => {
  const { code, stdout, stderr } = await run([...MEMORY, '--sizes', '4,1KiB,1536,1MiB', '--repeats', '2'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const [head, lines] = stdout.split('\n\n') as [string, string]
  expect(head).toMatch(new RegExp(`^to +${TO}\nhost +.*node ${process.version}\n`))
  expect(head).toMatch(
    /^backend +memory \(asked for\), evidence: written\neach +0\.1 s behind 0\.05 s of warm-up, 4 batches in flight$/m,
  )
  expect(lines).toMatch(/^heap +MB\/s +least…most +packets\/s +CPU s\/GB +failed +suspect +refused\n/)
  expect(lines.match(/^[\d.]+ \w+(?= +[\d,]+ +[\d,]+…[\d,]+ +[\d,]+ +\d+\.\d{3} +0 +0 +0$)/gm)).toEqual([
    '4 B',
    '1 KiB',
    '1.5 KiB',
    '1 MiB',
  ])
})

test('a terminal sees the rate of the size that is measured, its place among all, and when all will be done', async (ctx) => {
  need(ctx, !spawnSync('script', ['--version']).error, 'a terminal needs script (util-linux)')
  const args = [
    'bench',
    TO,
    '--backend',
    'memory',
    '--sizes',
    '256,64KiB',
    '--seconds',
    '0.8',
    '--warmup-seconds',
    '0.2',
    '--repeats',
    '2',
  ]
  const command = [process.execPath, CLI, ...args].map((word) => `'${word}'`).join(' ')
  const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  const units: Record<string, number> = { kB: 1e-3, MB: 1, GB: 1e3 }
  for (const [size, place] of [
    ['256 B', '1 of 2'],
    ['64 KiB', '2 of 2'],
  ] as const) {
    const most = Number(new RegExp(`^${size} .*…([\\d,]+)`, 'm').exec(stdout)![1]!.replaceAll(',', ''))
    const lines = [
      ...stdout.matchAll(
        new RegExp(`heaps of ${size} \\(${place}, round ([12]) of 2\\): ([\\d.]+) ([kMG]?B)/s, ETA 0:0[0-9]`, 'g'),
      ),
    ]
    expect(new Set(lines.map(([, round]) => round))).toEqual(new Set(['1', '2']))
    // Not what was sent of other sizes before.
    for (const [line, , rate, unit] of lines) expect(Number(rate) * (units[unit!] ?? 0), line).toBeLessThan(4 * most)
  }
})

test('what arrives is the tutorial’s heaps, with heap cnts that go on from one measurement to the next', async () => {
  const { to, datagrams, got } = await sink()
  const pace = ['--batches', '1', '--rate', '1MB/s', '--seconds', '0.4', '--warmup-seconds', '0']
  const args = ['bench', '--to', to, '--sizes', '1400,900', ...pace]
  const { code, stderr, json } = await runJson(args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const rows = json.rows as Row[]
  const sent = rows.reduce((sum, row) => sum + row.packets, 0)
  await got(sent)
  expect(datagrams).toHaveLength(sent)
  const packets = datagrams.map((bytes) => {
    const pointers = pointersOf(bytes)
    const value = (id: number) => pointers.find((pointer) => pointer.id === id)?.value
    return {
      cnt: value(CNT)!,
      timestamp: value(TIMESTAMP),
      descriptor: value(DESCRIPTOR),
      data: bytes.subarray(8 + 8 * pointers.length),
    }
  })
  expect(packets.map(({ cnt }) => cnt)).toEqual(Array.from({ length: sent }, (_, i) => i + 1))
  expect(packets.filter(({ descriptor }) => descriptor !== undefined)).toHaveLength(rows.length)
  let at = 0
  for (const { heaps, heapSizeBytes } of rows) {
    at++ // the descriptors
    for (let i = 0; i < heaps; i++, at++) {
      const { timestamp, data } = packets[at]!
      expect(timestamp).toBe(i * heapSizeBytes)
      expect(data.equals(Buffer.alloc(heapSizeBytes, i))).toBe(true)
    }
  }
  expect(at).toBe(packets.length)
})

describe('on an interface', () => {
  test('the interface counts the bytes that the rows have; the report names it', async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ sink: { mtu: 9100, addresses: ['10.78.0.1/24'] } })
    const args = [
      'bench',
      '--to',
      '10.78.0.2:7148',
      '--sizes',
      '2KiB,100kB',
      '-p',
      '8972',
      ...SHORT,
      '--udp-path',
      'sendmmsg',
      '--json',
    ]
    // No router solicitations among what is counted.
    await ns.exec('a', ['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'])
    const counters = async () => JSON.parse((await ns.exec('a', ['ip', '-j', '-s', 'link', 'show', 'ifb9'])).stdout)[0].stats64.rx
    const before = await counters()
    const { stdout } = await ns.exec('a', ['node', CLI, ...args])
    const after = await counters()
    const { machine, rows } = JSON.parse(stdout) as { machine: Record<string, unknown>; rows: Row[] }
    expect(machine).toMatchObject({ interface: 'ifb9', mtuBytes: 9100, backend: 'udp', evidence: 'accepted' })
    expect(machine.states).toMatchObject({ segmentation: 'on', udpPath: 'sendmmsg' })
    const sum = (value: (row: Row) => number) => rows.reduce((all, row) => all + value(row), 0)
    // Ethernet, IPv4 and UDP headers, once a message.
    const messages = sum(({ stats }) => stats.segmentedMessages + stats.plainMessages)
    expect(after.packets - before.packets).toBe(messages)
    expect(after.bytes - before.bytes).toBe(sum(({ udpBytes }) => udpBytes) + 42 * messages)
  })

  test('where nobody answers it stops at the first size, says why, and fails', async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    const args = ['bench', '--to', '10.77.0.99:7148', '--sizes', '1KiB,2KiB', ...SHORT, '--json']
    const { code, stdout, stderr } = await ns.exec('a', ['node', CLI, ...args], { check: false })
    expect(code).toBe(1)
    expect(stderr.match(/nobody answers/g)).toHaveLength(1)
    const { rows } = JSON.parse(stdout) as { rows: Row[] }
    expect(rows.map(({ heapSizeBytes, heaps }) => [heapSizeBytes, heaps])).toEqual([[1024, 0]])
    expect(rows[0]!.heapsFailed).toBeGreaterThan(0)
  })

  test('packets beyond the MTU are refused before any is sent', async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { mtu: 1500 } })
    const args = ['bench', '--to', `${ns.addresses.b.v4}:7148`, '-p', '9000', '--json']
    const { code, stdout, stderr } = await ns.exec('a', ['node', CLI, ...args], { check: false })
    expect({ code, ...JSON.parse(stdout) }).toMatchObject({
      code: 2,
      error: { code: 'ERR_SPEADCAST_PACKET_SIZE', command: 'bench' },
    })
    expect(stderr).toMatch(/exceeds MTU 1500 of v0; pass -p 1472/)
  })
})

test.for(['SIGINT', 'SIGTERM'] as const)('%s ends it with what was measured so far', async (signal) => {
  const { to, got } = await sink()
  const bench = start([
    'bench',
    '--to',
    to,
    '--sizes',
    '1KiB',
    '--seconds',
    '600',
    '--warmup-seconds',
    '0',
    '--rate',
    '10MB/s',
    '--json',
  ])
  await got(100)
  bench.child.kill(signal)
  const { code, stdout, stderr } = await bench.done
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/^interrupted: /) })
  const { interrupted, rows } = JSON.parse(stdout) as { interrupted: boolean; rows: Row[] }
  expect({ interrupted, rows }).toMatchObject({
    interrupted: true,
    rows: [{ interrupted: true, heapsFailed: 0, heapSizeBytes: 1024 }],
  })
  const { payloadBytes, payloadBytesPerSecond, seconds } = rows[0]!
  expect(payloadBytes).toBeGreaterThanOrEqual(100 * 1024)
  expect(payloadBytesPerSecond).toBe(Math.round(payloadBytes / seconds))
})

test('a second signal ends at once with 130 and no report', async () => {
  const { to, got } = await sink()
  const bench = start(['bench', '--to', to, '--sizes', '1KiB', '--rate', '100kB/s', '--json'])
  await got(2)
  bench.child.kill('SIGINT')
  await bench.saw(/^interrupted: /)
  bench.child.kill('SIGINT')
  expect(await bench.done).toMatchObject({ code: 130, signal: null, stdout: '' })
})

test('bench ends where the rate lets nothing out', async () => {
  const { to } = await sink()
  const { code, stderr } = await start(['bench', to, '--seconds', '0.05', '--warmup-seconds', '0.05', '--rate', '1kbps']).done
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringContaining('heaps of 256 B at --rate 1kbps: what was queued in 0.05 s had not left 5 s later; give'),
  })
})

/** [arguments behind `bench`, what the message must say]. */
const BAD: readonly (readonly [readonly string[], RegExp])[] = [
  [[], /say where to send: speadcast bench HOST:PORT/],
  [['--agent'], /say where to send: speadcast bench HOST --agent/],
  [
    ['--to', TO, '--sizes', '1KiB', TO],
    /endpoints are given twice, as 127\.0\.0\.1:7148 and --to 127\.0\.0\.1:7148; leave one out/,
  ],
  [['10.0.0.1'], /'10\.0\.0\.1': the port is missing: add one, 10\.0\.0\.1:7148/],
  [['--to', '10.0.0.1'], /'10\.0\.0\.1': the port is missing: add one, 10\.0\.0\.1:7148/],
  [['--to', TO, '--sizes', '1KiB,0'], /argument '1KiB,0' is invalid.* from 1 to 2147483648, such as 8192 or 8KiB/],
  [['--to', TO, '--sizes', ''], /argument '' is invalid/],
  [['--to', TO, '--seconds', '0'], /argument '0' is invalid.* from 0\.01 to 2147483 seconds/],
  [['--to', TO, '--warmup-seconds', '-1'], /argument '-1' is invalid.* from 0 to 2147483 seconds/],
  [['--to', TO, '--repeats', '0'], /argument '0' is invalid.* from 1 to 1000/],
  [['--to', TO, '--batches', '0'], /argument '0' is invalid/],
  [['--to', TO, '-p', '7'], /argument '7' is invalid.* from 56 to 65507/],
  [['--to', TO, '--rate', '10'], /rate '10' has no known unit.*; write it as 10Gbps/],
  [['--to', TO, '--backend', 'pcap'], /Allowed choices are auto, ibverbs, tcp, rdma-ud, udp, dgram, memory/],
  [['--to', TO, '--backend', 'dgram', '--udp-path', 'io_uring'], /--udp-path is for --backend udp, not dgram/],
  [['--to', TO, '--backend', 'udp', '--poll', 'busy'], /--poll is for --backend ibverbs and rdma-ud, not udp/],
  [['--to', TO, '--interface', 'no-such-if'], /no interface is named 'no-such-if'/],
  [['--to', TO, '--receive'], /unknown option '--receive'/],
  [[TO, '--accuracy', '1'], /--accuracy is of the search for a rate; add --agent/],
  [[TO, '--html', 'page.html'], /--html is of the search for a rate; add --agent/],
  [[TO, '--agent', '--confirm', '-1'], /argument '-1' is invalid.* from 0 to 100/],
  [[TO, '--agent', '--live'], /--live is of bench without --agent; a search prints a line for each run/],
  [[TO, '--agent', '--interval', '1'], /--interval is of bench without --agent/],
  [[TO, '--agent', '--repeats', '2'], /--repeats is of bench without --agent/],
  [[TO, '10.0.0.2', '--agent'], /--agent is one agent, not 2/],
  [['10.0.0.2:0', '--agent'], /the port must be from 1 to 65535/],
  [['10.0.0.2:7150:1', '--agent'], /names no agent; write HOST or HOST:PORT/],
  [['[10.0.0.2]:7150', '--agent'], /names no agent/],
  [[TO, '--agent', '--backend', 'memory'], /--agent receives UDP or TCP, not --backend memory/],
  [['agent', '--listen', '99999'], /--listen '99999': the port must be from 1 to 65535/],
  [['agent', '--listen', 'tcp://10.0.0.1:7150'], /--listen 'tcp:\/\/10\.0\.0\.1:7150': write PORT or HOST:PORT/],
  [['agent', '--most-seconds', '0'], /argument '0' is invalid/],
  [['agent', TO], /too many arguments for 'agent'/],
  [['agent', '--sizes', '1KiB'], /--sizes is no option of bench agent/],
]

describe('bad usage', () => {
  test.concurrent.for(BAD)('%j', { timeout: 60_000 }, async ([args, message], { expect }) => {
    const { code, stdout, stderr } = await run(['bench', ...args])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n\s+at /)
  })
})
