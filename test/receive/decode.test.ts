import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodePacket, MALFORMED, PacketHeader } from '#dist/src/receive/decode.js'
import { decodeDescriptor } from '#dist/src/receive/received-descriptor.js'
import { ReceiveSession, STAT, statWords } from '#dist/src/receive/session.js'

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/[\s|]/g, ''), 'hex'))
const decode = (bytes: Uint8Array): { verdict: string; out: PacketHeader } => {
  const out = new PacketHeader()
  const verdict = decodePacket(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length, out)
  return { verdict: MALFORMED[verdict]!, out }
}

// First packet of the tutorial's first heap, as spead2 sends it, without its payload but for padding to length.
const TUTORIAL = hex(`5304020600000008 8001000000000001 8002000000100130 8003000000000000 8004000000000578
  0005000000000000 9600000000000000 0005000000000075 3300000000000130`)

test('the tutorial packet of SPEAD-64-48', () => {
  const packet = new Uint8Array(1472)
  packet.set(TUTORIAL)
  const { verdict, out } = decode(packet)
  expect(verdict).toBe('')
  expect(out).toMatchObject({
    addressBytes: 6,
    cntHigh: 0,
    cntLow: 1,
    heapLength: 1048880,
    hasPayloadOffset: true,
    payloadOffset: 0,
    payloadLength: 1400,
    payloadAt: 72,
    pointers: 8,
    itemPointers: 4,
  })
})

test('SPEAD-64-40, SPEAD-64-8 and SPEAD-64-56 put the values where the width says', () => {
  const forty = decode(hex('5304030500000004 8000010000000001 8000020000000002 8000030000000000 8000040000000002 aabb'))
  expect(forty).toMatchObject({ verdict: '', out: { addressBytes: 5, cntLow: 1, heapLength: 2, payloadLength: 2 } })
  const eight = decode(hex('5304070100000003 80000000000001fe 8000000000000202 8000000000000402 aabb'))
  expect(eight).toMatchObject({ verdict: '', out: { addressBytes: 1, cntLow: 0xfe, heapLength: 2, hasPayloadOffset: false } })
  const wide = decode(hex('5304010700000002 81fffffffffffffe 8400000000000002 aabb'))
  expect(wide).toMatchObject({ verdict: '', out: { cntHigh: 0xffffff, cntLow: 0xfffffffe, heapLength: -1, payloadLength: 2 } })
})

test.each([
  ['53040206000000', 'shorter than a SPEAD header'],
  ['5404020600000000', 'no SPEAD version 4 magic'],
  ['5303020600000000', 'no SPEAD version 4 magic'],
  ['5304020500000000', 'item id and heap address widths do not add up to 8 bytes'],
  ['5304080000000000', 'item id and heap address widths do not add up to 8 bytes'],
  ['5304020600000002 8001000000000001', 'item pointers reach beyond the packet'],
  ['5304020600000001 8004000000000000', 'no heap cnt'],
  ['5304020600000001 0001000000000001', 'no heap cnt'],
  ['5304020600000002 8001000000000001 8004000000000001', 'payload reaches beyond the packet'],
  ['5304020600000003 8001000000000001 8002000000000001 8003000000000001 aa', 'payload reaches beyond the heap'],
])('%s: %s', (bytes, why) => {
  expect(decode(hex(bytes)).verdict).toBe(why)
})

test('descriptors of the tutorial, both forms', () => {
  const timestamp = hex(`5304020600000009 8001000000000001 8002000000000025 8003000000000000 8004000000000025 8014000000001600
    0010000000000000 0011000000000009 0013000000000022 0012000000000025`)
  const text = Buffer.from('timestampIndex of the first sampleu\0\x30', 'latin1')
  expect(decodeDescriptor(Buffer.concat([timestamp, text]))).toEqual({
    id: 0x1600,
    name: 'timestamp',
    description: 'Index of the first sample',
    shape: [],
    dtype: null,
    order: 'C',
    format: [['u', 48]],
  })
  const samples = hex(`530402060000000a 8001000000000001 8002000000000063 8003000000000000 8004000000000063 8014000000003300
    0010000000000000 001100000000000b 001300000000001f 001200000000001f 0015000000000026`)
  const rest = Buffer.concat([
    Buffer.from('adc_samplesADC converter output'),
    hex('00000000100000'),
    Buffer.from("{'descr': '|i1', 'fortran_order': False, 'shape': (1048576,)}"),
  ])
  expect(decodeDescriptor(Buffer.concat([samples, rest]))).toMatchObject({ id: 0x3300, dtype: '|i1', shape: [1048576], format: [] })
})

function makeSession() {
  const buffer = new ArrayBuffer((64 << 10) + (2 << 20))
  const stats = new Float64Array(statWords(1))
  const ends = { timeoutMs: 1e9, heaps: 1e9, stops: 1e9 }
  const options = {
    ...ends,
    endpoints: 1,
    maxHeaps: 8,
    memoryBytes: 2 << 20,
    verify: true,
    hash: true,
    anySource: false,
    cntStep: 0,
  }
  const session = new ReceiveSession(buffer, 64 << 10, { ...options, item: 0x3300, deliver: true }, stats)
  return { session, stats, u8: new Uint8Array(buffer) }
}

/** Bytes that get past the first checks: a plausible header, pointers with known and unknown ids, small and huge values. */
const plausible = fc
  .record({
    addressBytes: fc.integer({ min: 1, max: 7 }),
    pointers: fc.array(
      fc.tuple(
        fc.boolean(),
        fc.oneof(fc.integer({ min: 0, max: 7 }), fc.constantFrom(0x10, 0x14, 0x15, 0x1600, 0x3300)),
        fc.oneof(fc.integer({ min: 0, max: 64 }), fc.bigInt({ min: 0n, max: 2n ** 56n - 1n })),
      ),
      { maxLength: 12 },
    ),
    cnt: fc.integer({ min: 0, max: 5 }),
    tail: fc.uint8Array({ maxLength: 80 }),
  })
  .map(({ addressBytes, pointers, cnt, tail }) => {
    const bits = BigInt(addressBytes * 8)
    const words = [[true, 1, cnt] as const, ...pointers].map(([immediate, id, value]) => {
      const word = (immediate ? 1n << 63n : 0n) | (BigInt(id) << bits) | (BigInt(value) & ((1n << bits) - 1n))
      return word & (2n ** 64n - 1n)
    })
    const packet = Buffer.alloc(8 + 8 * words.length + tail.length)
    packet.set([0x53, 4, 8 - addressBytes, addressBytes, 0, 0, 0, words.length])
    for (const [i, word] of words.entries()) packet.writeBigUInt64BE(word, 8 + 8 * i)
    packet.set(tail, 8 + 8 * words.length)
    return new Uint8Array(packet)
  })

test('random bytes, plausible or not, are counted and never throw, through the whole session', () => {
  let taken = 0
  let refused = 0
  let heaps = 0
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.uint8Array({ maxLength: 200 }), plausible), { minLength: 1, maxLength: 30 }), (datagrams) => {
      const { session, stats, u8 } = makeSession()
      datagrams.forEach((datagram, i) => {
        u8.set(datagram)
        session.packet(0, datagram.length, i % 2, 0)
      })
      session.finish('closed')
      const seen = stats[STAT.packets]! + stats[STAT.duplicates]! + stats[STAT.malformed]!
      expect(seen).toBe(datagrams.length)
      taken += stats[STAT.packets]!
      refused += stats[STAT.malformed]!
      heaps += session.outbox.length
      for (const heap of session.outbox) {
        for (const { bytes } of heap.items.values())
          expect(bytes.byteOffset + bytes.length).toBeLessThanOrEqual(bytes.buffer.byteLength)
      }
    }),
    { numRuns: 1500 },
  )
  console.log(`fuzz: ${taken} packets taken, ${refused} refused, ${heaps} heaps`)
  expect(Math.min(taken, refused, heaps)).toBeGreaterThan(500)
})

test('random bytes as a descriptor are a descriptor or nothing', () => {
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), plausible), (bytes) => {
      const descriptor = decodeDescriptor(bytes)
      expect(descriptor === undefined || Number.isFinite(descriptor.id)).toBe(true)
    }),
    { numRuns: 2000 },
  )
})
