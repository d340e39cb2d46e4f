// Tests of behaviour that only shows where the engine is stepped by hand, not by a driver.
import { expect, test } from 'vitest'
import { NEXT_AT_DEADLINE, NEXT_STEP_NOW } from '#dist/src/engine/contract.js'
import { COUNTER } from '#dist/src/stats.js'
import { rawHeap, steppedRig } from '../support/engine-rig.js'

test('a pause that the backend asked for is kept, whatever wakes the engine meanwhile', () => {
  const { engine, add, submit, backend, ring } = steppedRig({ acceptPerPost: 1, pauseNanoseconds: 500 })
  const prepared = add(
    1,
    [0, 1, 2].map(() => ({ heap: rawHeap(10) })),
  )
  submit(1, prepared)
  let now = 1000
  let next = engine.step(now)
  while (next === NEXT_STEP_NOW) next = engine.step(now)
  expect([next, engine.deadline, backend.packets.length]).toEqual([NEXT_AT_DEADLINE, 1500, 1])
  for (now = 1100; now < 1500; now += 100) expect(engine.step(now)).toBe(NEXT_AT_DEADLINE)
  expect([engine.deadline, backend.packets.length, ring.counters[COUNTER.posts]]).toEqual([1500, 1, 1])
  engine.step(1500)
  expect(backend.packets).toHaveLength(2)
})
