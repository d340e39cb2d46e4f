import { describe, expect, it } from 'vitest'
import { Descriptor, type ItemOptions } from '#dist/src/spead/descriptor.js'
import { BUG_COMPAT, DEFAULT_FLAVOUR, makeFlavour } from '#dist/src/spead/flavour.js'
import { ascii, bytes } from './hex.js'

const timestamp = new Descriptor({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
const adc = new Descriptor({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [1048576] })

/** The encoded descriptor from its format field on. */
const tail = (options: Partial<ItemOptions>, heapAddressBits = 48, bugCompat = 0): Uint8Array => {
  const descriptor = new Descriptor({ id: 0x51, name: 'n', description: 'd', ...options })
  const encoded = descriptor.encode(makeFlavour({ heapAddressBits, bugCompat }))
  return encoded.subarray(8 + 8 * (descriptor.dtype ? 10 : 9) + 2)
}

describe('Descriptor.encode', () => {
  it('encodes the timestamp of the worked example (format, scalar)', () => {
    expect(timestamp.encode(DEFAULT_FLAVOUR)).toEqual(
      bytes(
        '53 04 02 06 00 00 00 09',
        '80 01 00 00 00 00 00 01 | 80 02 00 00 00 00 00 25',
        '80 03 00 00 00 00 00 00 | 80 04 00 00 00 00 00 25',
        '80 14 00 00 00 00 16 00 | 00 10 00 00 00 00 00 00',
        '00 11 00 00 00 00 00 09 | 00 13 00 00 00 00 00 22',
        '00 12 00 00 00 00 00 25',
        ascii('timestampIndex of the first sample'),
        '75 00 30',
      ),
    )
  })

  it('encodes the samples of the worked example (dtype, one dimension)', () => {
    const encoded = adc.encode(DEFAULT_FLAVOUR)
    expect(encoded.length).toBe(187)
    expect(encoded).toEqual(
      bytes(
        '53 04 02 06 00 00 00 0a',
        '80 01 00 00 00 00 00 01 | 80 02 00 00 00 00 00 63',
        '80 03 00 00 00 00 00 00 | 80 04 00 00 00 00 00 63',
        '80 14 00 00 00 00 33 00 | 00 10 00 00 00 00 00 00',
        '00 11 00 00 00 00 00 0b | 00 13 00 00 00 00 00 1f',
        '00 12 00 00 00 00 00 1f | 00 15 00 00 00 00 00 26',
        ascii('adc_samplesADC converter output'),
        '00 00 00 00 10 00 00',
        ascii("{'descr': '|i1', 'fortran_order': False, 'shape': (1048576,)}"),
      ),
    )
  })

  it('has 64-40 widths in SPEAD-64-40', () => {
    expect(timestamp.encode(makeFlavour({ heapAddressBits: 40 }))).toEqual(
      bytes(
        '53 04 03 05 00 00 00 09',
        '80 00 01 00 00 00 00 01 | 80 00 02 00 00 00 00 26',
        '80 00 03 00 00 00 00 00 | 80 00 04 00 00 00 00 26',
        '80 00 14 00 00 00 16 00 | 00 00 10 00 00 00 00 00',
        '00 00 11 00 00 00 00 09 | 00 00 13 00 00 00 00 22',
        '00 00 12 00 00 00 00 26',
        ascii('timestampIndex of the first sample'),
        '75 00 00 30',
      ),
    )
  })

  // SPEAD, item descriptors: the width of a field is 8 − N/8 bytes, a dimension N/8.
  it.each([
    [8, '75 00 00 00 00 00 00 10 | 69 00 00 00 00 00 00 09 | 00 02 | 01 00'],
    [24, '75 00 00 00 00 10 | 69 00 00 00 00 09 | 00 00 00 02 | 01 00 00 00'],
    [48, '75 00 10 | 69 00 09 | 00 00 00 00 00 00 02 | 01 00 00 00 00 00 00'],
    [56, '75 10 | 69 09 | 00 00 00 00 00 00 00 02 | 01 00 00 00 00 00 00 00'],
  ])('sizes format and shape fields for %i address bits', (heapAddressBits, expected) => {
    const options: Partial<ItemOptions> = {
      shape: [2, null],
      format: [
        ['u', 16],
        ['i', 9],
      ],
    }
    expect(tail(options, heapAddressBits)).toEqual(bytes(expected))
  })

  it('sizes them as PySPEAD does on request, and tags variable dimensions 2', () => {
    const options: Partial<ItemOptions> = { shape: [2, null], format: [['u', 16]] }
    const wide = '75 00 00 10 | 00 00 00 00 00 00 00 02 |'
    expect(tail(options, 48, BUG_COMPAT.DESCRIPTOR_WIDTHS)).toEqual(bytes(wide, '01 00 00 00 00 00 00 00'))
    expect(tail(options, 16, BUG_COMPAT.PYSPEAD_0_5_2)).toEqual(bytes(wide, '02 00 00 00 00 00 00 00'))
    expect(tail(options, 48, BUG_COMPAT.SHAPE_BIT_1)).toEqual(bytes('75 00 10 | 00 00 00 00 00 00 02 | 02 00 00 00 00 00 00'))
  })

  it.each([
    ['<i2', 'C', [2, 3], 0, "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3)}"],
    ['>c8', 'F', [2, 3], 0, "{'descr': '>c8', 'fortran_order': True, 'shape': (2, 3)}"],
    ['bool', 'C', [], 0, "{'descr': '|b1', 'fortran_order': False, 'shape': ()}"],
    ['<i2', 'C', [4], BUG_COMPAT.SWAP_ENDIAN, "{'descr': '>i2', 'fortran_order': False, 'shape': (4,)}"],
    ['>f4', 'C', [4], BUG_COMPAT.SWAP_ENDIAN, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}"],
    ['S3', 'C', [4], BUG_COMPAT.SWAP_ENDIAN, "{'descr': '|S3', 'fortran_order': False, 'shape': (4,)}"],
  ] as const)('prints the numpy header of %s, order %s, shape %s, bug %i', (dtype, order, shape, bug, expected) => {
    expect(new TextDecoder().decode(tail({ dtype, order, shape }, 48, bug).subarray(7 * shape.length))).toBe(expected)
  })
})

describe('Descriptor', () => {
  it('knows lengths and what may be immediate', () => {
    const of = (options: Partial<ItemOptions>): Descriptor => new Descriptor({ id: 0x1000, name: 'x', ...options })
    expect(timestamp).toMatchObject({ variable: false, byteLength: 6, allowImmediate: true, shape: [], order: 'C' })
    expect(adc).toMatchObject({ variable: false, byteLength: 1048576, allowImmediate: true })
    expect(of({ format: [['u', 12]], shape: [3] })).toMatchObject({ byteLength: 5, allowImmediate: false })
    expect(
      of({
        format: [
          ['u', 12],
          ['i', 4],
        ],
        shape: [3],
      }),
    ).toMatchObject({ byteLength: 6, allowImmediate: true })
    expect(of({ format: [['u', 8]], shape: [null, 2] })).toMatchObject({
      variable: true,
      byteLength: undefined,
      allowImmediate: false,
    })
    expect(of({ dtype: 'c16', shape: [0, 3] })).toMatchObject({ byteLength: 0, allowImmediate: true })
    expect(of({ dtype: 'u2', allowImmediate: false })).toMatchObject({ byteLength: 2, allowImmediate: false })
  })

  it.each<[string, Partial<ItemOptions>, RegExp]>([
    ['a word for allowImmediate', { allowImmediate: 'no' as never }, /allowImmediate is no; it must be true or false/],
    ['no id', { id: undefined as never }, /needs an id/],
    ['id 0', { id: 0 }, /above 0/],
    ['a negative id', { id: -5 }, /above 0/],
    ['a fraction as id', { id: 4096.5 }, /above 0/],
    ["one of SPEAD's ids", { id: 4 }, /SPEAD's own/],
    ['two unknown dimensions', { dtype: undefined as never, format: [['u', 8]], shape: [null, null] }, /2 null dimensions/],
    ['an unknown dimension with a dtype', { shape: [null] }, /cannot have a null dimension/],
    ['a negative dimension', { shape: [-1] }, /dimension of -1/],
    ['a broken dimension', { shape: [1.5] }, /dimension of 1.5/],
    ['dtype and format', { format: [['u', 8]] }, /exactly one/],
    ['neither dtype nor format', { dtype: undefined as never }, /exactly one/],
    ['Fortran order with a format', { dtype: undefined as never, format: [['u', 8]], order: 'F' }, /order 'C'/],
    ['an unknown order', { order: 'A' as never }, /'C' or 'F'/],
    ['an empty format', { dtype: undefined as never, format: [] }, /no fields/],
    ['a field of 0 bits', { dtype: undefined as never, format: [['u', 0]] }, /from 1 up/],
    ['a float of 16 bits', { dtype: undefined as never, format: [['f', 16 as never]] }, /32 or 64/],
    ['a character of 16 bits', { dtype: undefined as never, format: [['c', 16 as never]] }, /must have 8/],
    ['an unknown format code', { dtype: undefined as never, format: [['0' as never, 8]] }, /u, i, b, c, f/],
    ['a name beyond ASCII', { name: 'größe' }, /ASCII.*'ö'/],
    ['a description beyond ASCII', { description: '°C' }, /ASCII.*'°'/],
    ['a value too long to count', { shape: [2 ** 30, 2 ** 30] }, /too large/],
  ])('refuses %s', (_, options, message) => {
    expect(() => new Descriptor({ id: 0x1000, name: 'x', dtype: 'u1', ...options })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(message) }),
    )
  })

  it.each<[string, number, Partial<ItemOptions>, RegExp]>([
    ['an id beyond the pointer', 48, { id: 0x8000 }, /0x8000.*0x7fff/],
    ['an id beyond the immediate', 16, { id: 0x10000 }, /id in the descriptor.*2\^16 − 1/],
    ['a dimension beyond the width', 16, { shape: [65536] }, /dimension 0 .*65536.*2\^16 − 1/],
    ['a field wider than its field', 56, { dtype: undefined as never, format: [['u', 256]] }, /width of field 0.*256.*2\^8 − 1/],
    ['a description beyond the addresses', 8, { description: 'x'.repeat(300) }, /SPEAD-64-8.*255/],
  ])('refuses to encode %s of SPEAD-64-%i', (_, heapAddressBits, options, message) => {
    const descriptor = new Descriptor({ id: 0x50, name: 'x', dtype: 'u1', ...options })
    expect(() => descriptor.encode(makeFlavour({ heapAddressBits }))).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(message) }),
    )
  })
})
