// Pacing as the packets show it, under a clock of the test's own: when each of them was posted, whatever woke the engine late.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Fault } from '#dist/src/backend/memory.js'
import { type EngineOptions, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW } from '#dist/src/engine/contract.js'
import { COUNTER, type CounterName } from '#dist/src/stats.js'
import { rawHeap, steppedRig } from '../support/engine-rig.js'

const RATE = 1e9
/** SPEAD header and five item pointers. */
const HEADER = 48
/** A packet of 952 bytes of payload. */
const PACKET = 1000

interface Post {
  readonly at: number
  readonly bytes: number
}

interface Sends {
  readonly options?: Partial<EngineOptions>
  /** UDP payload of each heap, one packet. */
  readonly packets: readonly number[]
  readonly rates?: readonly number[]
  /** Rows of one message; 1 = as the memory backend has it. */
  readonly messageRows?: number
  /** Nanoseconds before each of the sends of the whole batch, behind the first. */
  readonly gaps?: readonly number[]
  /** How late wake-up i is. */
  readonly late?: (i: number) => number
  /** How long before the packets of post i leave. */
  readonly held?: (i: number) => number
  readonly failAt?: (row: number, now: number, count: (name: CounterName) => number) => Fault | undefined
  readonly refuse?: boolean
}

/** Sends the heaps as one batch, again behind every gap, and returns when each packet left. */
function send({ options, packets, rates, messageRows = 1, gaps = [], late = () => 0, held = () => 0, failAt, refuse }: Sends) {
  const posts: Post[] = []
  let bytesOf = packets
  let rows = 0
  const r = steppedRig(
    {
      keepPackets: false,
      failAt(row) {
        posts.push({ at: r.clock, bytes: bytesOf[rows++ % bytesOf.length]! })
        return failAt?.(row, r.clock, count)
      },
    },
    { rateBytesPerSecond: RATE, burstBytes: 10_000, ...options },
  )
  const count = (name: CounterName): number => r.ring.counters[COUNTER[name]]!
  const cuts: number[] = []
  let turn = 0
  const { post, compile } = r.backend
  if (messageRows > 1)
    r.backend.compile = (table, hints) => {
      const compiled = compile.call(r.backend, table, hints)
      compiled.edge.forEach((_, row) => {
        compiled.edge[row] = Math.min(table.rows, (Math.floor(row / messageRows) + 1) * messageRows)
      })
      return compiled
    }
  if (refuse)
    r.backend.compile = () => {
      throw Object.assign(new Error('refused'), { cause: { errno: 12 } })
    }
  r.backend.post = (posting, first, end, out) => {
    if (end % messageRows !== 0 && end !== posting.rows) cuts.push(end)
    r.clock += held(turn++)
    post.call(r.backend, posting, first, end, out)
  }
  const prepared = r.add(
    1,
    packets.map((bytes, j) => ({ heap: rawHeap(bytes - HEADER), ...(rates && { rateBytesPerSecond: rates[j]! }) })),
    'serial',
    65507,
  )
  bytesOf = packets
  const start = r.clock
  r.submit(1, prepared)
  let wakeups = 0
  let steps = 0
  const deadlines: number[] = []
  for (let sends = 0; ; ) {
    if (++steps > 1e6) throw new Error('no end')
    const next = r.engine.step(r.clock)
    if (next === NEXT_AT_DEADLINE) {
      expect(r.engine.deadline).toBeGreaterThan(r.clock)
      deadlines.push(r.engine.deadline)
      r.clock = r.engine.deadline + late(wakeups++)
    } else if (next === NEXT_IDLE) {
      if (sends === gaps.length) break
      r.clock += gaps[sends++]!
      r.submit(1, prepared)
    } else if (next !== NEXT_STEP_NOW) r.clock += 1000
  }
  return { posts, start, wakeups, count, cuts, end: r.clock, deadlines }
}

const equal = (n: number, bytes = PACKET): number[] => new Array(n).fill(bytes)

/** The most that went beyond what a rate allows in the same time, from any packet to any later one: the depth of a bucket that leaks. */
function excess(posts: readonly Post[], bytesPerNanosecond: number): number {
  let level = 0
  let most = 0
  for (const [i, { at, bytes }] of posts.entries()) {
    if (i > 0) level = Math.max(0, level - (at - posts[i - 1]!.at) * bytesPerNanosecond)
    level += bytes
    most = Math.max(most, level)
  }
  return most
}

describe('every burst is bounded', () => {
  const wakeUps = fc.array(fc.constantFrom(0, 0, 0, 1000, 50_000, 4e6), { minLength: 1, maxLength: 12 })
  const inTurn = (values: readonly number[]) => (i: number) => values[i % values.length]!

  test('by burstBytes and a packet beyond what the burst rate allows, whoever wakes up late; on average by the rate', () => {
    fc.assert(
      fc.property(
        fc.record({
          packets: fc.array(fc.integer({ min: HEADER + 1, max: 9000 }), { minLength: 1, maxLength: 60 }),
          burstBytes: fc.constantFrom(1, 500, 3000, 9000, 65536, 1e6),
          ratio: fc.constantFrom(1, 1.05, 1.5, 1000),
          messageRows: fc.constantFrom(1, 1, 3, 7),
          gaps: fc.array(fc.constantFrom(0, 100, 1e5, 3e7, 1e9), { maxLength: 8 }),
          catchUpSeconds: fc.constantFrom(0, 0.001, 0.05),
          late: wakeUps,
        }),
        ({ packets, burstBytes, ratio, messageRows, gaps, catchUpSeconds, late }) => {
          // As compile cuts them: no message of several packets beyond a burst.
          const rows = 9000 * messageRows <= burstBytes ? messageRows : 1
          const options = { burstBytes, burstRateRatio: ratio, catchUpSeconds }
          const { posts, start } = send({ packets, options, gaps, messageRows: rows, late: inTurn(late) })
          expect(posts).toHaveLength(packets.length * (gaps.length + 1))
          const most = burstBytes + Math.max(...packets)
          expect(excess(posts, (RATE * ratio) / 1e9)).toBeLessThanOrEqual(most + 1)
          expect(excess([{ at: start, bytes: 0 }, ...posts], RATE / 1e9)).toBeLessThanOrEqual(
            most + 1 + (ratio === 1 ? 0 : Number.POSITIVE_INFINITY),
          )
          let sum = 0
          for (const { at, bytes } of posts) {
            sum += bytes
            expect(sum).toBeLessThanOrEqual(most + 1 + ((at - start) * RATE) / 1e9)
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  test('without a packet more where bursts are whole packets and the sender is on time', () => {
    for (const burstBytes of [PACKET, 10_000, 65_000]) {
      const { posts } = send({ packets: equal(200), gaps: [0, 0], options: { burstBytes } })
      expect(excess(posts, RATE / 1e9)).toBeLessThanOrEqual(burstBytes + 0.01)
    }
  })

  test('by one and a half while it catches up, of packets that are half', () => {
    const late = (i: number): number => (i % 5 === 0 ? 4e6 : 0)
    const { posts } = send({ packets: equal(200), gaps: [0, 3e7, 0], options: { burstBytes: 2 * PACKET }, late })
    expect(excess(posts, (RATE * 1.05) / 1e9)).toBeLessThanOrEqual(3 * PACKET + 0.01)
  })

  test('where the thread lost its CPU between the look at the clock and the packets’ leaving', () => {
    const { posts } = send({ packets: equal(2000), options: { burstBytes: 10_000 }, held: (i) => (i % 9 === 8 ? 4e6 : 0) })
    expect(excess(posts, (RATE * 1.05) / 1e9)).toBeLessThanOrEqual(10_000 + PACKET)
  })

  test('messages go whole while the sender is on time', () => {
    const { posts, cuts, wakeups } = send({ packets: equal(700), messageRows: 7, options: { burstBytes: 10_000 } })
    expect([posts.length, cuts, wakeups]).toEqual([700, [], 99])
  })

  test.for([
    [1, 1],
    [999, 1],
    [1000, 1],
    [1001, 2],
    [2000, 2],
  ])('of %i bytes: %i packets at a time, the last of which crosses the line, and on the rate', ([burstBytes, together]) => {
    const { posts } = send({ packets: equal(50), options: { burstBytes: burstBytes! } })
    const times = posts.map((_, i) => Math.floor(i / together!) * together! * PACKET)
    expect(posts.map(({ at }) => Math.round(at - posts[0]!.at))).toEqual(times)
  })
})

describe('a wake-up for each burst, and nothing more', () => {
  test('at 100 Mb/s, bursts of 65536 bytes are 5 ms apart', () => {
    const rate = 12.5e6
    const { posts, deadlines } = send({
      packets: equal(640, 8192),
      gaps: [0, 0],
      options: { rateBytesPerSecond: rate, burstBytes: 65536 },
    })
    const bursts = posts.length / 8
    expect(deadlines).toHaveLength(bursts - 1)
    expect(deadlines[100]! - deadlines[99]!).toBeCloseTo((65536 * 1e9) / rate, 3)
  })
})

describe('a late thread', () => {
  test.for([0, 0.02, 0.2, 0.5, 0.7])('keeps the rate though every wake-up is late by %f of a burst', (share) => {
    const burst = 10_000
    const { posts, count } = send({ packets: equal(5000), options: { burstBytes: burst }, late: () => share * burst })
    const seconds = (posts.at(-1)!.at - posts[0]!.at) / 1e9
    expect((posts.length * PACKET) / seconds / RATE).toBeGreaterThan(0.997)
    expect(count('greatestLagNanoseconds')).toBeGreaterThanOrEqual(share * burst)
    if (share > 0) expect(count('lateNanoseconds')).toBeGreaterThan(100 * share * burst)
  })

  test('makes 4 ms up at the burst rate, whatever catchUpSeconds is, and is then on time', () => {
    for (const catchUpSeconds of [0, 0.05]) {
      const { posts, count, wakeups } = send({
        packets: equal(30_000),
        options: { catchUpSeconds, burstRateRatio: 1.25 },
        late: (i) => (i === 99 ? 4e6 : 0),
      })
      const lagOf = (i: number): number => posts[i]!.at - posts[0]!.at - i * PACKET
      expect(lagOf(990)).toBeCloseTo(0, 3)
      expect(lagOf(1000)).toBeCloseTo(4e6, 3)
      // To a burst.
      expect(Math.abs(lagOf(11_000) - (4e6 - 10_000 * PACKET * (1 - 1 / 1.25)))).toBeLessThanOrEqual(10 * PACKET)
      // Packets of a burst go before their time, none behind it.
      expect(Math.max(...[...posts.keys()].slice(21_000).map(lagOf))).toBeCloseTo(0, 3)
      expect(count('greatestLagNanoseconds')).toBeCloseTo(4e6, 3)
      expect(count('lateNanoseconds')).toBeCloseTo(4e6, 3)
      expect([count('lagNanoseconds'), count('bytesBehind'), count('starvedNanoseconds')]).toEqual([0, 0, 0])
      expect(wakeups).toBeLessThan(3050)
    }
  })

  test('says how far behind it is', () => {
    const { count } = send({ packets: equal(1000), late: (i) => (i === 98 ? 4e6 : 0) })
    expect(count('lagNanoseconds')).toBeCloseTo(4e6, 3)
    expect(count('bytesBehind')).toBe((4e6 * RATE) / 1e9)
  })
})

describe('a time without work', () => {
  /** A batch takes a millisecond at the rate. */
  const packets = equal(1000)
  const MS = 1e6

  test.for([
    // Packets go in bursts of 10: at the batch's last one, the next is due in 10 000 ns.
    [0.05, 20, 19.99, 0],
    [0.05, 70, 50, 19.99],
    [0, 20, 0, 19.99],
  ])('catchUpSeconds %f: of %i ms %f are made up and %f given up', ([catchUpSeconds, gap, madeUp, givenUp]) => {
    const { posts, count } = send({
      packets,
      gaps: [gap! * MS, ...equal(300, 0)],
      options: { catchUpSeconds: catchUpSeconds!, burstRateRatio: 1.25 },
    })
    expect(count('madeUpNanoseconds')).toBeCloseTo(madeUp! * MS, 0)
    expect(count('givenUpNanoseconds')).toBeCloseTo(givenUp! * MS, 0)
    expect(count('starvedNanoseconds')).toBeCloseTo((gap! - 0.01) * MS, 0)
    expect([count('gapsMadeUp'), count('gapsGivenUp')]).toEqual([Number(madeUp! > 0), Number(givenUp! > 0)])
    const last = posts.length - 10
    expect(posts[last]!.at - posts[0]!.at).toBeCloseTo(last * PACKET + givenUp! * MS, 0)
    const second = posts.slice(1000, 2000)
    const rate = madeUp! > 0 ? 1.25 : 1
    expect(second[990]!.at - second[0]!.at).toBeCloseTo((990 * PACKET) / rate, 0)
  })

  test('a caller that is always late by less gets no more credit than catchUpSeconds', () => {
    const { posts, count } = send({ packets, gaps: [...equal(300, 0.5 * MS), ...equal(300, 0)], options: { burstRateRatio: 1.25 } })
    expect(count('madeUpNanoseconds') + count('givenUpNanoseconds')).toBeCloseTo(count('starvedNanoseconds'), -2)
    // All credit is used up by the end, and what was given up is missing.
    const last = posts.length - 10
    expect(posts[last]!.at - posts[0]!.at).toBeCloseTo(last * PACKET + count('givenUpNanoseconds'), 0)
    expect(count('greatestLagNanoseconds')).toBeLessThanOrEqual(50 * MS + 1)
  })

  test('the time before the first batch is none', () => {
    const { posts, start, count } = send({ packets })
    expect(posts[0]!.at).toBe(start)
    expect([count('starvedNanoseconds'), count('gapsMadeUp'), count('gapsGivenUp')]).toEqual([0, 0, 0])
  })
})

describe('what cannot be sent takes its time too', () => {
  const OUTAGE = { from: 1e9 + 3e6, to: 1e9 + 5e6 }
  const failing = (how: 'skip' | 'late') => (_: number, now: number) =>
    now >= OUTAGE.from && now < OUTAGE.to ? { errno: 1, how } : undefined

  test.for(['skip', 'late'] as const)('packets that fail: %s', (how) => {
    const { posts, count } = send({ packets: equal(10_000), failAt: failing(how) })
    // To a burst: who fails packet by packet stops where the rest is not worth a message.
    expect(Math.abs(count('packetsFailed') - (OUTAGE.to - OUTAGE.from) / PACKET)).toBeLessThan(10)
    expect(Math.abs(posts[9990]!.at - posts[0]!.at - 9990 * PACKET)).toBeLessThan(10 * PACKET)
  })

  test('batches that the backend cannot take at all', () => {
    const { count, end, start } = send({ packets: equal(1000), gaps: equal(20, 0), refuse: true })
    expect(count('heapsFailed')).toBe(21_000)
    expect(end - start).toBeCloseTo(20 * 1000 * PACKET, 0)
  })

  test('a kernel without room for a while is made up for, and told', () => {
    const { posts, count } = send({
      packets: equal(20_000),
      options: { burstRateRatio: 1.25 },
      failAt: (_, now) => (now >= OUTAGE.from && now < OUTAGE.to ? { errno: 105, how: 'again' } : undefined),
    })
    const taken = posts.slice(-20_000)
    expect(count('refusedNanoseconds')).toBeGreaterThanOrEqual(2e6 - 10_000)
    expect(count('refusedNanoseconds')).toBeLessThan(3e6)
    expect(taken.at(-10)!.at - posts[0]!.at).toBeCloseTo(19_990 * PACKET, 0)
  })

  test('the lag grows while the kernel has no room, and is 0 again when that is made up for', () => {
    const refused: { readonly late: number; readonly told: number }[] = []
    const { count } = send({
      packets: equal(20_000),
      options: { burstRateRatio: 1.25 },
      failAt(_, now, count) {
        if (now < OUTAGE.from || now >= OUTAGE.to) return undefined
        refused.push({ late: now - OUTAGE.from, told: count('lagNanoseconds') })
        return { errno: 105, how: 'again' }
      },
    })
    expect(refused.length).toBeGreaterThan(3)
    // Each refusal is told by the next one; half a burst may be due.
    for (const [i, { told }] of refused.slice(1).entries()) expect(told).toBeGreaterThanOrEqual(refused[i]!.late - 10_000)
    expect(count('greatestLagNanoseconds')).toBeGreaterThan(OUTAGE.to - OUTAGE.from - 10_000)
    expect(count('lagNanoseconds')).toBeLessThan(20_000)
  })
})

test('a rate of the wire counts what is around every packet', () => {
  // Over IPv4: preamble 8, Ethernet 14, IP 20, UDP 8, FCS 4, gap 12 (IEEE 802.3, RFC 791, RFC 768).
  const { posts } = send({ packets: equal(100), options: { rateBasis: 'wire', burstBytes: 1 } })
  expect(posts[99]!.at - posts[0]!.at).toBeCloseTo(99 * (PACKET + 66), 3)
})

describe('rates per heap', () => {
  test('each takes its own time, and bursts stay bounded', () => {
    const rates = [-1, 1e8, 0, 4e9, -1]
    const costs = [PACKET, 10 * PACKET, 0, PACKET / 4, PACKET]
    const { posts } = send({ packets: equal(5), rates, gaps: equal(40, 0), options: { burstBytes: 1 } })
    const sum = costs.reduce((total, cost) => total + cost)
    for (const [i, { at }] of posts.entries())
      expect(at - posts[0]!.at).toBeCloseTo(
        Math.floor(i / 5) * sum + costs.slice(0, i % 5).reduce((total, cost) => total + cost, 0),
        3,
      )
  })

  test('heaps without a rate go at once, behind those that have one', () => {
    const { posts } = send({ packets: equal(1000), rates: equal(1000, 0), gaps: [0] })
    expect(posts.every(({ at }) => at === posts[0]!.at)).toBe(true)
  })
})
