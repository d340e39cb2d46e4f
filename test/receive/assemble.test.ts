import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Budget } from '#dist/src/receive/budget.js'
import { Ranges } from '#dist/src/receive/ranges.js'
import { ReceiveSession, type SessionOptions, STAT, type StatName, statWords } from '#dist/src/receive/session.js'
import { HeapStorage } from '#dist/src/receive/storage.js'
import { firstDifference } from '#dist/src/receive/verify.js'
import { type Pointer, packetOf } from './wire.js'

interface Wanted {
  cnt: number
  sender: number
  payload: Uint8Array
}

/** Cuts a heap at `cuts`; the item pointer goes into the first packet, or into all. */
function cutHeap(heap: Wanted, cuts: number[], repeat: boolean, addressBytes = 6): Uint8Array[] {
  const { cnt, payload } = heap
  const edges = [...new Set([0, ...cuts.map((cut) => cut % payload.length), payload.length])].sort((a, b) => a - b)
  return edges.slice(0, -1).map((start, i) => {
    const part = payload.subarray(start, edges[i + 1])
    const pointers: Pointer[] = [
      [true, 1, cnt],
      [true, 2, payload.length],
      [true, 3, start],
      [true, 4, part.length],
    ]
    // SPEAD-64-56 leaves 7 bits for item ids.
    const [samples, timestamp] = addressBytes === 7 ? [0x70, 0x60] : [0x3300, 0x1600]
    if (repeat || i === 0) pointers.push([false, samples, 0], [true, timestamp, cnt])
    return packetOf(pointers, part, addressBytes)
  })
}

const OPTIONS: SessionOptions = {
  endpoints: 1,
  maxHeaps: 64,
  memoryBytes: 4 << 20,
  timeoutMs: Number.POSITIVE_INFINITY,
  heaps: Number.POSITIVE_INFINITY,
  stops: Number.POSITIVE_INFINITY,
  verify: false,
  hash: false,
  item: 0x3300,
  deliver: true,
  anySource: false,
  cntStep: 0,
}

function makeSession(options: Partial<SessionOptions> = {}, storageBytes = 4 << 20) {
  const buffer = new ArrayBuffer((64 << 10) + storageBytes)
  const stats = new Float64Array(statWords(1))
  const session = new ReceiveSession(buffer, 64 << 10, { ...OPTIONS, memoryBytes: storageBytes, ...options }, stats)
  const u8 = new Uint8Array(buffer)
  return {
    session,
    stat: (name: StatName) => stats[STAT[name]]!,
    feed(packet: Uint8Array, sender = 0) {
      u8.set(packet)
      session.packet(0, packet.length, sender, 0)
    },
  }
}

const bytesOf = (heap: { items: Map<number, { bytes: Uint8Array }> }) =>
  Buffer.from((heap.items.get(0x3300) ?? heap.items.get(0x70))!.bytes)

test('ranges agree with a bitmap', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 20 })), { maxLength: 60 }), (ranges) => {
      const heap = new Ranges(new Budget(1e6))
      const map = new Uint8Array(100)
      for (const [start, length] of ranges) {
        const there = map.subarray(start, start + length).reduce((sum, bit) => sum + bit, 0)
        const expected = there === 0 ? 0 : there === length ? 1 : 2
        expect(heap.add(start, start + length)).toBe(expected)
        if (expected === 0) map.fill(1, start, start + length)
        const edges: number[] = []
        for (let i = 0; i <= map.length; i++) if ((map[i] ?? 0) !== (map[i - 1] ?? 0)) edges.push(i)
        const gaps: number[] = []
        heap.gaps(map.length, (from, to) => gaps.push(from, to))
        // A gap at either end has an edge that is none of a range.
        expect(gaps.filter((at) => at > 0 && at < map.length)).toEqual(edges.filter((at) => at > 0 && at < map.length))
      }
    }),
    { numRuns: 500 },
  )
})

const heapArb = (max: number) => fc.uint8Array({ minLength: 1, maxLength: max })

test('heaps of two senders, cut anywhere, shuffled, with duplicates, come out whole', () => {
  let multi = 0
  let duplicates = 0
  fc.assert(
    fc.property(
      fc.array(fc.record({ payload: heapArb(500), cuts: fc.array(fc.nat(499), { maxLength: 12 }), repeat: fc.boolean() }), {
        minLength: 1,
        maxLength: 12,
      }),
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      fc.nat(4),
      fc.constantFrom(2, 3, 5, 6, 7),
      (heaps, random, twice, addressBytes) => {
        const wanted = heaps.map(({ payload }, i) => ({ cnt: i >> 1, sender: i & 1, payload }))
        const packets = wanted.flatMap((heap, i) => {
          const cut = cutHeap(heap, heaps[i]!.cuts, heaps[i]!.repeat, addressBytes)
          if (cut.length > 1) multi++
          return cut.map((packet) => ({ packet, sender: heap.sender }))
        })
        const copies = packets.slice(0, twice)
        duplicates += copies.length
        const order = [...packets, ...copies].map((entry) => ({ ...entry, key: random.next().value as number }))
        order.sort((a, b) => a.key - b.key)
        const { session, stat, feed } = makeSession()
        for (const { packet, sender } of order) feed(packet, sender)
        const got = session.outbox.map((heap) => ({ cnt: heap.cnt, sender: heap.sender, payload: bytesOf(heap).toString('hex') }))
        const by = (a: { cnt: number | bigint; sender: number }, b: typeof a) =>
          Number(a.cnt) - Number(b.cnt) || a.sender - b.sender
        expect(got.sort(by)).toEqual(
          wanted.map((heap) => ({ ...heap, payload: Buffer.from(heap.payload).toString('hex') })).sort(by),
        )
        expect(session.outbox.every(({ complete, items }) => complete && items.size === 2)).toBe(true)
        expect([stat('duplicates'), stat('malformed'), stat('packets')]).toEqual([copies.length, 0, packets.length])
      },
    ),
    { numRuns: 400 },
  )
  console.log(`assembly: ${multi} heaps of several packets, ${duplicates} duplicates`)
  expect(Math.min(multi, duplicates)).toBeGreaterThan(100)
})

test("SKA-Low's packets, without heap length and payload offset, are heaps each", () => {
  const { session, feed, stat } = makeSession()
  for (let cnt = 0; cnt < 3; cnt++)
    feed(
      packetOf(
        [
          [true, 1, cnt],
          [true, 4, 8192],
          [true, 0x1600, 5],
          [true, 0x1800, 1],
          [false, 0x3300, 0],
        ],
        new Uint8Array(8192).fill(cnt),
      ),
    )
  expect(
    session.outbox.map((heap) => [heap.cnt, heap.complete, bytesOf(heap).equals(Buffer.alloc(8192, Number(heap.cnt)))]),
  ).toEqual([
    [0, true, true],
    [1, true, true],
    [2, true, true],
  ])
  expect(stat('payloadBytes')).toBe(3 * 8192)
})

test('a heap that never says how long it is grows, and ends when nothing more is expected', () => {
  const { session, feed, stat } = makeSession()
  const payload = Buffer.alloc(300_000, 'growing ')
  for (let at = 0; at < payload.length; at += 30_000) {
    feed(
      packetOf(
        [[true, 1, 9], [true, 3, at], ...(at === 0 ? [[false, 0x3300, 0] as [boolean, number, number]] : [])],
        payload.subarray(at, at + 30_000),
      ),
    )
  }
  expect(session.outbox).toHaveLength(0)
  session.finish('closed')
  expect(session.outbox.map(({ complete }) => complete)).toEqual([true])
  expect(bytesOf(session.outbox[0]!).equals(payload)).toBe(true)
  expect(stat('heaps')).toBe(1)
})

test('a bounded number of heaps in the making: the oldest is given up, its gaps are zero, its stragglers are counted', () => {
  const { session, feed, stat } = makeSession({ maxHeaps: 2 })
  const heaps = [1, 2, 3].map((cnt) => cutHeap({ cnt, sender: 0, payload: new Uint8Array(300).fill(cnt) }, [100, 200], false))
  feed(heaps[0]![0]!)
  feed(heaps[0]![2]!)
  feed(heaps[1]![0]!)
  expect(session.outbox).toHaveLength(0)
  feed(heaps[2]![0]!)
  expect(session.outbox.map(({ cnt, complete, packets }) => [cnt, complete, packets])).toEqual([[1, false, 2]])
  expect(bytesOf(session.outbox[0]!)).toEqual(Buffer.concat([Buffer.alloc(100, 1), Buffer.alloc(100), Buffer.alloc(100, 1)]))
  feed(heaps[0]![1]!)
  expect([stat('heapsIncomplete'), stat('duplicates'), stat('heaps')]).toEqual([1, 1, 0])
  session.finish('timeout')
  expect([stat('heapsIncomplete'), stat('heaps')]).toEqual([3, 0])
})

test('a heap beyond the memory is refused and pushes nobody out; heaps within it push the oldest', () => {
  const { session, feed, stat } = makeSession({}, 1 << 20)
  const [first, ...rest] = cutHeap(
    { cnt: 1, sender: 0, payload: new Uint8Array(300_000).fill(1) },
    [30_000, 60_000, 90_000, 120_000, 150_000, 180_000, 210_000, 240_000, 270_000],
    false,
  )
  feed(first!)
  feed(
    packetOf(
      [
        [true, 1, 2],
        [true, 2, 2 ** 40],
        [true, 3, 0],
      ],
      new Uint8Array(10),
    ),
  )
  expect([stat('malformed'), stat('heapsIncomplete')]).toEqual([1, 0])
  for (const packet of rest) feed(packet)
  expect(session.outbox.map(({ cnt, complete }) => [cnt, complete])).toEqual([[1, true]])
  for (let cnt = 3; cnt < 8; cnt++)
    feed(
      packetOf(
        [
          [true, 1, cnt],
          [true, 2, 300_000],
          [true, 3, 0],
        ],
        new Uint8Array(10),
      ),
    )
  expect(stat('heapsIncomplete')).toBeGreaterThanOrEqual(2)
})

test('contradicting packets are refused, the heap survives', () => {
  const { session, feed, stat } = makeSession()
  const [a, b] = cutHeap({ cnt: 1, sender: 0, payload: new Uint8Array(200).fill(1) }, [100], false)
  feed(a!)
  feed(
    packetOf(
      [
        [true, 1, 1],
        [true, 2, 500],
        [true, 3, 100],
      ],
      new Uint8Array(100),
    ),
  ) // another length
  feed(
    packetOf(
      [
        [true, 1, 1],
        [true, 3, 50],
      ],
      new Uint8Array(100),
    ),
  ) // half of it was there
  feed(
    packetOf(
      [
        [true, 1, 1],
        [true, 3, 150],
      ],
      new Uint8Array(100),
    ),
  ) // beyond the heap
  feed(
    packetOf(
      [
        [true, 1, 1],
        [true, 2, 200],
        [true, 3, 100],
      ],
      new Uint8Array(100),
      5,
    ),
  ) // another flavour
  feed(b!)
  expect(stat('malformed')).toBe(4)
  expect(session.outbox.map(({ complete, packets }) => [complete, packets])).toEqual([[true, 2]])
  expect(bytesOf(session.outbox[0]!)).toEqual(Buffer.alloc(200, 1))
})

test('narrow heap cnts come around: 1,000 heaps of SPEAD-64-8 from one sender', () => {
  const { session, feed, stat } = makeSession({ hash: true })
  const all = createHash('sha256')
  for (let i = 0; i < 1000; i++) {
    const payload = Buffer.from([i & 255, i >> 8])
    all.update(payload)
    for (const packet of cutHeap({ cnt: i & 255, sender: 0, payload }, [1], false, 1)) feed(packet)
  }
  const { sha256, heapsMissing } = session.finish('closed')
  expect([stat('heaps'), stat('duplicates'), heapsMissing]).toEqual([1000, 0, 0])
  expect(sha256).toBe(all.digest('hex'))
})

test('narrow heap cnts with every other heap lost are not taken for late copies', () => {
  const { feed, stat } = makeSession()
  for (let i = 0; i < 2000; i += 2) {
    for (const packet of cutHeap({ cnt: i & 255, sender: 0, payload: Uint8Array.of(i & 255) }, [], false, 1)) feed(packet)
  }
  expect([stat('heaps'), stat('duplicates')]).toEqual([1000, 0])
})

test('the output is in heap-cnt order whatever the order of arrival within the window, whatever the step', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(heapArb(40), fc.nat(15), fc.boolean()), { minLength: 1, maxLength: 200 }),
      fc.constantFrom(1, 2, 16),
      fc.nat(1000),
      (heaps, step, first) => {
        const wanted = heaps.map(([payload, late, split], i) => ({
          cnt: first + i * step,
          sender: 0,
          payload,
          key: i + late,
          split,
        }))
        const immediate = (cnt: number) => Buffer.from(cnt.toString(16).padStart(12, '0'), 'hex')
        const outputs: [item: number, parts: Uint8Array[]][] = [
          [0x3300, wanted.map(({ payload }) => payload)],
          [0x1600, wanted.map(({ cnt }) => immediate(cnt))],
        ]
        for (const [item, parts] of outputs) {
          const { session, feed } = makeSession({ hash: true, deliver: false, item })
          for (const heap of [...wanted].sort((a, b) => a.key - b.key)) {
            for (const packet of cutHeap(heap, heap.split ? [heap.payload.length >> 1] : [], false)) feed(packet)
          }
          const { sha256, outputLeftOut, outputBytes } = session.finish('closed')
          const all = Buffer.concat(parts)
          expect([outputLeftOut, outputBytes]).toEqual([0, all.length])
          expect(sha256).toBe(createHash('sha256').update(all).digest('hex'))
        }
      },
    ),
    { numRuns: 300 },
  )
})

test('a heap too late for the window is left out and counted; missing ones are counted', () => {
  const { session, feed } = makeSession({ hash: true })
  const one = (cnt: number) => feed(cutHeap({ cnt, sender: 0, payload: Uint8Array.of(cnt & 255) }, [], false)[0]!)
  for (let cnt = 1; cnt <= 3000; cnt++) if (cnt !== 1000 && cnt !== 2000) one(cnt)
  one(1000)
  const { outputLeftOut, outputBytes, heapsMissing } = session.finish('closed')
  expect({ outputLeftOut, outputBytes, heapsMissing }).toEqual({ outputLeftOut: 1, outputBytes: 2998, heapsMissing: 1 })
})

test('firstDifference agrees with a plain search', () => {
  fc.assert(
    fc.property(fc.nat(40), fc.nat(200), fc.nat(255), fc.option(fc.nat(300)), (at, length, byte, wrong) => {
      const buffer = new ArrayBuffer(320)
      const u8 = new Uint8Array(buffer).fill((byte + 1) & 255)
      u8.fill(byte, at, at + length)
      if (wrong !== null && wrong < 320) u8[wrong] = (byte + 7) & 255
      const expected = u8.subarray(at, at + length).findIndex((b) => b !== byte)
      expect(firstDifference(u8, new Uint32Array(buffer), at, length, byte)).toBe(expected)
    }),
    { numRuns: 3000 },
  )
})

test('storage hands out what it has and takes it back', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.integer({ min: 1, max: 70_000 }), fc.constant('release' as const)), { maxLength: 200 }),
      (steps) => {
        const storage = new HeapStorage(4096, 4096 + (1 << 18))
        const held: { at: number; bytes: number }[] = []
        for (const bytes of steps) {
          if (bytes === 'release') {
            const freed = held.shift()
            if (freed) storage.release(freed.at)
            continue
          }
          const at = storage.take(bytes)
          if (at < 0) continue
          expect(at >= 4096 && at + bytes <= 4096 + (1 << 18) && storage.size(at) >= bytes).toBe(true)
          expect(held.every((other) => at + bytes <= other.at || other.at + other.bytes <= at)).toBe(true)
          held.push({ at, bytes })
        }
        for (const { at } of held) storage.release(at)
        expect(storage.take(1 << 18)).toBe(4096)
      },
    ),
    { numRuns: 300 },
  )
})
