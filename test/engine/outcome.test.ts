// The fates of a batch's heaps, as a log of failures tells them.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { FailureLog } from '#dist/src/engine/outcome.js'

const EPERM = 1
const ENETUNREACH = 101
const nameOf = (errno: number) => `E${errno}`

test('each cause of each substream is explained once, and counts its packets', () => {
  const log = new FailureLog(4, 8)
  const explained: string[] = []
  const fail = (row: number, substream: number, errno: number) => {
    if (!log.fail(row, row >> 1, substream, errno)) return
    explained.push(`${substream} ${errno}`)
    log.explain(`${substream}: ${errno}`)
  }
  const [a, b] = [0, 7]
  fail(0, a, EPERM)
  fail(1, b, EPERM)
  fail(2, a, ENETUNREACH)
  fail(3, a, EPERM)
  fail(4, b, EPERM)
  fail(5, a, ENETUNREACH)
  expect(explained).toEqual(['0 1', '7 1', '0 101'])
  const { heaps, causes, packetsUnsent } = log.message(0, 4, () => 2, nameOf)
  expect(heaps).toEqual(['failed', 'failed', 'failed', 'sent'])
  expect(packetsUnsent).toBe(6)
  expect(causes).toEqual([
    { substream: a, errno: EPERM, errnoName: 'E1', packets: 2, message: '0: 1' },
    { substream: a, errno: ENETUNREACH, errnoName: 'E101', packets: 2, message: '0: 101' },
    { substream: b, errno: EPERM, errnoName: 'E1', packets: 2, message: '7: 1' },
  ])
})

/** Runs in a thread with the memory of an I/O thread. Posts the bytes of old space that an outcome leaves, for each of some rounds. */
const LEFTOVERS = `
const { parentPort, workerData } = require('node:worker_threads')
const { getHeapSpaceStatistics } = require('node:v8')
const OUTCOMES = 10_000
const old = () => getHeapSpaceStatistics().find((space) => space.space_name === 'old_space').space_used_size
void import(workerData).then(({ FailureLog }) => {
  let kept
  const tell = (submission) => {
    const log = new FailureLog(8, 48)
    for (let row = 0; row < 48; row++)
      if (log.fail(row, Math.floor(row / 6), row % 2, 101)) log.explain('no route leads to 10.0.0.5')
    kept = log.message(submission, 8, () => 6, () => 'ENETUNREACH')
  }
  const round = () => {
    const before = old()
    for (let i = 0; i < OUTCOMES; i++) tell(i)
    return (old() - before) / OUTCOMES
  }
  parentPort.postMessage(Array.from({ length: 4 }, round))
})`

// An I/O thread in trouble tells of hundreds of batches a second, and a major collection would hold it up for some milliseconds.
test('outcomes leave nothing for a major collection', async () => {
  const workerData = import.meta.resolve('#dist/src/engine/outcome.js')
  const worker = new Worker(LEFTOVERS, { eval: true, workerData, resourceLimits: { maxYoungGenerationSizeMb: 4 } })
  const [leftovers] = (await once(worker, 'message')) as [number[]]
  // The first rounds compile. With an object's spread for each cause it was some 200 bytes.
  expect(Math.max(...leftovers.slice(1))).toBeLessThan(60)
})
