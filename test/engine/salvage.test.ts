/**
 * Engines that end anywhere, under a clock of the test's own: another takes over the ring, each submission settles once, no heap is called sent that
 * did not go, no heap cnt goes twice, and the counts add up. A failing round names its seed.
 */
import { expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { type MemoryBackend, openMemory } from '#dist/src/backend/memory.js'
import type { CompiledBatch } from '#dist/src/batch/compile.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { type EngineMessage, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW } from '#dist/src/engine/contract.js'
import { Engine } from '#dist/src/engine/engine.js'
import type { HeapStatus, OutcomeMessage } from '#dist/src/engine/outcome.js'
import * as R from '#dist/src/engine/ring.js'
import { salvage } from '#dist/src/engine/salvage.js'
import { SpeadcastError } from '#dist/src/errors.js'
import { COUNTER } from '#dist/src/stats.js'
import { cntOf, ENGINE_OPTIONS, rawHeap, submitSequence, submitTo } from '../support/engine-rig.js'
import { randomOf } from '../support/random.js'

const SUBSTREAMS = 4
const ALL = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1'
const ROUNDS = ALL ? 500 : 100

const SUMMED = ['heapsSent', 'heapsFailed', 'heapsFlushed', 'packetsFailed'] as const

const ENDED = new Error('the thread ended')
const DIED = new SpeadcastError('ERR_SPEADCAST_WORKER', ENDED.message)

/** Has the n-th call of one of these end the thread, before or after it has done its work. */
function endIn(targets: readonly (readonly [object, string])[], random: () => number): void {
  const [target, name] = targets[Math.floor(random() * targets.length)]!
  const methods = target as Record<string, (...args: unknown[]) => unknown>
  const does = methods[name]!.bind(target)
  const after = random() < 0.5
  let left = 1 + Math.floor(random() * 4)
  methods[name] = (...args) => {
    if (--left > 0) return does(...args)
    if (after) does(...args)
    throw ENDED
  }
}

interface Sent {
  readonly heaps: number
  readonly packetsOf: (heap: number) => number
}

function round(seed: number): Record<HeapStatus | 'aborted', number> {
  const random = randomOf(seed)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!
  // Counts and the ledger's places wrap.
  const memory = R.Ring.memoryFor(SUBSTREAMS, pick([0, -7, 2 ** 31 - 5]))
  const compiled = new Map<number, CompiledBatch>()
  /** What was submitted: heaps, or the next heap cnt. */
  const submissions = new Map<number, Sent | number>()
  const outcomes = new Map<number, OutcomeMessage>()
  const packets = new Map<number, number>()
  const tally = { sent: 0, partial: 0, failed: 0, flushed: 0, unknown: 0, skipped: 0, aborted: 0 }
  let counted = 0
  let clock = 1e9
  let id = 1
  let settled = new R.Ring(memory).settled
  /** The least heap cnt that a send may have next. */
  let cntFrom = 1
  const settlement = new R.Settlement()

  const harvest = (ring: R.Ring): void => {
    for (; settled !== ring.settled; settled = (settled + 1) | 0) {
      ring.take(settled, settlement)
      const sent = submissions.get(settled)!
      expect(submissions.delete(settled)).toBe(true)
      const outcome = outcomes.get(settled)
      outcomes.delete(settled)
      if (typeof sent === 'number') {
        expect(sent).toBeGreaterThanOrEqual(cntFrom)
        cntFrom = sent
        continue
      }
      if (settlement.outcome === R.OUTCOME_ABORTED) {
        tally.aborted += sent.heaps
        continue
      }
      counted += sent.heaps
      expect(settlement.outcome === R.OUTCOME_FAILED).toBe(outcome !== undefined)
      const heaps = outcome?.heaps ?? new Array<HeapStatus>(sent.heaps).fill('sent')
      expect(heaps).toHaveLength(sent.heaps)
      for (const [j, status] of heaps.entries()) {
        tally[status]++
        const went = packets.get(settlement.firstCnt + j) ?? 0
        if (status === 'sent') expect(went).toBe(sent.packetsOf(j))
        if (status !== 'flushed') packets.delete(settlement.firstCnt + j)
      }
      if (!heaps.includes('flushed')) {
        expect(settlement.firstCnt).toBeGreaterThanOrEqual(cntFrom)
        cntFrom = settlement.firstCnt + sent.heaps
      }
    }
  }

  const engines = 1 + Math.floor(random() * 5)
  for (let k = 0; k < engines; k++) {
    const last = k === engines - 1
    const ring = new R.Ring(memory)
    const chance = pick([0, 0, 0.1])
    const failAt = () => (random() < chance ? { errno: ERRNO.EPERM, how: pick(['skip', 'late'] as const) } : undefined)
    const taken = { completeAfterReaps: pick([1, 2, 7]), ...(random() < 0.5 && { acceptPerPost: 3 }) }
    const backend = openMemory({ substreams: SUBSTREAMS, failAt, ...taken }, { counters: ring.counters, wake: () => {} })
    const tell = {
      emit: (message: EngineMessage) => void (message.type === 'outcome' && outcomes.set(message.submission, message)),
    }
    const engine = new Engine(
      backend,
      ring,
      { ...ENGINE_OPTIONS, maxInFlight: pick([1, 3, 8]) },
      (message) => tell.emit(message),
      () => {},
      () => {},
      () => clock,
    )
    for (const [variant, table] of compiled) engine.addVariant(variant, table)
    if (!last)
      endIn(
        [
          [tell, 'emit'],
          [backend, 'post'],
          [backend, 'reap'],
          [ring, 'claim'],
          [ring, 'noteFirstCnt'],
          [ring, 'settle'],
          [ring, 'publish'],
          [ring.ledger, 'launch'],
          [ring.ledger, 'post'],
          [ring.ledger, 'settle'],
          [ring.ledger, 'noteSequence'],
          [ring.ledger, 'setSequence'],
          [ring.accounts, 'sent'],
          [ring.accounts, 'failed'],
        ],
        random,
      )
    try {
      for (let i = 0; i < 15; i++) {
        for (let n = Math.floor(random() * 3); n > 0; n--) {
          const substreams = Array.from({ length: 1 + Math.floor(random() * 6) }, () => Math.floor(random() * SUBSTREAMS))
          const heaps = substreams.map((substream) => ({ heap: rawHeap(pick([8, 500, 2000])), substream }))
          const cut = { packetSizeBytes: 600, split: 'even' as const, headroomBytes: 0 }
          const prepared = new PreparedHeaps(heaps, pick(['serial', 'round-robin'] as const), cut)
          prepared.fill(heaps)
          const table = prepared.compilation().compile()
          compiled.set(id, table)
          engine.addVariant(id, table)
          const { rowsOfHeaps } = table
          submissions.set(submitTo(ring, id++, prepared), {
            heaps: heaps.length,
            packetsOf: (j) => rowsOfHeaps[j + 1]! - rowsOfHeaps[j]!,
          })
          if (random() < 0.05) ring.withdraw((ring.submitted - 1) | 0)
        }
        if (random() < 0.1) submissions.set(submitSequence(ring, 0, 1000 * id, 0, 1), 1000 * id)
        for (let steps = Math.floor(random() * 12); steps > 0; steps--) {
          const next = engine.step(clock)
          clock = next === NEXT_AT_DEADLINE ? Math.max(clock, engine.deadline) : clock + (next === NEXT_STEP_NOW ? 0 : 1000)
        }
        keep(backend, packets)
        if (random() < 0.5) harvest(ring)
      }
      for (let steps = 0; last && engine.step(clock) !== NEXT_IDLE; steps++) {
        clock += 1e6
        expect(steps).toBeLessThan(10_000)
      }
    } catch (error) {
      if (error !== ENDED) throw error
    }
    keep(backend, packets)
    if (!last) {
      const rescued = salvage({
        memory,
        substreams: SUBSTREAMS,
        compiledOf: (variant) => compiled.get(variant),
        died: DIED,
        all: random() < 0.1,
        interludeHeaps: undefined,
        told: (submission) => outcomes.has(submission),
      })
      for (const outcome of rescued.outcomes) outcomes.set(outcome.submission, outcome)
    }
    harvest(ring)
  }
  const ring = new R.Ring(memory)
  expect(submissions.size).toBe(0)
  expect(outcomes.size).toBe(0)
  // What is left of packets would be of heaps that were called flushed.
  expect([...packets]).toEqual([])
  const { heapsSent, heapsFailed, heapsSkipped } = COUNTER
  const { counters } = ring
  expect(counters[heapsSent]! + counters[heapsFailed]! + counters[heapsSkipped]!).toBe(counted)
  const each = ring.accounts.read(['a', 'b', 'c', 'd'])
  const sumOf = (name: (typeof SUMMED)[number] | 'packets' | 'udpBytes') => each.reduce((sum, one) => sum + one[name], 0)
  for (const name of SUMMED) expect(sumOf(name)).toBe(counters[COUNTER[name]])
  // Packets of unknown heaps are the stream's, and no substream's.
  for (const name of ['packets', 'udpBytes'] as const) expect(sumOf(name)).toBeLessThanOrEqual(counters[COUNTER[name]]!)
  return tally
}

/** Takes the packets of a backend, by heap cnt. */
function keep({ packets }: MemoryBackend, all: Map<number, number>): void {
  for (const packet of packets.splice(0)) all.set(cntOf(packet), (all.get(cntOf(packet)) ?? 0) + 1)
}

test(`${ROUNDS} rounds of engines that end anywhere`, () => {
  const sums: Record<string, number> = {}
  for (let seed = 1; seed <= ROUNDS; seed++) {
    try {
      for (const [status, heaps] of Object.entries(round(seed))) sums[status] = (sums[status] ?? 0) + heaps
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
    }
  }
  for (const status of ['sent', 'flushed', 'unknown', 'failed', 'aborted'] as const) expect(sums[status]).toBeGreaterThan(0)
}, 120_000)

test('heap cnts that repeated descriptors took from a new sequence do not go again', () => {
  const memory = R.Ring.memoryFor(1)
  const compiled = new Map<number, CompiledBatch>()
  let clock = 1e9
  const begin = (completeAfterReaps: number) => {
    const ring = new R.Ring(memory)
    const backend = openMemory({ substreams: 1, completeAfterReaps }, { counters: ring.counters, wake: () => {} })
    const nothing = () => {}
    const engine = new Engine(backend, ring, ENGINE_OPTIONS, nothing, nothing, nothing, () => clock)
    for (const [id, table] of compiled) engine.addVariant(id, table)
    const step = () => {
      for (let i = 0; i < 10; i++) {
        engine.step(clock)
        clock += 1000
      }
      return backend.packets.map(cntOf)
    }
    return { ring, engine, step }
  }
  const heaps = [{ heap: rawHeap(8) }]
  const prepared = new PreparedHeaps(heaps, 'serial', { packetSizeBytes: 600, split: 'even', headroomBytes: 0 })
  prepared.fill(heaps)
  const table = prepared.compilation().compile()
  compiled.set(1, table)
  compiled.set(2, table)
  // The first heap never completes, so the sequence is set and does not settle.
  const dead = begin(1e6)
  submitTo(dead.ring, 1, prepared)
  submitSequence(dead.ring, 0, 5000, 0, 1)
  dead.step()
  dead.engine.interlude(2, 1, prepared.compilation().rows, false)
  expect(dead.step()).toEqual([1, 5000])
  const { interlude } = salvage({
    memory,
    substreams: 1,
    compiledOf: (id) => compiled.get(id),
    died: DIED,
    all: false,
    interludeHeaps: 1,
    told: () => false,
  })
  expect(interlude!.outcome!.heaps).toEqual(['unknown'])
  const next = begin(1)
  submitTo(next.ring, 1, prepared)
  expect(next.step()).toEqual([5001])
})
