import fc from 'fast-check'
import {
  base64,
  dtypeCase,
  type Format,
  formatCase,
  fortranBytes,
  type HeapCase,
  type ItemCase,
  type Leaf,
  type PartCase,
} from './spead-cases.js'

/** The features that items exercise; the rows of the property test's histogram. */
export const KINDS = [
  'immediate', // fixed shape that fits a pointer
  'dtype', // numpy header, C order
  'fortran', // numpy header, Fortran order
  'format', // fields of whole bytes, big-endian
  'bits', // fields of any width, packed
  'string', // characters
  'variable', // one unknown dimension
  'empty', // zero elements
  'descriptor', // an in-band descriptor, with or without its item
  'control', // stream start or stop among other items
] as const
export type Kind = (typeof KINDS)[number]

export const FLAVOUR_BITS = [8, 16, 24, 32, 40, 48, 56] as const
/** Packets per heap, by ranges [first, last] */
export const BUCKETS = [
  { name: '1', first: 1, last: 1 },
  { name: '2', first: 2, last: 2 },
  { name: '3-8', first: 3, last: 8 },
  { name: '9+', first: 9, last: 20 },
] as const

export interface GeneratedHeap extends HeapCase {
  kinds: Kind[]
  packetSize: number
  /** For the exact split: payload bytes of a packet, and how many padding pointers are asked for. */
  exactPayloadBytes: number
  exactPadding: number
}

/** xorshift32: contents come from one drawn seed, so that shrinking works on shapes and not on every byte. */
function random(seed: number): () => number {
  let s = seed | 0 || 1
  return () => {
    s ^= s << 13
    s ^= s >>> 17
    s ^= s << 5
    return s >>> 0
  }
}

function bytesOf(length: number, next: () => number): Uint8Array {
  return Uint8Array.from({ length }, () => next() >>> 13)
}

function integer(bits: number, signed: boolean, next: () => number): bigint {
  const top = 1n << BigInt(bits)
  const low = signed ? -(top >> 1n) : 0n
  const high = signed ? (top >> 1n) - 1n : top - 1n
  switch (next() % 8) {
    case 0:
      return low
    case 1:
      return high
    case 2:
      return signed ? -1n : 1n
  }
  let v = 0n
  for (let b = 0; b < bits; b += 32) v = (v << 32n) | BigInt(next())
  return low + (v & (top - 1n))
}

function leafOf([code, bits]: readonly [string, number], next: () => number): Leaf {
  if (code === 'u' || code === 'i') return integer(bits, code === 'i', next)
  if (code === 'b') return next() % 2 === 1
  // Not NUL: numpy drops it at the end of a byte string, and spead2's packed path then finds no character.
  if (code === 'c') return String.fromCharCode(1 + (next() % 127))
  const f = [0, -0, 1.5, -1e-30, Infinity, -Infinity][next() % 12] ?? (next() - 2 ** 31) / 1013
  return bits === 32 ? Math.fround(f) : f
}

/**
 * numpy's scalar types that spead2 can send: booleans, both byte orders of every width, complex, byte and Unicode strings, void.
 */
const DTYPES: readonly (readonly [name: string, bytes: number])[] = [
  ['|b1', 1],
  ['|i1', 1],
  ['|u1', 1],
  ...['i2', 'u2', 'f2', 'i4', 'u4', 'f4', 'i8', 'u8', 'f8', 'c8', 'c16'].flatMap((n) =>
    ['<', '>'].map((e) => [e + n, Number(n.slice(1))] as const),
  ),
  ['|S5', 5],
  ['|S1', 1],
  ['<U2', 8],
  ['>U1', 4],
  ['|V3', 3],
]

/** The raw bytes of one dtype item, valid for numpy (booleans 0 or 1, code points in range), C order. */
function dtypeData(dtype: string, itemBytes: number, elements: number, next: () => number): Uint8Array {
  const data = bytesOf(elements * itemBytes, next)
  if (dtype === '|b1') return data.map((v) => v & 1)
  const low = dtype[0] === '<' ? 0 : 3
  if (dtype[1] === 'U') return data.map((v, i) => (i % 4 === low ? v & 127 : 0))
  return data
}

const NATIVE: Record<string, new (b: ArrayBuffer) => ArrayBufferView> = {
  i1: Int8Array,
  u1: Uint8Array,
  i2: Int16Array,
  u2: Uint16Array,
  i4: Int32Array,
  u4: Uint32Array,
  i8: BigInt64Array,
  u8: BigUint64Array,
  f4: Float32Array,
  f8: Float64Array,
}

/** Bytes in wire order in one of the shapes a caller may hold them in; `form` chooses. */
function holder(dtype: string, wire: Uint8Array, form: number): ArrayBufferView | ArrayBuffer {
  const Native = NATIVE[dtype.slice(1)]
  const own = wire.slice()
  if (form % 4 === 1 && Native && dtype[0] !== '>') return new Native(own.buffer)
  if (form % 4 === 2) return Buffer.from(own)
  if (form % 4 === 3) {
    const wide = new Uint8Array(wire.length + 16)
    wide.set(wire, 8)
    return new DataView(wide.buffer, 8, wire.length)
  }
  return own
}

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
const seedArb = fc.integer({ min: 1, max: 0x7fffffff })
const ascii = fc.string({ unit: fc.constantFrom(...'abcXYZ_09 ,.%'), maxLength: 6 })

/**
 * A shape of 1 to 3 dimensions of about `elements` elements: never twice as many, for the narrowest flavour has room for 255 bytes.
 */
const shapeArb = (elements: number) =>
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })).map(([dims, a, b]) => {
    const small = [a, b].slice(0, dims - 1).map((n) => (a * b <= elements ? n : 1))
    const shape = [...small, Math.max(1, Math.ceil(elements / product(small)))]
    return a % 2 === 0 ? shape.reverse() : shape
  })

const wholeField = fc
  .constantFrom('u8', 'u16', 'u32', 'u64', 'i8', 'i16', 'i32', 'i64', 'f32', 'f64', 'c8', 'b8')
  .map((f): [string, number] => [f[0]!, Number(f.slice(1))])
const oddField = fc.oneof(
  fc.tuple(fc.constantFrom('u', 'i'), fc.integer({ min: 1, max: 96 })),
  fc.tuple(fc.constant('b'), fc.integer({ min: 1, max: 17 })),
) as fc.Arbitrary<[string, number]>

const bitsOf = (format: Format) => format.reduce((n, [, b]) => n + b, 0)

function formatItem(init: ItemCase['init'], format: Format, shape: readonly number[], seed: number): ItemCase {
  const next = random(seed)
  const elements = Array.from({ length: product(shape) }, () => format.map((f) => leafOf(f, next)))
  return formatCase(init, format, shape, elements)
}

/**
 * One item of a kind, with about `bytes` bytes of data. `init` already has id, name, description; `widest` is the number of bytes
 * an immediate of the flavour holds.
 */
export function itemArb(kind: Kind, init: ItemCase['init'], bytes: number, widest: number): fc.Arbitrary<ItemCase> {
  const dtypeItem = (order: 'C' | 'F', minDims: number) =>
    fc.constantFrom(...DTYPES).chain(([dtype, itemBytes]) =>
      fc.tuple(shapeArb(Math.max(1, Math.floor(bytes / itemBytes))), seedArb, fc.nat(3)).map(([drawn, seed, form]): ItemCase => {
        const shape = drawn.length < minDims ? [2, ...drawn] : drawn
        const data = dtypeData(dtype, itemBytes, product(shape), random(seed))
        const wire = order === 'F' ? fortranBytes(data, itemBytes, shape) : data
        const written = { ...init, shape, ...(order === 'F' || seed % 2 ? { order } : {}) }
        return dtypeCase(written, dtype, data, holder(dtype, wire, form))
      }),
    )
  switch (kind) {
    case 'dtype':
      return dtypeItem('C', 1)
    case 'fortran':
      return dtypeItem('F', 2)
    case 'immediate':
      return fc.oneof(
        fc
          .tuple(fc.constantFrom('u', 'i', 'b'), fc.integer({ min: 1, max: widest }), seedArb)
          .map(([code, n, seed]) => formatItem({ ...init, shape: [] }, [[code, 8 * n]], [], seed)),
        fc
          .tuple(fc.integer({ min: 1, max: widest }), seedArb)
          .map(([n, seed]) => dtypeCase({ ...init, shape: [n] }, 'u1', bytesOf(n, random(seed)))),
        fc
          .constantFrom(...DTYPES.filter(([, n]) => n <= widest))
          .chain(([dtype, n]) => seedArb.map((seed) => [dtype, dtypeData(dtype, n, 1, random(seed)), seed] as const))
          .map(([dtype, data, seed]) => dtypeCase({ ...init, shape: [] }, dtype, data, holder(dtype, data, seed))),
      )
    case 'format':
      return fc
        .array(wholeField, { minLength: 1, maxLength: 3 })
        .chain((format) => fc.tuple(fc.constant(format), shapeArb(Math.max(1, (bytes * 8) / bitsOf(format))), seedArb))
        .map(([format, shape, seed]) => formatItem({ ...init, shape }, format, shape, seed))
    case 'bits':
      return fc
        .tuple(fc.array(fc.oneof(oddField, wholeField), { maxLength: 2 }), oddField)
        .map(([a, b]): Format => [...a, b])
        .chain((format) =>
          fc.tuple(
            fc.constant(format),
            fc.oneof(shapeArb(Math.max(1, (bytes * 8) / bitsOf(format))), fc.constant([] as number[])),
            seedArb,
          ),
        )
        .map(([format, shape, seed]) => formatItem({ ...init, shape }, format, shape, seed))
    case 'string':
      return fc.tuple(fc.boolean(), fc.boolean(), seedArb).map(([fixed, text, seed]): ItemCase => {
        const data = bytesOf(bytes, random(seed)).map((v) => v & 127)
        const string = Buffer.from(data).toString('latin1')
        return {
          init: { ...init, shape: [fixed ? data.length : null], format: [['c', 8]] },
          ours: text ? string : data,
          theirs: text ? { text: string } : { bytes: base64(data) },
        }
      })
    case 'variable':
      return fc
        .tuple(
          fc.array(fc.oneof(wholeField, oddField), { minLength: 1, maxLength: 2 }),
          fc.integer({ min: 1, max: 3 }),
          fc.boolean(),
          seedArb,
        )
        .map(([format, other, first, seed]) => {
          const n = Math.max(1, Math.floor((bytes * 8) / bitsOf(format) / other))
          const shape = first ? [n, other] : [other, n]
          return formatItem({ ...init, shape: first ? [null, other] : [other, null] }, format, shape, seed)
        })
    case 'empty':
      return fc.oneof(
        fc
          .constantFrom([0], [3, 0], [0, 2, 2])
          .map((shape) => dtypeCase({ ...init, shape }, '<u2', new Uint8Array(0), new Uint16Array(0))),
        fc.tuple(fc.constantFrom('u8', 'i13', 'u7 c8'), fc.constantFrom(0, null)).map(([fields, dim]) =>
          formatCase(
            { ...init, shape: [dim] },
            fields.split(' ').map((f) => [f[0]!, Number(f.slice(1))]),
            [0],
            [],
          ),
        ),
      )
    case 'descriptor':
    case 'control':
      throw new Error('made by heapArb')
  }
}

/** Bytes a descriptor adds to a heap, near enough to choose packet sizes by. */
function descriptorBytes(c: ItemCase): number {
  const { name, description = '', shape = [], dtype, format } = c.init
  return 90 + name.length + description.length + 8 * shape.length + (dtype ? 60 : 0) + 8 * (format?.length ?? 0)
}

/** Bytes an item adds to the heap payload: none if it is an immediate. */
function payloadBytes(c: ItemCase, widest: number): number {
  const t = c.theirs
  if (t === null) return 0
  const { shape = [], format = [], dtype } = c.init
  const elementBits = bitsOf(format as Format)
  let bytes: number
  if ('raw' in t) bytes = Buffer.byteLength(t.raw, 'base64')
  else if ('text' in t) bytes = t.text.length
  else if ('bytes' in t) bytes = Buffer.byteLength(t.bytes, 'base64')
  else bytes = Math.ceil(((shape.length ? (t.list as unknown[]).flat(shape.length - 1).length : 1) * elementBits) / 8)
  const immediate = bytes <= widest && !shape.includes(null) && (dtype !== undefined || elementBits % 8 === 0)
  return immediate ? 0 : bytes
}

/** Heaps of a flavour that contain the kind and, very nearly always, make a number of greedy packets within the bucket. */
export function heapArb(heapAddressBits: number, kind: Kind, bucket: (typeof BUCKETS)[number]): fc.Arbitrary<GeneratedHeap> {
  const widest = heapAddressBits / 8
  // Everything a heap holds must be addressable: 255 bytes in the narrowest flavour, where one descriptor takes 150 of them.
  const room = heapAddressBits === 8 ? 255 : 40_000
  // A descriptor carries its item's id as an immediate, which is narrower than the id field in the narrow flavours.
  const idLimit = Math.min(2 ** (63 - heapAddressBits), 2 ** (kind === 'descriptor' ? heapAddressBits : 53))
  const extras = KINDS.filter((k) => k !== 'descriptor' && (heapAddressBits > 8 || (k !== 'dtype' && k !== 'fortran')))
  const plain = KINDS.filter((k) => k !== 'descriptor' && k !== 'control')
  return fc
    .record({
      k: fc.integer({ min: bucket.first, max: heapAddressBits === 8 ? Math.min(bucket.last, 13) : bucket.last }),
      extras: fc.array(fc.constantFrom(...extras), { maxLength: heapAddressBits === 8 ? 1 : 3 }),
      carrier: fc.constantFrom(...(heapAddressBits === 8 ? (['immediate', 'string', 'variable'] as const) : plain)),
      scale: fc.oneof(
        { weight: 6, arbitrary: fc.constant(24) },
        { weight: 3, arbitrary: fc.constant(200) },
        { weight: 1, arbitrary: fc.constant(3000) },
      ),
      firstId: fc.oneof(
        fc.integer({ min: 0x20, max: 0x60 }),
        fc.integer({ min: 0x20, max: Math.min(idLimit, 2 ** 31) - 32 }),
        fc.constant(idLimit - 32),
      ),
      bugCompat: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 7 }) }),
      cnt: fc.oneof(
        fc.bigInt({ min: 0n, max: (1n << BigInt(heapAddressBits)) - 1n }),
        fc.constant((1n << BigInt(heapAddressBits)) - 1n),
      ),
      repeat: fc.integer({ min: 0, max: 3 }).map((v) => v === 3),
      withItem: fc.boolean(),
      stop: fc.boolean(),
      at: fc.nat(8),
      jitter: fc.nat(7),
      slack: fc.nat(2),
      exactPadding: fc.nat(3),
      exactFill: fc.integer({ min: 0, max: 15 }),
      name: ascii,
      description: ascii,
    })
    .chain((r) => {
      const wanted: Kind[] = [kind, ...r.extras]
      const items = wanted
        .filter((k) => k !== 'control')
        .map((k, i) => ({ k, id: r.firstId + i, carrier: k === 'descriptor' ? r.carrier : k }))
      const scale = heapAddressBits === 8 ? 20 : r.scale
      const arbs = items.map(({ carrier, id }, i) =>
        fc
          .integer({ min: 1, max: scale })
          .chain((bytes) => itemArb(carrier, { id, name: `${r.name}${i}`, description: r.description }, bytes, widest)),
      )
      return fc.tuple(fc.constant(r), fc.constant(items), arbs.length ? fc.tuple(...arbs) : fc.constant([] as ItemCase[]), seedArb)
    })
    .map(([r, items, made, seed]) => {
      const parts: PartCase[] = []
      const kinds = new Set<Kind>()
      let bytes = 0
      made.forEach((c, i) => {
        if (i > 0 && bytes + payloadBytes(c, widest) > room) return
        if (items[i]!.k === 'descriptor') {
          parts.push({ descriptor: c })
          bytes += descriptorBytes(c)
          kinds.add('descriptor')
          if (!r.withItem) return
        }
        parts.push({ item: c })
        kinds.add(items[i]!.carrier)
        bytes += payloadBytes(c, widest)
      })
      if (kind === 'control' || r.extras.includes('control')) {
        parts.splice(r.at % (parts.length + 1), 0, r.stop ? { end: true } : { start: true })
        kinds.add('control')
      }
      // Enough for k packets: the smallest packet takes 16 bytes of payload and pointers. The filler stands last.
      const lacking = 16 * r.k - bytes - 8 * (parts.length + 1)
      if (lacking > 0 && bucket.last > 1) {
        const fill = Math.floor(Math.min(lacking, room - bytes))
        if (fill > 0) {
          const data = bytesOf(fill, random(seed))
          const init = { id: r.firstId + 20, name: 'filler', description: '', shape: [null], format: [['u', 8]] as const }
          parts.push({ item: { init, ours: data, theirs: { list: Array.from(data, String) } } })
          bytes += fill
        }
      }
      const n = parts.length
      // The smallest packets that are at most k in number, by spead2's rules; near enough, the result decides the bucket.
      const packetsAt = (size: number) => {
        if (r.repeat) return Math.ceil(Math.max(1, bytes) / (size - 40 - 8 * n))
        const padded = Math.max(bytes, 8 * Math.floor(n / ((size - 48) / 8)) + 1)
        return Math.ceil((padded + 8 * (n + (padded > bytes ? 1 : 0))) / (size - 40))
      }
      let packetSize = r.repeat ? 64 + 8 * n : 56
      const smallest = packetSize
      while (packetsAt(packetSize) > r.k) packetSize += 8
      if (packetsAt(packetSize) < bucket.first && packetSize > smallest && packetsAt(packetSize - 8) <= bucket.last) packetSize -= 8
      packetSize += r.jitter + (r.k === 1 ? 8 * r.slack * 90 : 0)
      const heap: GeneratedHeap = {
        flavour: { heapAddressBits, bugCompat: r.bugCompat },
        repeatPointers: r.repeat,
        cnt: r.cnt,
        parts,
        kinds: [...kinds],
        packetSize,
        exactPayloadBytes: Math.max(1, Math.ceil(bytes / r.k)) + r.exactFill,
        exactPadding: r.exactPadding,
      }
      return heap
    })
}
