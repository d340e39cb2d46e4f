/** Rights of the calling thread as /proc tells of them: capabilities(7) and limits of setrlimit(2). */
import { readFileSync } from 'node:fs'

/** Numbers of capabilities (linux/capability.h). */
export const CAP_NET_ADMIN = 12
export const CAP_IPC_LOCK = 14
export const CAP_SYS_NICE = 23

/** Whether it is in effect; undefined where /proc does not tell. */
export function hasCapability(capability: number): boolean | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(text('thread-self/status'))?.[1]
  return effective === undefined ? undefined : ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n
}

/** A soft limit by its name in /proc/self/limits; Infinity: none; undefined where /proc does not tell. */
export function softLimit(name: 'Max realtime priority' | 'Max locked memory'): number | undefined {
  const limit = new RegExp(`^${name}\\s+(\\d+|unlimited)`, 'm').exec(text('self/limits'))?.[1]
  if (limit === undefined) return undefined
  return limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit)
}

/** Empty where there is no such file. */
function text(file: string): string {
  try {
    return readFileSync(`/proc/${file}`, 'latin1')
  } catch {
    return ''
  }
}
