import { expect, test } from 'vitest'
import type { ReceivedDescriptor } from '#dist/src/receive/index.js'
import { readDescriptor, valueBytes } from '#dist/src/receive/received-descriptor.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import { descriptorHeap, descriptorOf, heapOf, NO_PEER, question, receive, type ToldHeader } from './descriptor-support.js'

const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? 20261130)

function read(header: string): ReceivedDescriptor | string {
  const reading = readDescriptor(
    descriptorOf([
      ['name', 'x'],
      ['dtype', header],
    ]),
  )
  return 'descriptor' in reading ? reading.descriptor : reading.refused
}

/** Ours in numpy's terms: the size of one element comes from a value of shape (1,). */
function ours(header: string): Omit<ToldHeader, 'kind'> | string {
  const descriptor = read(header)
  if (typeof descriptor === 'string') return descriptor
  const { shape, order, dtype } = descriptor
  const elements = shape.reduce<number>((product, size) => product * size!, 1)
  const sized = elements === 0 ? read(header.replace(/('|")shape\1:\s*\([^)]*\)/, "'shape': ()")) : descriptor
  const itemsize = typeof sized === 'string' ? Number.NaN : valueBytes(sized)! / (elements || 1)
  return { shape: shape as number[], order, itemsize, text: dtype! }
}

function expected({ shape, order, itemsize, text }: ToldHeader): Omit<ToldHeader, 'kind'> {
  return { shape, order, itemsize, text }
}

const random = question<(ToldHeader & { header: string })[]>({ random: 500, seed: SEED })
test(`500 random dtypes are numpy's, seed ${SEED}`, (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const told = random()
  expect(told).toHaveLength(500)
  for (const one of told) expect(ours(one.header), one.header).toEqual(expected(one))
  const kinds = new Set(told.map(({ kind }) => kind))
  expect([...kinds].sort().join('')).toBe('MSUVbcfimu')
})

const header = (descr: string, shape = '(3,)'): string => `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}}`

/** Headers as others write them. What numpy refuses is refused. */
const HEADERS = [
  "{'shape': (16,), 'fortran_order': False, 'descr': 'i1'}",
  `{"descr": "<i4", "fortran_order": False, "shape": (2, 3)}`,
  `{"shape": (4,), 'descr': "|u1", "fortran_order": True}`,
  "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }            \n",
  "\t {  'descr'\n:\n'<f4' ,'fortran_order':False,'shape':( 5 , )\n}",
  "{'descr': '<f4', # numbers\n 'fortran_order': False, 'shape': (5,)}",
  "{'descr': '<f4', 'fortran_order': False, 'shape': (5L, 10L)}",
  "{'descr': u'<f4', 'fortran_order': False, 'shape': (0x10, 0b11, 0o7, 1_0)}",
  "{'descr': '<' 'f4', 'fortran_order': False, 'shape': ()}",
  "{'descr': r'<f4', 'fortran_order': False, 'shape': (True, +2)}",
  "{'descr': '\\x3cf\\x34', 'fortran_order': False, 'shape': (3)}",
  "{'descr': '\\74\\u0066\\U00000034', 'fortran_order': False, 'shape': ((3),)}",
  "{'descr': '''<f4''', 'fortran_order': False, 'shape': (3,)}",
  ...['uint16', 'B', '?', 'float', 'S5', 'U3', 'M8[ns]', '>c8', 'bool', 'int', 'half', '=i4', '|i4', '>B', 'datetime64[us]'].map(
    (name) => header(`'${name}'`),
  ),
  ...[
    'm8',
    'M8[25s]',
    'M8[generic]',
    'V9',
    'c',
    'e',
    'g',
    'l',
    'longdouble',
    'complex128',
    'U',
    'O',
    'object',
    'f3',
    '',
    ' i4',
    'i4 ',
  ].map((name) => header(`'${name}'`)),
  ...['i4,f8', '3i4', '(2,3)f4', 'i4, (2,)f8', 'i4,', '>(2,)i4', '(2)f4', 'i4,,i4', 'i4,(2', '<f4,>f4', 'S1,U2,?'].map((text) =>
    header(`'${text}'`),
  ),
  ...[
    "[('x', '<i2'), ('y', '>f8')]",
    "[('x', 'u1'), ('y', '<f8', (2,)), ('z', [('re', '>i2'), ('im', '>i2')], 3)]",
    "[(('a title', 'x'), '<i2')]",
    "[('x', 'u1'), ('', '|V3'), ('y', '<i4')]",
    "[('', 'u1'), ('', 'u2')]",
    "[('x', 'i4'), ('x', 'f4')]",
    "[('x', 'S0'), ('y', 'i1')]",
    "[('x', 'i4', ()), ('y', ('i2', (2,)), (3,))]",
    "[('x', 'O')]",
    '[]',
    "[('it\\'s', 'i1'), ('\"', 'i1'), ('\\n\\t\\x01', 'i1')]",
    "('<i4', (2, 3))",
    "('S', 7)",
    "('>U', 2)",
    "('i4', -1)",
    "{'names': ['a', 'b'], 'formats': ['u1', '>f8'], 'aligned': True}",
    "{'names': ['a', 'b'], 'formats': ['u1', '>f8'], 'offsets': [9, 0], 'itemsize': 32}",
    "{'names': ('a',), 'formats': ('<c8',), 'titles': ('A',)}",
    "{'names': ['a'], 'formats': [{'names': ['p', 'q'], 'formats': ['u1', 'i4'], 'aligned': True}], 'offsets': [8], 'aligned': True}",
    "{'b': ('f8', 8), 'a': ('i4', 0, 'first')}",
    "{'names': ['a'], 'formats': ['i4'], 'itemsize': 2}",
    "{'names': ['a'], 'formats': ['i4'], 'offsets': [1], 'aligned': True}",
    "{'names': ['a', 'b'], 'formats': ['i4']}",
  ].map((descr) => header(descr)),
  ...['(-1,)', '[3]', '3', '(1.5,)', "('3',)", '(3,', '(010,)', '(3l,)'].map((shape) => header("'<i4'", shape)),
  "{'descr': '<i4', 'fortran_order': 0, 'shape': (3,)}",
  "{'descr': '<i4', 'shape': (3,)}",
  "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), 'more': 1}",
  "['descr']",
  "{'descr': '<i4', 'fortran_order': False, 'shape': (3,)} {}",
  "{'descr': f(), 'fortran_order': False, 'shape': (3,)}",
  "{'descr': '<i4, 'fortran_order': False, 'shape': (3,)}",
  '{',
  '\0',
]

const handMade = question<(ToldHeader | null)[]>({ headers: HEADERS })
test('headers as others write them are what numpy takes them for', (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const told = handMade()
  expect(told.filter((one) => one === null).length).toBeGreaterThan(20)
  for (const [i, text] of HEADERS.entries()) {
    const one = told[i]!
    if (one) expect(ours(text), text).toEqual(expected(one))
    else expect(typeof read(text), text).toBe('string')
  }
})

test.each([
  ["'uint16'", 2],
  ["'B'", 1],
  ["'?'", 1],
  ["'S5'", 5],
  ["'>f4'", 4],
  ["[('re', '<i2'), ('im', '<i2')]", 4],
  ["'3u1'", 3],
])('an immediate of %s has the width of the item, %i bytes', (descr, width) => {
  const value = 0x010203040506
  const heaps = receive([
    descriptorHeap(
      1,
      descriptorOf(
        [
          ['name', 'x'],
          ['dtype', header(descr, '()')],
        ],
        { id: 0x3300 },
      ),
    ),
    heapOf(2, [[true, 0x3300, value]], new Uint8Array(0)),
  ])
  expect([...heaps[1]!.items.get(0x3300)!.bytes]).toEqual([1, 2, 3, 4, 5, 6].slice(6 - width))
})

test.each([
  ['a size without end', header(`'<f${'9'.repeat(400)}'`, '(0,)'), /dtype "<f999.* \(402 characters\)/],
  ['a dimension above 2^53', header("'<i4'", '(9007199254740993,)'), /above 2\^53/],
  ['more bits than can be counted', header("'<i4'", '(9007199254740991,)'), /more than 2\^53 − 1 bits/],
  ['more bits beside none', header("'<i4'", `(0, ${'9007199254740991, '.repeat(40)})`), /more than 2\^53 − 1 bits/],
  ['65 dimensions', header("'<i4'", `(${'1,'.repeat(65)})`), /65 dimensions; at most 64/],
  ['65 dimensions of a field', header(`[('x', 'i1', (${'1,'.repeat(65)}))]`), /more than 64 dimensions/],
  ['elements of 3 GB', header("('V999999999', 3)"), /elements of 2999999997 bytes/],
  ['fields of 3 GB', header("[('a', 'V999999999'), ('b', 'V999999999'), ('c', 'V999999999')]"), /elements of 2999999997 bytes/],
  ['1025 fields', header(`'${'i1,'.repeat(1025)}i1'`), /more than 1024 fields/],
  ['brackets', header('['.repeat(5000)), /deeper than 32/],
  ['numbers', header("'<i4'", `(${'1,'.repeat(5000)})`), /more than 4096 literals/],
  ['an offset below 0', header("{'names': ['a'], 'formats': ['i4'], 'offsets': [-4]}"), /offset that is no number from 0 up/],
  ['control characters', header("'\x1b[2J\x07'"), /dtype "\\u001b\[2J\\u0007" is none of numpy's/],
])('%s is refused with the reason', (_, text, reason) => {
  expect(read(text)).toMatch(reason)
})
