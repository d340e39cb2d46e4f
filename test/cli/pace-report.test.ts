import { describe, expect, test } from 'vitest'
import { paceReport } from '#dist/src/cli/common/pace-report.js'
import { runJson, start } from '../support/cli.js'

const NOTHING = {
  udpBytes: 0,
  wireBytes: 0,
  packets: 0,
  packetsFailed: 0,
  pacedNanoseconds: 0,
  starvedNanoseconds: 0,
  lateNanoseconds: 0,
  refusedNanoseconds: 0,
  gapsMadeUp: 0,
  madeUpNanoseconds: 0,
  gapsGivenUp: 0,
  givenUpNanoseconds: 0,
}
const RATE = 1e9
/** Nanoseconds of a share of ten seconds. */
const share = (part: number) => part * 10e9

describe('why a rate was not reached', () => {
  test('nothing is said where it was', () => {
    const stats = { ...NOTHING, udpBytes: 9.99e9, starvedNanoseconds: share(0.5), pacedNanoseconds: share(0.4) }
    expect(paceReport(stats, RATE, 'udp', 10)).toEqual({
      bytesPerSecond: RATE,
      basis: 'udp',
      reached: 0.999,
      reachedBytesPerSecond: 0.999e9,
      madeUp: { gaps: 0, seconds: 0 },
      givenUp: { gaps: 0, seconds: 0 },
      reasons: [],
    })
  })

  test('what was made up and what was not', () => {
    const gaps = { gapsMadeUp: 3, madeUpNanoseconds: 90e6, gapsGivenUp: 1, givenUpNanoseconds: 2e9 }
    expect(paceReport({ ...NOTHING, ...gaps }, RATE, 'udp', 10)).toMatchObject({
      madeUp: { gaps: 3, seconds: 0.09 },
      givenUp: { gaps: 1, seconds: 2 },
    })
  })

  test('the greatest share of the time comes first, and small ones are left out', () => {
    const stats = {
      ...NOTHING,
      udpBytes: 5e9,
      packets: 900,
      packetsFailed: 100,
      starvedNanoseconds: share(0.3),
      lateNanoseconds: share(0.05),
      refusedNanoseconds: share(0.009),
      pacedNanoseconds: share(0.4),
    }
    expect(paceReport(stats, RATE, 'udp', 10).reasons).toEqual([
      'no batch was waiting 30 % of the time',
      'the sending thread was at work, or without a CPU, 24 % of the time',
      '10 % of the packets could not be sent',
      'the sending thread woke up late, by 5 % of the time',
    ])
    expect(paceReport({ ...stats, refusedNanoseconds: share(0.2) }, RATE, 'udp', 10).reasons).toContain(
      'the kernel or the device had no room 20 % of the time',
    )
  })

  test('a rate of the wire is measured there', () => {
    expect(paceReport({ ...NOTHING, udpBytes: 8e9, wireBytes: 10e9 }, RATE, 'wire', 10)).toMatchObject({
      reached: 1,
      basis: 'wire',
    })
  })

  test('where somebody else kept the rate, nothing is known', () => {
    expect(paceReport({ ...NOTHING, udpBytes: 5e9 }, RATE, 'udp', 10)).toMatchObject({ reached: 0.5, reasons: [] })
    expect(paceReport(NOTHING, RATE, 'udp', 0)).toMatchObject({ reached: undefined, reasons: [] })
  })
})

const SENT = ['send', '10.0.0.1:7148', '--backend', 'memory', '-H', '1000', '-n', '200', '--descriptors', 'none', '--no-stop']

test('without a rate nothing is said of one', async () => {
  const { json } = await runJson(SENT)
  expect(json).not.toHaveProperty('rate')
  expect(json).toMatchObject({ batches: 1, batchHeaps: 524 })
})

test('a source that is slower than the rate is named', async () => {
  const args = [...SENT, '--batch-heaps', '10', '--rate', '1MB/s', '--input', '-', '--interval', '0.05']
  const { child, done } = start(args, { stdin: 'pipe' })
  const sending = new Promise<void>((resolve) => {
    child.stdout!.on('data', (text: string) => /-\d+\.\d\d s/.test(text) && resolve())
  })
  // A hundred heaps, half a second without any, and as many again: 0.2 s at the rate.
  child.stdin!.write(new Uint8Array(100_000))
  await sending
  await new Promise((resolve) => setTimeout(resolve, 1000))
  child.stdin!.end(new Uint8Array(100_000))
  const { stdout, code } = await done
  expect(code).toBe(0)
  expect(stdout).toMatch(/^batches +5 of 10 heaps under way at most$/m)
  expect(stdout).toMatch(
    /^rate +asked 8\.00 Mb\/s of UDP payload, reached 0\.\d{3} \(\d\.\d\d Mb\/s\): no batch was waiting \d\d % of the time/m,
  )
  expect(stdout).toMatch(
    /^ {2}not made up +(1 time|\d+ times) without a batch, (\d+ ms|\d\.\d\d s) in all: --catch-up is shorter$/m,
  )
})
