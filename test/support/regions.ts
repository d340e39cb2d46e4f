/** Regions for tests, given back when the test ends. */
import { onTestFinished } from 'vitest'
import { Region, type RegionOptions } from '#dist/ffi/memory/region.js'

export const KIB = 1024
export const MIB = 2 ** 20

export function allocate(bytes: number, options?: RegionOptions): Region {
  const region = Region.allocate(bytes, options)
  onTestFinished(() => region.release())
  return region
}

export const bytesOf = ({ buffer }: Region): Uint8Array => new Uint8Array(buffer)

/** Compares every byte with the one before it, which takes no memory. */
export const isAll = (bytes: Uint8Array, value: number): boolean =>
  bytes[0] === value && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0
