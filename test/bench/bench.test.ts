// scripts/bench/bench.mjs from end to end, in small: its rows and reports are true of the runs. Speed is not looked at.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Row } from '../../scripts/bench/points.mjs'
import { readRows } from '../../scripts/bench/rows.mjs'
import { need } from '../support/need.js'
import { netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { softnicUnavailable } from '../support/softnic.js'

const SCRIPT = join(import.meta.dirname, '../../scripts/bench/bench.mjs')
const SMALL = ['--bytes', '4MiB', '--warmup-bytes', '1MiB', '--repeats', '1', '--max-disturbance', '1']

interface Ended {
  readonly pid: number | undefined
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function bench(args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [SCRIPT, ...args], { timeout: 50_000 })
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (part: string) => {
      text[name] += part
    })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ pid: child.pid, code, ...text }))
  })
}

function temporary(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-bench-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, name)
}

function needGround(ctx: { skip(note?: string): never }): void {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('gcc', ['--version']).status === 0, 'needs gcc')
}

const runsOf = (file: string): Row[] => readRows(file).filter((row) => row.kind === 'run')

test('over veth a receiver counts what was sent, by every program, and no namespace is left', async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const args = ['--ground', 'veth', '--sizes', '256,16KiB', '--packet-size', '1472', '--only', 'floor,dgram,ours-sendmmsg']
  const { pid, code, stderr } = await bench([...args, '--out', file, ...SMALL])
  expect(stderr).toContain('round 1: floor')
  expect(code).toBe(0)
  const rows = runsOf(file)
  expect(rows.map((row) => [row.program, row.heapSizeBytes])).toEqual(
    [256, 16384].flatMap((size) => ['floor', 'dgram', 'ours-sendmmsg'].map((name) => [name, size])),
  )
  for (const row of rows)
    expect(row).toMatchObject({ ground: 'veth', receivedPackets: row.packets, receivedUdpBytes: row.udpBytes, lossShare: 0 })
  const left = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout
  expect(left).not.toContain(`speadcast-bench-${pid}`)
}, 60_000)

test('node:dgram and the floor put the same packets on the wire as ours, and spead2 decodes them', async (ctx) => {
  needGround(ctx)
  need(ctx, spead2Python(), 'needs the Python peer')
  const args = ['--check', '--sizes', '256,20000', '--packet-size', '1472', '--only', 'floor,dgram,ours-sendmmsg']
  const { code, stdout } = await bench(args)
  expect(stdout).toContain('all as it should be')
  expect(code).toBe(0)
}, 60_000)

test("without segmentation offload every packet is the interface's; a peer's rate is what it printed", async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const peer = 'echo=echo {heapSize} $PACKET_SIZE $HEAPS; echo 12.5 MB/s'
  const args = ['--ground', 'blackhole-gso1', '--sizes', '8KiB', '--only', 'floor', '--peer', peer]
  const { code } = await bench([...args, '--out', file, ...SMALL])
  expect(code).toBe(0)
  const [floor, echo] = runsOf(file)
  expect(floor).toMatchObject({ program: 'floor', ground: 'blackhole-gso1', messages: floor?.packets })
  expect(echo).toMatchObject({ program: 'echo', payloadBytesPerSecond: 12.5e6, udpBytes: 0, messages: 0 })
}, 60_000)

test('a sweep that was stopped says so by status 75, goes on where it was, and then has nothing left', async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const args = ['--sizes', '8KiB,16KiB', '--only', 'floor', '--out', file, ...SMALL, '--append']
  const stopped = await bench([...args, '--stop-after', '0.001'])
  expect(stopped.stderr).toMatch(/; [12] rounds left/)
  expect(stopped.code).toBe(75)
  expect((await bench(args)).code).toBe(0)
  const rows = readRows(file)
  expect(rows.filter((row) => row.kind === 'run').map((row) => row.heapSizeBytes)).toEqual([8192, 16384])
  expect((await bench(args)).code).toBe(0)
  expect(readRows(file)).toEqual(rows)
}, 60_000)

test('beside busy neighbours rows say how many, and the report has the share of the idle rate', async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const args = ['--sizes', '8KiB', '--only', 'floor', '--hogs', '0,1,2', '--out', file]
  const { code, stdout } = await bench([...args, ...SMALL])
  expect(code).toBe(0)
  expect(runsOf(file).map((row) => row.hogs)).toEqual([0, 1, 2])
  expect(stdout).toContain('beside 2 endless loops')
  expect(stdout).toContain('share of the idle rate')
}, 60_000)

test('through the software NIC the ibverbs backend posts the bytes that it reports', async (ctx) => {
  needGround(ctx)
  const why = softnicUnavailable()
  need(ctx, !why, why)
  const file = temporary('rows.jsonl')
  const { code, stderr } = await bench(['--ground', 'softnic', '--sizes', '8KiB,16KiB', '--hogs', '1', '--out', file, ...SMALL])
  expect(stderr).toContain('round 1: ours-ibverbs')
  expect(code).toBe(0)
  const rows = runsOf(file)
  expect(rows.map((row) => [row.program, row.ground, row.heapSizeBytes])).toEqual([
    ['ours-ibverbs', 'softnic', 8192],
    ['ours-ibverbs', 'softnic', 16384],
  ])
  // The NIC counts frames: no message holds several packets.
  for (const row of rows) expect(row.messages).toBe(row.packets)
}, 60_000)

const rowsOf = (file: string, kind: string): Row[] => readRows(file).filter((row) => row.kind === kind)

test('a paced sender is measured at the interface, and its packets are captured one by one', async (ctx) => {
  needGround(ctx)
  need(ctx, spead2Python(), 'needs the Python peer')
  const file = temporary('rows.jsonl')
  const args = ['--measure', 'pacing', '--only', 'ours', '--rates', '100Mbps', '--hogs', '0,1', '--seconds', '0.5']
  const { code, stdout } = await bench([...args, '--out', file, ...SMALL])
  expect(code).toBe(0)
  expect(stdout).toContain('paced senders')
  const pacing = rowsOf(file, 'pacing')
  expect(pacing.map((row) => [row.program, row.rateBytesPerSecond, row.hogs])).toEqual([
    ['ours', 12.5e6, 0],
    ['ours', 12.5e6, 1],
  ])
  for (const row of pacing) {
    const { udpBytes, seconds, error } = row as Record<string, number>
    expect(udpBytes).toBeGreaterThan(0)
    expect(error).toBeCloseTo(udpBytes! / (seconds! * 12.5e6) - 1, 9)
  }
  const bursts = rowsOf(file, 'bursts')
  expect(bursts.map((row) => row.hogs)).toEqual([0, 1])
  // A heap of 8 KiB is a packet with 56 bytes of SPEAD before it; what leaves together is whole packets.
  for (const row of bursts) {
    expect(row.packetBytes).toBe(8248)
    expect((row.backToBackBytes as number) % 8248).toBe(0)
    expect(row.packets).toBeGreaterThan(row.runs as number)
  }
}, 60_000)

test('many streams of one process have a row, and so has the cost of a heap to the main thread', async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const args = ['--measure', 'streams,mainthread', '--only', 'ours', '--seconds', '0.5', '--out', file, ...SMALL, '--append']
  expect((await bench(args)).code).toBe(0)
  const rows = rowsOf(file, 'streams')
  expect(rows.map((row) => row.streams)).toEqual([1, 64])
  for (const row of rows)
    for (const field of ['threads', 'rssBytes', 'cpuSeconds', 'udpBytes']) expect(row[field]).toBeGreaterThan(0)
  const [cost] = rowsOf(file, 'measure')
  expect((cost!.rows as Row[]).map((row) => row.heapSizeBytes)).toEqual([256, 1024])
  for (const row of cost!.rows as Row[]) expect(row.fillNanoseconds).toBeGreaterThan(0)
  const before = readRows(file)
  expect((await bench(args)).code).toBe(0)
  expect(readRows(file)).toEqual(before)
}, 60_000)

test('a part of bench-busy can be stopped and goes on; heaps that nobody fills are sent by both programs', (ctx) => {
  needGround(ctx)
  const script = join(import.meta.dirname, '../../scripts/bench/busy.mjs')
  const file = temporary('rows.jsonl')
  const run = (part: string, ...args: string[]) =>
    spawnSync(process.execPath, [script, part, '--sizes', '8KiB,16KiB', ...SMALL, '--out', file, '--append', ...args], {
      encoding: 'utf8',
    })
  expect(run('mood')).toMatchObject({ status: 2, stderr: expect.stringContaining('it is one of unpaced, ibverbs, pacing') })
  expect(run('unfilled', '--stop-after', '0.001').status).toBe(75)
  expect(run('unfilled').status).toBe(0)
  expect(runsOf(file).map((row) => row.program)).toEqual(['floor-nofill', 'ours-nofill', 'floor-nofill', 'ours-nofill'])
}, 60_000)

test('a peer that prints no rate ends the run, and its round leaves no row', async (ctx) => {
  needGround(ctx)
  const file = temporary('rows.jsonl')
  const { code, stderr } = await bench(['--sizes', '8KiB', '--only', 'floor', '--peer', 'p=echo fast', '--out', file, ...SMALL])
  expect(code).not.toBe(0)
  expect(stderr).toContain('a peer must end with its rate in MB/s')
  expect(runsOf(file)).toEqual([])
}, 60_000)

test('--report and --targets read a file again', async () => {
  const file = temporary('rows.jsonl')
  const machine = {
    kind: 'machine',
    cpu: 'A',
    cpus: 2,
    kernel: 'K',
    mitigations: {},
    node: 'v20',
    koffi: '3',
    date: 'd',
    commit: 'abcdefghi',
  }
  const run = (program: string, round: number, megabytes: number) => ({
    ...{ kind: 'run', program, round, attempt: 0, heapSizeBytes: 8192, packetSizeBytes: 9000, pointBatches: 4 },
    ...{ payloadBytesPerSecond: megabytes * 1e6, stealShare: 0.01, otherShare: 0.02, disturbed: false },
  })
  const rounds = [0, 1, 2, 3, 4, 5].flatMap((round) => [run('floor', round, 4000), run('ours-sendmmsg', round, 3000 + 100 * round)])
  writeFileSync(file, [machine, ...rounds].map((row) => `${JSON.stringify(row)}\n`).join(''))
  const report = await bench(['--report', file])
  expect(report.code).toBe(0)
  expect(report.stdout).toContain('8 KiB  4,000 [4,000…4,000]  3,250 [3,000…3,500]')
  expect(report.stdout).toContain('8 KiB     0.81 [0.75…0.88]')
  expect(report.stdout).toContain(
    '12 runs, 0 disturbed, 0 rounds repeated; most stolen by the host 1.0 %, most used by others 2.0 %',
  )
  const targets = await bench(['--targets', file])
  expect(targets.code).toBe(0)
  expect(targets.stdout).toContain('lower bound ≥ 0.9: MISSED, 0 of 1 sizes, worst 0.81 [0.75…0.88] at 8 KiB')
})

test('committed rows can be read again', async () => {
  const files = ['udp-blackhole', 'verbs'].map((name) => join(import.meta.dirname, `../../docs/bench/${name}.jsonl`))
  expect(files.every(existsSync)).toBe(true)
  const { code, stdout } = await bench(['--report', files.join()])
  expect(code).toBe(0)
  expect(stdout).toContain('black hole, packets ≤ 9000')
  expect(stdout).toContain('software NIC, null')
})

test.each([
  [['--sizes', '0'], '--sizes 0: not a size'],
  [['--only', 'floor,cpp'], '--only cpp: it is one of floor'],
  [['--ground', 'moon'], '--ground moon: it is one of blackhole'],
  [['--rates', '1Gb'], '--rates 1Gb: not a rate such as 100Mbps'],
  [['--rates', '0Gbps'], '--rates 0Gbps: not a rate'],
  [['--sweeps', 'mood'], '--sweeps mood: it is one of heaps'],
  [['--hogs', 'two'], '--hogs two: not a number of processes'],
  [['--hogs', '1', '--verbs'], '--ground softnic has the rate beside busy neighbours'],
  [['--only', 'ours-ibverbs'], '--only ours-ibverbs: it does not run on --ground blackhole'],
  [['--only', 'floor', '--ground', 'softnic'], '--only floor: it does not run on --ground softnic'],
  [['--peer', 'floor=true'], 'there is a floor already'],
  [['--measure', 'mood'], '--measure mood: it is one of'],
  [['--nonsense'], 'nonsense'],
])('%j is refused with status 2 before anything runs', async (args, why) => {
  const { code, stdout, stderr } = await bench(args)
  expect(stderr).toContain(why)
  expect(stdout).toBe('')
  expect(code).toBe(2)
})
