/** Patching, wherever headers are: in the window of the loops over evenly spaced ones, outside it, and beyond what 31 bits count. */
import { describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import type { ImmediateScatter, ScatterTable, TableRegion } from '#dist/src/batch/table.js'
import { CntPointers, ImmediatePointers, scatter } from '#dist/src/engine/scatter.js'
import { need } from '../support/need.js'
import { allocate } from '../support/regions.js'

// Only its pages that are written take memory.
const FROM = 2 ** 31 - 40

test('headers on both sides of 2 GiB are patched alike, the first time and again', () => {
  const view = new DataView(new ArrayBuffer(2 ** 31 + 128))
  const cntAt = Uint32Array.from({ length: 6 }, (_, j) => FROM + 24 * j)
  const halves = { cntBaseHi: 0x80010000, cntBaseLo: 0, maskHi: 0xffff, maskLo: 0xffffffff }
  const table = {
    region: { address: 0, byteLength: 2 ** 31 + 128 },
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

const STRIDE = 104
const HEAPS = 9
/** Offsets of the pointers in a header: heap cnt, and two immediates of 48 bits. */
const AT = [8, 40, 48]
const COLUMNS_AT = HEAPS * STRIDE + 64
const RAMPS_AT = COLUMNS_AT + 2 * HEAPS * 8
const BYTES = RAMPS_AT + 32

/** @param slots heap j's header stands at the slots[j]-th place. */
function sender(buffer: ArrayBuffer, region: TableRegion, slots: readonly number[]) {
  const view = new DataView(buffer)
  const places = (offset: number) => Uint32Array.from(slots, (slot) => STRIDE * slot + offset)
  const start = Uint32Array.from({ length: HEAPS + 1 }, (_, j) => j)
  const immediates = [0, 1].map((i): ImmediateScatter => {
    const where = { columnAt: COLUMNS_AT + i * HEAPS * 8, rampAt: RAMPS_AT + i * 16 }
    const rest = { encoding: 'uint', bytes: 6, littleEndian: false, ...where } as const
    return { name: `i${i}`, at: places(AT[1 + i]!), start, baseHi: 0x96000000 + (i << 16), baseLo: 0, ...rest }
  })
  const cnt = { cntAt: places(AT[0]!), cntStart: start, cntBaseHi: 0x80010000, cntBaseLo: 0, maskHi: 0xffff, maskLo: 0xffffffff }
  const pointers = new CntPointers({ region, ...cnt, cntColumnAt: 0, immediates } satisfies ScatterTable)
  const all = immediates.map((immediate) => new ImmediatePointers(immediate, region, buffer, HEAPS, pointers))
  const sequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
  expect(all.every(({ inWindow }) => inWindow === pointers.inWindow)).toBe(true)
  /** Stages numbers as a ramp or one by one, patches, and returns all pointers of all heaps. */
  const send = (heaps: number, staged: readonly (readonly number[])[], ramps: boolean): bigint[][] => {
    for (const [i, numbers] of staged.entries()) {
      new Float64Array(buffer, immediates[i]!.columnAt, HEAPS).set(numbers)
      new Float64Array(buffer, immediates[i]!.rampAt, 2).set([numbers[0]!, ramps ? numbers[1]! - numbers[0]! : Number.NaN])
    }
    scatter(view, pointers, all, heaps, sequence)
    return Array.from({ length: HEAPS }, (_, j) => AT.map((at) => view.getBigUint64(STRIDE * slots[j]! + at)))
  }
  return { send, pointers }
}

describe('evenly spaced headers', () => {
  const MEMORY = {
    'in the window': () => allocate(BYTES, { patched: true }),
    'in a region too large for it': () => allocate(16 * 2 ** 20, { patched: true }),
    'in an ordinary buffer': () => ({ id: 0, address: 0, byteLength: BYTES, buffer: new ArrayBuffer(BYTES) }),
  }
  const ORDERS = {
    'in order': [0, 1, 2, 3, 4, 5, 6, 7, 8],
    'those of every second heap first': [0, 5, 1, 6, 2, 7, 3, 8, 4],
  }
  const CASES = Object.entries(MEMORY).flatMap(([name, memoryOf]) =>
    Object.entries(ORDERS).map(([order, slots]) => ({ name, memoryOf, order, slots })),
  )
  test.for(CASES)(
    '$name, $order: of any number of heaps, ramps or not, the pointers that are to be written and no others',
    ({ name, memoryOf, order, slots }, ctx) => {
      need(ctx, name.includes('buffer') || nativeCallsWork(), 'regions are mapped on Linux only')
      // The window is the block of the first region that comes.
      new CntPointers({
        region: MEMORY['in the window'](),
        cntAt: Uint32Array.of(8),
        cntStart: Uint32Array.of(0, 1),
      } as unknown as ScatterTable)
      const memory = memoryOf()
      const { send, pointers } = sender(memory.buffer, memory, slots)
      expect(pointers.inWindow).toBe(name === 'in the window')
      expect(pointers.order).toEqual(order === 'in order' ? undefined : Uint32Array.of(0, 2, 4, 6, 8, 1, 3, 5, 7))
      let cnt = 1n
      const standing: bigint[][] = Array.from({ length: HEAPS }, () => [0n, 0n, 0n])
      // More often than it takes for upper halves to be left alone, and across 2^32 for one of the immediates.
      for (let round = 0; round < 400; round++) {
        const heaps = round < 150 ? HEAPS : 1 + (round % HEAPS)
        const ramps = round % 3 !== 2
        const first = [2 ** 40 + round * 8192, 2 ** 32 - 3000 + round * 9]
        const step = ramps ? [8192, 1] : [0, 0]
        const staged = first.map((number, i) =>
          Array.from({ length: HEAPS }, (_, j) => number + j * step[i]! + (ramps ? 0 : (j * j) % 7)),
        )
        for (let j = 0; j < heaps; j++)
          // SPEAD section 8.1: immediate mode, item id, and the number in the low 48 bits.
          standing[j] = [0x8001n, 0x9600n, 0x9601n].map(
            (upper, i) => (upper << 48n) + (i === 0 ? cnt + BigInt(j) : BigInt(staged[i - 1]![j]!)),
          )
        cnt += BigInt(heaps)
        expect(send(heaps, staged, ramps), `round ${round}`).toEqual(standing)
      }
    },
  )
})

test('a pointer that is not all inside its region is refused', () => {
  const at = (offset: number) =>
    new CntPointers({
      region: { id: 0, address: 0, byteLength: 100 },
      cntAt: Uint32Array.of(0, offset),
      cntStart: Uint32Array.of(0, 1, 2),
    } as unknown as ScatterTable)
  expect(at(92).stride).toBe(92)
  expect(() => at(93)).toThrow('item pointer at byte 93 of a region of 100')
})

test('headers that are evenly spaced in no order are no pair of anything', () => {
  const at = (...cntAt: number[]) =>
    new CntPointers({
      region: { id: 0, address: 0, byteLength: 1000 },
      cntAt: Uint32Array.from(cntAt),
      cntStart: Uint32Array.of(0, 1, 2, 3),
    } as unknown as ScatterTable)
  expect(at(0, 100, 201)).toMatchObject({ stride: 0, spacing: 0, order: undefined, inWindow: false })
  expect(at(200, 100, 0)).toMatchObject({ stride: 0, spacing: 100, order: Uint32Array.of(2, 1, 0) })
})
