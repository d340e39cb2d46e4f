import { describe, expect, it } from 'vitest'
import { BUG_COMPAT, DEFAULT_FLAVOUR, makeFlavour } from '#dist/src/spead/flavour.js'
import { pointerBase, putPointer, splitHeapCnt, splitUnsigned } from '#dist/src/spead/pointer.js'
import { bytes } from './hex.js'

const written = ({ hi, lo }: { hi: number; lo: number }): Uint8Array => {
  const out = new Uint8Array(8)
  putPointer(new DataView(out.buffer), 0, hi, lo)
  return out
}

describe('flavour', () => {
  it('is SPEAD-64-48 unless told otherwise', () => {
    expect(DEFAULT_FLAVOUR).toEqual({ heapAddressBits: 48, bugCompat: 0 })
    expect(makeFlavour()).toEqual(DEFAULT_FLAVOUR)
    expect(makeFlavour({ heapAddressBits: 40, bugCompat: BUG_COMPAT.PYSPEAD_0_5_2 })).toEqual({ heapAddressBits: 40, bugCompat: 7 })
  })

  it.each([0, 7, 12, 64, -8, 48.5, Number.NaN])('refuses %s heap address bits', (heapAddressBits) => {
    expect(() => makeFlavour({ heapAddressBits })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringContaining('8, 16, 24, 32, 40, 48, 56') }),
    )
  })

  it.each([-1, 8, 1.5])('refuses bug compatibility %s', (bugCompat) => {
    expect(() => makeFlavour({ bugCompat })).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' }))
  })
})

describe('item pointer', () => {
  // SPEAD section 8: mode bit, 63 − N bits of id, N bits of value.
  it.each([
    [8, 0x1234, '80 00 00 00 00 12 34 00'],
    [16, 0x1234, '80 00 00 00 12 34 00 00'],
    [24, 0x1234, '80 00 00 12 34 00 00 00'],
    [32, 0x1234, '80 00 12 34 00 00 00 00'],
    [40, 0x1234, '80 12 34 00 00 00 00 00'],
    [48, 0x1234, '92 34 00 00 00 00 00 00'],
    [56, 0x12, '92 00 00 00 00 00 00 00'],
  ])('has the id above %i address bits', (heapAddressBits, id, expected) => {
    const flavour = makeFlavour({ heapAddressBits })
    expect(written(pointerBase(flavour, id, true))).toEqual(bytes(expected))
    const addressed = bytes(expected)
    addressed[0]! -= 0x80
    expect(written(pointerBase(flavour, id, false))).toEqual(addressed)
  })

  it('takes the largest id of a flavour and no larger', () => {
    expect(written(pointerBase(makeFlavour({ heapAddressBits: 48 }), 0x7fff, true))).toEqual(bytes('ff ff 00 00 00 00 00 00'))
    expect(written(pointerBase(makeFlavour({ heapAddressBits: 24 }), 2 ** 39 - 1, false))).toEqual(bytes('7f ff ff ff ff 00 00 00'))
    for (const [heapAddressBits, id] of [
      [48, 0x8000],
      [56, 0x80],
      [40, 0x800000],
      [48, -1],
      [48, 1.5],
      [48, Number.NaN],
    ] as const)
      expect(() => pointerBase(makeFlavour({ heapAddressBits }), id, false)).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM' }),
      )
    expect(() => pointerBase(DEFAULT_FLAVOUR, 0x8000, false)).toThrow(/0x8000 .*SPEAD-64-48.*0x7fff/)
  })
})

describe('values beyond 32 bits', () => {
  it('splits numbers and bigints alike', () => {
    expect(splitUnsigned(2 ** 48 - 1, 48, 'x', 'ERR_SPEADCAST_VALUE')).toEqual({ hi: 0xffff, lo: 0xffffffff })
    expect(splitUnsigned(2n ** 56n - 1n, 56, 'x', 'ERR_SPEADCAST_VALUE')).toEqual({ hi: 0xffffff, lo: 0xffffffff })
    expect(splitUnsigned(0x1_0000_0002, 40, 'x', 'ERR_SPEADCAST_VALUE')).toEqual({ hi: 1, lo: 2 })
  })

  it.each([-1, 2 ** 48, 0.5, Number.NaN, Number.POSITIVE_INFINITY, -1n, 2n ** 48n])('refuses heap cnt %s of 48 bits', (cnt) => {
    expect(() => splitHeapCnt(DEFAULT_FLAVOUR, cnt)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPEADCAST_HEAP_CNT',
        message: expect.stringMatching(/heap cnt of SPEAD-64-48 is .*2\^48 − 1/),
      }),
    )
  })

  it('asks for a bigint where numbers have gaps', () => {
    expect(() => splitHeapCnt(makeFlavour({ heapAddressBits: 56 }), 2 ** 54)).toThrow(/as a bigint/)
    expect(splitHeapCnt(makeFlavour({ heapAddressBits: 56 }), 2n ** 54n)).toEqual({ hi: 2 ** 22, lo: 0 })
  })
})
