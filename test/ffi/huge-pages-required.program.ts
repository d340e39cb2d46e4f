/** Allocates regions of each of BYTES… in reserved huge pages alone. Prints what each is, or why it is not. */

import { Region } from '#dist/ffi/memory/region.js'
import type { NativeError } from '#dist/ffi/native-error.js'
import { print } from '../support/print.js'

for (const bytes of process.argv.slice(2).map(Number))
  try {
    const region = Region.allocate(bytes, { hugePages: 'require' })
    new Uint8Array(region.buffer).fill(7)
    print({ pages: region.pages, byteLength: region.byteLength })
    region.release()
  } catch (error) {
    const { name, call, errnoName } = (error as Error).cause as NativeError
    print({ name, call, errnoName })
  }
