/** Short batches posted in one call. The engine runs on the software NIC in this process, and a kernel socket takes the packets. */
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { openIbverbs } from '#dist/src/backend/verbs/raw.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { type EngineMessage, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import { Engine } from '#dist/src/engine/engine.js'
import * as R from '#dist/src/engine/ring.js'
import { COUNTER } from '#dist/src/stats.js'
import { IBVERBS_DEFAULTS } from '#dist/src/stream/config.js'
import { cntOf, ENGINE_OPTIONS, rawHeap, settlementOf, submitSequence, submitTo } from '../support/engine-rig.js'
import { inNamespace, needNic, nicHere, sleep } from '../support/nic.js'
import { openReceivers } from '../support/receivers.js'

const here = nicHere({ veth: { gsoMaxSegs: 1 } }, {}, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

beforeEach(needNic)

const BATCHES = 3
const HEAPS = 2
/** Packets of a heap. */
const PACKETS = 3
const ROWS = HEAPS * PACKETS

async function joinedRig() {
  const ring = new R.Ring()
  const receivers = await inNamespace(here.ns.name.b, () => openReceivers(1, '10.77.0.2'))
  const { poll: _, pollMicroseconds, ...options } = IBVERBS_DEFAULTS
  const backend = await inNamespace(here.ns.name.a, () =>
    openIbverbs(
      {
        ...options,
        endpoints: receivers.endpoints,
        sourcePort: 0,
        packetSizeBytes: 1472,
        neighbourTimeoutMs: 1000,
        pollNanoseconds: pollMicroseconds * 1000,
        verbsLibrary: here.nic.library,
      },
      { counters: ring.counters, wake: () => {} },
    ),
  )
  const messages: EngineMessage[] = []
  const settled: number[] = []
  const engine = new Engine(
    backend,
    ring,
    ENGINE_OPTIONS,
    (message) => messages.push(message),
    () => settled.push(ring.settled),
  )
  const batches = Array.from({ length: BATCHES }, (_, id) => {
    const references = Array.from({ length: HEAPS }, () => ({ heap: rawHeap(3000) }))
    const { headroomBytes, mergesEqualPackets } = backend.caps
    const cut = { packetSizeBytes: 1472, split: 'even', headroomBytes, mergesEqualPackets } as const
    const prepared = new PreparedHeaps(references, 'serial', cut)
    prepared.fill(references)
    expect(prepared.compilation().rows).toBe(ROWS)
    engine.addVariant(id + 1, prepared.compilation().compile())
    return prepared
  })
  onTestFinished(async () => {
    backend.close()
    await here.nic.command('clear')
    await receivers.close()
    here.nic.cleanReport()
  })
  const step = () => engine.step(performance.now() * 1e6)
  return {
    ring,
    engine,
    settled,
    step,
    arrived: async (packets: number) => (await receivers.arrived(packets)).map(cntOf),
    posts: () => ring.counters[COUNTER.posts]!,
    /** Submits all batches before the engine takes a step; returns their counts. */
    submit: () => batches.map((prepared, i) => submitTo(ring, i + 1, prepared)),
    /** The first batch, a new sequence of heap cnts, the last batch. */
    submitAround: (...sequence: [number, number, number, number]) => {
      submitTo(ring, 1, batches[0]!)
      submitSequence(ring, ...sequence)
      submitTo(ring, BATCHES, batches[BATCHES - 1]!)
    },
    async run() {
      const until = performance.now() + 5000
      while (ring.settled !== ring.submitted) {
        expect(performance.now()).toBeLessThan(until)
        if (step() === NEXT_STOPPED) break
        await sleep(0)
      }
    },
    /** States and outcomes of submissions, whose slots are empty from then on. */
    settlements: (counts: readonly number[]) => counts.map((count) => settlementOf(ring, count)),
    /** The statuses of the heaps of each batch that was not sent whole, in order. */
    told: () => messages.flatMap((message) => (message.type === 'outcome' ? [message.heaps] : [])),
  }
}

const outcomesOf = (settlements: readonly { outcome: number }[]) => settlements.map(({ outcome }) => outcome)

/** The heap cnts of the packets of heaps first … last, in order. */
const cnts = (first: number, last: number) =>
  Array.from({ length: (last - first + 1) * PACKETS }, (_, i) => first + Math.floor(i / PACKETS))

test('three batches that wait go in one call, in order, and settle with one word', async () => {
  const r = await joinedRig()
  for (let round = 1; round <= 3; round++) {
    const counts = r.submit()
    await r.run()
    const sent = expect.objectContaining({ state: R.STATE_SETTLED, outcome: R.OUTCOME_SENT })
    expect(r.settlements(counts)).toEqual(Array(BATCHES).fill(sent))
    expect(r.posts()).toBe(round)
  }
  expect(r.settled).toEqual([3, 6, 9])
  expect(await r.arrived(9 * ROWS)).toEqual(cnts(1, 9 * HEAPS))
  expect(r.ring.counters[COUNTER.packets]).toBe(9 * ROWS)
  expect(r.ring.counters[COUNTER.heapsSent]).toBe(9 * HEAPS)
})

test('each packet of three joined batches refused in turn: all arrive once and in order', async () => {
  const r = await joinedRig()
  const all = BATCHES * ROWS
  for (let k = 0; k < all; k++) {
    await here.nic.command(`refuse ${k + 1} ENOMEM`)
    const counts = r.submit()
    const before = r.posts()
    await r.run()
    expect(outcomesOf(r.settlements(counts)), `packet ${k}`).toEqual(Array(BATCHES).fill(R.OUTCOME_SENT))
    // One post for the joined call, one for the rest of the batch that it stopped in, and one for each batch behind that.
    expect(r.posts() - before).toBe(1 + BATCHES - Math.floor(k / ROWS))
  }
  expect(await r.arrived(all * all)).toEqual(cnts(1, all * BATCHES * HEAPS))
  expect(r.ring.counters[COUNTER.packets]).toBe(all * all)
  expect(r.told()).toEqual([])
})

test('a provider that refuses all: every batch fails with its errno, and when it relents they are joined again', async () => {
  const r = await joinedRig()
  await here.nic.command('refuse-every 1 ENOMEM')
  const counts = r.submit()
  await r.run()
  expect(outcomesOf(r.settlements(counts))).toEqual(Array(BATCHES).fill(R.OUTCOME_FAILED))
  expect(r.told()).toEqual(Array(BATCHES).fill(Array(HEAPS).fill('failed')))
  await here.nic.command('clear')
  const before = r.posts()
  r.submit()
  await r.run()
  expect(r.posts() - before).toBe(1)
  expect(await r.arrived(BATCHES * ROWS)).toEqual(cnts(1 + BATCHES * HEAPS, 2 * BATCHES * HEAPS))
})

test.for(Array.from({ length: BATCHES * ROWS }, (_, k) => k))(
  'packet %d of three joined batches completes with an error: before it all is sent, behind it nothing',
  async (k) => {
    const r = await joinedRig()
    await here.nic.command(`fail ${k + 1} GENERAL_ERR`)
    r.submit()
    await r.run()
    const statuses = Array.from({ length: BATCHES * HEAPS }, (_, j) => {
      const sent = Math.min(PACKETS, Math.max(0, k - j * PACKETS))
      if (sent === PACKETS) return 'sent'
      if (sent > 0) return 'partial'
      return k >= j * PACKETS ? 'failed' : 'flushed'
    })
    const ofBatches = Array.from({ length: BATCHES }, (_, b) => statuses.slice(b * HEAPS, (b + 1) * HEAPS))
    expect(r.told()).toEqual(ofBatches.filter((heaps) => heaps.some((status) => status !== 'sent')))
    r.submit()
    await r.run()
    const next = cnts(1 + BATCHES * HEAPS, 2 * BATCHES * HEAPS)
    expect(await r.arrived(k + next.length)).toEqual([...cnts(1, BATCHES * HEAPS).slice(0, k), ...next])
    expect(r.ring.counters[COUNTER.packets]).toBe(k + next.length)
    const failed = next.length - k
    const [{ heapsSent, heapsFlushed, packets, failedByCause } = {}] = r.ring.accounts.read(['a'])
    const count = (fate: string) => statuses.filter((status) => status === fate).length
    expect([heapsSent, heapsFlushed, packets]).toEqual([count('sent') + statuses.length, count('flushed'), k + next.length])
    expect(Object.values(failedByCause!).reduce((sum, n) => sum + n, 0)).toBe(failed)
    expect(failedByCause!.FLUSHED ?? 0).toBe(failed - 1)
  },
)

test('a withdrawn batch and a new sequence of heap cnts between joined ones keep their places', async () => {
  const r = await joinedRig()
  const counts = r.submit()
  expect(r.ring.withdraw(counts[1]!)).toBe(true)
  await r.run()
  const settlements = r.settlements(counts)
  expect(outcomesOf(settlements)).toEqual([R.OUTCOME_SENT, R.OUTCOME_ABORTED, R.OUTCOME_SENT])
  expect(settlements.map(({ state }) => state)).toEqual(Array(BATCHES).fill(R.STATE_SETTLED))
  r.submitAround(0, 100, 0, 1)
  await r.run()
  expect(r.posts()).toBe(2)
  expect(await r.arrived(4 * ROWS)).toEqual([...cnts(1, 3 * HEAPS), ...cnts(100, 99 + HEAPS)])
})

/**
 * The first packet of the second batch is refused once. After a step the first two batches are posted, and the third waits its
 * turn.
 */
async function oneWaits() {
  const r = await joinedRig()
  await here.nic.command(`refuse ${ROWS + 1} ENOMEM`)
  const counts = r.submit()
  r.step()
  expect(await r.arrived(2 * ROWS)).toEqual(cnts(1, 2 * HEAPS))
  return { ...r, counts }
}

test('stopped while one waits that was joined and not taken: it is flushed, and the others are sent', async () => {
  const r = await oneWaits()
  r.ring.stop(R.STOP_ABORT)
  expect(r.step()).toBe(NEXT_STOPPED)
  expect(outcomesOf(r.settlements(r.counts))).toEqual([R.OUTCOME_SENT, R.OUTCOME_SENT, R.OUTCOME_FAILED])
  expect(r.told()).toEqual([Array(HEAPS).fill('flushed')])
  expect(await r.arrived(2 * ROWS)).toHaveLength(2 * ROWS)
})

test('dropped while it waits, a batch is sent whole before its memory goes', async () => {
  const r = await oneWaits()
  for (let id = 1; id <= BATCHES; id++) r.engine.dropVariant(id)
  await r.run()
  expect(outcomesOf(r.settlements(r.counts))).toEqual(Array(BATCHES).fill(R.OUTCOME_SENT))
  expect(await r.arrived(BATCHES * ROWS)).toEqual(cnts(1, BATCHES * HEAPS))
  expect(r.told()).toEqual([])
})

test('joined while the port is down: every one of them is suspect, and lost', async () => {
  const r = await joinedRig()
  const send = async () => {
    const counts = r.submit()
    await r.run()
    return r.settlements(counts).map(({ suspect }) => suspect)
  }
  expect(await send()).toEqual(Array(BATCHES).fill(false))
  await here.nic.command('port down')
  await sleep(20)
  expect(await send()).toEqual(Array(BATCHES).fill(true))
  await here.nic.command('port up')
  await sleep(20)
  await send()
  await sleep(20)
  expect(await send()).toEqual(Array(BATCHES).fill(false))
  const sent = [...cnts(1, 6), ...cnts(13, 24)]
  expect(await r.arrived(sent.length)).toEqual(sent)
  expect(r.told()).toEqual([])
})
