// A loop in an engine that is stepped by hand: its headers are not written while a device may read them, and flights are not slots.
import { expect, test } from 'vitest'
import { NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED, NEXT_WHEN_REAPED } from '#dist/src/engine/contract.js'
import { LOOP_WORDS, type LoopControl, type LoopTurn, W_SETTLED, W_TAKEN } from '#dist/src/engine/loop.js'
import * as R from '#dist/src/engine/ring.js'
import { rawHeap, settlementOf, steppedRig } from '../support/engine-rig.js'

type LoopRig = ReturnType<typeof steppedRig>

/** Begins a loop of batches of this many heaps each. */
function begin({ engine, ring, add }: LoopRig, sizes: readonly number[], turn?: LoopTurn) {
  const batches = sizes.map((heaps, i) => {
    const prepared = add(
      i + 1,
      Array.from({ length: heaps }, () => ({ heap: rawHeap(10) })),
    )
    return { variant: i + 1, heaps, rows: prepared.compilation().rows }
  })
  const words = new Float64Array(new SharedArrayBuffer(8 * LOOP_WORDS))
  const window = { batches, timestamp: undefined, advance: 0 }
  const control: LoopControl = { type: 'loop', id: 1, window, turn, stopsOnFailure: false, words }
  engine.loops.control(control)
  const count = ring.push({ variant: 0, heaps: 0, rows: 0, explicitCnts: false, sequence: undefined, loop: 1 }, R.STATE_FINAL)
  return { count, words, batches }
}

test.for([
  [1, 1],
  [2, 2],
  [3, 3],
  [5, 3],
])(
  'of a window of %i, %i batches are in flight where as many may be, and each goes again when it has completed',
  ([size, most]) => {
    const rig = steppedRig({ completeAfterReaps: 1000 }, { maxInFlight: 3 })
    const { words } = begin(rig, Array<number>(size!).fill(2))
    let next = NEXT_STEP_NOW
    for (let steps = 0; steps < 50 && next === NEXT_STEP_NOW; steps++) next = rig.engine.step(rig.clock)
    expect([next, words[W_TAKEN], rig.backend.packets.length]).toEqual([NEXT_WHEN_REAPED, most, 2 * most!])
    for (let steps = 0; steps < 2200; steps++) rig.engine.step(rig.clock)
    expect(words[W_TAKEN]! - words[W_SETTLED]! / 2).toBeLessThanOrEqual(most!)
    expect(words[W_SETTLED]).toBeGreaterThanOrEqual(2 * most!)
  },
)

test('thousands of rounds take one slot, and what waits behind it settles behind it', () => {
  const rig = steppedRig()
  const { count } = begin(rig, [1, 2], { after: 5001 })
  const later = rig.submit(9, rig.add(9, [{ heap: rawHeap(10) }]))
  expect(rig.run()).toBe(NEXT_IDLE)
  expect(rig.backend.packets).toHaveLength(7501 + 1)
  expect(settlementOf(rig.ring, count)).toMatchObject({ outcome: R.OUTCOME_SENT })
  expect(settlementOf(rig.ring, later)).toMatchObject({ outcome: R.OUTCOME_SENT })
  // Nobody was told before.
  expect(rig.settled.length).toBeLessThanOrEqual(2)
  expect(rig.messages.filter(({ type }) => type === 'loop')).toMatchObject([
    { event: 'over', counts: { batches: 5001, heaps: 7501 } },
  ])
})

test.for([1, 1000])(
  'an abort with a full ring behind a loop settles all of it, completions after %i reaps',
  (completeAfterReaps) => {
    const rig = steppedRig({ completeAfterReaps })
    const { count } = begin(rig, [1, 1, 1, 1])
    const prepared = rig.add(9, [{ heap: rawHeap(10) }])
    for (let i = 1; i < R.SLOTS; i++) rig.submit(9, prepared)
    for (let i = 0; i < 20; i++) rig.engine.step(rig.clock)
    rig.ring.stop(R.STOP_ABORT)
    expect(rig.run()).toBe(NEXT_STOPPED)
    expect(rig.ring.settled).toBe(R.SLOTS)
    for (let i = 0; i < R.SLOTS; i++) expect(settlementOf(rig.ring, count + i).outcome).toBe(R.OUTCOME_ABORTED)
    expect(rig.messages.filter(({ type }) => type === 'loop').at(-1)).toMatchObject({ event: 'over', counts: { aborted: true } })
  },
)

test('a turn behind what has gone is refused, unless it may be made at once', () => {
  const rig = steppedRig()
  const { batches, count } = begin(rig, [1, 1])
  for (let i = 0; i < 10; i++) rig.engine.step(rig.clock)
  const window = { batches: batches.slice(1), timestamp: undefined, advance: 0 }
  rig.engine.loops.control({ type: 'turn', id: 1, turn: { after: 3, window } })
  expect(rig.messages).toContainEqual({ type: 'loop', id: 1, event: 'refused' })
  rig.engine.loops.control({ type: 'turn', id: 1, turn: { after: 3, atOnce: true } })
  expect(rig.run()).toBe(NEXT_IDLE)
  expect(settlementOf(rig.ring, count)).toMatchObject({ outcome: R.OUTCOME_SENT })
  // One that is over has no course.
  rig.engine.loops.control({ type: 'turn', id: 1, turn: { after: 0, atOnce: true } })
  expect(rig.run()).toBe(NEXT_IDLE)
})
