import { expect, test } from 'vitest'
import { descriptorBytes, readDescriptors, resolveShape, valueBytes } from '#dist/src/receive/received-descriptor.js'
import { descriptorOf } from '../descriptor-support.js'

const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? Date.now() % 2 ** 31)
const RUNS = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1' ? 100_000 : 20_000
/**
 * Milliseconds that no descriptor may need at its fastest. What takes longer than USUAL_MS is tried again, because the machine may
 * be busy.
 */
const SLOW_MS = 5
const USUAL_MS = 0.5

/** mulberry32 */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const header = (descr: string, shape = '(3,)'): string => `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}}`
const HEADERS = [
  header("'<i4'", '(2, 3)'),
  header("'3i4,f8'"),
  header("[('x', '<i2'), (('t', 'y'), '>f8', (2,)), ('', '|V3'), ('z', [('re', '>i2'), ('im', '>i2')])]"),
  header(
    "{'names': ['a', 'b'], 'formats': ['u1', '>f8'], 'offsets': [8, 0], 'titles': ['A', None], 'itemsize': 32, 'aligned': True}",
  ),
  header("{'b': ('f8', 8), 'a': ('M8[25ns]', 0)}"),
  '{"shape": (16L, 0x10), # note\n "fortran_order": True, "descr": u\'\\x3cf\\u0034\'}',
]
const TOKENS = [
  "'",
  '"',
  '\\',
  '(',
  ')',
  '[',
  ']',
  '{',
  '}',
  ',',
  ':',
  '#',
  '\n',
  '\0',
  '\\x',
  '\\U0010ffff',
  '\\N{',
  "r'",
  "'''",
  '-',
]
TOKENS.push(
  '9'.repeat(400),
  '99999999999',
  '0x',
  'True',
  'None',
  "'aligned': True,",
  'V999999999',
  'U999999999',
  '(2,3)',
  'M8[',
  "('',)",
)
TOKENS.push(
  '('.repeat(40),
  '1,'.repeat(70),
  'i1,'.repeat(1100),
  '1,'.repeat(5000),
  "'a' ".repeat(300),
  ' '.repeat(5000),
  '#\n'.repeat(2000),
  '\x1b[2J',
  '\xff',
)

const SCALARS =
  'i1 >u2 <f4 c8 >c16 ? b1 S5 U3 >U2 V7 S U V str void M8[ns] m8[25s] M8 O f3 uint16 float <i4>u2 3i4 <(2,3)>f4 (2)i1 i4,i8, V999999999'.split(
    ' ',
  )
const NAMES = [
  "'x'",
  "'y'",
  "'z'",
  "''",
  `"it's"`,
  `'"'`,
  "'\\n\\t\\x01\\u2028'",
  "'\\101\\\\'",
  "('t', 'x')",
  "('t', 'z')",
  "('t',)",
  '7',
  'None',
]
const NUMBERS = [
  '0',
  '1',
  '2',
  '4',
  '8',
  '(2, 3)',
  '()',
  '(2,)',
  '[2]',
  '-1',
  "'2'",
  'True',
  '1000000',
  `(${'1,'.repeat(65)})`,
  '99999999',
]

/** A dtype by its grammar, now and then with a part that has no place in it. */
function dtype(random: (below: number) => number, depth = 0): string {
  const pick = (from: readonly string[]): string => from[random(random(8) === 0 ? from.length : Math.ceil(from.length / 2))]!
  const kind = depth > 3 ? 0 : random(9)
  if (kind < 3) return `'${SCALARS[random(SCALARS.length)]!}'`
  const inner = (): string => dtype(random, depth + 1)
  const list = (make: () => string, count: number): string => Array.from({ length: count }, make).join(', ')
  if (kind === 3) return `(${inner()}, ${pick(NUMBERS)})`
  const count = random(4)
  if (kind < 6)
    return `[${list(() => `(${NAMES[random(NAMES.length)]!}, ${inner()}${random(3) ? '' : `, ${pick(NUMBERS)}`})`, count)}]`
  if (kind === 6) return `{${list(() => `${pick(NAMES)}: (${inner()}, ${pick(NUMBERS)}${random(3) ? '' : ", 'title'"})`, count)}}`
  const names = NAMES.slice(0, 3).slice(0, count)
  const columns = [`'names': [${names.join(', ')}], 'formats': [${list(inner, names.length)}]`]
  if (random(2)) columns.push(`'offsets': [${names.map((_, i) => (random(4) ? 8 * i : pick(NUMBERS))).join(', ')}]`)
  if (random(3) === 0) columns.push(`'titles': [${list(() => (random(2) ? 'None' : `'t${random(9)}'`), names.length)}]`)
  if (random(3) === 0) columns.push(`'itemsize': ${random(4) ? 64 : pick(NUMBERS)}`)
  if (random(2)) columns.push("'aligned': True")
  return `{${columns.join(', ')}}`
}

function text(random: (below: number) => number): string {
  if (random(2)) return header(dtype(random), NUMBERS[random(NUMBERS.length)]!)
  let made = HEADERS[random(HEADERS.length)]!
  for (let k = random(4); k > 0; k--) {
    const at = random(made.length + 1)
    const other = HEADERS[random(HEADERS.length)]!
    const from = random(other.length)
    const piece = random(3) === 0 ? other.slice(from, from + random(40)) : TOKENS[random(TOKENS.length)]!
    made = made.slice(0, at) + piece + made.slice(at + random(12))
  }
  return made
}

/** Fields of a format or a shape: mostly those of one flavour, some of another, some of nothing. */
function binary(random: (below: number) => number, heads: readonly number[], width: number): Uint8Array {
  const count = random(50) === 0 ? random(3000) : random(6)
  const bytes = new Uint8Array(count * width + (random(4) === 0 ? random(width) : 0))
  for (let at = 0; at < bytes.length; at += width) {
    bytes[at] = heads[random(heads.length)]!
    const last = Math.min(at + width, bytes.length) - 1
    if (last > at) bytes[last] = random(65)
    if (random(6) === 0) bytes[at + random(width)] = random(256)
  }
  return bytes
}

const CODES = [...Buffer.from('uibcfuiuix\0', 'latin1')]

function descriptor(random: (below: number) => number): Uint8Array {
  const addressBytes = random(3) === 0 ? 1 + random(7) : 6
  const pyspead = random(3) === 0
  const fields = [
    ['name', 'x'.repeat(random(40) === 0 ? random(3000) : random(10))],
    ['description', 'about'],
    ['format', binary(random, CODES, pyspead ? 4 : 9 - addressBytes)],
    ['shape', binary(random, [0, 0, 0, 1, 2, 3, 255], pyspead ? 8 : 1 + addressBytes)],
    ...(random(2) ? [['dtype', text(random)] as const] : []),
  ] as const
  const chosen = fields.filter(() => random(12) > 0)
  const content = chosen.reduce((sum, [, { length }]) => sum + length, 0)
  // Longer than the flavour can say.
  const bytes = descriptorOf(chosen, {
    id: 1 + random(addressBytes === 7 ? 127 : 255),
    addressBytes: content < 2 ** (8 * addressBytes) ? addressBytes : 6,
  })
  for (let k = random(3) === 0 ? random(6) : 0; k > 0; k--) bytes[random(bytes.length)] = random(256)
  return random(20) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes
}

const inRange = (value: number | null | undefined): boolean => value == null || (Number.isSafeInteger(value) && value >= 0)

test(`${RUNS} mutated descriptors, seed ${SEED}`, { timeout: 300_000 }, () => {
  const counts = { taken: 0, refused: 0, numpy: 0, pyspead: 0 }
  const reasons = new Set<string>()
  let slowest = 0
  for (let run = 0; run < RUNS; run++) {
    const seed = (SEED + run) | 0
    const random = generator(seed)
    const items = Array.from({ length: 1 + random(2) }, () => descriptor(random))
    const bugCompat = random(3) === 0 ? random(8) : undefined
    const timed = () => {
      const before = performance.now()
      const readings = readDescriptors(items, bugCompat)
      return { readings, ms: performance.now() - before }
    }
    let { readings, ms } = timed()
    for (let again = 0; again < 30 && ms > USUAL_MS; again++) ms = Math.min(ms, timed().ms)
    if (ms > SLOW_MS) expect.unreachable(`seed ${seed} takes ${ms} ms`)
    slowest = Math.max(slowest, ms)
    for (const reading of readings) {
      if ('refused' in reading) {
        counts.refused++
        reasons.add(reading.refused.replace(/\d+|".*"/g, '#').slice(0, 60))
        if (/\p{Cc}|[\u2028\u2029]/u.test(reading.refused) || reading.refused.length > 400)
          expect.unreachable(`seed ${seed}: ${reading.refused}`)
        continue
      }
      counts.taken++
      const { descriptor } = reading
      const { id, name, shape, format, dtype } = descriptor
      if (dtype !== null && format.length === 0) counts.numpy++
      if (reading.pyspead) counts.pyspead++
      const copy = { ...descriptor, shape: [...shape] }
      const numbers = [
        id,
        ...shape,
        ...format.map(([, bits]) => bits),
        valueBytes(descriptor),
        valueBytes(copy),
        ...resolveShape(descriptor, 1000),
      ]
      const limits =
        id > 0 && name.length <= 1024 && shape.length <= 64 && format.length <= 1024 && descriptorBytes(descriptor) < 400_000
      if (!(numbers.every(inRange) && limits)) expect.unreachable(`seed ${seed}: ${JSON.stringify(descriptor)}`)
    }
  }
  console.log(`fuzz: seed ${SEED}, ${JSON.stringify(counts)}, ${reasons.size} reasons, slowest ${slowest.toFixed(2)} ms`)
  expect(counts.taken).toBeGreaterThan(RUNS / 5)
  expect(counts.refused).toBeGreaterThan(RUNS / 5)
  expect(Math.min(counts.numpy, counts.pyspead)).toBeGreaterThan(RUNS / 100)
  expect(reasons.size).toBeGreaterThan(30)
})
