// Values of items as text: numbers beside numpy's own, arrays shortened as numpy does, and values of anybody's, which are bounded.
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { type ReceivedItem, valueText } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import { Draw } from './fuzz/conversation.js'

type Given = Partial<Omit<ReceivedItem, 'bytes'>> & { bytes: Uint8Array }
const text = (given: Given): string =>
  valueText({
    id: 0x1000,
    name: 'x',
    dtype: null,
    shape: [],
    order: 'C',
    format: [],
    immediate: false,
    value: undefined,
    ...given,
    bytes: new Uint8Array(given.bytes),
  })
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const numbers = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => i & 127)

test.for(['|i1', '|u1', '<i2', '>i2', '<u4', '>i4', '<i8', '>u8', '<f2', '>f2', '<f4', '>f4', '<f8', '>f8', '|b1'])(
  '%s: numbers as numpy writes them',
  (dtype, ctx) => {
    const python = spead2Python()
    need(ctx, python, 'needs the venv with numpy')
    const size = Number(dtype.slice(2))
    const count = 200
    const draw = new Draw(7)
    const raw = dtype === '|b1' ? Buffer.from(Array.from({ length: count }, () => draw.below(2))) : draw.bytes(size * count)
    const code =
      'import sys, numpy as np\nprint("\\n".join(str(x) for x in np.frombuffer(bytes.fromhex(sys.argv[2]), np.dtype(sys.argv[1]))))'
    const expected = execFileSync(python!, ['-W', 'ignore', '-c', code, dtype, raw.toString('hex')], { encoding: 'utf8' })
      .trim()
      .split('\n')
    const ours = Array.from({ length: count }, (_, i) => text({ dtype, bytes: raw.subarray(i * size, (i + 1) * size) }))
    expect(expected).toHaveLength(count)
    // numpy writes large float32 with an exponent, and rounds ties of float16 to even: the number is the same one.
    if (dtype.endsWith('f4')) expect(ours.map(Number)).toEqual(expected.map(Number))
    else if (dtype.endsWith('f2'))
      for (const [i, one] of ours.entries()) {
        const close = Math.abs(Number(one) - Number(expected[i])) <= Math.abs(Number(one)) * 2 ** -11
        expect(close || Number.isNaN(Number(expected[i]))).toBe(true)
      }
    else expect(ours).toEqual(expected)
  },
)

test.for([
  ['a long array', { dtype: '|i1', shape: [1001], bytes: numbers(1001) }, '[0 1 2 ... 102 103 104]'],
  ['an array at the threshold', { dtype: '|i1', shape: [1000], bytes: new Uint8Array(1000) }, `[${new Array(1000).fill(0).join(' ')}]`],
  ['a long matrix', { dtype: '|i1', shape: [40, 40], bytes: numbers(1600) }, /^\[\[0 1 2 \.\.\. 37 38 39\] \[40 41 42 .*\] \.\.\. \[.* 61 62 63\]\]$/],
  ['C order', { dtype: '|u1', shape: [2, 3], bytes: numbers(6) }, '[[0 1 2] [3 4 5]]'],
  ['Fortran order', { dtype: '|u1', shape: [2, 3], order: 'F', bytes: numbers(6) }, '[[0 2 4] [1 3 5]]'],
  ['no elements', { dtype: '<f8', shape: [0], bytes: bytes() }, '[]'],
  ['complex', { dtype: '<c8', shape: [], bytes: bytes(0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0) }, '1.0-2.0j'],
  ['bytes', { dtype: '|S4', shape: [2], bytes: bytes(0x61, 0x0a, 0, 0, 0x27, 0xff, 0, 0) }, `[b'a\\n' b"'ÿ"]`],
  ['characters, big-endian', { dtype: '>U2', shape: [], bytes: bytes(0, 0, 0, 0x41, 0, 1, 0xf6, 0) }, "'A\u{1f600}'"],
  ['characters that are none', { dtype: '<U1', shape: [], bytes: bytes(255, 255, 255, 255) }, "'\ufffd'"],
  ['void', { dtype: '|V3', shape: [], bytes: bytes(1, 2, 3) }, '0x010203 (3 bytes)'],
  ['a structure', { dtype: "[('a', '<u2'), ('b', '>i2', (2,)), ('c', [('d', 'i1')])]", shape: [], bytes: bytes(1, 0, 0, 2, 255, 255, 5) }, '(1, [2 -1], (5,))'],
  ['a structure with padding', { dtype: "{'names': ['a', 'b'], 'formats': ['u1', '<u2'], 'offsets': [0, 2], 'itemsize': 4}", shape: [1], bytes: bytes(7, 9, 1, 1) }, '[(7, 257)]'],
  ['12 bits', { format: [['u', 12]], shape: [2], bytes: bytes(0xab, 0xcd, 0xef) }, '[2748 3567]'],
  ['signed bits', { format: [['i', 4]], shape: [2], bytes: bytes(0x8f) }, '[-8 -1]'],
  ['fields of odd widths', { format: [['b', 1], ['u', 7], ['f', 32], ['c', 8]], shape: [], bytes: bytes(0x83, 0x3f, 0x80, 0, 0, 0x41) }, "(True, 3, 1.0, 'A')"],
  ['64 bits', { format: [['u', 64]], shape: [], bytes: bytes(255, 255, 255, 255, 255, 255, 255, 255) }, '18446744073709551615'],
  ['wider ones', { format: [['u', 72]], shape: [], bytes: new Uint8Array(9) }, 'u72'],
  ['a text', { format: [['c', 8]], dtype: '|S1', shape: [5], bytes: bytes(104, 101, 0x1b, 108, 111) }, "'he\\x1blo'"],
  ['an immediate', { format: [['u', 48]], shape: [], immediate: true, value: 2 ** 47, bytes: bytes(128, 0, 0, 0, 0, 0) }, '140737488355328'],
  ['an immediate of a dtype', { dtype: '>f4', shape: [], immediate: true, value: 1, bytes: bytes(0x3f, 0x80, 0, 0) }, '1.0'],
  ['an immediate that nobody described', { shape: null, immediate: true, value: 7n, bytes: bytes(0, 0, 0, 0, 0, 7) }, '7'],
  ['what nobody described', { shape: null, bytes: numbers(100) }, '0x000102030405060708090a0b0c0d0e0f… (100 bytes)'],
  ['less than its descriptor says', { dtype: '<f8', shape: [3], bytes: numbers(8) }, '0x0001020304050607 (8 bytes)'],
  ['two dimensions that vary', { dtype: '|u1', shape: [null, null], bytes: numbers(4) }, '0x00010203 (4 bytes)'],
  ['a dtype that is none', { dtype: 'nonsense', shape: [], bytes: bytes(1) }, '0x01 (1 byte)'],
] as [string, Given, string | RegExp][])('%s', ([, given, expected]) => {
  if (typeof expected === 'string') expect(text(given)).toBe(expected)
  else expect(text(given)).toMatch(expected)
}) // biome-ignore format: a table

test('a value of anybody is a short text, soon', () => {
  const nested = (depth: number): string => (depth === 0 ? "'V0'" : `[('a', ${nested(depth - 1)})]`)
  const hostile: Given[] = [
    { dtype: '|V0', shape: [2 ** 30, 2 ** 20], bytes: bytes() },
    { dtype: '|u1', shape: [2 ** 30, 0], bytes: bytes() },
    { dtype: '|u1', shape: new Array(30).fill(2 ** 20).concat([0]), bytes: bytes() },
    { dtype: '|V0', shape: new Array(30).fill(9), bytes: bytes() },
    { dtype: '|u1', shape: new Array(64).fill(1), bytes: bytes(1) },
    { dtype: '|u1', shape: new Array(100_000).fill(1), bytes: bytes(1) },
    { dtype: `|S${2 ** 20}`, shape: [], bytes: Buffer.alloc(2 ** 20, 'x') },
    { dtype: `<U${2 ** 18}`, shape: [], bytes: Buffer.alloc(2 ** 20, 255) },
    { dtype: nested(20), shape: [1000], bytes: bytes() },
    { dtype: `[('a', 'V0', (${2 ** 20},))]`, shape: [1000], bytes: bytes() },
    {
      dtype: `[${Array.from({ length: 500 }, (_, i) => `('f${i}', '<f8')`).join(', ')}]`,
      shape: [1000],
      bytes: new Uint8Array(4_000_000).fill(7),
    },
    { format: Array.from({ length: 4000 }, () => ['f', 64] as const), shape: [], bytes: new Uint8Array(32_000) },
    { format: [['u', 2 ** 40]], shape: [], bytes: bytes(1) },
    { format: [['c', 8]], dtype: '|S1', shape: [2 ** 20], bytes: new Uint8Array(2 ** 20) },
  ]
  for (const given of hostile) expect(text(given).length).toBeLessThan(4002)
  const draw = new Draw(Number(process.env.FUZZ_SEED ?? 1))
  for (let i = 0; i < 3000; i++) {
    const given: Given = {
      dtype: draw.of([null, '<i2', '>f4', '|S3', '<U2', '|V0', '<c16', "[('a', '<f2'), ('b', '|b1', (2, 3))]", '<M8[s]', '<f16']),
      format: draw.chance(0.5)
        ? []
        : Array.from(
            { length: 1 + draw.below(3) },
            () => [draw.of(['u', 'i', 'f', 'c', 'b', '\x1b']), 1 + draw.below(80)] as const,
          ),
      shape: draw.chance(0.1) ? null : Array.from({ length: draw.below(5) }, () => draw.of([0, 1, 2, 7, 1000, null, 2 ** 40])),
      order: draw.of(['C', 'F']),
      immediate: draw.chance(0.3),
      value: draw.of([1, 2n ** 55n]),
      bytes: draw.bytes(draw.below(300)),
    }
    expect(text(given).length).toBeLessThan(4002)
  }
})
