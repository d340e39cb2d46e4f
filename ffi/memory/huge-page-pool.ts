/**
 * Huge pages shared by regions that are smaller than one. A batch of 512 KiB on ordinary pages is sent about a tenth slower, and in a huge
 * page of its own it would waste three quarters of it.
 *
 * | chunk   | is                                              | next                                               |
 * |---------|-------------------------------------------------|----------------------------------------------------|
 * | filling | handed out from its start, no part of it twice  | empty, when all ranges of it were given back       |
 * | empty   | its pages given back to the system              | filling, with new pages, when the next range is taken |
 */

import { takeFromBlock } from './address-block.js'
import { dropPages, HUGE_PAGE_BYTES, mapPages, PAGE_BYTES, type PageKind, populate, roundUp } from './mapping.js'

/** Regions below this have little use of huge pages. */
export const SMALLEST_POOLED_BYTES = 64 << 10

/** A part of a huge page that others share. */
export interface PooledRange {
  readonly address: number
  readonly byteLength: number
  readonly pages: PageKind
  release(): void
}

/** A huge page that ranges are taken from. */
interface Chunk {
  readonly address: number
  readonly pages: PageKind
  readonly inBlock: boolean
  readonly node: number
  usedBytes: number
  ranges: number
}

const chunks: Chunk[] = []

/**
 * Takes at least `byteLength` zeroed bytes, page aligned, at most a huge page, in an address block or not; undefined where no huge page can
 * be had.
 * @param node the NUMA node that its pages come from first
 */
export function takePooled(byteLength: number, inBlock: boolean, node: number): PooledRange | undefined {
  const length = roundUp(byteLength, PAGE_BYTES)
  const filling = (chunk: Chunk) =>
    chunk.inBlock === inBlock && chunk.node === node && chunk.usedBytes > 0 && chunk.usedBytes + length <= HUGE_PAGE_BYTES
  const chunk = chunks.find(filling) ?? emptyChunk(inBlock, node)
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

function emptyChunk(inBlock: boolean, node: number): Chunk | undefined {
  const empty = chunks.find((chunk) => chunk.inBlock === inBlock && chunk.node === node && chunk.usedBytes === 0)
  // The pages are dropped again because the last owners may have written through their views since.
  if (empty && dropPages(empty.address, HUGE_PAGE_BYTES) && populate(empty.address, HUGE_PAGE_BYTES, empty.pages) === 0)
    return empty
  for (const pages of ['hugetlb', 'thp'] as const) {
    const address = mapPages(HUGE_PAGE_BYTES, pages, inBlock ? takeFromBlock : undefined, node)
    if (typeof address !== 'number') continue
    const chunk: Chunk = { address, pages, inBlock, node, usedBytes: 0, ranges: 0 }
    chunks.push(chunk)
    return chunk
  }
  return undefined
}
