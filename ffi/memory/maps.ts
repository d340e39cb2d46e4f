/** Lists what this process has mapped, by proc_pid_maps(5). Cold: some 0.1 ms, and more the more mappings there are. */
import { readFileSync } from 'node:fs'

export interface Mapping {
  readonly from: number
  readonly end: number
  /** As the kernel writes them: 'rw-s'. */
  readonly rights: string
  /** The path of the file, with ' (deleted)' behind it where it has no name any more; empty for memory without a file. */
  readonly path: string
}

/** All mappings, by address; undefined where /proc is not to be had. */
export function mappings(): readonly Mapping[] | undefined {
  let text: string
  try {
    text = readFileSync('/proc/self/maps', 'latin1')
  } catch {
    return undefined
  }
  return Array.from(
    text.matchAll(/^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$/gm),
    ([, from, end, rights, path]): Mapping => ({
      from: Number.parseInt(from!, 16),
      end: Number.parseInt(end!, 16),
      rights: rights!,
      path: path!,
    }),
  )
}

/**
 * Whether every byte of the range can be read and written without a signal, as far as the mappings say; true where nobody knows.
 */
export function isMapped(address: number, byteLength: number): boolean {
  let at = address
  for (const { from, end, rights } of mappings() ?? [{ from: 0, end: Number.POSITIVE_INFINITY, rights: 'rw' }]) {
    if (end <= at) continue
    if (from > at || !rights.startsWith('rw')) return false
    at = end
    if (at >= address + byteLength) return true
  }
  return false
}
