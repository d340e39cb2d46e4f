/**
 * Huge pages for what is smaller than one. A batch of 512 KiB on ordinary pages is sent about a tenth slower, and in a huge page of its
 * own it would waste three quarters of it: neighbours share.
 *
 * | chunk  | is                                             | next                                     |
 * |--------|------------------------------------------------|------------------------------------------|
 * | filling | handed out from its start, never twice         | empty when all of it was given back       |
 * | empty  | its pages given back to the system             | filling, its pages new, at the next carve  |
 */

import { place } from './address-block.js'
import { dropPages, HUGE_PAGE_BYTES, mapPages, PAGE_BYTES, type PageKind, populate, roundUp } from './mapping.js'

/** Less than this has little use of huge pages. */
export const SMALLEST_CARVED_BYTES = 64 << 10

export interface CarvedRange {
  readonly address: number
  readonly byteLength: number
  readonly pages: PageKind
  release(): void
}

interface Chunk {
  readonly address: number
  readonly pages: PageKind
  readonly placed: boolean
  usedBytes: number
  ranges: number
}

const chunks: Chunk[] = []

/** At least `byteLength` zeroed bytes, page aligned, at most a huge page, placed or not; undefined where no huge page can be had. */
export function carve(byteLength: number, placed: boolean): CarvedRange | undefined {
  const length = roundUp(byteLength, PAGE_BYTES)
  const filling = (chunk: Chunk) => chunk.placed === placed && chunk.usedBytes > 0 && chunk.usedBytes + length <= HUGE_PAGE_BYTES
  const chunk = chunks.find(filling) ?? emptyChunk(placed)
  if (!chunk) return undefined
  const address = chunk.address + chunk.usedBytes
  chunk.usedBytes += length
  chunk.ranges++
  const release = (): void => {
    if (--chunk.ranges > 0) return
    chunk.usedBytes = 0
    dropPages(chunk.address, HUGE_PAGE_BYTES)
  }
  return { address, byteLength: length, pages: chunk.pages, release }
}

function emptyChunk(placed: boolean): Chunk | undefined {
  const empty = chunks.find((chunk) => chunk.placed === placed && chunk.usedBytes === 0)
  // Dropped again, for late writes through views of the last owners.
  if (empty && dropPages(empty.address, HUGE_PAGE_BYTES) && populate(empty.address, HUGE_PAGE_BYTES, empty.pages) === 0)
    return empty
  for (const pages of ['hugetlb', 'thp'] as const) {
    const address = mapPages(HUGE_PAGE_BYTES, pages, placed ? place : undefined)
    if (typeof address !== 'number') continue
    const chunk: Chunk = { address, pages, placed, usedBytes: 0, ranges: 0 }
    chunks.push(chunk)
    return chunk
  }
  return undefined
}
