/**
 * The software NIC for tests: builds test/softnic where it has changed, and speaks its environment and control file.
 *
 *     const why = softnicUnavailable()
 *     need(ctx, !why, why)
 *     const nic = buildSoftnic()
 *     await ns.exec('a', argv, { env: nic.environment({ mode: 'wire', report }) })
 *     readReport(report).leaked
 */
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const SOURCE = fileURLToPath(new URL('../softnic', import.meta.url))
const CACHE = fileURLToPath(new URL('../../.cache/softnic', import.meta.url))

export type Sanitizer = 'address,undefined' | 'thread'

export interface SoftnicSettings {
  mode?: 'null' | 'copy' | 'wire' | 'pcap' | 'model'
  modelNs?: number
  pcap?: string
  /** Default all interfaces of the namespace; an empty list is a machine with the library and no device. */
  netdevs?: readonly string[]
  faults?: readonly string[]
  control?: Control
  report?: string
  rdmacm?: 'off'
}

export interface Softnic {
  /** Holds libibverbs.so.1 and librdmacm.so.1. */
  readonly directory: string
  /** The programs of test/softnic/checks and test/softnic/cost.c. */
  readonly check: string
  readonly cost: string
  environment(settings?: SoftnicSettings): Record<string, string>
}

type Kind = 'contexts' | 'pds' | 'mrs' | 'channels' | 'cqs' | 'qps' | 'flows' | 'ahs'

export interface SoftnicReport {
  /** Alive when the report was written. */
  leaked: Record<Kind, number>
  made: Record<Kind, number>
  /** Calls, and WRs that they posted. */
  posts: number
  posted: number
  signalled: number
  /** Calls that ended with an errno. */
  refused: number
  bytes: number
  /** WRs that were executed and not dropped. */
  frames: number
  completions: number
  errors: number
  flushed: number
  maxOutstanding: number
  droppedPortDown: number
  droppedOversize: number
  droppedByKernel: number
  received: number
  receivedUnmatched: number
  droppedNoBuffer: number
  droppedOversizeIn: number
  cqOverruns: number
  completionEvents: number
  portErrors: number
  qpFatals: number
  deviceFatals: number
  rateLimitsKbps: number[]
  burstsBytes: number[]
  /** Calls of ibv_fork_init before any protection domain was made, and after. */
  forkInits: number
  forkInitsLate: number
  /** Registrations with relaxed ordering. */
  relaxedOrdering: number
}

const LIBRARIES = ['libibverbs.so', 'librdmacm.so']
const run = (command: string, args: readonly string[], input?: string) => spawnSync(command, args, { encoding: 'utf8', input })

/** The file that programs on this machine would be linked against, or undefined. */
export function installedLibrary(name: string): string | undefined {
  const found = run('cc', [`-print-file-name=${name}`]).stdout?.trim()
  return found?.includes('/') && existsSync(found) ? realpathSync(found) : undefined
}

/** The reason why it cannot be built here; empty if it can. */
export function softnicUnavailable(): string {
  if (process.platform !== 'linux') return 'the software NIC needs Linux'
  for (const tool of ['cc', 'make', 'objdump', 'nm', 'awk'])
    if (run(tool, ['--version']).error) return `the software NIC needs ${tool} (Debian: build-essential)`
  const headers = run('cc', ['-E', '-x', 'c', '-'], '#include <infiniband/verbs.h>\n#include <rdma/rdma_cma.h>\n')
  if (headers.status !== 0 || !LIBRARIES.every(installedLibrary))
    return 'the software NIC needs the headers of libibverbs and librdmacm (Debian: libibverbs-dev librdmacm-dev)'
  return ''
}

/** All files, in order: what the build is made of. */
function sources(): [string, Buffer][] {
  const names = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter((name) => /(\.[ch]|\.sh|Makefile)$/.test(name))
  return names.sort().map((name) => [name, readFileSync(join(SOURCE, name))])
}

function digest(): string {
  const hash = createHash('sha256').update(run('cc', ['--version']).stdout)
  for (const [name, content] of sources()) hash.update(`${name}\0${content.length}\0`).update(content)
  for (const name of LIBRARIES) hash.update(readFileSync(installedLibrary(name)!))
  return hash.digest('hex').slice(0, 16)
}

export function compileSoftnic(into: string, sanitizer?: Sanitizer): void {
  const made = run('make', ['-j4', '-C', SOURCE, `OUT=${into}`, ...(sanitizer ? [`SANITIZE=${sanitizer}`] : [])])
  if (made.status !== 0) throw new Error(`softnic does not build:\n${made.stderr}${made.error ?? ''}`)
}

const built = new Map<Sanitizer | undefined, Softnic>()

/** Builds into a directory of its own, which is renamed when it is whole, so that several test files may do it at once. */
export function buildSoftnic(sanitizer?: Sanitizer): Softnic {
  const before = built.get(sanitizer)
  if (before) return before
  const key = digest()
  const name = sanitizer ? `${key}-${sanitizer.replace(',', '-')}` : key
  const directory = join(CACHE, name)
  if (!existsSync(directory)) {
    mkdirSync(CACHE, { recursive: true })
    const temporary = join(CACHE, `new-${randomBytes(6).toString('hex')}`)
    try {
      compileSoftnic(temporary, sanitizer)
      renameSync(temporary, directory)
    } catch (error) {
      // Another process may have been first.
      if (!existsSync(directory)) throw error
    } finally {
      rmSync(temporary, { recursive: true, force: true })
    }
    for (const old of readdirSync(CACHE))
      if (!old.startsWith('new-') && !old.startsWith(key)) rmSync(join(CACHE, old), { recursive: true })
  }
  const nic: Softnic = {
    directory,
    check: join(directory, 'check'),
    cost: join(directory, 'cost'),
    environment: (settings = {}) => ({ LD_LIBRARY_PATH: directory, ...environment(settings) }),
  }
  built.set(sanitizer, nic)
  return nic
}

function environment({ mode, modelNs, pcap, netdevs, faults, control, report, rdmacm }: SoftnicSettings): Record<string, string> {
  const all = {
    SOFTNIC_MODE: mode,
    SOFTNIC_MODEL_NS: modelNs?.toString(),
    SOFTNIC_PCAP: pcap,
    SOFTNIC_NETDEVS: netdevs?.join(','),
    SOFTNIC_FAULTS: faults?.join(';'),
    SOFTNIC_CONTROL: control?.file,
    SOFTNIC_REPORT: report,
    SOFTNIC_RDMACM: rdmacm,
  }
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

export function readReport(file: string): SoftnicReport {
  return JSON.parse(readFileSync(file, 'utf8')) as SoftnicReport
}

export const NOTHING_LEAKED: SoftnicReport['leaked'] = {
  contexts: 0,
  pds: 0,
  mrs: 0,
  channels: 0,
  cqs: 0,
  qps: 0,
  flows: 0,
  ahs: 0,
}

/** A control file. Made before the program starts; one program reads it. */
export class Control {
  #lines = 0

  constructor(readonly file: string) {
    writeFileSync(file, '')
  }

  /** Resolves when the running program's NIC has applied the command. */
  async apply(command: string, timeoutMs = 5000): Promise<void> {
    appendFileSync(this.file, `${command}\n`)
    this.#lines++
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const ack = existsSync(`${this.file}.ack`) ? readFileSync(`${this.file}.ack`, 'utf8') : ''
      if (ack.includes('not a command')) throw new Error(`softnic: ${ack.trim()}`)
      if (Number.parseInt(ack, 10) >= this.#lines) return
      if (Date.now() > deadline) throw new Error(`softnic did not apply "${command}" in ${timeoutMs} ms`)
      await sleep(2)
    }
  }
}
