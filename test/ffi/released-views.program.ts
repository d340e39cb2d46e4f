/** Reads and writes views of released regions of each of BYTES…, also when their memory may be another region's. Prints true. */
import { Region } from '#dist/ffi/memory/region.js'
import { print } from '../support/print.js'

let sum = 0
for (const bytes of process.argv.slice(2).map(Number))
  for (const hugePages of ['auto', 'never'] as const) {
    const views = Array.from({ length: 4 }, () => Region.allocate(bytes, { hugePages })).map((region) => {
      const view = new Uint8Array(region.buffer)
      view.fill(1)
      region.release()
      return view
    })
    const other = Region.allocate(bytes + 4096, { hugePages })
    for (const view of views) {
      sum += view[0]! + view[view.length - 1]! + view.reduce((a, b) => a + b, 0)
      view.fill(3)
      sum += view[view.length >> 1]!
    }
    other.release()
  }
print(Number.isFinite(sum))
