// The search of `speadcast bench --agent`, on links whose answer is known, and the words of a run.
import { describe, expect, test } from 'vitest'
import { html, raw } from '#dist/src/cli/bench/agent/markup.js'
import type { Result } from '#dist/src/cli/bench/agent/protocol.js'
import { RateSearch, type Trial } from '#dist/src/cli/bench/agent/search.js'
import { judge, type Sent } from '#dist/src/cli/bench/agent/verdict.js'

/** A link that carries `capacity` bytes a second and a sender that makes `most`; `mood` is what a busy machine makes of a rate. */
function search(
  link: { capacity: number; most: number; mostRate?: number; accuracy?: number; confirm?: number },
  mood = (_: number) => 1,
) {
  const { capacity, most, mostRate = 0, accuracy = 0.02, confirm = 2 } = link
  const rates = new RateSearch({ accuracy, confirm, mostRate })
  const trials: Trial[] = []
  while (rates.phase !== 'done') {
    const rate = rates.next
    const reached = Math.min(most, rate || most) * mood(trials.length)
    const received = Math.min(reached, capacity)
    const trial = { rate, reached, received, passed: reached <= capacity, lost: 1 - received / reached }
    trials.push(trial)
    rates.note(trial)
  }
  return { low: rates.low, confirmed: rates.confirmed, trials }
}

test.for([
  [1e6, 1e9],
  [12.5e6, 80e6],
  [1.25e9, 1.3e9],
  [1e9, 1.001e9],
  [1000, 1e6],
] as const)('a link of %d B/s is found within 2 %% by a sender of %d B/s, in some twenty runs', ([capacity, most]) => {
  const { low, confirmed, trials } = search({ capacity, most })
  expect(confirmed).toBe(true)
  expect(low).toBeLessThanOrEqual(capacity)
  expect(low).toBeGreaterThan(capacity * 0.98)
  expect(trials.length).toBeLessThan(25)
  // Both confirming runs at the end passed.
  expect(trials.slice(-2).every(({ passed }) => passed)).toBe(true)
})

test('a link that carries more than the sender makes takes the first run and its confirmation', () => {
  const { low, trials } = search({ capacity: 1e9, most: 5e8 })
  expect([low, trials.length]).toEqual([5e8, 3])
  expect(trials.every(({ rate }) => rate === 0)).toBe(true)
})

test('no rate above --rate is tried', () => {
  const { low, trials } = search({ capacity: 1e9, most: 5e8, mostRate: 1e8 })
  expect(low).toBe(1e8)
  expect(trials.every(({ rate }) => rate === 1e8)).toBe(true)
})

test('a receiver that gets less the more is sent is found too', () => {
  const rates = new RateSearch({ accuracy: 0.02, confirm: 1, mostRate: 0 })
  for (let runs = 0; rates.phase !== 'done'; runs++) {
    expect(runs).toBeLessThan(40)
    const rate = rates.next || 1e9
    // Above the rate that it can take, the receiver is busy with dropping packets.
    const received = rate <= 1e8 ? rate : 1e15 / rate
    rates.note({ rate: rates.next, reached: rate, received, passed: rate <= 1e8, lost: 1 - received / rate })
  }
  expect(rates.confirmed).toBe(true)
  expect(rates.low).toBeGreaterThan(0.98e8)
  expect(rates.low).toBeLessThanOrEqual(1e8)
})

test('a sender that is held up now and then does not spoil it', () => {
  const { low, confirmed } = search({ capacity: 1e8, most: 1e9 }, (i) => (i % 3 === 1 ? 0.8 : 1))
  expect(confirmed).toBe(true)
  expect(low).toBeGreaterThan(0.96e8)
  expect(low).toBeLessThanOrEqual(1e8)
})

test('where nothing passes it ends', () => {
  const { low, confirmed, trials } = search({ capacity: 0, most: 1e9 })
  expect([low, confirmed]).toEqual([0, false])
  expect(trials.length).toBeLessThan(20)
})

const SENT: Sent = {
  rateAsked: 1e7,
  rateReached: 1e7,
  seconds: 1,
  packets: 1000,
  heapsFailed: 0,
  dropped: 0,
  reasons: [],
  port: 4000,
}
const NOTHING = {
  heapsIncomplete: 0,
  duplicates: 0,
  reordered: 0,
  malformed: 0,
  packetsRefused: 0,
  heapsRefused: 0,
  heapsEvicted: 0,
  droppedByKernel: 0,
  droppedByInterface: 0,
}
const ALL: Result = {
  type: 'result',
  packets: 1000,
  bytes: 1e6,
  messages: 1000,
  heaps: 100,
  payloadBytes: 9e5,
  seconds: 1,
  cpuSeconds: 0.1,
  ...NOTHING,
}

describe('the verdict on a run', () => {
  const rows: readonly (readonly [string, Partial<Sent>, Partial<Result>, string, boolean, RegExp])[] = [
    ['all came', {}, {}, 'none', true, /^$/],
    ['some lost', {}, { packets: 900 }, 'way', false, /^100 packets lost on the way$/],
    [
      'the socket was full',
      {},
      { packets: 900, droppedByKernel: 100 },
      'receiver-socket',
      false,
      /^the receiver's socket was full 100 times$/,
    ],
    [
      'the socket was full, for runs of ten packets',
      {},
      { packets: 900, messages: 90, droppedByKernel: 9 },
      'receiver-socket',
      false,
      /^the receiver's socket was full 9 times \(some 90 packets\); 10 packets lost on the way$/,
    ],
    [
      'both',
      {},
      { packets: 900, droppedByKernel: 30, droppedByInterface: 20 },
      'way',
      false,
      /^50 packets lost on the way; the receiver's socket was full 30 times; the receiver's interface dropped 20 packets$/,
    ],
    [
      'dropped here',
      { dropped: 100 },
      { packets: 900 },
      'sender-interface',
      false,
      /^this host dropped 100 packets below the socket$/,
    ],
    ['no memory', {}, { packetsRefused: 7 }, 'receiver-memory', false, /^the receiver's memory was full for 7 packets or heaps$/],
    ['silence', {}, { packets: 0 }, 'silence', false, /^nothing arrived: let port 4000 through the firewalls/],
    ['late', {}, { seconds: 1.1 }, 'queue', false, /^a queue on the way held packets back: sent in 1\.00 s, arrived in 1\.10 s$/],
    ['slow', { rateReached: 9e6, reasons: ['it was late'] }, {}, 'sender', true, /^the sender could not reach it: it was late$/],
    ['not sent', { heapsFailed: 1 }, {}, 'sender', false, /^1 heap could not be sent$/],
    ['more than was sent', {}, { packets: 1001, duplicates: 3 }, 'none', true, /^$/],
  ]
  test.for(rows)('%s', ([, sent, result, cause, passed, why]) => {
    const verdict = judge({ ...SENT, ...sent }, { ...ALL, ...result })
    expect(verdict).toMatchObject({ cause, passed, why: expect.stringMatching(why) })
  })
})

test('text in a page is escaped, markup is not', () => {
  const hostile = `<script>"'&</script>\u202e\x1b`
  expect(html`<b title="${hostile}">${raw('<i>')}${[html`${1}`, html`<`]}</b>`.text).toBe(
    '<b title="&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;\\u202e\\x1b"><i>1<</b>',
  )
})
