/** Structured dtypes: their descriptors are numpy's own headers, and hostile texts are refused. */
import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { Descriptor, type DtypeText, makeFlavour } from '#dist/src/index.js'
import { readDescriptor } from '#dist/src/receive/received-descriptor.js'
import type { Dtype } from '#dist/src/spead/dtype.js'
import { parseDtype } from '#dist/src/spead/structured.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'

const TEXTS = [
  '[("re","<i2"),("im","<i2")]',
  "[('re', '<i2'), ('im', '>i2')]",
  " [ ('x', '<f4', (3,)), ('y', 'f8', 2), ('z', '?', (2, 3)) ] ",
  "[('a', 'i1'), ('', '|V2'), ('b', '<i2')]",
  "[('a', '|i1'), ('', '|V3')]",
  "[('a', '?'), ('s', 'S5'), ('u', 'U3'), ('v', 'V4'), ('n', [('c', '<c8'), ('d', '>i4', (2,))], (2,))]",
  "[(('a title', 'a'), 'i1'), ('t', 'M8[ns]'), ('d', 'm8[25us]'), ('h', 'e'), ('g', 'g')]",
  "{'names': ['a', 'b'], 'formats': ['i1', '<i4'], 'offsets': [0, 4], 'itemsize': 12}",
  "{'names': ['a', 'b'], 'formats': ['i1', '<i4'], 'aligned': True}",
  'i2,f4',
  '>i2, 3f4, (2,2)u1',
  `[("it's", '<i2'), ('say "x"', 'i1'), ('tab\\t', 'u1')]`,
  "[('x', ('<f4', (3,)), (2,))]",
]

interface Told {
  readonly descr: string
  readonly swapped: string
  readonly itemsize: number
  readonly fields: readonly (readonly [name: string, offset: number])[]
}

/** Returns numpy's dtypes for the texts, asked as spead2 asks it, and with the byte order swapped. */
function numpyTells(texts: readonly string[]): Told[] {
  const program = `
import ast, json, sys
import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr
def told(text):
    try:
        descr = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        descr = text
    dtype = descr_to_dtype(descr) if isinstance(descr, list) else np.dtype(descr)
    return {'descr': repr(dtype_to_descr(dtype)), 'swapped': repr(dtype_to_descr(dtype.newbyteorder())), 'itemsize': dtype.itemsize,
            'fields': [[name, dtype.fields[name][1]] for name in dtype.names]}
json.dump([told(text) for text in json.load(sys.stdin)], sys.stdout)`
  return JSON.parse(execFileSync(spead2Python()!, ['-c', program], { input: JSON.stringify(texts), encoding: 'utf8' }))
}

const headerOf = (dtype: string, bugCompat: number): string =>
  Buffer.from(
    new Descriptor({ id: 0x3300, name: 'x', dtype: dtype as DtypeText, shape: [4] }).encode(
      makeFlavour({ heapAddressBits: 48, bugCompat }),
    ),
  ).toString('latin1')

test('a descriptor has numpy’s own header, its sizes and its offsets', (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with spead2 and numpy')
  const told = numpyTells(TEXTS)
  expect(told).toHaveLength(TEXTS.length)
  for (const [i, text] of TEXTS.entries()) {
    const { descr, swapped, itemsize, fields } = told[i]!
    const dtype = parseDtype(text)
    expect(dtype, text).toMatchObject({ kind: 'V', descr, itemSizeBytes: itemsize })
    expect(dtype.fields!.map(({ name, offsetBytes }) => [name, offsetBytes])).toEqual(fields)
    expect(headerOf(text, 0)).toContain(`{'descr': ${descr}, 'fortran_order': False, 'shape': (4,)}`)
    expect(headerOf(text, 4)).toContain(`{'descr': ${swapped}, 'fortran_order': False, 'shape': (4,)}`)
    // Its own text means the same.
    expect(parseDtype(dtype.descr)).toEqual(dtype)
  }
})

test('fields have their types, shapes and offsets', () => {
  const scalar = (descr: string) => expect.objectContaining({ descr }) as Dtype
  expect(parseDtype("[('a','i1'),('','V1'),('n',[('c','<c8'),('d','>i4',(2,))],(2,)),('m',('<f4',(3,)),(2,))]").fields).toEqual([
    { name: 'a', offsetBytes: 0, dtype: scalar('|i1'), shape: [] },
    {
      name: 'n',
      offsetBytes: 2,
      shape: [2],
      dtype: expect.objectContaining({
        itemSizeBytes: 16,
        fields: [
          { name: 'c', offsetBytes: 0, dtype: scalar('<c8'), shape: [] },
          { name: 'd', offsetBytes: 8, dtype: scalar('>i4'), shape: [2] },
        ],
      }),
    },
    { name: 'm', offsetBytes: 34, dtype: scalar('<f4'), shape: [2, 3] },
  ])
})

test('our receiver reads them as they were meant', () => {
  const encoded = new Descriptor({ id: 0x3300, name: 'x', dtype: '[("re","<i2"),("","V2"),("im",">i2")]', shape: [4] }).encode(
    makeFlavour({ heapAddressBits: 48, bugCompat: 0 }),
  )
  const reading = readDescriptor(encoded)
  expect(reading).toMatchObject({
    descriptor: {
      dtype: "{'names': ['re', 'im'], 'formats': ['<i2', '>i2'], 'offsets': [0, 4], 'itemsize': 6}",
      shape: [4],
    },
  })
})

describe('refuses', () => {
  const deep = (n: number): string => `[('a', ${n > 0 ? deep(n - 1) : "'i1'"})]`
  test.each([
    ['', /has no field|scalar type/],
    ['[]', /no field with a name/],
    ["[('', '|V4')]", /no field with a name/],
    ["[('', '<i2')]", /a field has no name/],
    ["[('a', 'O')]", /Python objects/],
    ["[('a', '<i3')]", /none of numpy's/],
    ["[('a', '<i2'), ('a', '<i4')]", /two fields/],
    ["[('é', '<i2')]", /not ASCII/],
    ["[('a', '<i2'", /ends too early/],
    ["[('a', '<i2')] + 1", /no Python literal/],
    ["__import__('os')", /scalar type/],
    ["[__import__('os')]", /no Python literal/],
    ["[('a', '<i2', (-1,))]", /dimension/],
    ["[('a', 'V900000000'), ('b', 'V900000000'), ('c', 'V900000000')]", /at most 2147483647/],
    ["[('a', '<f8', (100000, 100000))]", /at most 2147483647/],
    ["[('a', 'S0')]", /no bytes|no field/],
    ['(2,)i4', /the item's shape/],
    ["('<f4', (3,))", /the item's shape/],
    ['3i4', /the item's shape/],
    ["{'names': ['a', 'b'], 'formats': ['<i4', '<i4'], 'offsets': [0, 2]}", /begins before/],
    [deep(40), /deeper than 32/],
    [`[${"('a', 'i1'), ".repeat(3000)}]`, /characters; at most 16384/],
    [`[${Array.from({ length: 1100 }, (_, i) => `('${i}','B')`).join()}]`, /more than 1024 fields|literals/],
    ['['.repeat(10_000), /deeper than 32/],
  ])('%.60s', (text, reason) => {
    const describing = () => new Descriptor({ id: 0x3300, name: 'x', dtype: text as DtypeText })
    expect(describing).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(reason) }))
  })
})
