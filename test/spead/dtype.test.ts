import { describe, expect, it } from 'vitest'
import { alignmentOf, parseScalar as parseDtype, typedView } from '#dist/src/spead/dtype.js'

describe('parseDtype', () => {
  // Right column: numpy.dtype(x).str, which is what numpy writes into headers.
  it.each([
    ['?', '|b1', 1],
    ['b1', '|b1', 1],
    ['bool', '|b1', 1],
    ['i1', '|i1', 1],
    ['>i1', '|i1', 1],
    ['b', '|i1', 1],
    ['uint8', '|u1', 1],
    ['i2', '<i2', 2],
    ['<i2', '<i2', 2],
    ['>i2', '>i2', 2],
    ['=i2', '<i2', 2],
    ['|i2', '<i2', 2],
    ['H', '<u2', 2],
    ['int32', '<i4', 4],
    ['>u4', '>u4', 4],
    ['l', '<i8', 8],
    ['uint64', '<u8', 8],
    ['e', '<f2', 2],
    ['float16', '<f2', 2],
    ['f', '<f4', 4],
    ['float32', '<f4', 4],
    ['>f8', '>f8', 8],
    ['double', '<f8', 8],
    ['longdouble', '<f16', 16],
    ['complex64', '<c8', 8],
    ['>c16', '>c16', 16],
    ['G', '<c32', 32],
    ['S5', '|S5', 5],
    ['>S5', '|S5', 5],
    ['c', '|S1', 1],
    ['U3', '<U3', 12],
    ['>U1', '>U1', 4],
    ['V7', '|V7', 7],
    ['M8[ns]', '<M8[ns]', 8],
    ['datetime64[1D]', '<M8[D]', 8],
    ['>m8[25us]', '>m8[25us]', 8],
  ])('reads %s as numpy does', (text, descr, itemSizeBytes) => {
    expect(parseDtype(text)).toMatchObject({ descr, itemSizeBytes, bigEndian: descr.startsWith('>') })
  })

  it.each([
    ['O', /Python objects/],
    ['S', /no size/],
    ['U0', /no size/],
    ['str', /no size/],
    ['i3', /numpy scalar type/],
    ['f1', /numpy scalar type/],
    ['', /numpy scalar type/],

    ['<int16', /numpy scalar type/],
  ])('refuses %s with a remedy', (text, remedy) => {
    expect(() => parseDtype(text)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(remedy) }),
    )
  })
})

describe('typedView', () => {
  const buffer = new ArrayBuffer(64)
  it.each([
    ['i1', Int8Array, 4],
    ['u1', Uint8Array, 4],
    ['<i2', Int16Array, 4],
    ['<u2', Uint16Array, 4],
    ['<i4', Int32Array, 4],
    ['<u4', Uint32Array, 4],
    ['<i8', BigInt64Array, 4],
    ['<u8', BigUint64Array, 4],
    ['<f2', Uint16Array, 4],
    ['<f4', Float32Array, 4],
    ['<f8', Float64Array, 4],
    ['<c8', Float32Array, 8],
    ['<c16', Float64Array, 8],
    ['<M8[ns]', BigInt64Array, 4],
    ['?', Uint8Array, 4],
    ['>i2', Uint8Array, 8],
    ['>i1', Int8Array, 4],
    ['>c8', Uint8Array, 32],
    ['S3', Uint8Array, 12],
    ['U2', Uint8Array, 32],
    ['V5', Uint8Array, 20],
    ['f16', Uint8Array, 64],
  ])('of 4 × %s is a %o', (text, type, length) => {
    const dtype = parseDtype(text)
    const view = typedView(dtype, buffer, 0, 4)
    expect(view.constructor).toBe(type)
    expect(view.length).toBe(length)
    expect(view.byteLength).toBe(4 * dtype.itemSizeBytes)
    expect(view.buffer).toBe(buffer)
    expect(alignmentOf(dtype)).toBe(type.BYTES_PER_ELEMENT)
  })

  it('lies where it is told to and nowhere else', () => {
    const view = typedView(parseDtype('<u4'), buffer, 8, 2) as Uint32Array
    view[1] = 0x01020304
    expect([...new Uint8Array(buffer, 12, 4)]).toEqual([4, 3, 2, 1])
    expect(() => typedView(parseDtype('<u4'), buffer, 6, 1)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
    expect(() => typedView(parseDtype('<u4'), buffer, 56, 3)).toThrow(/does not fit a buffer of 64/)
    expect(() => typedView(parseDtype('u1'), buffer, 0, -1)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
  })
})
