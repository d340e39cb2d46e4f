/** Whether this process runs on musl, the C library of Alpine, as far as its mappings tell. Linux only; false elsewhere. */
import { readFileSync } from 'node:fs'

/** musl is its own loader: it is mapped as /lib/ld-musl-x86_64.so.1, or as the file that this name links to. */
const MUSL = /\/(?:ld-musl-[^/\n]*|[^/\n]*linux-musl\/libc\.so|libc\.musl-[^/\n]*)$/m

export function onMusl(maps = '/proc/self/maps'): boolean {
  try {
    return MUSL.test(readFileSync(maps, 'latin1'))
  } catch {
    return false
  }
}
