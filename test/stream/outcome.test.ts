/** Every packet of a batch fails in turn, in every way the memory backend has: what a stream tells is what its packets lack. */

import {
  type BatchOutcome,
  type BatchResult,
  type GroupMode,
  Heap,
  ItemGroup,
  type MemoryOptions,
  openStream,
  SendError,
  type SendPromise,
  type Stream,
} from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { compareOutcome, EACH_PACKET, HEAPS, PACKETS, packetsOfHeaps } from '../support/outcome.js'

const EPERM = ERRNO.EPERM
const BYTES = 5000
const PACKET = 1048
/** The substream of each heap. By substream the last heap goes before the second. */
const SUBSTREAMS = [2, 1, 2]

type Fault = ReturnType<NonNullable<MemoryOptions['failAt']>>
type Faults = (row: number, substream: number) => Fault

async function open(memory: Partial<MemoryOptions>, faults: { at: Faults }): Promise<Stream> {
  const stream = await openStream({
    to: '10.0.0.1+2:7148',
    backend: 'memory',
    packetSizeBytes: PACKET,
    descriptors: 'none',
    memory: { ...memory, failAt: (row: number, substream: number) => faults.at(row, substream) },
  })
  onTestFinished(() => stream.destroy())
  return stream
}

const items = () => new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [BYTES] })

/** Sends; with `k`, packet k fails as `fault` says. */
type Send = (k?: number, fault?: (row: number) => Fault) => Promise<BatchResult | SendError>

const outcomeOf = (told: BatchResult | SendError) => (told instanceof SendError ? told.outcome : undefined)

const settled = (sent: SendPromise<BatchResult>): Promise<BatchResult | SendError> =>
  sent.then(
    (result) => result,
    (error) => {
      if (error instanceof SendError) return error
      throw error
    },
  )

/** Sends a batch, or as many heaps by name, over and over; rows count since open. */
function sender(stream: Stream, faults: { at: Faults }, groupMode: GroupMode, by: 'batch' | 'heaps'): Send {
  const group = items()
  const batch = stream.createBatch({ items: group, heaps: HEAPS, groupMode, substreams: SUBSTREAMS })
  expect(batch.packetsPerHeap).toBe(PACKETS)
  let row = 0
  return async (k, fault) => {
    const first = row
    faults.at = (at) => (at - first === k ? fault?.(at) : undefined)
    row += HEAPS * PACKETS
    if (by === 'batch') return settled(stream.send(batch))
    const references = Array.from({ length: HEAPS }, (_, j) => {
      const heap = new Heap().addRaw({ id: 0x3300, bytes: new Uint8Array(BYTES).fill(j), allowImmediate: false })
      return { heap, substream: SUBSTREAMS[j]! }
    })
    return settled(stream.sendHeaps(references, groupMode))
  }
}

const WAYS: { memory: Partial<MemoryOptions>; how: 'skip' | 'late' }[] = [
  { memory: {}, how: 'skip' },
  { memory: {}, how: 'late' },
  { memory: { acceptPerPost: 2, completeAfterReaps: 4 }, how: 'skip' },
  { memory: { acceptPerPost: 4, completeAfterReaps: 3 }, how: 'late' },
]

const compared = (outcome: BatchOutcome | undefined, firstCnt: number, there: ReadonlyMap<number, number>, heaps = HEAPS) =>
  compareOutcome(outcome, firstCnt, there, heaps, SUBSTREAMS)

describe.each(['serial', 'round-robin', 'by-substream'] as const)('%s', (groupMode) => {
  describe.each(['batch', 'heaps'] as const)('by %s', (by) => {
    test.each(WAYS)('each of the 15 packets is refused in turn: $how, $memory', async ({ memory, how }) => {
      const faults: { at: Faults } = { at: () => undefined }
      const stream = await open(memory, faults)
      const send = sender(stream, faults, groupMode, by)
      const seen = new Set<string>()
      for (const k of EACH_PACKET) {
        const told = await send(k, () => ({ errno: EPERM, how }))
        const statuses = compared(outcomeOf(told), 1 + k * HEAPS, packetsOfHeaps(stream.packets))
        expect(statuses.filter((status) => status === 'partial')).toHaveLength(1)
        const { causes } = (told as SendError).outcome
        expect(causes).toMatchObject([
          { substream: SUBSTREAMS[statuses.indexOf('partial')], errno: EPERM, errnoName: 'EPERM', packets: 1 },
        ])
        seen.add(statuses.join())
      }
      // Each heap had its turn.
      expect(seen.size).toBe(HEAPS)
      const after = await send()
      compared(outcomeOf(after), 1 + 15 * HEAPS, packetsOfHeaps(stream.packets))
      expect(after).toMatchObject({ heaps: HEAPS, packets: 15, firstCnt: 1 + 15 * HEAPS, evidence: 'written' })
      expect(stream.stats()).toMatchObject({ heapsSent: 15 * 2 + 3, heapsFailed: 15, packets: 15 * 14 + 15, packetsFailed: 15 })
      console.log(`outcome, memory, ${groupMode}, by ${by}, ${how}: ${16 * HEAPS} heaps compared with the packets kept`)
    })

    test('each of the 15 packets is put off twice in turn: all arrive, once', async () => {
      const faults: { at: Faults } = { at: () => undefined }
      const stream = await open({}, faults)
      const send = sender(stream, faults, groupMode, by)
      for (const k of EACH_PACKET) {
        let refusals = 2
        const told = await send(k, () => (refusals-- > 0 ? { errno: ERRNO.ENOBUFS, how: 'again' } : undefined))
        expect(compared(outcomeOf(told), 1 + k * HEAPS, packetsOfHeaps(stream.packets))).toEqual(['sent', 'sent', 'sent'])
      }
      expect(stream.stats()).toMatchObject({ heapsSent: 45, heapsFailed: 0, noBuffers: 30 })
    })

    test('the backend breaks at each of the 15 packets: what is behind it fails, and so do later sends', async () => {
      const statuses = new Set<string>()
      for (const k of EACH_PACKET) {
        const faults: { at: Faults } = { at: () => undefined }
        const stream = await open({ completeAfterReaps: 2 }, faults)
        const send = sender(stream, faults, groupMode, by)
        const told = await send(k, () => ({ errno: ERRNO.EIO, how: 'fatal' }))
        statuses.add(compared(outcomeOf(told), 1, packetsOfHeaps(stream.packets)).join())
        expect(stream.packets).toHaveLength(k)
        const later = await send()
        expect(compared(outcomeOf(later), 1 + HEAPS, packetsOfHeaps(stream.packets))).toEqual(['failed', 'failed', 'failed'])
        expect((later as SendError).message).toMatch(/3 of 3 heaps were not sent whole: EIO/)
        // Both failures were looked at.
        expect(await stream.close()).toEqual({ droppedHeaps: 0 })
      }
      expect(statuses.size).toBeGreaterThan(3)
    })
  })

  test('the first two of three heaps, each of their 10 packets refused in turn', async () => {
    const faults: { at: Faults } = { at: () => undefined }
    const stream = await open({}, faults)
    const batch = stream.createBatch({ items: items(), heaps: HEAPS, groupMode, substreams: SUBSTREAMS })
    for (let k = 0; k < 10; k++) {
      faults.at = (row) => (row === 10 * k + k ? EPERM : undefined)
      const told = await settled(stream.send(batch, { heaps: 2 }))
      compared(outcomeOf(told), 1 + 2 * k, packetsOfHeaps(stream.packets), 2)
      expect((told as SendError).outcome.failedHeaps).toHaveLength(1)
    }
  })
})

test('a failure that nobody looked at is thrown by the next flush as it was, and only once', async () => {
  const faults: { at: Faults } = { at: () => undefined }
  const stream = await open({}, faults)
  const batch = stream.createBatch({ items: items(), heaps: HEAPS })
  for (const k of EACH_PACKET) {
    faults.at = (row) => (row === 15 * k + k ? EPERM : undefined)
    stream.send(batch)
    const thrown = await stream.flush().catch((error: SendError) => error)
    compareOutcome((thrown as SendError).outcome, 1 + k * HEAPS, packetsOfHeaps(stream.packets))
    await stream.flush()
  }
})

test('four batches in flight, another packet of each refused: each is told its own', async () => {
  const faults: { at: Faults } = { at: (row) => (row % 16 === 3 ? EPERM : undefined) }
  const stream = await open({ acceptPerPost: 7, completeAfterReaps: 5 }, faults)
  const batches = Array.from({ length: 4 }, () => stream.createBatch({ items: items(), heaps: HEAPS, groupMode: 'round-robin' }))
  const told = await Promise.all(batches.map((batch) => settled(stream.send(batch))))
  for (const [n, one] of told.entries()) compareOutcome(outcomeOf(one), 1 + n * HEAPS, packetsOfHeaps(stream.packets))
  expect(told.every((one) => one instanceof SendError)).toBe(true)
})
