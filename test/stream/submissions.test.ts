/** The queue of sends in front of a ring whose other side the test plays. */
import { expect, test } from 'vitest'
import type { Driver } from '#dist/src/engine/driver.js'
import type { HeapStatus } from '#dist/src/engine/outcome.js'
import { Claim, Ring, SLOTS } from '#dist/src/engine/ring.js'
import { News } from '#dist/src/stream/news.js'
import { QueueBound } from '#dist/src/stream/queue-bound.js'
import type { BatchResult, SendError } from '#dist/src/stream/result.js'
import { Send } from '#dist/src/stream/send.js'
import { SendPromise } from '#dist/src/stream/send-promise.js'
import { Submissions } from '#dist/src/stream/submissions.js'

function queue(bound?: QueueBound) {
  const ring = new Ring()
  let watches = 0
  const driver = {
    caps: { evidence: 'accepted' },
    hold: () => {},
    submitted: () => {},
    watch: () => {
      watches++
    },
    drainMessages: () => {},
  } as unknown as Driver
  const submissions = new Submissions(ring, driver, new News(), () => {}, bound)
  return {
    ring,
    submissions,
    get watches(): number {
      return watches
    },
    send(more: Partial<Send> = {}): SendPromise<BatchResult> {
      const promise = new SendPromise<BatchResult>(submissions.watch)
      submissions.submit(Object.assign(new Send(() => {}), { variant: 1, heaps: 2, rows: 2, queuedBytes: 1, promise }, more))
      return promise
    },
    /** The other side sends all up to this count. */
    settle(from: number, to: number): void {
      for (let count = from; count < to; count++) {
        ring.claim(count, new Claim())
        ring.settle(count, false, false)
      }
      ring.publish(to)
    },
    tell: (submission: number, ...heaps: HeapStatus[]) =>
      submissions.outcome({ type: 'outcome', submission, heaps, causes: [], packetsUnsent: 1 }),
  }
}

test('an outcome belongs to the submission that it names, in whatever order outcomes come', async () => {
  const { ring, submissions, send, tell } = queue()
  const claim = new Claim()
  const promises = Array.from({ length: 3 }, () => send())
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

test('a send that was to wait for room, and finds some by then, is prepared all the same', async () => {
  const { ring, submissions, send, settle } = queue(new QueueBound(1, true))
  const first = send()
  expect(submissions.mustWait).toBe(true)
  settle(0, 1)
  const late: Send = Object.assign(new Send(() => {}), { heaps: 3 })
  late.prepare = () => Object.assign(late, { variant: 7, rows: 3, queuedBytes: 5 })
  submissions.submit(late)
  await first
  expect(submissions.bound.bytes).toBe(5)
  const claim = new Claim()
  expect(ring.claim(1, claim)).toBe(true)
  expect(claim).toMatchObject({ variant: 7, heaps: 3, rows: 3 })
})

test('and where it cannot be, it fails and takes its turn', async () => {
  const { ring, submissions, send } = queue(new QueueBound(1, true))
  const bad = send({
    prepare: () => {
      throw new Error('too large')
    },
  })
  const good = send()
  await expect(bad).rejects.toThrow('too large')
  expect(ring.claim(0, new Claim())).toBe(false)
  expect(ring.claim(1, new Claim())).toBe(true)
  ring.settle(1, false, false)
  ring.publish(2)
  submissions.harvest()
  await good
  expect([submissions.inFlight, submissions.bound.bytes, submissions.unsentHeaps]).toEqual([0, 0, 2])
})

test('nobody has to wait for sends that wait for room to be moved on as soon as there is some', () => {
  const it = queue(new QueueBound(SLOTS + 1, true))
  for (let i = 0; i < SLOTS + 2; i++) it.send()
  const before = it.watches
  // The one before was counted, and only waited for a slot.
  expect(it.submissions.watched).toBe(false)
  it.settle(0, 1)
  it.submissions.harvest()
  expect(it.submissions.watched).toBe(true)
  expect(it.watches).toBe(before + 1)
})
