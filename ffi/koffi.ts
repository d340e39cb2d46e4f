import { createRequire } from 'node:module'
import type Koffi from 'koffi'

let loaded: typeof Koffi | undefined

/**
 * Returns koffi, which it loads at first use: a machine without a prebuilt binary can still import the package and run the dgram backend.
 */
export function koffi(): typeof Koffi {
  loaded ??= createRequire(import.meta.url)('koffi') as typeof Koffi
  return loaded
}
