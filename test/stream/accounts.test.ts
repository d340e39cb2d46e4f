// stats() against what was sent: accounts of substreams are the stream's in sum, and are the packets that came out of it, whatever is sent, fails and
// is cut off.
import fc from 'fast-check'
import { type BatchOutcome, type GroupMode, type OnError, openStream, SendError, type Stream, type StreamStats } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { fill, itemsOf, memoryStream, numberHeap, OUTLETS, openOutlet, type Packet, turn } from './support.js'

const SUMMED = [
  'heapsSent',
  'heapsFailed',
  'heapsFlushed',
  'heapsSkipped',
  'heapsSuspect',
  'heapsRetried',
  'packets',
  'packetsFailed',
  'packetsRetried',
  'udpBytes',
] as const

const RETRY: OnError = { policy: 'retry', firstBackoffSeconds: 0.0001, mostBackoffSeconds: 0.001, forSeconds: 0.01 }

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0)

/** The substreams' accounts, which must be the stream's in sum. Packets and bytes under way are the stream's alone. */
function accountsOf(stream: Stream, underWay = false) {
  const plain = stream.stats()
  const { substreams } = stream.stats({ substreams: true })
  expect(substreams.map(({ endpoint }) => endpoint)).toEqual(stream.endpoints)
  for (const name of SUMMED) {
    const total = sum(substreams.map((each) => each[name]))
    if (underWay && (name === 'packets' || name === 'udpBytes')) expect(total, name).toBeLessThanOrEqual(plain[name])
    else expect(total, name).toBe(plain[name])
  }
  for (const { failedByCause, packetsFailed } of substreams) expect(sum(Object.values(failedByCause))).toBe(packetsFailed)
  return substreams
}

/** Packets and bytes that came to each substream. */
function came(packets: readonly Pick<Packet, 'substream' | 'bytes'>[], substreams: number) {
  return Array.from({ length: substreams }, (_, substream) => {
    const own = packets.filter((packet) => packet.substream === substream)
    return { packets: own.length, udpBytes: sum(own.map(({ bytes }) => bytes.length)) }
  })
}

describe('whatever is sent and fails', () => {
  const fault = fc.record({
    every: fc.integer({ min: 1, max: 40 }),
    at: fc.nat(40),
    errno: fc.constantFrom(ERRNO.EPERM, ERRNO.ENETUNREACH, ERRNO.EHOSTUNREACH),
    how: fc.constantFrom('skip' as const, 'late' as const),
  })
  const modes = fc.constantFrom<GroupMode>('serial', 'round-robin', 'by-substream')
  const call = fc.oneof(
    fc.record({ kind: fc.constant('batch' as const), mode: modes, mask: fc.option(fc.array(fc.nat(1), { minLength: 9, maxLength: 9 })), first: fc.nat(8), heaps: fc.integer({ min: 1, max: 9 }) }), // biome-ignore format: a table
    fc.record({
      kind: fc.constant('heaps' as const),
      mode: modes,
      substreams: fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }),
    }),
    fc.record({ kind: fc.constant('start' as const) }),
    fc.record({ kind: fc.constant('turn' as const), ms: fc.nat(3) }),
  )
  const memory = fc.record({
    acceptPerPost: fc.constantFrom(1, 3, 1000),
    completeAfterReaps: fc.constantFrom(1, 2, 5),
    pauseNanoseconds: fc.constantFrom(1000, 1e6),
  })
  const run = fc.record({
    packetSizeBytes: fc.constantFrom(100, 1472),
    descriptors: fc.constantFrom('none' as const, 'first' as const, { everySeconds: 0.002, firstCnt: 1e6 }),
    memory,
    faults: fc.array(fault, { maxLength: 3 }),
    calls: fc.array(call, { minLength: 1, maxLength: 12 }),
    end: fc.constantFrom('flush' as const, 'close' as const, 'destroy' as const),
    onError: fc.array(fc.constantFrom<OnError>('fail', 'skip', RETRY), { minLength: 3, maxLength: 3 }),
  })

  test('the accounts of substreams are those of the packets', async () => {
    let heaps = 0
    await fc.assert(
      fc.asyncProperty(run, async ({ packetSizeBytes, descriptors, memory, faults, calls, end, onError }) => {
        const failAt = (row: number) => {
          const found = faults.find(({ every, at }) => row % every === at % every)
          return found && { errno: found.errno, how: found.how }
        }
        const to = '10.0.0.1+2:7148'
        const stream = await memoryStream({ to, packetSizeBytes, descriptors, onError, memory: { ...memory, failAt } })
        const told: Promise<{ heaps: number } | BatchOutcome>[] = []
        const note = (send: PromiseLike<{ heaps: number }>) =>
          told.push(Promise.resolve(send.then(undefined, (error) => (error instanceof SendError ? error.outcome : { heaps: 0 }))))
        for (const each of calls) {
          accountsOf(stream, true)
          if (each.kind === 'turn') await turn(each.ms)
          else if (each.kind === 'start') note(stream.sendStart())
          else if (each.kind === 'heaps')
            note(stream.sendHeaps(each.substreams.map((substream) => ({ heap: numberHeap(7), substream })), each.mode)) // biome-ignore format: one line
          else {
            const batch = fill(stream.createBatch({ items: itemsOf(), heaps: 9, groupMode: each.mode, substreams: [0, 1, 2, 1, 1, 0, 0, 2, 1] }), 0) // biome-ignore format: one line
            const count = Math.min(each.heaps, 9 - each.first)
            const range = { firstHeap: each.first, heaps: count }
            note(stream.send(batch, { ...range, ...(each.mask && { mask: Uint8Array.from(each.mask) }) }))
          }
        }
        if (end === 'flush') await stream.flush().catch(() => {})
        if (end === 'close') await stream.close().catch(() => {})
        else await stream.destroy()
        const accounts = accountsOf(stream)
        const outcomes = await Promise.all(told)
        // Descriptors are the stream's own, of which nobody tells.
        if (descriptors === 'none') {
          const sent = outcomes.map(({ heaps }) => (typeof heaps === 'number' ? heaps : heaps.filter((status) => status === 'sent').length)) // biome-ignore format: one line
          expect(sum(accounts.map(({ heapsSent }) => heapsSent))).toBe(sum(sent))
        }
        for (const [substream, { packets, udpBytes }] of came(stream.packets, 3).entries()) {
          const { failedByCause, ...own } = accounts[substream]!
          // Those that an end cut off were handed over.
          const unheard = failedByCause.UNKNOWN ?? 0
          if (unheard === 0) expect(own).toMatchObject({ packets, udpBytes })
          expect(own.packets).toBeLessThanOrEqual(packets)
          expect(own.packets + unheard).toBeGreaterThanOrEqual(packets)
          heaps += own.heapsSent + own.heapsFailed
        }
      }),
      { seed: 20261130, numRuns: 150 },
    )
    console.log(`${heaps} heaps accounted for`)
    expect(heaps).toBeGreaterThan(1000)
  })
})

describe.for(OUTLETS)('%s', (kind) => {
  test('each substream has the packets that came to it', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { packetSizeBytes: 200 }, 3)
    const batch = fill(stream.createBatch({ items: itemsOf(500), heaps: 40, substreams: Array.from({ length: 40 }, (_, j) => (j * j) % 3) }), 0) // biome-ignore format: one line
    for (const mask of [undefined, Uint8Array.from({ length: 40 }, (_, j) => j % 2)]) {
      await batch.free
      await stream.send(batch, mask ? { mask } : { heaps: 17 })
    }
    await stream.send(batch)
    await stream.sendHeap(numberHeap(3), { substream: 2 })
    await stream.sendEnd()
    await stream.flush()
    const stats: StreamStats = stream.stats()
    const all = await packets(stats.packets)
    expect(stats.packets).toBe(all.length)
    const accounts = accountsOf(stream)
    expect(accounts).toMatchObject(came(all, 3))
    const cnts = [0, 1, 2].map((substream) => new Set(all.filter((packet) => packet.substream === substream).map(({ cnt }) => cnt)).size) // biome-ignore format: one line
    expect(accounts.map(({ heapsSent }) => heapsSent)).toEqual(cnts)
    const { batchLatencyNanoseconds, postPackets } = stats.histograms
    expect(batchLatencyNanoseconds.count).toBe(stats.batches)
    // Of two threads' clocks: an origin of one of them that was wrong would show as seconds, or as nothing.
    expect(batchLatencyNanoseconds.p50).toBeGreaterThan(100)
    expect(batchLatencyNanoseconds.max).toBeLessThan(5e9)
    expect(Math.round(postPackets.mean * postPackets.count)).toBe(all.length)
    await stream.close()
    // The numbers stay when the stream is closed.
    expect(accountsOf(stream)).toEqual(accounts)
  })
})

test('in an I/O thread too, packets that are refused are counted by cause', async (ctx) => {
  const { stream: other } = await openOutlet(ctx, 'udp', {}, 1)
  // The kernel refuses a broadcast address with EACCES, unless it is asked for.
  const stream = await openStream({ to: [...other.endpoints, '127.255.255.255:7148'], backend: 'udp', descriptors: 'none' })
  onTestFinished(() => stream.destroy())
  const batch = fill(stream.createBatch({ items: itemsOf(), heaps: 10 }), 0)
  await expect(stream.send(batch)).rejects.toBeInstanceOf(SendError)
  expect(accountsOf(stream)).toMatchObject([
    { heapsSent: 5, heapsFailed: 0, packetsFailed: 0, failedByCause: {} },
    { heapsSent: 0, heapsFailed: 5, heapsFlushed: 0, packets: 0, packetsFailed: 5, failedByCause: { EACCES: 5 } },
  ])
})

test('stats refuses what it does not know', async () => {
  const stream = await memoryStream()
  expect(() => stream.stats({ substream: true } as never)).toThrow(/unknown option 'substream'; known ones: substreams/)
  expect(() => stream.stats({ substreams: 1 } as never)).toThrow(/substreams is 1; it must be true or false/)
  expect(stream.stats({ substreams: false })).not.toHaveProperty('substreams')
})
