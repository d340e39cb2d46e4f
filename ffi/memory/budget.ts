/**
 * The memory that this process may still take. Pages are faulted in as they are mapped, so beyond a cgroup's limit the kernel ends the process
 * without a word; and under a limit of setrlimit(2) that is used up V8 ends it as soon as its own heap grows. Cold: some 60 µs.
 */
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { ERRNO, NativeError } from '../native-error.js'

/** Pages that V8 and the threads will touch beside, but no more than an eighth of a limit. */
const PAGES_BESIDE = 64 << 20
/** Addresses that they will take beside, which arenas of glibc take 64 MiB of at a time: but no more than a quarter of a limit. */
const ADDRESSES_BESIDE = 128 << 20

interface Limit {
  readonly bytes: number
  readonly usedBytes: number
  /** Kept for others. */
  readonly besideBytes: number
  readonly name: string
  readonly remedy: string
}

/** Memory that this process may have: the machine's, or its cgroup's limit. */
export function memoryLimitBytes(): number {
  return Math.min(totalmem(), process.constrainedMemory?.() || Number.POSITIVE_INFINITY)
}

/** The refusal, ENOMEM, of pages that the machine or the cgroup has no room for; undefined where there is room. */
export function pagesRefused(byteLength: number): NativeError | undefined {
  const bytes = memoryLimitBytes()
  const cgroup = bytes < totalmem()
  // libuv of Node 24 counts limits of setrlimit(2) in. They are told of by their own names (addressesRefused).
  if (cgroup && softLimits().some((limit) => limit === bytes)) return undefined
  return refusal(byteLength, {
    bytes,
    usedBytes: process.memoryUsage.rss(),
    besideBytes: Math.min(PAGES_BESIDE, bytes / 8),
    name: cgroup ? "the cgroup's memory limit" : "this machine's memory",
    remedy: cgroup ? 'raise it (MemoryMax= of a systemd unit, --memory of docker, resources.limits of Kubernetes)' : 'add some',
  })
}

/** RLIMIT_AS and RLIMIT_DATA, infinite where there is none. */
function softLimits(): readonly [number, number] {
  const allowed = text('limits')
  const soft = (name: string): number =>
    Number(new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(allowed)?.[1] ?? Number.POSITIVE_INFINITY)
  return [soft('Max address space'), soft('Max data size')]
}

/**
 * The refusal of addresses that setrlimit(2) leaves no room for. What was mapped before takes none.
 * @param dataBytes those of them that are private and writable
 */
export function addressesRefused(byteLength: number, dataBytes = byteLength): NativeError | undefined {
  const [addressSpace, data] = softLimits()
  const limits = [
    {
      bytes: addressSpace,
      of: 'VmSize',
      wanted: byteLength,
      name: 'RLIMIT_AS',
      remedy: 'raise it (ulimit -v, LimitAS= of a systemd unit)',
    },
    {
      bytes: data,
      of: 'VmData',
      wanted: dataBytes,
      name: 'RLIMIT_DATA',
      remedy: 'raise it (ulimit -d, LimitDATA= of a systemd unit)',
    },
  ].filter(({ bytes }) => Number.isFinite(bytes))
  if (limits.length === 0) return undefined
  const status = text('status')
  const used = (name: string): number => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0)
  for (const { of, wanted, ...limit } of limits) {
    const besideBytes = Math.min(ADDRESSES_BESIDE, limit.bytes / 4)
    const refused = refusal(wanted, { ...limit, usedBytes: used(of), besideBytes })
    if (refused) return refused
  }
  return undefined
}

/** Addresses that V8 and glibc were seen to take for a worker, and those of them that count as data: Node 24 maps its cages so. */
const THREAD_BYTES = 768 << 20
const THREAD_DATA_BYTES = Number.parseInt(process.versions.node, 10) < 24 ? 64 << 20 : 576 << 20

/** @throws NativeError where V8 would end the process, because there are no addresses left for a thread */
export function ensureRoomForThread(): void {
  const refused = addressesRefused(THREAD_BYTES, THREAD_DATA_BYTES)
  if (refused) throw refused
}

function refusal(byteLength: number, { bytes, usedBytes, besideBytes, name, remedy }: Limit): NativeError | undefined {
  if (byteLength <= bytes - usedBytes - besideBytes) return undefined
  const detail = `${byteLength} bytes beside the ${usedBytes} in use, and ${name} is ${bytes}; ${remedy}`
  return new NativeError('mmap', ERRNO.ENOMEM, detail)
}

/** Empty where there is no such file. */
function text(file: string): string {
  try {
    return readFileSync(`/proc/self/${file}`, 'latin1')
  } catch {
    return ''
  }
}
