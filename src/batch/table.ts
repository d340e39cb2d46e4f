/**
 * The packet table: what a compiled batch is, as backends see it. Plain data (typed arrays and numbers), so it crosses to the
 * I/O thread by structured clone. Backends may `import type` from here and know nothing else of a batch.
 */

/** A memory region by what another isolate needs to attach it; ffi's Region and RegionHandle both satisfy it. */
export interface TableRegion {
  readonly id: number
  /** Opaque outside ffi/. */
  readonly address: number
  readonly byteLength: number
}

/**
 * One row per UDP packet, in the order they are to be sent (group mode *is* the row order). Packet r is the concatenation of
 * segments segmentStart[r] … segmentStart[r+1]−1; its first segment starts with its SPEAD header. Neighbouring segments that are
 * contiguous in memory are already merged inside a row; backends may merge across rows.
 */
export interface PacketTable {
  readonly rows: number
  readonly heaps: number
  readonly regions: readonly TableRegion[]
  /** rows + 1 entries. */
  readonly segmentStart: Uint32Array
  /** Index into `regions`. */
  readonly segmentRegion: Uint16Array
  /** Byte offset within the region. */
  readonly segmentOffset: Float64Array
  readonly segmentLength: Uint32Array
  /** UDP payload bytes of each packet: SPEAD header, item pointers and payload. */
  readonly udpBytes: Uint32Array
  readonly substream: Uint16Array
  /** Which heap of the batch the packet belongs to. */
  readonly heap: Uint32Array
}
