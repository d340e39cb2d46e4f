/**
 * One suite for every backend, which tests all that the engine relies on (src/backend/backend.ts). Each backend's test file opens the backend
 * and says how to see the packets that arrived.
 */
import { beforeEach, describe, expect, test } from 'vitest'
import { type Backend, POST_AGAIN, POST_OK, type PostResult, type ReapResult } from '#dist/src/backend/backend.js'
import { handTable, pattern } from '../support/hand-table.js'
import { need } from '../support/need.js'
import type { Arrival } from '../support/receivers.js'

interface OpenedBackend {
  readonly backend: Backend
  /** Waits until `count` packets arrived since open, or a few seconds, and returns them all in order of arrival. */
  arrived(count: number): Promise<Arrival[]>
  close(): Promise<void>
}

export interface ContractOptions {
  readonly name: string
  /** Default the name. */
  readonly what?: string
  readonly evidence: 'accepted' | 'completed' | 'written'
  /** Default the most that IP and UDP carry; a backend that makes frames takes as much as fits its interface. */
  readonly largestPacketBytes?: number
  /** Default false. */
  readonly mergesEqualPackets?: boolean
  /** Default IPv4's: preamble 8, Ethernet 14, IP 20, UDP 8, FCS 4, gap 12 (IEEE 802.3, RFC 791, RFC 768). */
  readonly wireOverheadBytes?: number
  /** Why this machine cannot run it; empty if it can. */
  readonly unavailable?: () => string
  /** Opens the backend towards `substreams` destinations. */
  open(substreams: number): Promise<OpenedBackend>
}

/** Posts rows first … end−1 as the engine would: again and again until taken, reaping in between. Returns rows completed. */
async function postAll(backend: Backend, posting: ReturnType<Backend['compile']>, first: number, end: number): Promise<number> {
  const out: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  const reaped: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1024), failedErrno: new Int32Array(1024) }
  let completed = 0
  const reap = () => {
    backend.reap(reaped)
    expect(reaped.failures).toBe(0)
    completed += reaped.completed
  }
  for (let row = first, tries = 0; row < end; tries++) {
    expect(tries).toBeLessThan(10_000)
    backend.post(posting, row, end, out)
    expect(out.accepted).toBeGreaterThanOrEqual(0)
    expect(row + out.accepted).toBeLessThanOrEqual(end)
    row += out.accepted
    expect([POST_OK, POST_AGAIN]).toContain(out.kind)
    reap()
    if (out.kind === POST_AGAIN) await new Promise(setImmediate)
  }
  for (let tries = 0; completed < end - first && tries < 1000; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 1))
    reap()
  }
  return completed
}

/** 31 packets: equal runs, a shorter last one, odd sizes, changes of destination, several segments. */
function mixedPackets(substreams: number) {
  const sizes = [
    ...Array.from({ length: 12 }, () => 1208),
    700,
    ...Array.from({ length: 12 }, () => 64),
    65,
    64,
    1,
    1472,
    1471,
    1472,
  ]
  const packets = sizes.map((size, i) => {
    const head = Math.min(size, 24 + (i % 5))
    const middle = Math.floor((size - head) / 2)
    return {
      substream: i < 20 ? 0 : i % substreams,
      heap: i >> 2,
      segments: [pattern(i, head), pattern(i + 50, middle), pattern(i + 90, size - head - middle)].filter(
        ({ length }) => length > 0,
      ),
    }
  })
  return packets
}

export function backendContract({
  name,
  what = name,
  evidence,
  largestPacketBytes = 65487,
  mergesEqualPackets = false,
  wireOverheadBytes = 66,
  unavailable = () => '',
  open,
}: ContractOptions): void {
  describe(`backend contract: ${what}`, () => {
    beforeEach((ctx) => {
      const why = unavailable()
      need(ctx, !why, why)
    })

    test('caps say what it is', async () => {
      const { backend, close } = await open(3)
      expect(backend.caps).toMatchObject({ name, evidence, substreams: 3, mergesEqualPackets, wireOverheadBytes })
      expect(backend.caps.maxPacketSizeBytes).toBeGreaterThanOrEqual(largestPacketBytes)
      await close()
    })

    test('every packet arrives bit for bit, in row order per substream, completed once', async () => {
      const { backend, arrived, close } = await open(3)
      const { table, expected } = handTable(mixedPackets(3), backend.caps.headroomBytes)
      for (const region of table.regions) backend.register(region)
      const posting = backend.compile(table, { maxMessageBytes: 65507 })
      expect(await postAll(backend, posting, 0, table.rows)).toBe(table.rows)
      const packets = await arrived(table.rows)
      expect(packets).toHaveLength(table.rows)
      for (let substream = 0; substream < 3; substream++) {
        const want = expected.filter((_, r) => table.substream[r] === substream).map((bytes) => Buffer.from(bytes).toString('hex'))
        expect(want.length).toBeGreaterThan(0)
        expect(
          packets.filter((packet) => packet.substream === substream).map(({ bytes }) => Buffer.from(bytes).toString('hex')),
        ).toEqual(want)
      }
      backend.release(posting)
      await close()
    })

    test('edges are ends of indivisible messages, each at least one row and within the byte limit', async () => {
      const { backend, close } = await open(3)
      const { table } = handTable(mixedPackets(3), backend.caps.headroomBytes)
      for (const region of table.regions) backend.register(region)
      const posting = backend.compile(table, { maxMessageBytes: 5000 })
      expect(posting.rows).toBe(table.rows)
      for (let r = 0; r < table.rows; r++) {
        const end = posting.edge[r]!
        expect(end).toBeGreaterThan(r)
        expect(end).toBeLessThanOrEqual(table.rows)
        if (end < table.rows) expect(posting.edge[end - 1]).toBe(end)
        const bytes = table.udpBytes.subarray(r, end).reduce((sum, n) => sum + n, 0)
        if (end - r > 1) expect(bytes).toBeLessThanOrEqual(5000)
      }
      await close()
    })

    test('any cut of the rows sends the same packets', async () => {
      const { backend, arrived, close } = await open(3)
      const { table, expected } = handTable(mixedPackets(3), backend.caps.headroomBytes)
      for (const region of table.regions) backend.register(region)
      const posting = backend.compile(table, { maxMessageBytes: 65507 })
      const cuts = [0, 1, 5, 6, 13, 14, 20, 21, 28, table.rows]
      let completed = 0
      for (let i = 1; i < cuts.length; i++) completed += await postAll(backend, posting, cuts[i - 1]!, cuts[i]!)
      expect(completed).toBe(table.rows)
      const packets = await arrived(table.rows)
      for (let substream = 0; substream < 3; substream++)
        expect(
          packets.filter((packet) => packet.substream === substream).map(({ bytes }) => Buffer.from(bytes).toString('hex')),
        ).toEqual(expected.filter((_, r) => table.substream[r] === substream).map((bytes) => Buffer.from(bytes).toString('hex')))
      await close()
    })

    test('memory is read at post: the next send of the same posting carries the new bytes', async () => {
      const { backend, arrived, close } = await open(1)
      const { table, expected, overwrite } = handTable(
        [{ substream: 0, segments: [pattern(1, 40), pattern(2, 200)] }],
        backend.caps.headroomBytes,
      )
      for (const region of table.regions) backend.register(region)
      const posting = backend.compile(table, { maxMessageBytes: 65507 })
      await postAll(backend, posting, 0, 1)
      overwrite(0x5c)
      await postAll(backend, posting, 0, 1)
      const [first, second] = await arrived(2)
      expect(Buffer.from(first!.bytes).equals(expected[0]!)).toBe(true)
      expect(second!.bytes.every((byte) => byte === 0x5c)).toBe(true)
      await close()
    })

    test('two postings complete in the order they were posted', async () => {
      const { backend, arrived, close } = await open(1)
      const tables = [0, 1].map((n) =>
        handTable(
          Array.from({ length: 5 }, (_, i) => ({ substream: 0, segments: [pattern(n * 100 + i, 48)] })),
          backend.caps.headroomBytes,
        ),
      )
      const postings = tables.map(({ table }) => {
        for (const region of table.regions) backend.register(region)
        return backend.compile(table, { maxMessageBytes: 65507 })
      })
      let completed = 0
      for (const [i, { table }] of tables.entries()) completed += await postAll(backend, postings[i]!, 0, table.rows)
      expect(completed).toBe(10)
      const packets = await arrived(10)
      expect(packets.map(({ bytes }) => Buffer.from(bytes).toString('hex'))).toEqual(
        tables.flatMap(({ expected }) => expected.map((bytes) => Buffer.from(bytes).toString('hex'))),
      )
      await close()
    })

    test('an idle backend reaps nothing, is not suspicious and explains any errno in words', async () => {
      const { backend, close } = await open(2)
      const reaped: ReapResult = { completed: 7, failures: 7, failedAt: new Uint32Array(1), failedErrno: new Int32Array(1) }
      backend.reap(reaped)
      expect(reaped).toMatchObject({ completed: 0, failures: 0 })
      expect(backend.suspicion(true)).toBe(backend.suspicion(false))
      expect(backend.explain(113, 1, 1472)).toMatch(/\S{4}/)
      const { changes } = backend.states
      expect(backend.states.read()).toEqual(backend.states.read())
      expect(backend.states.changes).toBe(changes)
      for (const { fd } of backend.waitSet(true)) expect(fd).toBeGreaterThan(2)
      await close()
    })

    test('close is idempotent', async () => {
      const { backend, close } = await open(1)
      backend.close()
      backend.close()
      await close()
      expect(backend.caps.name).toBe(name)
    })
  })
}
