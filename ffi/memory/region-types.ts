/** Types: the options of a region, and the handle by which another isolate finds it. */
import type { RegionFile } from './region-file.js'

/** Describes memory so that another isolate of this process can attach it. Plain data: it survives postMessage. */
export interface RegionHandle {
  /** Its number in the process. */
  readonly id: number
  /** Virtual address of the first byte. Only ffi/ may compute with it. */
  readonly address: number
  /** Bytes of the region. */
  readonly byteLength: number
  /** @internal The file that it maps, where that may become shorter. */
  readonly file?: RegionFile | undefined
}

/**
 * Options of `Region.allocate`.
 * @example Region.allocate(1 << 30, { hugePages: 'require' })
 */
export interface RegionOptions {
  /**
   * `auto` (default) tries reserved huge pages, then transparent, then small ones; regions from 64 KiB to 2 MiB share a huge page.
   * `require` takes reserved ones of its own or throws.
   */
  readonly hugePages?: 'auto' | 'require' | 'never'
  /**
   * The NUMA node that its pages come from as long as that has any, then from others (mbind(2), MPOL_PREFERRED). Default: that of the CPU that
   * the calling thread runs on, as the kernel does it.
   */
  readonly numaNode?: number
  /** Default false. @internal Headers in it will be patched, so it lies in a block beside others of that kind (address-block.ts). */
  readonly patched?: boolean
}
