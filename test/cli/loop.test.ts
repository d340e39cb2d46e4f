// `send --loop`: the samples of a file, round after round.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { datagramsOf, pointersOf, runJson, sink, start, temporaryFolder } from '../support/cli.js'

const TIMESTAMP = 0x1600

function fileOf(bytes: number): { path: string; samples: Buffer } {
  const path = join(temporaryFolder(), 'window')
  const samples = Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 7) >> 3))
  writeFileSync(path, samples)
  return { path, samples }
}

/** Timestamp and samples of each heap of one packet, and the last number of its destination. */
function heapsOf(payloads: readonly Buffer[]) {
  return payloads.flatMap((payload) => {
    const pointers = pointersOf(payload)
    const stamp = pointers.find(({ id }) => id === TIMESTAMP)?.value
    return stamp === undefined ? [] : [{ stamp, samples: payload.subarray(8 + 8 * pointers.length) }]
  })
}

test('each heap of the file comes in turn, to its substream, and timestamps go on', async () => {
  const { path, samples } = fileOf(5 * 100)
  const pcap = join(temporaryFolder(), 'out.pcap')
  const args = [
    'send',
    '10.0.0.1+2:7148',
    '--loop',
    path,
    '-H',
    '100',
    '--batch-heaps',
    '4',
    '--first-timestamp',
    '1000',
    '-n',
    '1003',
  ]
  const { code, json } = await runJson([...args, '--pcap', pcap])
  expect(code).toBe(0)
  expect(json).toMatchObject({ heaps: 1003, heapsFailed: 0, payloadBytes: 100_300 })
  const frames = datagramsOf(readFileSync(pcap))
  const heaps = heapsOf(frames.map(({ payload }) => payload))
  expect(heaps).toHaveLength(1003)
  for (const [i, { stamp, samples: got }] of heaps.entries()) {
    expect(stamp).toBe(1000 + 100 * i)
    expect(got.equals(samples.subarray((i % 5) * 100, (i % 5) * 100 + 100))).toBe(true)
  }
  const ends = frames.filter(({ payload }) => heapsOf([payload]).length > 0).map(({ to }) => Number(/\.(\d+):/.exec(to)![1]))
  expect(ends).toEqual(Array.from({ length: 1003 }, (_, i) => 1 + ((i % 5) % 3)))
})

test('several items share a heap of the file, and --pad-last fills the last one', async () => {
  const { path, samples } = fileOf(250)
  const pcap = join(temporaryFolder(), 'out.pcap')
  const items = ['--item', 'a:0x4300:u1:60', '--item', 'b:0x4301:>i2:20', '--item', 'id:0x4302:u48=7']
  const { json } = await runJson(['send', '10.0.0.1:7148', ...items, '--loop', path, '--pad-last', '-n', '7', '--pcap', pcap])
  expect(json).toMatchObject({ heaps: 7 })
  const padded = Buffer.concat([samples, Buffer.alloc(50)])
  const heaps = heapsOf(datagramsOf(readFileSync(pcap)).map(({ payload }) => payload))
  expect(heaps.map(({ samples: got }) => got.toString('hex'))).toEqual(
    Array.from({ length: 7 }, (_, i) => padded.subarray((i % 3) * 100, (i % 3) * 100 + 100).toString('hex')),
  )
})

test.for([
  [250, ['-H', '100'], /250 bytes, which are not whole heaps of 100; --pad-last/],
  [0, ['-H', '100'], /is empty/],
] as const)('a file of %i bytes with %j is refused', async ([bytes, args, why]) => {
  const { path } = fileOf(bytes)
  const { code, stderr, json } = await runJson(['send', '10.0.0.1:7148', '--loop', path, ...args, '--pcap', '/dev/null'])
  expect(code).toBe(1)
  expect(stderr).toMatch(why)
  expect(json.error).toMatchObject({ code: 'ERR_SPEADCAST_INPUT' })
})

test('it goes on until Ctrl-C, or the time of --seconds, and shows itself meanwhile', async () => {
  const { path } = fileOf(1000)
  const { to, got } = await sink()
  const args = ['send', to, '--loop', path, '-H', '1000', '--rate', '1MB/s', '--batch-heaps', '4', '--json']
  const sending = start([...args, '--interval', '0.1'])
  await got(300)
  sending.child.kill('SIGINT')
  const { code, stdout, stderr } = await sending.done
  expect(code).toBe(0)
  const { heaps, heapsFailed } = JSON.parse(stdout)
  expect(heaps).toBeGreaterThan(290)
  expect(heapsFailed).toBe(0)
  expect(stderr).toMatch(/interrupted/)
  // Heaps of the lines that were printed meanwhile.
  const lines = [...stderr.matchAll(/^[\d.]+-[\d.]+ s +([\d,]+)/gm)].map(([, count]) => Number(count!.replaceAll(',', '')))
  expect(lines.length).toBeGreaterThan(1)
  expect(lines.reduce((sum, count) => sum + count, 0)).toBe(heaps)
  const timed = await runJson([...args.slice(0, -1), '--seconds', '0.3'])
  expect(timed).toMatchObject({ code: 0, json: { heapsFailed: 0, heapsDropped: 0 } })
  expect(timed.json.heaps).toBeGreaterThan(50)
})

test('heaps that cannot be sent are counted and their causes told once; the exit status is 1', async () => {
  const { path } = fileOf(1000)
  // A broadcast address without --broadcast: EACCES for each packet.
  const { code, json, stderr } = await runJson([
    ...[
      'send',
      '255.255.255.255:7148',
      '--backend',
      'dgram',
      '--loop',
      path,
      '-H',
      '1000',
      '--rate',
      '1MB/s',
      '-n',
      '50',
      '--descriptors',
      'none',
    ],
  ])
  expect(code).toBe(1)
  expect(json.heaps).toBe(0)
  expect(json.heapsFailed).toBe(50)
  expect(stderr.match(/EACCES|permission/gi)?.length).toBeLessThan(6)
})

test('with --clock the first heap is due soon, or at --start-at, and the others by their timestamps', async () => {
  const { path } = fileOf(1000)
  const syncTime = Math.floor(Date.now() / 1000) - 1000
  const pcap = join(temporaryFolder(), 'out.pcap')
  const clock = ['--clock', String(syncTime), '--sample-rate', '100kHz', '--unsynchronised', 'accept']
  const args = ['send', '10.0.0.1:7148', '--loop', path, '-H', '1000', '-n', '30', '--pcap', pcap, ...clock]
  for (const isTold of [false, true]) {
    const before = Date.now() / 1000
    // A busy machine takes seconds to start the command.
    const startAt = Math.ceil(before) + 6
    const start = isTold ? ['--start-at', String(startAt)] : []
    const { code, json, stderr } = await runJson([...args, ...start])
    expect({ code, stderr }).toEqual({ code: 0, stderr: isTold ? `waiting for --start-at ${startAt}\n` : '' })
    expect(json.clock.timeErrorSeconds.greatest).toBeLessThan(30)
    const stamps = heapsOf(datagramsOf(readFileSync(pcap)).map(({ payload }) => payload)).map(({ stamp }) => stamp)
    const first = stamps[0]! / 1e5 + syncTime
    if (!isTold) expect(first).toBeGreaterThan(before)
    else expect(first).toBeCloseTo(startAt, 1)
    expect(stamps).toEqual(stamps.map((_, i) => stamps[0]! + 1000 * i))
  }
})

test('heaps that are left out are no sent ones', async () => {
  const { path } = fileOf(1000)
  const args = [
    'send',
    '255.255.255.255:7148',
    '--backend',
    'dgram',
    '--loop',
    path,
    '-H',
    '1000',
    '-n',
    '50',
    '--descriptors',
    'none',
  ]
  const { json } = await runJson([...args, '--on-error', 'skip'])
  expect(json).toMatchObject({ heaps: 0, heapsFailed: 0, heapsSkipped: 50, payloadBytes: 0 })
})
