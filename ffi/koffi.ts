import { createRequire } from 'node:module'
import type Koffi from 'koffi'
import { copyError, isCopy } from './copied.js'

let loaded: typeof Koffi | undefined

/**
 * Returns koffi, which it loads at first use: a machine without a prebuilt binary can still import the package and run the dgram backend.
 */
export function koffi(): typeof Koffi {
  loaded ??= load()
  return loaded
}

/** @throws ERR_SPEADCAST_BUNDLED, and node's own error where koffi or its binary is not installed */
function load(): typeof Koffi {
  let found: Partial<typeof Koffi>
  try {
    found = createRequire(import.meta.url)('koffi') as typeof Koffi
  } catch (cause) {
    throw isCopy(import.meta.url) ? copyError(import.meta.url, 'koffi', cause) : cause
  }
  // webpack copies koffi too, without its binary, and gives the namespace of an ES module.
  if (typeof found.load !== 'function') throw copyError(import.meta.url, "koffi's binary")
  return found as typeof Koffi
}
