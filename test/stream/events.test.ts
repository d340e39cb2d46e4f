/** `stream.events()`: who is told what, in which order, how long, and how much is kept for those who do not read. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { openStream, type StreamEvent, type StreamMessages, type StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Events } from '#dist/src/events.js'
import { COUNTER, COUNTER_NAMES } from '#dist/src/stats.js'
import { changesByKind, EVENT_KINDS, KIND_OF_STATE } from '#dist/src/stream/event-kinds.js'
import { LagWatch } from '#dist/src/stream/lag-watch.js'
import { News } from '#dist/src/stream/news.js'
import { StateEvents } from '#dist/src/stream/state-events.js'
import { ROOT } from '../project/support.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'

const MEMORY: StreamOptions = { to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none' }

const event = (n: number, kind: StreamEvent['kind'] = 'link'): StreamEvent => ({
  time: n,
  kind,
  message: `event ${n}`,
  inFlight: 0,
  queuedBytes: 0,
})

async function all(events: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const got: StreamEvent[] = []
  for await (const each of events) got.push(each)
  return got
}

describe('a reader', () => {
  test('gets what happens from the call on, in order, until the end', async () => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    events.give(event(1))
    const reader = events.reader({})
    events.give(event(2))
    const reading = all(reader)
    await new Promise(setImmediate)
    events.give(event(3))
    events.give(event(4))
    events.close()
    expect((await reading).map(({ time }) => time)).toEqual([2, 3, 4])
    expect(await reader.next()).toEqual({ done: true, value: undefined })
    expect(events.read).toBe(false)
    expect(await all(events.reader({}))).toEqual([])
  })

  test('gets only the kinds it asked for', async () => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    const reading = all(events.reader({ kinds: ['route', 'lag'] }))
    for (const [i, kind] of EVENT_KINDS.entries()) events.give(event(i, kind))
    events.close()
    expect((await reading).map(({ kind }) => kind)).toEqual(['route', 'lag'])
  })

  test.for([257, 1000, 100_000])('that does not read loses the oldest of %d events, and is told how many', async (count) => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    const [slow, quick] = [events.reader({}), all(events.reader({}))]
    for (let i = 0; i < count; i++) {
      events.give(event(i))
      if (i % 100 === 0) await new Promise(setImmediate)
    }
    events.close()
    const got = await all(slow)
    expect(got).toHaveLength(256)
    expect(got[0]).toEqual({ ...event(count - 256), missed: count - 256 })
    expect(got.slice(1).every(({ missed }) => missed === undefined)).toBe(true)
    expect(got.at(-1)).toEqual(event(count - 1))
    expect(await quick).toHaveLength(count)
  })

  test('that breaks off is told no more, and others are', async () => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    const [first, second] = [events.reader({}), events.reader({})]
    events.give(event(1))
    for await (const { time } of first) {
      expect(time).toBe(1)
      break
    }
    events.give(event(2))
    expect(await first.next()).toEqual({ done: true, value: undefined })
    expect(await second.next()).toEqual({ done: false, value: event(1) })
    await second.return?.()
    expect(events.read).toBe(false)
  })

  test('may ask for several events before there are any', async () => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    const reader = events.reader({})
    const asked = [reader.next(), reader.next(), reader.next()]
    events.give(event(1))
    events.give(event(2))
    events.close()
    expect(await Promise.all(asked)).toEqual([
      { done: false, value: event(1) },
      { done: false, value: event(2) },
      { done: true, value: undefined },
    ])
  })

  test.for(['waiting', 'not waiting'])('that is %s when its signal aborts gets the reason, once', async (what) => {
    const events = new Events<StreamEvent>(EVENT_KINDS)
    const abort = new AbortController()
    const reader = events.reader({ signal: abort.signal })
    const early = what === 'waiting' ? reader.next() : undefined
    early?.catch(() => {})
    abort.abort(new Error('enough'))
    await expect(early ?? reader.next()).rejects.toThrow('enough')
    expect(await reader.next()).toEqual({ done: true, value: undefined })
    expect(events.read).toBe(false)
    expect(() => events.reader({ signal: abort.signal })).toThrow('enough')
  })

  test.for([
    [{ kinds: ['links'] }, "events: kinds has 'links'; give an array of 'link', 'route'"],
    [{ kinds: [] }, 'events: kinds is an array of 0; give an array of'],
    [{ kinds: 'link' }, "events: kinds is 'link'; give an array of"],
    [{ kinds: null }, 'events: kinds is null'],
    [{ kind: ['link'] }, "events: unknown option 'kind'"],
    [null, 'events: the options are null'],
    [{ signal: {} }, 'events: signal is an Object; it must be an AbortSignal'],
  ] as const)('with %j is refused', async ([options, message]) => {
    await using stream = await openStream(MEMORY)
    expect(() => stream.events(options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringContaining(message) }),
    )
  })

  test('does not keep the process alive, and the end of the stream ends it', async () => {
    const { stdout, code } = await runProgram('stream/events')
    expect({ stdout, code }).toEqual({ stdout: 'closed\n', code: 0 })
  })
})

describe('states', () => {
  test('have a kind each', () => {
    const source = readFileSync(`${ROOT}/src/backend/states.ts`, 'utf8')
    const words = [...source.slice(0, source.indexOf('export class States')).matchAll(/^ {2}readonly (\w+)\?:/gm)]
    expect(words.length).toBeGreaterThan(30)
    expect(Object.keys(KIND_OF_STATE).sort()).toEqual(words.map(([, word]) => word).sort())
    for (const kind of Object.values(KIND_OF_STATE)) expect([...EVENT_KINDS, 'way']).toContain(kind)
  })

  test('have kinds that docs/diagnosing.md explains', () => {
    const page = readFileSync(`${ROOT}/docs/diagnosing.md`, 'utf8')
    const rows = [...page.slice(page.indexOf('## Events'), page.indexOf('## Channels')).matchAll(/^\| `(\w+)` \|/gm)]
    expect(rows.map(([, kind]) => kind)).toEqual([...EVENT_KINDS])
  })

  test('that change together are told by kind, a way with what it explains', () => {
    const before = { interface: 'v0', sourceAddress: '10.0.0.1', pathChanges: 0, carrier: true, segmentation: 'on' }
    const lastPathChange = '2026-01-01T00:00:00.000Z 10.0.0.5:7148 leaves by w0'
    const of = (after: Record<string, unknown>) =>
      changesByKind(Object.keys(after) as never, before, { ...before, ...after }).map(({ kind, message }) => [kind, message])
    const way = { pathChanges: 1, lastPathChange }
    expect(of({ interface: 'w0', sourceAddress: '10.0.0.2', ...way })).toEqual([
      ['route', '10.0.0.5:7148 leaves by w0'],
      ['address', 'packets come from 10.0.0.2 instead of 10.0.0.1'],
    ])
    expect(of({ sourceAddress: '10.0.0.2', ...way })).toEqual([['address', '10.0.0.5:7148 leaves by w0']])
    expect(of({ carrier: false, ...way })).toEqual([
      ['link', 'v0 has no signal: packets that leave meanwhile are lost'],
      ['route', '10.0.0.5:7148 leaves by w0'],
    ])
    expect(of({ connectionsLost: 1, ...way })).toEqual([['connection', '10.0.0.5:7148 leaves by w0']])
    expect(of({ segmentation: 'paused', segmentationReason: 'EIO' })).toEqual([['segmentation', 'segmentation is paused: EIO']])
    expect(of({ recoveries: 1, trouble: 'a work request failed' })).toEqual([
      ['recovery', 'the queue was made ready again: a work request failed'],
    ])
    expect(of({ queueDepth: 64 })).toEqual([['device', 'queueDepth 64']])
  })

  test('that count are told at once, and then together', () => {
    const told: string[] = []
    const states = new StateEvents(({ message }) => told.push(message))
    for (let i = 1; i < 100; i++) states.take(['dropsBelowSocket'], { dropsBelowSocket: i - 1 }, { dropsBelowSocket: i })
    expect(told).toEqual(['1 packet more dropped below the socket'])
    states.close()
    expect(told).toEqual(['1 packet more dropped below the socket', '98 packets more dropped below the socket'])
  })
})

describe('News', () => {
  /** What a subscriber of the channel hears of a stream. */
  function heard(of: object): StreamEvent[] {
    const got: StreamEvent[] = []
    const listener = (message: unknown): void => {
      const { stream, event } = message as StreamMessages['speadcast:stream:event']
      if (stream === of) got.push(event)
    }
    subscribe('speadcast:stream:event', listener)
    onTestFinished(() => void unsubscribe('speadcast:stream:event', listener))
    return got
  }

  test('tells an event of any kind with what is under way, and nothing where nobody listens', async () => {
    const news = new News()
    const stream = {}
    const submissions = { inFlight: 3, bound: { bytes: 4096 } }
    const driver = { states: {}, onStates: () => {} }
    news.follow({ stream, driver, submissions, counters: new Float64Array(64) } as never)
    news.event('late', 'nobody hears this')
    const published = heard(stream)
    const reader = news.events.reader({})
    news.event('late', '3 heaps were skipped', { after: { skippedHeaps: 3 } })
    news.event('recovery', 'the stream goes on')
    const from = Date.now() - 10_000
    const expected = [
      { kind: 'late', message: '3 heaps were skipped', after: { skippedHeaps: 3 }, inFlight: 3, queuedBytes: 4096 },
      { kind: 'recovery', message: 'the stream goes on', inFlight: 3, queuedBytes: 4096 },
    ]
    news.closed(0, 0, 0)
    const got = await all(reader)
    expect(got).toEqual(expected.map((each) => ({ ...each, time: expect.any(Number) })))
    for (const { time } of got) expect(time).toBeGreaterThan(from)
    expect(published).toEqual(got)
  })
})

test('the observation clock tells what it left out, and steps of the wall clock', async () => {
  const news = new News()
  const driver = { states: {}, onClock: (_: object) => {} }
  news.followClock(driver as never)
  const reading = all(news.events.reader({}))
  driver.onClock({ what: 'late', heaps: 3, seconds: 0.25 })
  driver.onClock({ what: 'step', heaps: 0, seconds: -3600 })
  news.events.close()
  const facts = (await reading).map(({ kind, message, after }) => [kind, message, after])
  expect(facts).toEqual([
    ['late', 'left out 3 heaps, late by 0.250 s', { heaps: 3, lateSeconds: 0.25 }],
    ['clock', 'the wall clock was set back by 3.60e+3 s', { stepSeconds: -3600 }],
  ])
})

describe('lag', () => {
  test('is told above the bound, and again below half of it, while somebody listens', () => {
    const counters = new Float64Array(COUNTER_NAMES.length)
    const told: [number, number][] = []
    let wanted = false
    const watch = new LagWatch({
      boundSeconds: 0.1,
      counters,
      wanted: () => wanted,
      tell: (_, before, after) => told.push([before, after]),
    })
    onTestFinished(() => watch.close())
    const at = (seconds: number): void => {
      counters[COUNTER.lagNanoseconds] = seconds * 1e9
      watch.look()
    }
    at(0.2)
    expect(told).toEqual([])
    wanted = true
    for (const seconds of [0.01, 0.1, 0.15, 0.2, 0.09, 0.11, 0.06, 0.05, 0.07, 0.1]) at(seconds)
    expect(told).toEqual([
      [0.1, 0.15],
      [0.06, 0.05],
    ])
  })

  test.for(['worker', 'inline'])('of a stream whose process stood still, sent from %s, is told', async (thread, ctx) => {
    need(ctx, process.platform === 'linux', 'signals that stop a process, and I/O threads, are tested on Linux')
    const { stdout } = await runProgram('stream/lag', thread)
    const [above, below] = JSON.parse(stdout) as (StreamEvent & { after: { lagSeconds: number } })[]
    expect(above).toMatchObject({ kind: 'lag', message: expect.stringMatching(/ ms late, which is more than 50 ms$/) })
    expect(above!.after.lagSeconds).toBeGreaterThan(0.05)
    expect(below).toMatchObject({ kind: 'lag', message: expect.stringMatching(/ ms late, after more than 50 ms$/) })
    expect(below!.after.lagSeconds).toBeLessThanOrEqual(0.025)
  })
})
