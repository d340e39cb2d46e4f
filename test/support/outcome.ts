/** Compares the outcome of a batch of 3 heaps × 5 packets with the packets that really arrived. */
import { expect } from 'vitest'
import type { BatchOutcome, HeapStatus } from '#dist/src/index.js'
import { pointersOf } from './cli.js'

export const HEAPS = 3
export const PACKETS = 5
export const EACH_PACKET = Array.from({ length: HEAPS * PACKETS }, (_, k) => k)

const HEAP_CNT = 1
const PAYLOAD_OFFSET = 3

/** Packets of each heap cnt; throws if one is there twice. */
export function packetsOfHeaps(packets: readonly { readonly bytes: Uint8Array }[]): Map<number, number> {
  const seen = new Set<string>()
  const heaps = new Map<number, number>()
  for (const { bytes } of packets) {
    const pointers = pointersOf(bytes)
    const value = (id: number) => pointers.find((pointer) => pointer.id === id)!.value
    const cnt = value(HEAP_CNT)
    const key = `${cnt} ${value(PAYLOAD_OFFSET)}`
    if (seen.has(key)) throw new Error(`twice: heap cnt and payload offset ${key}`)
    seen.add(key)
    heaps.set(cnt, (heaps.get(cnt) ?? 0) + 1)
  }
  return heaps
}

/**
 * Expects every heap's status, the list of failed heaps and the packets reported as lost on each substream to match what `there`
 * lacks. Without an outcome all heaps were reported as sent. Returns the statuses.
 *
 * @param substreams the substream of each heap; default j
 */
export function compareOutcome(
  outcome: BatchOutcome | undefined,
  firstCnt: number,
  there: ReadonlyMap<number, number>,
  heaps = HEAPS,
  substreams: readonly number[] = [0, 1, 2],
): HeapStatus[] {
  const missing = Array.from({ length: heaps }, (_, j) => PACKETS - (there.get(firstCnt + j) ?? 0))
  const expected = missing.map((n): HeapStatus => (n === 0 ? 'sent' : n === PACKETS ? 'failed' : 'partial'))
  expect(outcome?.heaps ?? Array(heaps).fill('sent')).toEqual(expected)
  expect(outcome?.failedHeaps ?? []).toEqual(expected.flatMap((status, j) => (status === 'sent' ? [] : [j])))
  const lost = [0, 0, 0]
  for (const { substream, packets } of outcome?.causes ?? []) lost[substream]! += packets
  expect(lost).toEqual([0, 1, 2].map((k) => missing.reduce((sum, n, j) => (substreams[j] === k ? sum + n : sum), 0)))
  return expected
}
