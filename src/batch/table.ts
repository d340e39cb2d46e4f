/**
 * The packet table: a compiled batch as backends see it. It is plain data (typed arrays and numbers), so it crosses to the I/O thread by
 * structured clone. Backends may `import type` from here and know nothing else of a batch.
 */

/** Describes a memory region so that another isolate can attach it; ffi's Region and RegionHandle both satisfy it. */
export interface TableRegion {
  readonly id: number
  /** Opaque outside ffi/. */
  readonly address: number
  readonly byteLength: number
  /** The kind of its pages, default small. A page is contiguous in physical memory. */
  readonly pages?: 'hugetlb' | 'thp' | 'small'
  /** The file that it maps, where that may become shorter: reading behind the file's end would end the process. */
  readonly file?: { readonly fd: number; readonly endBytes: number } | undefined
}

/**
 * One row per UDP packet, in the order of sending (the group mode *is* the row order). Packet r is the concatenation of segments
 * segmentStart[r] … segmentStart[r+1]−1; its first segment starts with its SPEAD header. Neighbouring segments that are contiguous in
 * memory are already merged inside a row; backends may merge across rows.
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
  /** The heap that the packet belongs to, by its index in the batch. */
  readonly heap: Uint32Array
  /** The number of bytes in front of every packet's first segment that the backend writes. */
  readonly headroomBytes: number
}

/** How a staged number becomes the bytes of an immediate, which stand right-aligned in the pointer; 'float' is float32. */
export type ImmediateEncoding = 'uint' | 'int' | 'float'

export interface ImmediateScatter {
  readonly name: string
  /** Byte offsets of the pointers in the header region, heap-major: those of heap j are at[start[j]] … at[start[j+1]−1]. */
  readonly at: Uint32Array
  readonly start: Uint32Array
  readonly baseHi: number
  readonly baseLo: number
  readonly encoding: ImmediateEncoding
  readonly bytes: number
  /** The item's bytes are least significant first (a little-endian dtype). */
  readonly littleEndian: boolean
  /** Byte offset in the header region of the column of staged doubles, one per heap. */
  readonly columnAt: number
  /** Byte offset of two doubles: the first value to be sent, and the step from each to the next, NaN where that is not the same for all. */
  readonly rampAt: number
}

/** The places that a send writes: heap cnts and staged immediates. The engine does the writing (engine/scatter.ts). */
export interface ScatterTable {
  /** Headers and staged columns. */
  readonly region: TableRegion
  readonly cntAt: Uint32Array
  readonly cntStart: Uint32Array
  readonly cntBaseHi: number
  readonly cntBaseLo: number
  /** 2^heapAddressBits − 1, as halves: cnts wrap at the width. */
  readonly maskHi: number
  readonly maskLo: number
  /** Byte offset of the column of explicit heap cnts (−1 = take from the sequence), one double per heap. */
  readonly cntColumnAt: number
  readonly immediates: readonly ImmediateScatter[]
  /** The entry of the columns that each heap has; undefined: heap j has the j-th. */
  readonly entries?: Uint32Array
}
