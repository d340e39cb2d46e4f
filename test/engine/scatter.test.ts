/** Patching, where a whole batch would take more memory than a test should. */
import { expect, test } from 'vitest'
import type { ScatterTable } from '#dist/src/batch/table.js'
import { CntPointers, scatter } from '#dist/src/engine/scatter.js'

// Of this only the pages that are written take memory.
const FROM = 2 ** 31 - 40

test('headers on both sides of 2 GiB are patched alike, the first time and again', () => {
  const view = new DataView(new ArrayBuffer(2 ** 31 + 128))
  const cntAt = Uint32Array.from({ length: 6 }, (_, j) => FROM + 24 * j)
  const halves = { cntBaseHi: 0x80010000, cntBaseLo: 0, maskHi: 0xffff, maskLo: 0xffffffff }
  const table = {
    cntAt,
    cntStart: Uint32Array.from({ length: 7 }, (_, j) => j),
    ...halves,
    immediates: [],
  } as unknown as ScatterTable
  const pointers = new CntPointers(table)
  const sequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
  // As many as it takes for upper halves to be left alone.
  for (let first = 1n; first < 6n * 150n; first += 6n) {
    scatter(view, pointers, [], 6, sequence)
    // SPEAD section 8.1: immediate mode, item id 1, and the cnt in the low 48 bits.
    const expected = Array.from({ length: 6 }, (_, j) => 0x8001_0000_0000_0000n + first + BigInt(j))
    expect([...cntAt].map((at) => view.getBigUint64(at))).toEqual(expected)
  }
})
