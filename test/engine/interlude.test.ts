/** Heaps that go between those of the sends under way may be recalled while they have not begun. */
import { expect, test } from 'vitest'
import { NEXT_IDLE } from '#dist/src/engine/contract.js'
import { rawHeap, steppedRig } from '../support/engine-rig.js'

test('recalled before it began: nothing of it is sent, and it is told so', () => {
  const r = steppedRig()
  const data = r.add(1, [{ heap: rawHeap(8, 1) }, { heap: rawHeap(8, 2) }])
  r.add(2, [{ heap: rawHeap(8, 7) }, { heap: rawHeap(8, 8) }])
  r.engine.interlude(2, 2, 2, false)
  r.engine.recallInterlude()
  expect(r.messages.filter(({ type }) => type === 'interlude')).toEqual([
    { type: 'interlude', outcome: { type: 'outcome', submission: 0, heaps: ['flushed', 'flushed'], causes: [], packetsUnsent: 2 } },
  ])
  r.submit(1, data)
  expect(r.run()).toBe(NEXT_IDLE)
  expect(r.backend.packets.map(({ bytes }) => bytes.at(-1))).toEqual([1, 2])
  // The next one goes.
  r.engine.interlude(2, 2, 2, false)
  expect(r.run()).toBe(NEXT_IDLE)
  expect(r.backend.packets.map(({ bytes }) => bytes.at(-1))).toEqual([1, 2, 7, 8])
})

test('recalled when it has begun, or was not asked for: all of it is sent, or nothing happens', () => {
  const r = steppedRig({ acceptPerPost: 1, pauseNanoseconds: 500 })
  r.add(2, [{ heap: rawHeap(8, 7) }, { heap: rawHeap(8, 8) }])
  r.engine.recallInterlude()
  r.engine.interlude(2, 2, 2, false)
  r.engine.step(r.clock)
  expect(r.backend.packets).toHaveLength(1)
  r.engine.recallInterlude()
  expect(r.run()).toBe(NEXT_IDLE)
  expect(r.backend.packets.map(({ bytes }) => bytes.at(-1))).toEqual([7, 8])
  expect(r.messages.filter(({ type }) => type === 'interlude')).toEqual([{ type: 'interlude', outcome: undefined }])
})
