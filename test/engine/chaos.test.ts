/**
 * Engines that share a thread, with the observation clock, loops, policies, late wake-ups, steps of the wall clock, withdrawals and ends at
 * random, under a clock of the test's own: each submission and each loop settles once, and the counts add up. A failing round names its seed.
 */
import { expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { BatchTemplate } from '#dist/src/batch/template.js'
import { type ErrorPolicy, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import { LOOP_WORDS, type LoopMessage } from '#dist/src/engine/loop.js'
import type { OutcomeMessage } from '#dist/src/engine/outcome.js'
import * as R from '#dist/src/engine/ring.js'
import type { TaiReading } from '#dist/src/engine/schedule.js'
import { Histogram } from '#dist/src/histogram.js'
import { Item, ItemGroup, makeFlavour } from '#dist/src/spead/index.js'
import { COUNTER, type CounterName } from '#dist/src/stats.js'
import { settlementOf, steppedRig } from '../support/engine-rig.js'
import { randomOf } from '../support/random.js'

/** Ten thousand take a minute: SPEADCAST_CHAOS_ROUNDS=10000 npm test -- test/engine/chaos.test.ts. */
const ROUNDS = Number(process.env.SPEADCAST_CHAOS_ROUNDS ?? (process.env.CI === 'true' ? 2000 : 300))
const SYNC = 1_790_000_000
const HEAPS = 4
const SAMPLES = 4096
/** A heap takes 100 µs. */
const HEAP_NANOSECONDS = 1e5
const SUBSTREAMS = 2
const ENDPOINTS = ['a', 'b']
const FLAVOUR = makeFlavour({ heapAddressBits: 48, bugCompat: 0 })
const ITEMS = new ItemGroup()
ITEMS.add(new Item({ id: 0x1600, name: 'timestamp', format: [['u', 48]], shape: [] }))
ITEMS.add(new Item({ id: 0x3300, name: 'samples', dtype: '|i1', shape: [600] }))

/** TAI beside the test's clock, which is `zero` nanoseconds behind the synchronisation. */
class VirtualTai implements TaiReading {
  seconds = 0
  nanoseconds = 0
  at = 0
  uncertainty = 0
  zero = 0

  read(now: () => number): void {
    this.at = now()
    const nanoseconds = this.zero + this.at
    this.seconds = SYNC + Math.floor(nanoseconds / 1e9)
    this.nanoseconds = nanoseconds - Math.floor(nanoseconds / 1e9) * 1e9
  }
}

type Random = () => number

function policyOf(random: Random): ErrorPolicy {
  const retry = {
    firstNanoseconds: 1e4 + random() * 1e5,
    mostNanoseconds: 1e6,
    forNanoseconds: random() * 2e7,
    duplicates: random() < 0.5,
  }
  return { skips: random() < 0.4, retry: random() < 0.3 ? undefined : retry }
}

/** An engine, what was submitted to it, and what it must say of it. */
class Subject {
  readonly rig: ReturnType<typeof steppedRig>
  readonly tai = new VirtualTai()
  /** Heaps of each submission, by its count; of a loop none. */
  readonly submissions = new Map<number, number>()
  loops = 0
  withdrawn = 0
  next = NEXT_STEP_NOW
  chance = 0
  #id = 1

  constructor(readonly random: Random) {
    const clocked = random() < 0.6
    const late = random() < 0.5 ? ('skip' as const) : ('slip' as const)
    const schedule = {
      ...{ syncSeconds: SYNC, syncNanoseconds: 0, sampleRateHz: (SAMPLES * 1e9) / HEAP_NANOSECONDS, samplesPerHeap: SAMPLES },
      ...{ item: 'timestamp', startSeconds: undefined, late, toleranceNanoseconds: 1e6 },
      errors: new Float64Array(Histogram.DOUBLES),
    }
    const hows = random() < 0.5 ? (['skip', 'late', 'again'] as const) : (['skip', 'again'] as const)
    const failAt = () =>
      random() < this.chance ? { errno: ERRNO.EPERM, how: hows[Math.floor(random() * hows.length)]! } : undefined
    const few = random() < 0.3 && { acceptPerPost: 1 }
    this.rig = steppedRig(
      { substreams: SUBSTREAMS, failAt, completeAfterReaps: 1 + Math.floor(random() * 3), ...few },
      {
        maxInFlight: 1 + Math.floor(random() * 8),
        ...(clocked ? { schedule } : random() < 0.5 && { rateBytesPerSecond: 2e7, burstBytes: 4000 }),
        ...(random() < 0.7 && { onError: Array.from({ length: SUBSTREAMS }, () => policyOf(random)) }),
      },
      this.tai,
    )
    this.rig.clock = 0
  }

  /** A batch whose first heap is due in so many heaps' times, sooner or later. */
  #batch(now: number) {
    const template = new BatchTemplate({
      ...{ items: ITEMS, heaps: HEAPS, flavour: FLAVOUR, packetSizeBytes: this.random() < 0.5 ? 1472 : 400, split: 'even' },
      ...{ repeatPointers: false, groupMode: this.random() < 0.5 ? 'serial' : 'round-robin', memory: {}, headroomBytes: 0 },
      substreams: Uint16Array.from({ length: HEAPS }, (_, j) => j % SUBSTREAMS),
      mergesEqualPackets: false,
      inBandDescriptors: false,
    })
    const first = Math.max(0, Math.floor((this.tai.zero + now) / HEAP_NANOSECONDS + this.random() * 60 - 20))
    template.immediate('timestamp').setRamp(first * SAMPLES, SAMPLES)
    template.validate(HEAPS)
    const compilation = template.compilation(HEAPS)
    const id = this.#id++
    this.rig.engine.addVariant(id, compilation.compile())
    return { variant: id, heaps: HEAPS, rows: compilation.rows }
  }

  send(now: number): void {
    const { ring } = this.rig
    const count = ring.push({ ...this.#batch(now), explicitCnts: false, sequence: undefined }, R.STATE_QUEUED)
    this.submissions.set(count, HEAPS)
    if (this.random() < 0.1 && ring.withdraw(count)) this.withdrawn += HEAPS
  }

  /** A loop of one batch or two, which ends by itself or by `stop`. */
  loop(now: number): void {
    const { engine, ring } = this.rig
    const batches = Array.from({ length: 1 + Math.floor(this.random() * 2) }, () => this.#batch(now))
    const window = { batches, timestamp: 'timestamp', advance: HEAPS * SAMPLES * batches.length }
    const turn = this.random() < 0.7 ? { after: Math.floor(this.random() * 9) } : undefined
    const words = new Float64Array(new SharedArrayBuffer(8 * LOOP_WORDS))
    engine.loops.control({ type: 'loop', id: ++this.loops, window, turn, stopsOnFailure: this.random() < 0.2, words })
    const submission = { variant: 0, heaps: 0, rows: 0, explicitCnts: false, sequence: undefined, loop: this.loops }
    this.submissions.set(ring.push(submission, R.STATE_FINAL), 0)
  }

  stopLoops(): void {
    for (let id = 1; id <= this.loops; id++) this.rig.engine.loops.control({ type: 'turn', id, turn: { after: 0, atOnce: true } })
  }

  step(now: number): void {
    this.rig.clock = now
    this.next = this.rig.engine.step(now, this.random() < 0.5 ? Number.POSITIVE_INFINITY : 2000)
  }

  /** Throws if anything was lost, or settled twice. */
  judge(): void {
    const { ring, messages, backend } = this.rig
    expect(ring.settled).toBe(this.submissions.size)
    const outcomes = messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
    expect(new Set(outcomes.map(({ submission }) => submission)).size).toBe(outcomes.length)
    let claimed = 0
    for (const [count, heaps] of this.submissions) {
      const { outcome } = settlementOf(ring, count)
      expect(outcome === R.OUTCOME_FAILED).toBe(outcomes.some(({ submission }) => submission === count))
      if (outcome !== R.OUTCOME_ABORTED) claimed += heaps
    }
    const over = messages.filter(
      (message): message is LoopMessage & { event: 'over' } => message.type === 'loop' && message.event === 'over',
    )
    expect(new Set(over.map(({ id }) => id)).size).toBe(over.length)
    expect(over.length).toBeLessThanOrEqual(this.loops)
    for (const { counts } of over) claimed += counts.heaps
    const of = (name: CounterName): number => ring.counters[COUNTER[name]]!
    expect(of('heapsSent') + of('heapsFailed') + of('heapsSkipped')).toBe(claimed)
    const accounts = ring.accounts.read(ENDPOINTS)
    for (const name of [
      'heapsSent',
      'heapsFailed',
      'heapsSkipped',
      'packets',
      'packetsFailed',
      'packetsRetried',
      'udpBytes',
    ] as const)
      expect(
        accounts.reduce((sum, each) => sum + each[name], 0),
        name,
      ).toBe(of(name))
    // Packets whose fate nobody learns may have gone, and so may those that are posted twice for that.
    expect(backend.packets.length).toBeGreaterThanOrEqual(of('packets'))
  }
}

function round(seed: number): Subject[] {
  const random = randomOf(seed)
  const subjects = Array.from({ length: 1 + Math.floor(random() * 3) }, () => new Subject(random))
  let now = 0
  /** A turn of the thread for everybody, and the time until somebody can go on. */
  const turn = (): void => {
    let soonest = Number.POSITIVE_INFINITY
    for (const each of subjects) {
      for (let k = 0; k < 20; k++) {
        each.step(now)
        if (each.next !== NEXT_STEP_NOW) break
      }
      const { engine } = each.rig
      if (each.next === NEXT_STEP_NOW) soonest = now
      else if (each.next === NEXT_AT_DEADLINE) soonest = Math.min(soonest, engine.deadline)
      else if (each.next !== NEXT_IDLE && each.next !== NEXT_STOPPED) soonest = Math.min(soonest, engine.retryAt, now + 5000)
    }
    // The thread wakes up late now and then.
    const late = random() < 0.02 ? random() * 5e6 : random() < 0.005 ? 2e8 : 0
    if (soonest < Number.POSITIVE_INFINITY) now = Math.max(now, soonest) + late
  }
  for (let i = 0; i < 6; i++) {
    for (const each of subjects) {
      each.chance = random() < 0.5 ? random() * 0.5 : 0
      if (random() < 0.6) each.send(now)
      if (random() < 0.2) each.loop(now)
      if (random() < 0.1) each.tai.zero += (random() - 0.5) * 1e7
      if (random() < 0.1) each.stopLoops()
    }
    for (let k = Math.floor(random() * 20); k > 0; k--) turn()
  }
  const ends = random()
  for (const each of subjects) {
    each.chance = 0
    if (ends < 0.3) each.rig.ring.stop(R.STOP_ABORT)
    else {
      each.stopLoops()
      if (ends < 0.6) each.rig.ring.stop(R.STOP_DRAIN)
    }
  }
  const wanted = ends < 0.6 ? NEXT_STOPPED : NEXT_IDLE
  let turns = 0
  do turn()
  while (subjects.some(({ next }) => next !== wanted) && ++turns < 20_000)
  for (const each of subjects) {
    expect(each.next).toBe(wanted)
    each.judge()
  }
  return subjects
}

test(`${ROUNDS} rounds`, { timeout: 300_000 }, () => {
  const seen = { heapsSent: 0, heapsFailed: 0, heapsSkipped: 0, packetsRetried: 0, clockSteps: 0, loops: 0 }
  for (let seed = 1; seed <= ROUNDS; seed++) {
    let subjects: Subject[]
    try {
      subjects = round(seed)
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
    }
    for (const { rig, loops } of subjects) {
      for (const name of ['heapsSent', 'heapsFailed', 'heapsSkipped', 'packetsRetried', 'clockSteps'] as const)
        seen[name] += rig.ring.counters[COUNTER[name]]!
      seen.loops += loops
    }
  }
  console.log(`chaos: ${JSON.stringify(seen)}`)
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(ROUNDS / 30)
})
