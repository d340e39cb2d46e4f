/** Short batches posted in one call: the engine on the software NIC in this process, its packets taken by a socket of the kernel's. */
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { openIbverbs } from '#dist/src/backend/verbs/raw.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { Engine, type EngineMessage, NEXT_STOPPED } from '#dist/src/engine/engine.js'
import * as R from '#dist/src/engine/ring.js'
import { COUNTER } from '#dist/src/stats.js'
import { IBVERBS_DEFAULTS } from '#dist/src/stream/options.js'
import { cntOf, ENGINE_OPTIONS, rawHeap, submitTo } from '../support/engine-rig.js'
import { inNamespace, needNic, nicHere, sleep } from '../support/nic.js'
import { openReceivers } from '../support/receivers.js'

const here = nicHere({ veth: { gsoMaxSegs: 1 } }, {}, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

beforeEach(needNic)

const BATCHES = 3
const HEAPS = 2
/** Of a heap. */
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
    () => settled.push(Atomics.load(ring.control, R.C_SETTLED)),
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
    /** All batches, before a step is taken; returns their slots. */
    submit: () => batches.map((prepared, i) => submitTo(ring, i + 1, prepared)),
    async run() {
      const until = performance.now() + 5000
      while (Atomics.load(ring.control, R.C_SETTLED) !== Atomics.load(ring.control, R.C_SUBMITTED)) {
        expect(performance.now()).toBeLessThan(until)
        if (step() === NEXT_STOPPED) break
        await sleep(0)
      }
    },
    words: (slots: readonly number[], word: number) => slots.map((slot) => ring.slots[slot + word]!),
    /** What was said of the heaps of batches that were not sent whole, in turn. */
    told: () => messages.flatMap((message) => (message.type === 'outcome' ? [message.heaps] : [])),
  }
}

/** Packets of heaps first … last, in order. */
const cnts = (first: number, last: number) =>
  Array.from({ length: (last - first + 1) * PACKETS }, (_, i) => first + Math.floor(i / PACKETS))

test('three batches that wait go in one call, in order, and settle with one word', async () => {
  const r = await joinedRig()
  for (let round = 1; round <= 3; round++) {
    const slots = r.submit()
    await r.run()
    expect(r.words(slots, R.W_STATE)).toEqual(Array(BATCHES).fill(R.STATE_SETTLED))
    expect(r.words(slots, R.W_OUTCOME)).toEqual(Array(BATCHES).fill(R.OUTCOME_SENT))
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
    const slots = r.submit()
    const before = r.posts()
    await r.run()
    expect(r.words(slots, R.W_OUTCOME), `packet ${k}`).toEqual(Array(BATCHES).fill(R.OUTCOME_SENT))
    // The joined call, the rest of the batch that it stopped in, and each behind that by itself.
    expect(r.posts() - before).toBe(1 + BATCHES - Math.floor(k / ROWS))
  }
  expect(await r.arrived(all * all)).toEqual(cnts(1, all * BATCHES * HEAPS))
  expect(r.ring.counters[COUNTER.packets]).toBe(all * all)
  expect(r.told()).toEqual([])
})

test('a provider that refuses all: every batch fails with its errno, and when it relents they are joined again', async () => {
  const r = await joinedRig()
  await here.nic.command('refuse-every 1 ENOMEM')
  const slots = r.submit()
  await r.run()
  expect(r.words(slots, R.W_OUTCOME)).toEqual(Array(BATCHES).fill(R.OUTCOME_FAILED))
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
  },
)

test('a withdrawn batch and a new sequence of heap cnts between joined ones keep their places', async () => {
  const r = await joinedRig()
  const slots = r.submit()
  Atomics.store(r.ring.slots, slots[1]! + R.W_STATE, R.STATE_ABORTED)
  await r.run()
  expect(r.words(slots, R.W_OUTCOME)).toEqual([R.OUTCOME_SENT, R.OUTCOME_ABORTED, R.OUTCOME_SENT])
  expect(r.words(slots, R.W_STATE)).toEqual(Array(BATCHES).fill(R.STATE_SETTLED))
  const again = r.submit()
  r.ring.slots[again[1]! + R.W_OP] = R.OP_SET_CNT
  r.ring.slots.set([0, 100, 0, 1], again[1]! + R.W_CNT_HI)
  await r.run()
  expect(r.posts()).toBe(2)
  expect(await r.arrived(4 * ROWS)).toEqual([...cnts(1, 3 * HEAPS), ...cnts(100, 99 + HEAPS)])
})

/** The first packet of the second batch is refused, once: after a step the first two are posted, and the third waits its turn. */
async function oneWaits() {
  const r = await joinedRig()
  await here.nic.command(`refuse ${ROWS + 1} ENOMEM`)
  const slots = r.submit()
  r.step()
  expect(await r.arrived(2 * ROWS)).toEqual(cnts(1, 2 * HEAPS))
  return { ...r, slots }
}

test('stopped while one waits that was joined and not taken: it is flushed, and the others are sent', async () => {
  const r = await oneWaits()
  Atomics.store(r.ring.control, R.C_STOP, R.STOP_ABORT)
  expect(r.step()).toBe(NEXT_STOPPED)
  expect(r.words(r.slots, R.W_OUTCOME)).toEqual([R.OUTCOME_SENT, R.OUTCOME_SENT, R.OUTCOME_FAILED])
  expect(r.told()).toEqual([Array(HEAPS).fill('flushed')])
  expect(await r.arrived(2 * ROWS)).toHaveLength(2 * ROWS)
})

test('dropped while it waits, a batch is sent whole before its memory goes', async () => {
  const r = await oneWaits()
  for (let id = 1; id <= BATCHES; id++) r.engine.dropVariant(id)
  await r.run()
  expect(r.words(r.slots, R.W_OUTCOME)).toEqual(Array(BATCHES).fill(R.OUTCOME_SENT))
  expect(await r.arrived(BATCHES * ROWS)).toEqual(cnts(1, BATCHES * HEAPS))
  expect(r.told()).toEqual([])
})

test('joined while the port is down: every one of them is suspect, and lost', async () => {
  const r = await joinedRig()
  const send = async () => {
    const slots = r.submit()
    await r.run()
    return r.words(slots, R.W_SUSPECT)
  }
  expect(await send()).toEqual(Array(BATCHES).fill(0))
  await here.nic.command('port down')
  await sleep(20)
  expect(await send()).toEqual(Array(BATCHES).fill(1))
  await here.nic.command('port up')
  await sleep(20)
  await send()
  await sleep(20)
  expect(await send()).toEqual(Array(BATCHES).fill(0))
  const sent = [...cnts(1, 6), ...cnts(13, 24)]
  expect(await r.arrived(sent.length)).toEqual(sent)
  expect(r.told()).toEqual([])
})
