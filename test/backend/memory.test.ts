import { expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { POST_AGAIN, POST_FATAL, POST_OK, POST_SKIP, type PostResult, type ReapResult } from '#dist/src/backend/backend.js'
import { type MemoryOptions, openMemory } from '#dist/src/backend/memory.js'
import { COUNTER, COUNTER_NAMES } from '#dist/src/stats.js'
import { handTable, pattern } from '../support/hand-table.js'

const HINTS = { maxMessageBytes: 65507 }
const EHOSTUNREACH = ERRNO.EHOSTUNREACH
const ENOBUFS = ERRNO.ENOBUFS

function open(options: Partial<MemoryOptions> = {}, packets = 10, substreams = 2, failures = 1024) {
  const counters = new Float64Array(COUNTER_NAMES.length)
  let wakes = 0
  const backend = openMemory(
    { substreams, ...options },
    {
      counters,
      wake: () => {
        wakes++
      },
    },
  )
  const { table, expected, overwrite } = handTable(
    Array.from({ length: packets }, (_, i) => ({
      substream: i % substreams,
      segments: [pattern(i, 24 + (i % 3)), pattern(i + 100, i)],
    })),
  )
  for (const region of table.regions) backend.register(region)
  const posting = backend.compile(table, HINTS)
  const out: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  const reaped: ReapResult = {
    completed: 0,
    failures: 0,
    failedAt: new Uint32Array(failures),
    failedErrno: new Int32Array(failures),
  }
  const post = (first: number, end = table.rows) => {
    backend.post(posting, first, end, out)
    return { ...out }
  }
  const reap = () => {
    backend.reap(reaped)
    return {
      completed: reaped.completed,
      failed: Array.from({ length: reaped.failures }, (_, i) => [reaped.failedAt[i], reaped.failedErrno[i]]),
    }
  }
  return { backend, posting, expected, overwrite, counters, post, reap, wakes: () => wakes }
}

test('packets are kept as they were at post, in order, with their substreams', () => {
  const { backend, posting, expected, post, reap, counters } = open()
  expect(backend.caps).toMatchObject({ name: 'memory', evidence: 'written', substreams: 2, maxPacketSizeBytes: 65507 })
  expect([...posting.edge]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  expect(post(0, 4)).toMatchObject({ kind: POST_OK, accepted: 4, skipped: 0 })
  expect(post(4)).toMatchObject({ kind: POST_OK, accepted: 6 })
  expect(reap()).toEqual({ completed: 10, failed: [] })
  expect(reap()).toEqual({ completed: 0, failed: [] })
  expect(backend.packets.map(({ bytes }) => bytes)).toEqual(expected)
  expect(backend.packets.map(({ substream }) => substream)).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
  expect(counters[COUNTER.posts]).toBe(2)
  backend.packets.length = 0
  backend.release(posting)
  backend.close()
  backend.close()
  expect(backend.packets).toEqual([])
})

test('a post copies: bytes written to the memory afterwards show in the next post only', () => {
  const { backend, post, expected, overwrite } = open({}, 3, 1)
  post(0)
  overwrite(0x55)
  expect(backend.packets.map(({ bytes }) => bytes)).toEqual(expected)
  post(0)
  expect(backend.packets.slice(3).map(({ bytes }) => bytes)).toEqual(
    expected.map(({ length }) => new Uint8Array(length).fill(0x55)),
  )
})

test('keepPackets: false counts without keeping', () => {
  const { backend, post, reap } = open({ keepPackets: false })
  expect(post(0)).toMatchObject({ kind: POST_OK, accepted: 10 })
  expect(reap().completed).toBe(10)
  expect(backend.packets).toEqual([])
})

test('acceptPerPost bounds each post and answers again with the pause asked for', () => {
  const { backend, expected, post, reap, counters } = open({ acceptPerPost: 3, pauseNanoseconds: 50 })
  const seen = []
  for (let row = 0; row < 10; ) {
    const { kind, accepted, waitFor } = post(row)
    seen.push([kind, accepted, waitFor])
    row += accepted
  }
  expect(seen.slice(0, 3)).toEqual([
    [POST_AGAIN, 3, 50],
    [POST_AGAIN, 3, 50],
    [POST_AGAIN, 3, 50],
  ])
  expect(seen[3]!.slice(0, 2)).toEqual([POST_OK, 1])
  expect(counters[COUNTER.waits]).toBe(3)
  expect(backend.packets.map(({ bytes }) => bytes)).toEqual(expected)
  expect(reap().completed).toBe(10)
})

test('rows complete at the n-th reap after their post, and the backend asks to be reaped meanwhile', async () => {
  const { post, reap, wakes, backend } = open({ completeAfterReaps: 3 })
  post(0, 4)
  expect(reap().completed).toBe(0)
  post(4)
  expect([reap().completed, reap().completed, reap().completed, reap().completed]).toEqual([0, 4, 6, 0])
  post(0, 1)
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  expect(wakes()).toBeGreaterThan(0)
  const before = wakes()
  backend.close()
  await new Promise(setImmediate)
  expect(wakes()).toBe(before)
})

test('skip: every row in turn is given up, the others are kept, all come back complete', () => {
  for (let k = 0; k < 10; k++) {
    const { backend, expected, post, reap } = open({ failAt: (row) => (row === k ? EHOSTUNREACH : undefined) })
    expect(post(0)).toMatchObject({ kind: POST_SKIP, accepted: k, skipped: 1, errno: EHOSTUNREACH, substream: k % 2 })
    if (k < 9) expect(post(k + 1)).toMatchObject({ kind: POST_OK, accepted: 9 - k })
    expect(backend.packets.map(({ bytes }) => bytes)).toEqual(expected.filter((_, i) => i !== k))
    expect(reap()).toEqual({ completed: 10, failed: [] })
    expect(backend.explain(EHOSTUNREACH, 1, 24)).toBe('EHOSTUNREACH injected by failAt on substream 1, packet of 24 bytes')
  }
})

test('again: the same row is asked for until failAt lets it pass', () => {
  let refusals = 2
  const { backend, post, counters } = open({
    failAt: (row) => (row === 4 && refusals-- > 0 ? { errno: ENOBUFS, how: 'again' } : undefined),
  })
  expect(post(0)).toMatchObject({ kind: POST_AGAIN, accepted: 4, waitFor: 1000 })
  expect(post(4)).toMatchObject({ kind: POST_AGAIN, accepted: 0 })
  expect(post(4)).toMatchObject({ kind: POST_OK, accepted: 6 })
  expect(backend.packets.length).toBe(10)
  expect([counters[COUNTER.noBuffers], counters[COUNTER.waits]]).toEqual([2, 2])
})

test('late: accepted rows come back as failed, at their index, and are not among the packets', () => {
  const { backend, expected, post, reap } = open({
    completeAfterReaps: 2,
    failAt: (row, substream) => (substream === 1 && row > 2 ? { errno: EHOSTUNREACH, how: 'late' } : undefined),
  })
  expect(post(0, 6)).toMatchObject({ kind: POST_OK, accepted: 6 })
  expect(reap().completed).toBe(0)
  expect(post(6)).toMatchObject({ kind: POST_OK, accepted: 4 })
  expect(reap()).toEqual({
    completed: 6,
    failed: [
      [3, EHOSTUNREACH],
      [5, EHOSTUNREACH],
    ],
  })
  // Indices are relative to the rows completed by this reap: rows 7 and 9.
  expect(reap()).toEqual({
    completed: 4,
    failed: [
      [1, EHOSTUNREACH],
      [3, EHOSTUNREACH],
    ],
  })
  expect(backend.packets.map(({ bytes }) => bytes)).toEqual(expected.filter((_, i) => ![3, 5, 7, 9].includes(i)))
})

test('late: more failures than a reap has room for are spread over reaps, each reported once and in order', () => {
  const { post, reap } = open({ failAt: () => ({ errno: EHOSTUNREACH, how: 'late' }) }, 10, 2, 4)
  post(0)
  const rows: number[] = []
  let base = 0
  for (let i = 0; i < 3; i++) {
    const { completed, failed } = reap()
    rows.push(...failed.map(([at]) => base + at!))
    base += completed
  }
  expect(base).toBe(10)
  expect(rows).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
})

test('fatal: nothing is taken any more', () => {
  const { backend, post, reap } = open({ failAt: (row) => (row === 3 ? { errno: ERRNO.EIO, how: 'fatal' } : undefined) })
  const fatal = { kind: POST_FATAL, errno: ERRNO.EIO, substream: 1 }
  expect(post(0)).toMatchObject({ ...fatal, accepted: 3 })
  expect(post(3)).toMatchObject({ ...fatal, accepted: 0 })
  expect(backend.packets.length).toBe(3)
  expect(reap().completed).toBe(3)
})

test('suspicion rises when told to', () => {
  const { backend } = open()
  const before = backend.suspicion()
  backend.suspect()
  expect(backend.suspicion()).toBeGreaterThan(before)
  expect(backend.waitSet()).toEqual([])
})

test('a table that cannot be sent is refused at compile', () => {
  const { backend } = open()
  const stranger = handTable([{ substream: 0, segments: [pattern(0, 8)] }]).table
  expect(() => backend.compile(stranger, HINTS)).toThrow(/was not registered before compile/)
  for (const region of stranger.regions) backend.register(region)
  expect(backend.compile(stranger, HINTS).rows).toBe(1)
  expect(() => backend.compile({ ...stranger, substream: Uint16Array.of(2) }, HINTS)).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_SUBSTREAM' }),
  )
  expect(() => backend.compile({ ...stranger, udpBytes: Uint32Array.of(65508) }, HINTS)).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_PACKET_SIZE' }),
  )
})
