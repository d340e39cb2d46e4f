/**
 * Allocates regions of all kinds of sizes in which headers are patched, and SMALL more of 8 MiB in small pages. Prints of each its pages,
 * and the blocks of BLOCK bytes in which it begins and ends.
 */
import { Region, type RegionOptions } from '#dist/ffi/memory/region.js'
import { print } from '../support/print.js'

export interface Place {
  readonly block: number
  readonly last: number
  readonly pages: string
}

const KIB = 1024
const MIB = 2 ** 20
const [block, small] = process.argv.slice(2).map(Number) as [number, number]
const places: Place[] = []

function allocate(bytes: number, options: RegionOptions = {}): void {
  const { address, byteLength, pages } = Region.allocate(bytes, { patched: true, ...options })
  places.push({ block: Math.floor(address / block), last: Math.floor((address + byteLength - 1) / block), pages })
}

for (const bytes of [100, 5000, 512 * KIB, 3 * MIB, 8 * MIB, 70000]) allocate(bytes)
for (let i = 0; i < small; i++) allocate(8 * MIB, { hugePages: 'never' })
print(places)
