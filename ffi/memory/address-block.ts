/**
 * Blocks of address space for an isolate's regions whose headers are patched. Such regions stand side by side in a block, so that one view
 * sees all of them (block-view.ts). A block is reserved whole, and an address rounded down is its block's. Two kinds of regions go wherever
 * mmap(2) puts them instead: those that would fill a block fast, and those that find no room.
 *
 * | part of a block  | is                                                          |
 * |------------------|-------------------------------------------------------------|
 * | below `low`      | handed out, to ordinary pages                                |
 * | `low` to `high`  | reserved: inaccessible, and no other mapping comes here      |
 * | from `high` on   | handed out, to huge pages                                    |
 */
import { SC_PAGESIZE } from '../layout.js'
import { isMapFailed, libc } from '../libc.js'
import { reserve, roundUp } from './mapping.js'

/** V8 collects garbage for every 64 MiB that an isolate has views of. */
export const BLOCK_BYTES = 32 << 20
const MAX_IN_BLOCK_BYTES = BLOCK_BYTES / 4

let block: { low: number; high: number } | undefined
let pageBytes = 0

function newBlock(): { low: number; high: number } | undefined {
  const address = reserve(2 * BLOCK_BYTES)
  if (isMapFailed(address)) return undefined
  const low = roundUp(address, BLOCK_BYTES)
  const high = low + BLOCK_BYTES
  // Nobody has seen the ranges before and behind the block, so they may be unmapped.
  if (low > address) libc().munmap(address, low - address)
  if (high < address + 2 * BLOCK_BYTES) libc().munmap(high, address + 2 * BLOCK_BYTES - high)
  return { low, high }
}

/** Whether regions of that length go into blocks. */
export function fitsBlock(byteLength: number): boolean {
  return byteLength <= MAX_IN_BLOCK_BYTES
}

/** Takes addresses out of the present block, or out of a new one. A range that could not be mapped is not handed out again. */
export function takeFromBlock(byteLength: number, huge: boolean): number | undefined {
  if (!fitsBlock(byteLength)) return undefined
  // Mappings begin at pages, and arm64 may have pages of up to 64 KiB.
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
