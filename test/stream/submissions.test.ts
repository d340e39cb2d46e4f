/** The queue of sends in front of a ring whose other side the test plays. */
import { expect, test } from 'vitest'
import type { Driver } from '#dist/src/engine/driver.js'
import type { HeapStatus } from '#dist/src/engine/outcome.js'
import { Claim, Ring } from '#dist/src/engine/ring.js'
import { News } from '#dist/src/stream/news.js'
import type { BatchResult, SendError } from '#dist/src/stream/result.js'
import { Send } from '#dist/src/stream/send.js'
import { SendPromise } from '#dist/src/stream/send-promise.js'
import { Submissions } from '#dist/src/stream/submissions.js'

function queue() {
  const ring = new Ring()
  const driver = {
    caps: { evidence: 'accepted' },
    hold: () => {},
    submitted: () => {},
    watch: () => {},
    drainMessages: () => {},
  } as unknown as Driver
  const submissions = new Submissions(ring, driver, new News(), () => {})
  return {
    ring,
    submissions,
    send(): SendPromise<BatchResult> {
      const promise = new SendPromise<BatchResult>(submissions.watch)
      submissions.submit(Object.assign(new Send(() => {}), { variant: 1, heaps: 2, rows: 2, promise }))
      return promise
    },
    tell: (submission: number, ...heaps: HeapStatus[]) => submissions.outcome({ type: 'outcome', submission, heaps, causes: [] }),
  }
}

test('an outcome belongs to the submission that it names, in whatever order outcomes come', async () => {
  const { ring, submissions, send, tell } = queue()
  const claim = new Claim()
  const promises = Array.from({ length: 3 }, send)
  for (let count = 0; count < 3; count++) {
    expect(ring.claim(count, claim)).toBe(true)
    ring.settle(count, count !== 1, false)
  }
  ring.publish(3)
  tell(2, 'failed', 'flushed')
  tell(0, 'sent', 'partial')
  expect(submissions.harvest()).toBe(true)
  const results = await Promise.allSettled(promises)
  const heaps = results.map((result) => (result.status === 'rejected' ? (result.reason as SendError).outcome.heaps : result.status))
  expect(heaps).toEqual([['sent', 'partial'], 'fulfilled', ['failed', 'flushed']])
  expect([submissions.inFlight, submissions.unsentHeaps]).toEqual([0, 3])
})
