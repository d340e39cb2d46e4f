/**
 * One view of the block of address space that this isolate's regions are in (address-block.ts). V8 compiles the length and the shape of a
 * constant view into a loop that stores through it. It loads and checks a view that comes with the batch before every store, because it
 * takes a DataView's store for one that may change them. That check is half of the cost of patching a header.
 *
 * Nobody may touch the gaps between regions, and V8 checks offsets against the block only. So a caller that writes through the view checks
 * once, beforehand, that all its offsets are inside a region.
 */
import { koffi } from '../koffi.js'
import { BLOCK_BYTES, fitsBlock } from './address-block.js'
import type { RegionHandle } from './region.js'

let viewed: { readonly address: number; readonly view: DataView } | undefined

/**
 * Where in the viewed block the region begins; −1 if it is not all inside, which includes regions of another block. The block of the first
 * region that this is called with becomes the viewed one.
 */
export function offsetInBlock({ address, byteLength }: RegionHandle): number {
  const start = Math.floor(address / BLOCK_BYTES) * BLOCK_BYTES
  if (address === 0 || !fitsBlock(byteLength) || address + byteLength > start + BLOCK_BYTES) return -1
  viewed ??= { address: start, view: new DataView(koffi().view(BigInt(start), BLOCK_BYTES) as ArrayBuffer) }
  return start === viewed.address ? address - start : -1
}

/** The view of the block. offsetInBlock must have returned an offset before. */
export function blockView(): DataView {
  if (!viewed) throw new Error('there is no viewed block yet')
  return viewed.view
}
