/**
 * One view of the block of address space that this isolate's regions are in (address-block.ts). A loop that stores through a constant view has
 * its length and its shape compiled in; through a view that comes with the batch V8 loads and checks both before every store, for it takes
 * a DataView's store for one that may change them. That is half of what patching a header costs.
 *
 * What lies between regions is nobody's to touch, and V8 checks offsets against the block only: who writes through it has checked, once, that
 * all its offsets are inside a region.
 */
import { koffi } from '../koffi.js'
import { BLOCK_BYTES, placeable } from './address-block.js'
import type { RegionHandle } from './region.js'

let window: { readonly address: number; readonly view: DataView } | undefined

/** Where in the window the region begins; −1 if it is not all inside, as where it is in another block than the first one asked for. */
export function offsetInWindow({ address, byteLength }: RegionHandle): number {
  const start = Math.floor(address / BLOCK_BYTES) * BLOCK_BYTES
  if (address === 0 || !placeable(byteLength) || address + byteLength > start + BLOCK_BYTES) return -1
  window ??= { address: start, view: new DataView(koffi().view(BigInt(start), BLOCK_BYTES) as ArrayBuffer) }
  return start === window.address ? address - start : -1
}

/** Once offsetInWindow was asked for a region with an address. */
export function windowView(): DataView {
  if (!window) throw new Error('there is no window yet')
  return window.view
}
