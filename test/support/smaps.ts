import { readFileSync } from 'node:fs'

export interface Mapping {
  readonly from: number
  readonly end: number
  /** Such as rw-p. */
  readonly rights: string
  readonly flags: string[]
  kib(field: string): number
}

/** This process's mappings, by /proc/self/smaps (proc_pid_smaps(5)). */
export function mappings(): Mapping[] {
  return readFileSync('/proc/self/smaps', 'utf8')
    .split(/^(?=[\da-f]+-[\da-f]+ )/m)
    .map((text): Mapping => {
      const [, from, end, rights] = /^([\da-f]+)-([\da-f]+) (\S+)/.exec(text)!
      return {
        from: Number.parseInt(from!, 16),
        end: Number.parseInt(end!, 16),
        rights: rights!,
        flags: /^VmFlags:(.*)$/m.exec(text)![1]!.trim().split(' '),
        kib: (field) => Number(new RegExp(`^${field}: +(\\d+) kB$`, 'm').exec(text)![1]),
      }
    })
}
