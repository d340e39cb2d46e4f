import { describe, expect, it } from 'vitest'
import { Descriptor, type ItemOptions } from '#dist/src/spead/descriptor.js'
import type { DtypeText } from '#dist/src/spead/dtype-text.js'
import { encodeValue, type ItemValue } from '#dist/src/spead/value.js'
import { bytes } from './hex.js'

const encode = (options: Partial<ItemOptions>, value: unknown): Uint8Array =>
  encodeValue(new Descriptor({ id: 0x1234, name: 'x', ...options }), value as ItemValue)

describe('numbers by dtype', () => {
  it.each<[string, unknown, string]>([
    ['i1', -2, 'fe'],
    ['u1', 200, 'c8'],
    ['<i2', -2, 'fe ff'],
    ['>i2', -2, 'ff fe'],
    ['<u2', 0x1234, '34 12'],
    ['>u4', 0x12345678, '12 34 56 78'],
    ['<i4', -1, 'ff ff ff ff'],
    ['<i8', -2n, 'fe ff ff ff ff ff ff ff'],
    ['>i8', -2, 'ff ff ff ff ff ff ff fe'],
    ['<u8', 2n ** 64n - 1n, 'ff ff ff ff ff ff ff ff'],
    ['>u8', 2 ** 53 - 1, '00 1f ff ff ff ff ff ff'],
    ['>f4', 1, '3f 80 00 00'],
    ['<f4', -2, '00 00 00 c0'],
    ['>f8', 1, '3f f0 00 00 00 00 00 00'],
    ['>f4', Number.NaN, '7f c0 00 00'],
    ['>f4', Number.NEGATIVE_INFINITY, 'ff 80 00 00'],
    ['>f8', 3n, '40 08 00 00 00 00 00 00'],
    ['>c8', [1, 2], '3f 80 00 00 40 00 00 00'],
    ['<c8', 1, '00 00 80 3f 00 00 00 00'],
    ['>c16', [0, -1], '00 00 00 00 00 00 00 00 bf f0 00 00 00 00 00 00'],
    ['?', true, '01'],
    ['?', 0, '00'],
    ['S4', 'ab', '61 62 00 00'],
    ['S3', Uint8Array.of(1, 2, 255), '01 02 ff'],
    ['>U2', 'é', '00 00 00 e9 00 00 00 00'],
    ['<U2', 'a😀', '61 00 00 00 00 f6 01 00'],
    ['V3', Uint8Array.of(1, 2, 3), '01 02 03'],
    ['<M8[s]', 5, '05 00 00 00 00 00 00 00'],
    ['>m8[ns]', -1n, 'ff ff ff ff ff ff ff ff'],
  ])('encodes %s %s', (dtype, value, expected) => {
    expect(encode({ dtype: dtype as DtypeText }, value)).toEqual(bytes(expected))
  })

  // IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits; nearest, ties to even.
  it.each([
    [1, '3c 00'],
    [-2, 'c0 00'],
    [65504, '7b ff'],
    [65519.99, '7b ff'],
    [2 ** -14, '04 00'],
    [2 ** -24, '00 01'],
    [2 ** -25, '00 00'],
    [1.5 * 2 ** -24, '00 02'],
    [1.0000001 * 2 ** -25, '00 01'],
    [1 + 2 ** -11, '3c 00'],
    [1 + 3 * 2 ** -11, '3c 02'],
    [2 - 2 ** -12, '40 00'],
    [-0, '80 00'],
    [Number.POSITIVE_INFINITY, '7c 00'],
    [Number.NaN, '7e 00'],
  ])('rounds %d to float16', (value, expected) => {
    expect(encode({ dtype: '>f2' }, value)).toEqual(bytes(expected))
  })

  it('nests arrays in C and in Fortran order', () => {
    const value = [
      [1, 2, 3],
      [4, 5, 6],
    ]
    expect(encode({ dtype: '>i2', shape: [2, 3] }, value)).toEqual(bytes('0001 0002 0003 0004 0005 0006'))
    expect(encode({ dtype: '>i2', shape: [2, 3], order: 'F' }, value)).toEqual(bytes('0001 0004 0002 0005 0003 0006'))
    expect(
      encode({ dtype: 'u1', shape: [2, 2, 2], order: 'F' }, [
        [
          [0, 1],
          [2, 3],
        ],
        [
          [4, 5],
          [6, 7],
        ],
      ]),
    ).toEqual(bytes('00 04 02 06 01 05 03 07'))
    expect(encode({ dtype: '>c8', shape: [2] }, [[1, 2], 3])).toEqual(bytes('3f800000 40000000 40400000 00000000'))
    expect(encode({ dtype: 'u1', shape: [2, 3] }, [Uint8Array.of(1, 2, 3), [4, 5, 6]])).toEqual(bytes('01 02 03 04 05 06'))
  })

  it('takes strings as rows of characters', () => {
    expect(encode({ dtype: 'S1', shape: [3] }, 'abc')).toEqual(bytes('61 62 63'))
    expect(encode({ dtype: 'S2', shape: [2] }, ['ab', 'c'])).toEqual(bytes('61 62 63 00'))
    expect(encode({ format: [['c', 8]], shape: [null] }, 'hello')).toEqual(bytes('68 65 6c 6c 6f'))
    expect(encode({ format: [['c', 8]], shape: [2, null] }, ['ab', 'cd'])).toEqual(bytes('61 62 63 64'))
    expect(encode({ format: [['c', 8]], shape: [null] }, '')).toEqual(bytes(''))
  })
})

describe('numbers by format', () => {
  // Most significant bit first over the whole array, zeros at the end.
  it.each<[ItemOptions['format'], (number | null)[], unknown, string]>([
    [[['u', 8]], [], 200, 'c8'],
    [[['u', 16]], [2], [0x1234, 1], '12 34 00 01'],
    [[['i', 16]], [], -2, 'ff fe'],
    [[['u', 24]], [], 0x123456, '12 34 56'],
    [[['i', 24]], [], -2, 'ff ff fe'],
    [[['u', 48]], [], 2 ** 48 - 1, 'ff(6)'],
    [[['i', 48]], [], -(2 ** 47), '80 00(5)'],
    [[['i', 53]], [], -1, 'ff(6) f8'],
    [[['u', 64]], [], 2n ** 64n - 2n, 'ff(7) fe'],
    [[['i', 64]], [], -(2n ** 63n), '80 00(7)'],
    [[['u', 100]], [], 5, '00(12) 50'],
    [[['i', 100]], [], -1n, 'ff(12) f0'],
    [[['u', 7]], [], 5, '0a'],
    [[['u', 1]], [9], [1, 0, 1, 1, 0, 0, 0, 1, 1], 'b1 80'],
    [[['u', 10]], [4], [0x3ff, 0, 0x155, 1], 'ff c0 05 54 01'],
    [[['i', 10]], [4], [-512, 511, -1, 0], '80 1f ff fc 00'],
    [[['u', 12]], [3], [0x123, 0x456, 0x789], '12 34 56 78 90'],
    [[['u', 12]], [null], [0x123, 0x456], '12 34 56'],
    [
      [
        ['u', 12],
        ['i', 4],
      ],
      [2],
      [
        [0x123, -1],
        [0x456, 1],
      ],
      '12 3f 45 61',
    ],
    [[['b', 1]], [], true, '80'],
    [[['b', 16]], [], true, '00 01'],
    [[['b', 3]], [2], [true, false], '20'],
    [[['c', 8]], [], 'x', '78'],
    [[['c', 8]], [], 0xff, 'ff'],
    [[['f', 32]], [], 1.5, '3f c0 00 00'],
    [[['f', 64]], [], -2, 'c0 00(7)'],
    [
      [
        ['f', 32],
        ['u', 4],
      ],
      [2],
      [
        [1.5, 3],
        [2.5, 4],
      ],
      '3f c0 00 00 34 02 00 00 04',
    ],
    [
      [
        ['u', 8],
        ['b', 8],
        ['c', 8],
        ['f', 32],
      ],
      [],
      [1, true, 'x', 1.5],
      '01 01 78 3f c0 00 00',
    ],
    [
      [
        ['u', 4],
        ['f', 64],
      ],
      [],
      [15, 1],
      'f3 ff 00(6) 00',
    ],
  ])('packs %j, shape %j: %s', (format, shape, value, expected) => {
    expect(encode({ format: format!, shape }, value)).toEqual(bytes(expected))
  })
})

describe('memory', () => {
  const sameMemory = (a: Uint8Array, b: ArrayBufferView): void => {
    expect([a.buffer === b.buffer, a.byteOffset, a.byteLength]).toEqual([true, b.byteOffset, b.byteLength])
  }

  it.each<[Partial<ItemOptions>, ArrayBufferView]>([
    [{ dtype: 'i1', shape: [4] }, new Int8Array(4)],
    [{ dtype: 'i1', shape: [4] }, Buffer.from('abcdefgh').subarray(2, 6)],
    [{ dtype: '<i2', shape: [2, 2], order: 'F' }, new Int16Array(8).subarray(2, 6)],
    [{ dtype: '<i2', shape: [2] }, new Uint8Array(4)],
    [{ dtype: '>i2', shape: [2] }, new Uint8Array(4)],
    [{ dtype: '<f4', shape: [2] }, new Float32Array(2)],
    [{ dtype: '<f2', shape: [2] }, new Uint16Array(2)],
    [{ dtype: '<c16', shape: [2] }, new Float64Array(4)],
    [{ dtype: '<u8' }, new BigUint64Array(1)],
    [{ dtype: '<f8', shape: [2] }, new DataView(new ArrayBuffer(24), 8)],
    [{ dtype: 'f16', shape: [1] }, new Uint8Array(16)],
    [{ dtype: 'u1', shape: [0] }, new Uint8Array(0)],
    [{ format: [['u', 8]], shape: [null] }, new Uint8Array(5)],
    [{ format: [['i', 8]], shape: [3] }, new Int8Array(3)],
    [{ format: [['u', 12]], shape: [3] }, new Uint8Array(5)],
    [{ format: [['u', 16]], shape: [null, 2] }, new Uint8Array(12)],
  ])('is not copied where it holds wire bytes: %j from %o', (options, value) => {
    sameMemory(encode(options, value), value)
  })

  it('of buffers is not copied either', () => {
    for (const value of [new ArrayBuffer(4), new SharedArrayBuffer(4)])
      expect(encode({ dtype: '<i2', shape: [2] }, value).buffer).toBe(value)
  })

  it.each<[Partial<ItemOptions>, ArrayBufferView, string]>([
    [{ dtype: '>i2', shape: [2] }, Int16Array.of(1, -2), '00 01 ff fe'],
    [{ dtype: '>u8', shape: [1] }, BigUint64Array.of(5n), '00(7) 05'],
    [{ dtype: '>c8', shape: [1] }, Float32Array.of(1, 2), '3f 80 00 00 40 00 00 00'],
    [{ dtype: 'u1', shape: [2] }, Float64Array.of(1, 255), '01 ff'],
    [{ dtype: '<u2', shape: [4] }, Uint8Array.of(1, 2, 3, 4), '01 00 02 00 03 00 04 00'],
    [{ dtype: '>f2', shape: [2] }, Float32Array.of(1, -2), '3c 00 c0 00'],
    [{ dtype: '>f4', shape: [1] }, BigInt64Array.of(1n), '3f 80 00 00'],
    [{ format: [['u', 16]], shape: [2] }, Uint16Array.of(1, 0x1234), '00 01 12 34'],
    [{ format: [['u', 48]] }, Float64Array.of(2 ** 40), '01 00(5)'],
    [{ format: [['i', 10]], shape: [null] }, Int16Array.of(-512, 511, -1, 0), '80 1f ff fc 00'],
    [{ format: [['f', 32]], shape: [null, 2] }, Float32Array.of(1, -2), '3f 80 00 00 c0 00 00 00'],
    [
      {
        format: [
          ['i', 4],
          ['i', 4],
        ],
        shape: [2],
      },
      Int8Array.of(1, -1, 7, -8),
      '1f 78',
    ],
  ])('is converted value by value otherwise: %j from %o', (options, value, expected) => {
    expect(encode(options, value)).toEqual(bytes(expected))
  })

  it('that is detached is refused by name', () => {
    const value = new Int8Array(4)
    const view = new DataView(value.buffer)
    structuredClone(value.buffer, { transfer: [value.buffer] })
    for (const gone of [value, view, value.buffer])
      expect(() => encode({ dtype: 'i1', shape: [4] }, gone)).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(/'x'.*detached/) }),
      )
  })
})

describe('a value that does not fit', () => {
  it.each<[string, Partial<ItemOptions>, unknown, RegExp]>([
    ['beyond u8', { dtype: 'u1' }, 256, /256 is out of range for u8 \(0 to 255\)/],
    ['below u8', { dtype: 'u1' }, -1, /-1 is out of range/],
    ['beyond i8', { dtype: 'i1', shape: [2] }, [0, 128], /'x'\[1\]: 128 is out of range for i8 \(-128 to 127\)/],
    ['a fraction', { dtype: '<i4' }, 1.5, /1.5 is not a whole number/],
    ['NaN for an integer', { dtype: '<i4' }, Number.NaN, /NaN is not a whole number/],
    ['infinity for an integer', { format: [['u', 48]] }, Number.POSITIVE_INFINITY, /not a whole number/],
    ['beyond 48 bits', { format: [['u', 48]] }, 2 ** 48, /out of range for u48 \(0 to 2\^48 − 1\)/],
    ['beyond 12 bits', { format: [['u', 12]], shape: [2] }, [0, 4096], /\[1\]: 4096 is out of range for u12 \(0 to 4095\)/],
    ['below 10 signed bits', { format: [['i', 10]] }, -513, /out of range for i10 \(-512 to 511\)/],
    ['a number with gaps', { dtype: '<u8' }, 2 ** 60, /give a bigint/],
    ['beyond 64 bits', { dtype: '<u8' }, 2n ** 64n, /out of range for u64/],
    ['below 64 signed bits', { dtype: '<i8' }, -(2n ** 63n) - 1n, /out of range for i64/],
    ['beyond float16', { dtype: 'f2' }, 65520, /out of range for f16 \(up to ±65504\)/],
    ['beyond float32', { dtype: 'f4' }, 1e39, /out of range for f32/],
    ['a string for a number', { dtype: 'u1' }, '12', /'12' is not a number/],
    ['a boolean for a number', { dtype: 'u1' }, true, /true is not a number/],
    ['a number for a boolean', { dtype: '?' }, 2, /2 is not a boolean/],
    ['a number for a string', { dtype: 'S3' }, 5, /5 is not a string/],
    ['too long a string', { dtype: 'S3' }, 'abcd', /4 characters; \|S3 holds 3/],
    ['too long a unicode string', { dtype: 'U1' }, 'ab', /2 characters; <U1 holds 1/],
    ['a string beyond ASCII', { dtype: 'S3' }, 'é', /not ASCII/],
    ['a character beyond ASCII', { format: [['c', 8]], shape: [null] }, 'é', /not one ASCII character/],
    ['two characters', { format: [['c', 8]] }, 'ab', /not one ASCII character/],
    ['too few raw bytes for V', { dtype: 'V3', shape: [1] }, [new Uint8Array(2)], /Uint8Array of 3 bytes/],
    ['a long double as a number', { dtype: 'f16' }, 1, /only be given as raw bytes/],
    ['null', { dtype: 'u1' }, null, /null is not a number/],
    ['an object', { dtype: 'u1' }, { a: 1 }, /an Object is not a number/],
    ['a hole in an array', { dtype: 'u1', shape: [2] }, [1], /needs 2 values along dimension 0; got 1/],
    ['a scalar for an array', { dtype: 'u1', shape: [2] }, 1, /needs an array here; got 1/],
    ['an array for a scalar', { dtype: 'u1' }, [1], /an array of 1 is not a number/],
    ['ragged rows', { format: [['u', 8]], shape: [2, null] }, [[1, 2], [1]], /'x'\[1\]: .*needs 2 values along dimension 1; got 1/],
    ['a string for numbers', { format: [['u', 8]], shape: [null] }, 'abc', /needs an array here; got 'abc'/],
    [
      'too few fields',
      {
        format: [
          ['u', 8],
          ['u', 8],
        ],
      },
      [1],
      /an array of 1 is not an array of 2 fields/,
    ],
    ['three parts of a complex', { dtype: 'c8' }, [1, 2, 3], /not a number or \[re, im\]/],
    [
      'a short typed array',
      { dtype: '<i2', shape: [4] },
      new Int16Array(3),
      /takes 4 elements, 8 bytes; got Int16Array of 3 elements, 6 bytes/,
    ],
    ['a short buffer', { dtype: '<i2', shape: [4] }, new ArrayBuffer(7), /takes 4 elements, 8 bytes; got ArrayBuffer of 7 bytes/],
    ['a typed array element', { dtype: 'u1', shape: [3] }, Int16Array.of(1, 2, 300), /'x'\[2\]: 300 is out of range/],
    ['half a row', { format: [['u', 16]], shape: [null, 2] }, new Uint16Array(3), /rows of 4 bytes/],
    ['half an element', { format: [['u', 16]], shape: [null] }, new Uint8Array(3), /rows of 2 bytes/],
    ['numbers for bytes', { dtype: 'V2', shape: [2] }, new Uint16Array(2), /takes 2 elements, 4 bytes/],
  ])('%s', (_, options, value, message) => {
    expect(() => encode(options, value)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(message) }),
    )
  })

  it('takes no memory for a shape it has not seen the values of', () => {
    expect(() => encode({ dtype: 'u1', shape: [2 ** 20, 2 ** 25] }, [[1]])).toThrow(/needs 1048576 values/)
    expect(() => encode({ dtype: `S${2 ** 29}`, shape: [2 ** 10] }, new Array(1024).fill(''))).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_MEMORY' }),
    )
  })
})
