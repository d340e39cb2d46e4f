// npm run figures, on rows written by hand: every point of every program is drawn, at its median, and the committed figures are what the
// committed rows give.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { projectOfTest, ROOT, runIn } from './support.js'

const MACHINE = {
  kind: 'machine',
  date: '2026-01-02T03:04:05.000Z',
  cpu: 'Some CPU',
  cpus: 2,
  kernel: 'Linux 6.1.2-3 x86_64',
  node: 'v20.19.0',
  commit: '0123456789abcdef',
}
const KNOWN = {
  floor: 'C floor',
  spead2: 'spead2 (Python), built with segmentation',
  'spead2-wheel': 'spead2 (Python), wheel from PyPI',
  dgram: 'node:dgram',
  ours: 'speadcast',
  'ours-sendmmsg': 'speadcast, copying (sendmmsg)',
}
const PROGRAMS: Readonly<Record<string, string>> = { ...KNOWN, 'my own & other': 'my own &amp; other' }
const SIZES = { '256 B': 256, '16 KiB': 16384, '64 MiB': 2 ** 26 }

const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('')
const run = (program: string, heapSizeBytes: number, round: number, gigabytes: number, extra: object = {}) => ({
  kind: 'run',
  program,
  pointBatches: 4,
  heapSizeBytes,
  packetSizeBytes: 9000,
  payloadBytesPerSecond: gigabytes * 1e9,
  round,
  attempt: 0,
  ...extra,
})

/** Three rounds of every program at every size, the first and the third around the middle one. */
const sweep = (extra: object = {}) =>
  Object.keys(PROGRAMS).flatMap((program, p) =>
    Object.values(SIZES).flatMap((size, s) =>
      [1.5, 1, 0.25].map((factor, round) => run(program, size, round, factor * (p + 2 * s + 1), extra)),
    ),
  )

function draw(files: Record<string, string>) {
  const rows = projectOfTest(files)
  const out = projectOfTest({})
  const figures = (...args: string[]) =>
    runIn(ROOT, process.execPath, ['scripts/figures.mjs', '--rows', rows, '--out', out, ...args])
  return { rows, out, figures, ...figures(), svg: (name: string) => readFileSync(join(out, `${name}.svg`), 'utf8') }
}
/** The points as a screen reader reads them. */
const told = (svg: string) =>
  [...svg.matchAll(/<path aria-label="([^"]*)"[^>]*aria-roledescription="point"/g)].map(([, text]) => text!)

test('every program and heap size is a point at its median, and is named', () => {
  const { status, stderr, svg } = draw({ 'udp-blackhole.jsonl': lines([MACHINE, ...sweep()]) })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const text = svg('rate-blackhole-9000')
  const expected = Object.values(PROGRAMS).flatMap((label, p) =>
    Object.keys(SIZES).map((size, s) => {
      const middle = p + 2 * s + 1
      return `${label}, heaps of ${size}: ${middle} GB/s, least ${middle * 0.25}, greatest ${middle * 1.5}`
    }),
  )
  expect(told(text).sort()).toEqual(expected.sort())
  const words = [...text.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, word]) => word!)
  for (const label of [...Object.values(PROGRAMS), ...Object.keys(SIZES), 'heap size', 'payload, GB/s'])
    expect(words).toContain(label)
  expect(text).toContain('medians of 3 rounds, bands: least to greatest<')
  expect(text).toContain('>Some CPU × 2, Linux 6.1.2, Node 20.19.0, 2026-01-02, commit 0123456<')
})

test('a round that was repeated counts once, and other numbers of batches stand apart', () => {
  const rows = [
    ...[256, 512].flatMap((size) => [run('ours', size, 0, 3), run('ours', size, 1, 5)]),
    run('ours', 256, 1, 9, { attempt: 1 }),
    run('ours', 256, 0, 100, { pointBatches: 2 }),
  ]
  const { svg } = draw({ 'udp-blackhole.jsonl': lines([MACHINE, ...rows]) })
  expect(told(svg('rate-blackhole-9000'))).toEqual([
    'speadcast, heaps of 256 B: 6 GB/s, least 3, greatest 9',
    'speadcast, heaps of 512 B: 4 GB/s, least 3, greatest 5',
  ])
})

test('a figure for each packet size and ground that has rows; what has none is said and left out', () => {
  const { out, stdout } = draw({
    'udp-blackhole.jsonl': lines([MACHINE, ...sweep(), ...sweep({ packetSizeBytes: 1472 })]),
    'udp-veth.jsonl': lines([MACHINE, ...sweep({ ground: 'veth' })]),
  })
  const names = ['rate-blackhole-1472', 'rate-blackhole-9000', 'rate-veth-9000']
  expect(readdirSync(out).sort()).toEqual(names.flatMap((name) => [`${name}.png`, `${name}.svg`]))
  for (const file of ['busy.jsonl', 'verbs.jsonl', 'even-packets.jsonl', 'in-flight.jsonl', 'udp-blackhole-gso1.jsonl'])
    expect(stdout).toContain(`no ${file}: its figure is left out`)
})

test('CPU per packet, even packets and batches in flight have all that their rows say', () => {
  const verbs = [10, 30, 20].flatMap((nanosecondsPerPacket, round) => [
    { kind: 'verbs', mode: 'null', program: 'ours-one', chain: 64, nanosecondsPerPacket, round },
    { kind: 'verbs', mode: 'model', program: 'floor', chain: 1, nanosecondsPerPacket: 2 * nanosecondsPerPacket, round },
  ])
  const even = [9, 16, 36].flatMap((kib) => [
    run('ours-sendmmsg', kib * 1024, 0, 10, { evenPackets: true }),
    run('ours-sendmmsg-greedy', kib * 1024, 0, 5, { evenPackets: false }),
  ])
  const inFlight = [1, 2, 8].flatMap((pointBatches) =>
    [8192, 2 ** 22].map((size) => run('ours', size, 0, pointBatches, { pointBatches })),
  )
  const { svg } = draw({
    'verbs.jsonl': lines([MACHINE, ...verbs]),
    'even-packets.jsonl': lines([MACHINE, ...even]),
    'in-flight.jsonl': lines([MACHINE, ...inFlight]),
  })
  expect(told(svg('verbs-cpu')).sort()).toEqual([
    'C loop with the same patches, model, chains of 1: 40 ns a packet, least 20, greatest 60',
    'speadcast, header and payload in one piece, null, chains of 64: 20 ns a packet, least 10, greatest 30',
  ])
  expect(svg('verbs-cpu')).toContain('our side of the verbs ABI, software NIC')
  expect(told(svg('even-packets'))).toHaveLength(6)
  expect(told(svg('even-packets'))).toContain('speadcast, copying (sendmmsg), heaps of 16 KiB: 10 GB/s, least 10, greatest 10')
  expect(told(svg('in-flight'))).toHaveLength(6)
  expect(told(svg('in-flight'))).toContain('speadcast, heaps of 4 MiB, 8 batches: 8 GB/s, least 8, greatest 8')
})

test('an idle and a busy machine are panels of one figure, of the sizes and programs that ran on both', () => {
  const busy = [8192, 2 ** 20].flatMap((size) =>
    [0, 1, 2].flatMap((hogs) => ['ours', 'spead2'].map((program) => run(program, size, 0, 6 - hogs, { hogs }))),
  )
  const idleAlone = [run('before', 8192, 1, 9), run('ours', 256, 0, 9)]
  const { svg } = draw({ 'busy.jsonl': lines([MACHINE, ...busy, ...idleAlone]) })
  expect(told(svg('busy'))).toHaveLength(12)
  expect(told(svg('busy'))).toContain('speadcast, heaps of 1 MiB, 2 busy neighbours: 4 GB/s, least 4, greatest 4')
  expect(told(svg('busy'))).toContain(`${KNOWN.spead2}, heaps of 8 KiB, idle: 6 GB/s, least 6, greatest 6`)
  const words = [...svg('busy').matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, word]) => word!)
  for (const panel of ['idle', 'one busy neighbour', '2 busy neighbours']) expect(words).toContain(panel)
})

test('the same rows give the same bytes, and --check tells of figures that other rows gave', () => {
  const files = { 'udp-blackhole.jsonl': lines([MACHINE, ...sweep()]) }
  const [first, second] = [draw(files), draw(files)]
  for (const file of ['rate-blackhole-9000.svg', 'rate-blackhole-9000.png'])
    expect(readFileSync(join(first.out, file)).equals(readFileSync(join(second.out, file)))).toBe(true)
  const png = readFileSync(join(first.out, 'rate-blackhole-9000.png'))
  const width = Number(first.svg('rate-blackhole-9000').match(/<svg[^>]* width="([\d.]+)"/)![1])
  expect(Math.abs(png.readUInt32BE(16) - 2 * width)).toBeLessThanOrEqual(2)
  expect(first.figures('--check')).toMatchObject({ status: 0 })
  writeFileSync(join(first.rows, 'udp-blackhole.jsonl'), lines([MACHINE, ...sweep(), run('ours', 256, 3, 50)]))
  expect(first.figures('--check')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('rate-blackhole-9000.svg; run npm run figures'),
  })
})

test('the committed figures are what the committed rows give', () => {
  const { status, stderr } = runIn(ROOT, process.execPath, ['scripts/figures.mjs', '--check'])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
})
