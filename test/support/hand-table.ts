/** For tests of single backends: packet tables made by hand, without the compiler and SPEAD, and an engine's environment. */
import { Region } from '#dist/ffi/memory/region.js'
import type { PacketTable } from '#dist/src/batch/table.js'
import { COUNTER_NAMES } from '#dist/src/stats.js'

export interface HandPacket {
  readonly substream: number
  /** The packet's segments, in order; each lies somewhere else in memory. */
  readonly segments: readonly Uint8Array[]
  readonly heap?: number
}

export interface HandTable {
  readonly table: PacketTable
  /** The bytes of each row on the wire. */
  readonly expected: Uint8Array[]
  /** Overwrites all memory that the table points to; the bytes in front of packets are the backend's. */
  readonly overwrite: (byte: number) => void
}

/**
 * Puts segments alternately into two regions, with gaps between them: 3 bytes, so that they are unaligned, and the backend's
 * headroom.
 */
export function handTable(packets: readonly HandPacket[], headroomBytes = 0): HandTable {
  const segments = packets.flatMap(({ segments }) => segments)
  const bytes = segments.reduce((sum, { length }) => sum + length + 3 + headroomBytes, 4096)
  const regions = [Region.allocate(bytes, { hugePages: 'never' }), Region.allocate(bytes, { hugePages: 'never' })]
  const views = regions.map(({ buffer }) => new Uint8Array(buffer).fill(0xaa))
  const used = [1, 2]
  const segmentStart = new Uint32Array(packets.length + 1)
  packets.forEach(({ segments }, r) => {
    segmentStart[r + 1] = segmentStart[r]! + segments.length
  })
  const segmentRegion = Uint16Array.from(segments, (_, i) => i % 2)
  const segmentOffset = Float64Array.from(segments, (segment, i) => {
    const at = used[i % 2]! + headroomBytes
    views[i % 2]!.set(segment, at)
    used[i % 2] = at + segment.length + 3
    return at
  })
  const expected = packets.map(({ segments }) => Uint8Array.from(segments.flatMap((segment) => [...segment])))
  const table: PacketTable = {
    rows: packets.length,
    heaps: 1 + Math.max(0, ...packets.map(({ heap = 0 }) => heap)),
    regions: regions.map((region) => region.handle()),
    segmentStart,
    segmentRegion,
    segmentOffset,
    segmentLength: Uint32Array.from(segments, ({ length }) => length),
    udpBytes: Uint32Array.from(expected, ({ length }) => length),
    substream: Uint16Array.from(packets, ({ substream }) => substream),
    heap: Uint32Array.from(packets, ({ heap = 0 }) => heap),
    headroomBytes,
  }
  const overwrite = (byte: number) => {
    for (const [i, at] of segmentOffset.entries()) views[i % 2]!.fill(byte, at, at + segments[i]!.length)
  }
  return { table, expected, overwrite }
}

/** Deterministic bytes, different for every `n`. */
export function pattern(n: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (n * 37 + i * 11 + (i >> 8)) & 0xff)
}

/** An environment for a backend without an engine: nobody reads its counters, and nobody is woken. */
export const environment = () => ({ counters: new Float64Array(COUNTER_NAMES.length), wake: () => {} })
