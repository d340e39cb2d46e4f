/** The I/O thread's loop over the memory backend, on a clock of the test's own: who steps when, how it waits, and what it leaves alone. */
import { beforeEach, describe, expect, test } from 'vitest'
import { POLLIN } from '#dist/ffi/layout.js'
import { ERRNO } from '#dist/ffi/native-error.js'
import { type MemoryBackend, type MemoryOptions, openMemory } from '#dist/src/backend/memory.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { Contention } from '#dist/src/engine/contention.js'
import type { EngineOptions } from '#dist/src/engine/contract.js'
import { IoLoop } from '#dist/src/engine/io-loop.js'
import { Member, type MemberParts } from '#dist/src/engine/member.js'
import * as R from '#dist/src/engine/ring.js'
import { readCounters } from '#dist/src/stats.js'
import { ENGINE_OPTIONS, rawHeap, submitTo } from '../support/engine-rig.js'

const WAKE = 99
const LOOK_NANOSECONDS = 50
const HEAP_BYTES = 8192

class Host {
  clock = 0
  /** How long an offer of the CPU takes, and how late a sleep returns. */
  offerNanoseconds = 300
  lateNanoseconds = 0
  offers = 0
  /** Whether others run, as far as the kernel tells. */
  others: boolean | undefined
  /** The backends' descriptors are ready. */
  hasNews = false
  /** Sleeps that ended at once, because news was not read. */
  endedByNews = 0
  /** Lengths asked for, of sleeps that were not woken. */
  readonly sleeps: number[] = []
  /** Events and their times, the earliest first. */
  readonly events: { at: number; run: () => void }[] = []
  readonly ended: { member: Member; error: unknown }[] = []
  #announced = false
  readonly loop: IoLoop

  constructor(realTime = false) {
    const tools = {
      realTime,
      now: () => {
        this.clock += LOOK_NANOSECONDS
        this.#due()
        return this.clock
      },
      offerCpu: () => {
        this.offers++
        this.clock += this.offerNanoseconds
      },
      announced: () => this.#announced,
      wake: { fd: WAKE, clear: () => {} },
      poll: {
        reset: () => {},
        add: () => {},
        revents: (i: number) => (i > 0 && this.hasNews ? POLLIN : 0),
        wait: (nanoseconds: number) => this.#sleep(nanoseconds),
      },
    }
    this.loop = new IoLoop(tools, new Contention(new Int32Array(1), () => this.others), (member, error) =>
      this.ended.push({ member, error }),
    )
  }

  /** A sleep ends early when somebody wakes the thread: every event here does. */
  #sleep(nanoseconds: number): number {
    if (this.hasNews) {
      this.endedByNews++
      return 1
    }
    const event = this.events[0]
    if (event && event.at <= this.clock + nanoseconds) {
      this.clock = Math.max(this.clock, event.at)
      this.#due()
      return 1
    }
    this.sleeps.push(nanoseconds)
    this.clock += nanoseconds + this.lateNanoseconds
    return 0
  }

  #due(): void {
    while (this.events.length > 0 && this.events[0]!.at <= this.clock) this.events.shift()!.run()
  }

  at(nanoseconds: number, run: () => void): void {
    const i = this.events.findLastIndex((event) => event.at <= nanoseconds)
    this.events.splice(i + 1, 0, { at: nanoseconds, run })
  }

  /** Runs the loop until the clock is there. */
  runUntil(nanoseconds: number): void {
    this.#announced = false
    this.at(nanoseconds, () => {
      this.#announced = true
    })
    this.loop.run(false)
  }
}

interface Sender {
  readonly member: Member
  readonly ring: R.Ring
  /** Sends `count` batches of `heaps` heaps of 8 KiB. */
  send(count: number): void
  readonly settled: number
}

function sender(
  host: Host,
  heaps: number,
  options: Partial<EngineOptions> = {},
  memory: Partial<MemoryOptions> = {},
  parts: Partial<MemberParts> = {},
): Sender {
  const ring = new R.Ring()
  const backend = openMemory({ substreams: 1, keepPackets: false, ...memory }, { counters: ring.counters, wake: () => {} })
  takesTime(host, backend)
  const member = new Member({
    backend,
    ring,
    options: { ...ENGINE_OPTIONS, ...options },
    report: () => {},
    receive: () => undefined,
    avoidCpu: () => {},
    clock: () => host.clock,
    ...parts,
  })
  const references = Array.from({ length: heaps }, () => ({ heap: rawHeap(HEAP_BYTES) }))
  const prepared = new PreparedHeaps(references, 'serial', { packetSizeBytes: 9000, split: 'even' })
  prepared.fill(references)
  member.engine.addVariant(1, prepared.compilation().compile())
  host.loop.add(member)
  return {
    member,
    ring,
    send: (count) => {
      for (let i = 0; i < count; i++) submitTo(ring, 1, prepared)
    },
    get settled() {
      return ring.settled
    },
  }
}

/** Posting takes a microsecond a packet. */
function takesTime(host: Host, backend: MemoryBackend): void {
  const post = backend.post.bind(backend)
  backend.post = (posting, first, end, out) => {
    post(posting, first, end, out)
    host.clock += out.accepted * 1000
  }
}

let host: Host
beforeEach(() => {
  host = new Host()
})

describe('a lone member without a rate', () => {
  test('spins for work while it comes often, and sleeps when it does not', () => {
    const { send } = sender(host, 1)
    for (let i = 0; i < 10; i++) host.at(10_000 + i * 20_000, () => send(1))
    host.runUntil(200_000)
    expect(host.offers).toBeGreaterThan(100)
    const { offers } = host
    host.runUntil(1e9)
    // One spin of 0.1 ms, in vain.
    expect(host.offers - offers).toBeLessThan(300)
    expect(host.sleeps.length).toBeGreaterThan(10)
  })

  test('an offer of the CPU that takes 3 ms ends spinning, until it is calm', () => {
    const one = sender(host, 1)
    for (let i = 0; i < 16_000; i++) host.at(10_000 + i * 20_000, () => one.send(1))
    host.offerNanoseconds = 3e6
    host.runUntil(15e6)
    expect(host.offers).toBe(1)
    host.offerNanoseconds = 300
    host.runUntil(23e6)
    expect(host.offers).toBe(1)
    host.runUntil(30e6)
    expect(host.offers).toBeGreaterThan(100)
    host.runUntil(300e6)
    expect(one.settled).toBeGreaterThan(14_000)
  })

  test('nothing wakes it but submissions it could take', () => {
    // The device takes its time, and one submission at once.
    const one = sender(host, 1, { maxInFlight: 1 }, { completeAfterReaps: 1000 })
    one.send(5)
    const asleep: number[] = []
    for (let i = 1; i < 10; i++) host.at(i * 10e6, () => asleep.push(one.ring.asleep ? 1 : 0))
    host.runUntil(100e6)
    expect(asleep).toEqual(Array(9).fill(1))
    expect(host.offers).toBe(0)
  })
})

describe('a lone member with a rate', () => {
  const rate = { rateBytesPerSecond: 125e6, burstBytes: 65536 }

  test('sleeps once a burst, and neither spins nor offers its CPU', () => {
    const { send, ring } = sender(host, 64, rate)
    send(20)
    // 20 × 512 KiB take 84 ms.
    host.runUntil(60e6)
    expect(host.offers).toBe(0)
    // Seven packets of 8 KiB and their headers fit.
    const bursts = readCounters(ring.counters).udpBytes / (7 * (HEAP_BYTES + 48))
    expect(bursts).toBeGreaterThan(100)
    expect(host.sleeps.length).toBeLessThanOrEqual(bursts + 1)
  })

  test('its backend hears of every sleep', () => {
    const { send, member } = sender(host, 64, rate)
    let asked = 0
    member.backend.waitSet = () => {
      asked++
      return []
    }
    send(20)
    host.runUntil(50e6)
    expect(host.sleeps.length).toBeGreaterThan(50)
    expect(asked).toBeGreaterThanOrEqual(host.sleeps.length)
  })

  test('submissions do not wake it while it waits for its deadline', () => {
    const { send, ring } = sender(host, 64, rate)
    send(20)
    const asleep: number[] = []
    for (let ms = 1; ms < 50; ms++) host.at(ms * 1e6, () => asleep.push(ring.asleep ? 1 : 0))
    host.runUntil(50e6)
    expect(asleep).toEqual(Array(49).fill(0))
  })

  test('a sleep that returns 4 ms late costs no rate', () => {
    const { send, ring } = sender(host, 64, { ...rate, burstRateRatio: 2 })
    send(500)
    host.runUntil(100e6)
    host.lateNanoseconds = 4e6
    host.runUntil(101e6)
    host.lateNanoseconds = 0
    host.runUntil(1000e6)
    expect(readCounters(ring.counters).udpBytes / 125e6).toBeCloseTo(1, 2)
  })
})

describe('the thread that waits is told of settlements', () => {
  /** How much had settled at every telling. */
  function told(heaps: number, options: Partial<EngineOptions>, calm: boolean, watched = true) {
    const seen: number[] = []
    const one: Sender = sender(
      host,
      heaps,
      options,
      {},
      { calm: () => calm, waker: { signal: () => seen.push(one.settled), forget: () => {} } },
    )
    one.ring.watched = watched
    return { ...one, seen }
  }

  test('each by itself on a calm host', () => {
    const { send, seen } = told(1, {}, true)
    send(6)
    host.runUntil(1e6)
    expect(seen).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('when half of what is in flight has settled beside others, and of the rest before the thread sleeps', () => {
    const { send, seen } = told(64, {}, false)
    send(6)
    host.runUntil(10e6)
    expect(seen).toEqual([3, 5, 6])
  })

  test('with a rate, behind every burst that settled something', () => {
    const { send, seen } = told(8, { rateBytesPerSecond: 125e6, burstBytes: 4 * 8 * (HEAP_BYTES + 48) }, true)
    send(12)
    host.runUntil(100e6)
    expect(seen).toEqual([4, 8, 12])
  })

  test('a thread that does not wait is not told', () => {
    const { send, seen } = told(1, {}, true, false)
    send(6)
    host.runUntil(1e6)
    expect(seen).toEqual([])
  })
})

test('a thread with a real-time priority never looks for work: it sleeps, on a host that is busy and on one that is not', () => {
  for (const others of [undefined, true]) {
    host = new Host(true)
    host.others = others
    const one = sender(host, 1)
    const slept: boolean[] = []
    for (let i = 0; i < 50; i++)
      host.at(1e6 + i * 20_000, () => {
        slept.push(one.ring.asleep)
        one.send(1)
      })
    host.runUntil(4e6)
    expect(slept).toEqual(Array(50).fill(true))
    expect(one.settled).toBe(50)
    expect(host.offers).toBe(0)
    // A deadline that is near is slept for too.
    const paced = sender(host, 1, { rateBytesPerSecond: 1e9, burstBytes: 1 })
    const { sleeps } = host
    const before = sleeps.length
    for (let i = 0; i < 10; i++) paced.send(1)
    host.runUntil(10e6)
    expect(paced.settled).toBe(10)
    expect(sleeps.slice(before).filter((nanoseconds) => nanoseconds < 50_000).length).toBeGreaterThan(5)
    expect(host.offers).toBe(0)
  }
})

describe('beside others a thread that has nothing to do', () => {
  const LOOK_OF_A_GLANCE = 30_000

  /** Others are seen at an offer of the CPU that comes back late. */
  function besideOthers(): Sender {
    const one = sender(host, 1)
    host.others = true
    host.offerNanoseconds = 3e6
    host.at(10_000, () => one.send(1))
    host.runUntil(20e6)
    host.offers = 0
    return one
  }

  /** Starts of the sleeps that end when the next batch comes, of `count` batches that come `gap` apart. */
  function sleepsBetween(one: Sender, count: number, gap: number): boolean[] {
    const slept: boolean[] = []
    const first = host.clock + 1e6
    const submit = () => {
      slept.push(one.ring.asleep)
      one.send(1)
    }
    for (let i = 0; i < count; i++) host.at(first + i * gap, submit)
    host.runUntil(first + count * gap)
    return slept
  }

  test('looks for what a caller submits at once, and offers nobody its CPU', () => {
    const one = besideOthers()
    // The first few come behind glances in vain.
    const slept = sleepsBetween(one, 80, LOOK_OF_A_GLANCE)
    expect(slept.slice(-10)).toEqual(Array(10).fill(false))
    expect(host.offers).toBe(0)
  })

  test('sleeps at once where glances are in vain, all but 1 of 64 times', () => {
    const one = besideOthers()
    const slept = sleepsBetween(one, 300, 10 * LOOK_OF_A_GLANCE)
    expect(slept.filter((asleep) => asleep)).toHaveLength(300)
    expect(one.member.nextBlind).toBe(63)
  })
})

test('a thread that ran dry for long on a busy host sleeps in pieces the next time, for a while', () => {
  const one = sender(host, 1)
  // Late by a slice: others want the CPU.
  host.offerNanoseconds = 3e6
  host.at(10_000, () => one.send(1))
  host.runUntil(20e6)
  host.offerNanoseconds = 300
  host.at(21e6, () => one.send(1))
  host.sleeps.length = 0
  host.runUntil(25e6)
  expect(host.sleeps.slice(0, 4)).toEqual(Array(4).fill(600_000))
})

describe('members beside one another', () => {
  test('one at full speed does not starve one with a rate', () => {
    const fast = sender(host, 64)
    const paced = sender(host, 8, { rateBytesPerSecond: 125e6, burstBytes: 65536 })
    const feed = () => {
      fast.send(Math.max(0, 200 - (fast.ring.submitted - fast.settled)))
      paced.send(Math.max(0, 100 - (paced.ring.submitted - paced.settled)))
    }
    for (let ms = 0; ms < 100; ms++) host.at(ms * 1e6, feed)
    host.runUntil(100e6)
    expect(readCounters(paced.ring.counters).udpBytes / 12.5e6).toBeCloseTo(1, 1)
    // A microsecond a packet is 8.2 GB/s.
    expect(readCounters(fast.ring.counters).udpBytes / 0.82e9).toBeGreaterThan(0.8)
  })

  test('two at full speed get as many bytes each, whatever their batches', () => {
    const [large, small] = [sender(host, 64), sender(host, 4)]
    for (let ms = 0; ms < 50; ms++)
      for (const one of [large, small]) host.at(ms * 1e6, () => one.send(Math.max(0, 800 - (one.ring.submitted - one.settled))))
    host.runUntil(50e6)
    const [a, b] = [large, small].map(({ ring }) => readCounters(ring.counters).udpBytes)
    expect(b! / a!).toBeGreaterThan(0.9)
    expect(b! / a!).toBeLessThan(1.1)
  })

  test('a batch is posted in turns: a large one holds the others up for no longer', () => {
    // 32 MiB take 4 ms.
    const [large, paced] = [sender(host, 4096), sender(host, 8, { rateBytesPerSecond: 125e6, burstBytes: 65536 })]
    const posts: number[] = []
    const { post } = large.member.backend
    large.member.backend.post = (posting, first, end, out) => {
      posts.push((end - first) * HEAP_BYTES)
      post.call(large.member.backend, posting, first, end, out)
    }
    large.send(20)
    paced.send(150)
    host.runUntil(70e6)
    expect(large.settled).toBeGreaterThan(10)
    expect(Math.max(...posts)).toBeLessThanOrEqual(2 ** 19 + HEAP_BYTES)
    expect(readCounters(paced.ring.counters).greatestLagNanoseconds).toBeLessThan(200_000)
  })

  test('one whose engine throws ends by itself, and says why', () => {
    const [good, bad] = [sender(host, 1), sender(host, 1)]
    bad.member.backend.reap = () => {
      throw new Error('on purpose')
    }
    good.send(1)
    bad.send(1)
    host.at(1e6, () => good.send(1))
    host.runUntil(2e6)
    expect(host.ended).toEqual([{ member: bad.member, error: new Error('on purpose') }])
    expect(bad.ring.closed).toBe(true)
    expect(good.settled).toBe(2)
    expect(host.loop.size).toBe(1)
  })

  test('news below while refused packets wait to be posted again wakes the thread once', () => {
    let refusing = true
    const failAt = () => (refusing ? ERRNO.EPERM : undefined)
    const retry = { firstNanoseconds: 10e6, mostNanoseconds: 10e6, forNanoseconds: 1e9, duplicates: false }
    const patient = sender(host, 1, { onError: [{ skips: false, retry }] }, { failAt })
    const { backend } = patient.member
    backend.waitSet = () => [{ fd: WAKE + 1, events: POLLIN }]
    const { suspicion } = backend
    backend.suspicion = (thorough) => {
      if (thorough) host.hasNews = false
      return suspicion.call(backend, thorough)
    }
    patient.send(1)
    host.at(2e6, () => {
      host.hasNews = true
    })
    host.at(15e6, () => {
      refusing = false
    })
    host.runUntil(40e6)
    expect(host.endedByNews).toBe(0)
    expect(patient.settled).toBe(1)
  })

  test('those told to stop leave, each when it is through', () => {
    const [first, second] = [sender(host, 1), sender(host, 64, { rateBytesPerSecond: 125e6 })]
    second.send(2)
    host.at(1e6, () => first.ring.stop(R.STOP_DRAIN))
    host.at(2e6, () => second.ring.stop(R.STOP_DRAIN))
    host.runUntil(50e6)
    expect(host.ended.map(({ member }) => member)).toEqual([first.member, second.member])
    expect(second.settled).toBe(2)
    expect(host.loop.size).toBe(0)
  })
})
