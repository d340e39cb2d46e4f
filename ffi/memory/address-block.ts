/**
 * Where an isolate's regions go whose headers are patched: side by side, in blocks of address space that are reserved whole and found by
 * rounding an address down, so that one view sees all of a block (block-view.ts). Regions that would fill one fast, and what finds no room, go
 * wherever mmap(2) puts them.
 *
 * | part of a block  | is                                                          |
 * |------------------|-------------------------------------------------------------|
 * | below `low`      | handed out, to ordinary pages                                |
 * | `low` to `high`  | reserved: inaccessible, and no other mapping comes here      |
 * | from `high` on   | handed out, to huge pages                                    |
 */
import { isMapFailed, libc } from '../libc.js'
import { reserve, roundUp } from './mapping.js'

/** V8 collects garbage for every 64 MiB that an isolate has views of. */
export const BLOCK_BYTES = 32 << 20
const MAX_PLACED_BYTES = BLOCK_BYTES / 4
/** Of sysconf(3), in glibc and musl. Mappings begin at pages, which arm64 has of up to 64 KiB. */
const SC_PAGESIZE = 30

let block: { low: number; high: number } | undefined
let pageBytes = 0

function newBlock(): { low: number; high: number } | undefined {
  const address = reserve(2 * BLOCK_BYTES)
  if (isMapFailed(address)) return undefined
  const low = roundUp(address, BLOCK_BYTES)
  const high = low + BLOCK_BYTES
  // Nothing has seen what is before and behind.
  if (low > address) libc().munmap(address, low - address)
  if (high < address + 2 * BLOCK_BYTES) libc().munmap(high, address + 2 * BLOCK_BYTES - high)
  return { low, high }
}

export function placeable(byteLength: number): boolean {
  return byteLength <= MAX_PLACED_BYTES
}

/** A Place (mapping.ts) in a block. What could not be mapped there is not handed out again. */
export function place(byteLength: number, huge: boolean): number | undefined {
  if (!placeable(byteLength)) return undefined
  pageBytes ||= libc().sysconf(SC_PAGESIZE)
  const length = roundUp(byteLength, pageBytes)
  if (!block || block.high - block.low < length) block = newBlock()
  if (!block) return undefined
  if (huge) {
    block.high -= length
    return block.high
  }
  block.low += length
  return block.low - length
}
