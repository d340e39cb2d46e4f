/**
 * Random failures, policies, ends and withdrawals under a clock of the test's own: each submission settles once, and the counts add up.
 * A failing round names its seed.
 */
import { expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import type { Fault } from '#dist/src/backend/memory.js'
import { type ErrorPolicy, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import type { HeapStatus, OutcomeMessage } from '#dist/src/engine/outcome.js'
import * as R from '#dist/src/engine/ring.js'
import { COUNTER } from '#dist/src/stats.js'
import { cntOf, rawHeap, settlementOf, steppedRig, submitSequence } from '../support/engine-rig.js'
import { randomOf } from '../support/random.js'

/** A thousand take some seconds: they are for .ci/run and SPEADCAST_TEST_ALL=1 npm test. */
const ALL = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1'
const ROUNDS = ALL ? 1000 : 250
const SUBSTREAMS = 4
const ERRNOS = [ERRNO.EPERM, ERRNO.EHOSTUNREACH, ERRNO.ENOBUFS, ERRNO.EFAULT, ERRNO.ENETUNREACH] as const

function policyOf(random: () => number): ErrorPolicy {
  const skips = random() < 0.4
  if (random() < 0.3) return { skips, retry: undefined }
  const forNanoseconds = random() < 0.1 ? Number.POSITIVE_INFINITY : random() * 0.1e9
  return {
    skips,
    retry: {
      firstNanoseconds: 1e4 + random() * 1e6,
      mostNanoseconds: 2e6 + random() * 1e7,
      forNanoseconds,
      duplicates: random() < 0.5,
    },
  }
}

function round(seed: number): Record<HeapStatus | 'aborted', number> {
  const random = randomOf(seed)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!
  const policies = Array.from({ length: SUBSTREAMS }, () => policyOf(random))
  /** Chance that a packet to a substream fails, which changes with time. */
  const chance = new Float64Array(SUBSTREAMS)
  const hows = random() < 0.5 ? (['skip', 'skip', 'late', 'again'] as const) : (['skip', 'again'] as const)
  const mode = pick(['serial', 'round-robin'] as const)
  let fatal = random() < 0.05
  let healing = false
  const failAt = (_row: number, substream: number): Fault | undefined => {
    if (healing || random() >= chance[substream]!) return undefined
    if (fatal && random() < 0.02) return { errno: ERRNO.EBADF, how: 'fatal' }
    return { errno: pick(ERRNOS), how: pick(hows) }
  }
  const options = {
    onError: policies,
    maxInFlight: pick([1, 3, 8]),
    interruptible: true,
    ...(random() < 0.3 && { rateBytesPerSecond: 2e7, burstBytes: 4000 }),
  }
  const memory = { failAt, completeAfterReaps: pick([1, 1, 2, 7]), ...(random() < 0.4 && { acceptPerPost: 3 }) }
  const r = steppedRig(memory, options)
  const submissions = new Map<number, readonly number[]>()
  let between = 0
  let id = 1
  const packetSize = 600
  const submit = (): void => {
    const substreams = Array.from({ length: 1 + Math.floor(random() * 6) }, () => Math.floor(random() * SUBSTREAMS))
    const heaps = substreams.map((substream) => ({ heap: rawHeap(pick([8, 500, 2000]), substream), substream }))
    const prepared = r.add(id, heaps, mode, packetSize)
    const count = r.submit(id++, prepared)
    submissions.set(count, substreams)
    if (random() < 0.05) r.ring.withdraw(count)
  }
  const step = (): number => {
    const next = r.engine.step(r.clock)
    if (next === NEXT_AT_DEADLINE) r.clock = Math.max(r.clock, r.engine.deadline)
    else if (next !== NEXT_STEP_NOW) r.clock += pick([1000, 50_000, 400_000])
    return next
  }
  for (let i = 0; i < 12; i++) {
    if (random() < 0.5) chance.fill(pick([0, 0.3, 1]), Math.floor(random() * SUBSTREAMS))
    for (let k = Math.floor(random() * 4); k > 0; k--) submit()
    if (random() < 0.1) submissions.set(submitSequence(r.ring, 0, 1000 * (i + 1), 0, 1), [])
    if (random() < 0.2 && r.messages.filter(({ type }) => type === 'interlude').length === between) {
      const heaps = [{ heap: rawHeap(8, 9), substream: Math.floor(random() * SUBSTREAMS) }]
      const prepared = r.add(id, heaps, 'serial', packetSize)
      r.engine.interlude(id++, 1, prepared.compilation().rows, false)
      between++
    }
    for (let k = Math.floor(random() * 60); k > 0; k--) step()
  }
  fatal = false
  healing = random() < 0.5 || policies.some(({ retry }) => retry?.forNanoseconds === Number.POSITIVE_INFINITY)
  // Waits for room for ever where no policy bounds it.
  if (!healing) for (let s = 0; s < SUBSTREAMS; s++) chance[s] = Math.min(chance[s]!, 0.9)
  const ends = random()
  if (ends < 0.3) r.ring.stop(R.STOP_ABORT)
  else if (ends < 0.6) r.ring.stop(R.STOP_DRAIN)
  let next = NEXT_STEP_NOW
  for (let i = 0; i < 200_000 && next !== NEXT_IDLE && next !== NEXT_STOPPED; i++) next = step()
  expect(next).toBe(ends < 0.6 ? NEXT_STOPPED : NEXT_IDLE)

  // All have settled, in order, each once.
  expect(r.ring.settled).toBe(submissions.size)
  const outcomes = r.messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
  expect(new Set(outcomes.map(({ submission }) => submission)).size).toBe(outcomes.length)
  const fates = { sent: 0, partial: 0, failed: 0, flushed: 0, unknown: 0, skipped: 0, aborted: 0 }
  const byCount = new Map(outcomes.map((outcome) => [outcome.submission, outcome]))
  let heaps = 0
  for (const [count, substreams] of submissions) {
    heaps += substreams.length
    const { outcome } = settlementOf(r.ring, count)
    const told = byCount.get(count)
    expect(outcome === R.OUTCOME_FAILED).toBe(told !== undefined)
    if (outcome === R.OUTCOME_ABORTED) fates.aborted += substreams.length
    else if (!told) fates.sent += substreams.length
    else {
      expect(told.heaps).toHaveLength(substreams.length)
      for (const [j, status] of told.heaps.entries()) {
        fates[status]++
        // Only what a policy excuses is skipped.
        if (status === 'skipped') expect(policies[substreams[j]!]!.skips).toBe(true)
      }
    }
  }
  expect(Object.values(fates).reduce((sum, n) => sum + n, 0)).toBe(heaps)
  const { counters } = r.ring
  const interludes = r.messages.flatMap((message) => (message.type === 'interlude' ? [message.outcome?.heaps[0] ?? 'sent'] : []))
  const between0 = (status: HeapStatus) => interludes.filter((each) => each === status).length
  expect(counters[COUNTER.heapsSent]! - between0('sent')).toBe(fates.sent)
  expect(counters[COUNTER.heapsSkipped]! - between0('skipped')).toBe(fates.skipped)
  // Nothing went twice: what was kept is what was counted, and no two packets are the same. Packets whose fate nobody learns are not counted.
  if (fates.unknown + between0('unknown') === 0) expect(r.backend.packets.length).toBe(counters[COUNTER.packets])
  else expect(r.backend.packets.length).toBeGreaterThanOrEqual(counters[COUNTER.packets]!)
  const data = r.backend.packets.filter(({ bytes }) => bytes.at(-1) !== 9)
  const keys = new Set(data.map((packet) => `${packet.substream} ${Buffer.from(packet.bytes).toString('base64')}`))
  expect(keys.size).toBe(data.length)
  // Where all failures show at once, and heaps do not overlap, packets to an endpoint keep their order.
  if (mode === 'serial' && !hows.includes('late' as never))
    for (let s = 0; s < SUBSTREAMS; s++) {
      const cnts = data.filter(({ substream }) => substream === s).map(cntOf)
      expect(cnts.every((cnt, i) => i === 0 || cnts[i - 1]! <= cnt)).toBe(true)
    }
  return fates
}

test(`${ROUNDS} rounds: each send settles once, counts add up, nothing is sent twice`, () => {
  const seen = { sent: 0, partial: 0, failed: 0, flushed: 0, unknown: 0, skipped: 0, aborted: 0 }
  for (let seed = 1; seed <= ROUNDS; seed++) {
    let fates: ReturnType<typeof round>
    try {
      fates = round(seed)
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
    }
    for (const status of Object.keys(seen) as (keyof typeof seen)[]) seen[status] += fates[status]
  }
  for (const [status, count] of Object.entries(seen)) expect(count, status).toBeGreaterThan(0)
}, 120_000)
