/** The ring by itself, both its sides in one thread. */
import { expect, test } from 'vitest'
import * as R from '#dist/src/engine/ring.js'
import { settlementOf, submitSequence } from '../support/engine-rig.js'

const send = (variant: number): R.Submission => ({ variant, heaps: 3, rows: 7, explicitCnts: true, sequence: undefined })

test('a slot goes around: what was pushed is claimed, what was settled is taken, round after round', () => {
  const ring = new R.Ring()
  const claim = new R.Claim()
  const settlement = new R.Settlement()
  for (let i = 0; i < 3 * R.SLOTS; i++) {
    expect(ring.push(send(i), R.STATE_FINAL)).toBe(i)
    expect(ring.submitted).toBe(i + 1)
    expect(ring.claim(i, claim)).toBe(true)
    expect(claim).toMatchObject({ setsSequence: false, variant: i, heaps: 3, rows: 7, explicitCnts: true })
    ring.noteFirstCnt(i, 0xffff, -1)
    ring.settle(i, i % 3 === 0, i % 2 === 0)
    expect([ring.settled, ring.stateOf(i)]).toEqual([i, R.STATE_SETTLED])
    ring.publish(i + 1)
    expect(ring.settled).toBe(i + 1)
    ring.take(i, settlement)
    expect(settlement).toMatchObject({ outcome: i % 3 === 0 ? R.OUTCOME_FAILED : R.OUTCOME_SENT, suspect: i % 2 === 0 })
    expect(settlement.firstCnt).toBe(2 ** 48 - 1)
    expect(ring.stateOf(i)).toBe(R.STATE_EMPTY)
  }
})

test('a new sequence of heap cnts is told from a send', () => {
  const ring = new R.Ring()
  const claim = new R.Claim()
  expect(ring.claim(submitSequence(ring, 1, 2, 3, 4), claim)).toBe(true)
  expect(claim).toMatchObject({ setsSequence: true, nextHi: 1, nextLo: 2, stepHi: 3, stepLo: 4 })
})

test('exactly the first of withdrawing and claiming succeeds', () => {
  const ring = new R.Ring()
  const claim = new R.Claim()
  const [withdrawn, claimed, final, late] = [R.STATE_QUEUED, R.STATE_QUEUED, R.STATE_FINAL, R.STATE_ABORTED].map((state) =>
    ring.push(send(1), state),
  )
  expect(ring.withdraw(withdrawn!)).toBe(true)
  expect(ring.claim(withdrawn!, claim)).toBe(false)
  expect(ring.claim(claimed!, claim)).toBe(true)
  expect(ring.withdraw(claimed!)).toBe(false)
  expect(ring.withdraw(final!)).toBe(false)
  expect(ring.claim(final!, claim)).toBe(true)
  expect(ring.claim(late!, claim)).toBe(false)
  const outcomes = [withdrawn, claimed, final, late].map((count) => settlementOf(ring, count!).outcome)
  expect(outcomes).toEqual([R.OUTCOME_ABORTED, R.OUTCOME_SENT, R.OUTCOME_SENT, R.OUTCOME_ABORTED])
})

test('nothing follows an abort', () => {
  const ring = new R.Ring()
  expect(ring.stopGlanced).toBe(R.STOP_NO)
  ring.stop(R.STOP_DRAIN)
  expect(ring.stopWanted).toBe(R.STOP_DRAIN)
  ring.stop(R.STOP_ABORT)
  ring.stop(R.STOP_DRAIN)
  expect(ring.stopGlanced).toBe(R.STOP_ABORT)
})
