/** How a wait for a batch goes about it. What it gains is measured (docs/bench/README.md); here, that naps which are too long stop. */
import { performance } from 'node:perf_hooks'
import { beforeEach, expect, test, vi } from 'vitest'
import type { Driver } from '#dist/src/engine/driver.js'
import * as R from '#dist/src/engine/ring.js'
import { Pending, Submissions } from '#dist/src/submissions.js'

// A wait gives up after 0.2 ms, which code that runs for the first time may take.
beforeEach(() => {
  const clock = vi.spyOn(performance, 'now').mockReturnValue(0)
  return () => clock.mockRestore()
})

/** Waits for one batch after the other behind a sender that settles one per so many naps or yields; whether each wait napped. */
function waits(count: number, inFlight: number, napsPerBatch = 1): boolean[] {
  const ring = new R.Ring()
  const submissions = new Submissions(ring, () => {})
  let napped = false
  let settled = 0
  const settleOne = () => Atomics.store(ring.control, R.C_SETTLED, ++settled)
  let yields = 0
  let naps = 0
  const driver: Partial<Driver> = {
    caps: { evidence: 'accepted' } as Driver['caps'],
    giveWay: (asleep) => {
      napped ||= asleep
      // So many yields that none of them is a brief wait.
      if (asleep ? ++naps % napsPerBatch === 0 : ++yields % 16 === 0) settleOne()
    },
    hold: () => {},
    submitted: () => {},
  }
  submissions.driver = driver as Driver
  const submit = () => {
    const batch = { state: 'in-flight' }
    submissions.submit(
      new Pending(() => {
        batch.state = 'free'
      }),
    )
    return batch
  }
  const batches = Array.from({ length: inFlight }, submit)
  return Array.from({ length: count }, () => {
    napped = false
    yields = 0
    const batch = batches.shift()!
    submissions.expect(batch)
    expect(batch.state).toBe('free')
    batches.push(submit())
    return napped
  })
}

test('a wait naps while something stays in flight', () => {
  expect(waits(50, 2)).toEqual(Array(50).fill(true))
})

test.for([1, 2, 3])('naps that leave nothing in flight become rare, %i to a batch', (napsPerBatch) => {
  const napping = waits(5000, 1, napsPerBatch).flatMap((napped, i) => (napped ? [i] : []))
  const spun = napping.slice(1).map((i, k) => i - napping[k]! - 1)
  expect(spun).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024])
})
