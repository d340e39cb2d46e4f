/** The ibverbs backend on the software NIC (test/softnic): how a process is put on it, what goes wrong with it, and what it saw. */
import { appendFileSync, closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, type TestContext } from 'vitest'
import { koffi } from '#dist/ffi/koffi.js'
import type { BatchOutcome, StreamOptions } from '#dist/src/index.js'
import { type PlainError, RemoteStream } from '../kernel/support.js'
import { need } from '../support/need.js'
import { type Netns, netnsUnavailable } from '../support/netns.js'
import { buildSoftnic, softnicUnavailable } from '../support/softnic.js'

export const CLI = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const KINDS = ['contexts', 'pds', 'mrs', 'channels', 'cqs', 'qps', 'flows'] as const
type Kind = (typeof KINDS)[number]

/** What the NIC saw of a process. */
export interface NicReport {
  readonly leaked: Record<Kind, number>
  readonly made: Record<Kind, number>
  readonly posts: number
  readonly posted: number
  readonly signalled: number
  readonly refused: number
  readonly frames: number
  readonly completions: number
  readonly errors: number
  readonly flushed: number
  readonly maxOutstanding: number
  readonly droppedPortDown: number
  readonly droppedOversize: number
  readonly droppedByKernel: number
  readonly cqOverruns: number
  readonly completionEvents: number
  readonly portErrors: number
  readonly qpFatals: number
  readonly deviceFatals: number
  /** The latest 32. */
  readonly rateLimitsKbps: number[]
}

export interface NicOptions {
  readonly mode?: 'null' | 'copy' | 'wire' | 'pcap'
  /** Commands that hold from the start. */
  readonly faults?: readonly string[]
  /** Netdevs that are RDMA devices; default all. "v0+v0.5" answers for the VLAN too. */
  readonly netdevs?: string
}

/** Why there is no software NIC here, or no namespace to use it in; empty if there are. */
export function nicUnavailable(): string {
  return netnsUnavailable() || softnicUnavailable()
}

export function needNic(ctx: TestContext): void {
  const why = nicUnavailable()
  need(ctx, !why, why)
}

/** A software NIC for one process. Its files go when the test ends. */
export class Nic {
  readonly folder = mkdtempSync(join(tmpdir(), 'speadcast-ibverbs-'))
  readonly pcap = join(this.folder, 'frames.pcap')
  readonly #control = join(this.folder, 'control')
  #lines = 0

  /** @param whenOver calls back when the files may go */
  constructor(
    readonly options: NicOptions = {},
    whenOver: (remove: () => void) => void = onTestFinished,
  ) {
    writeFileSync(this.#control, '')
    whenOver(() => rmSync(this.folder, { recursive: true, force: true }))
  }

  get library(): string {
    return join(buildSoftnic().directory, 'libibverbs.so.1')
  }

  get environment(): Record<string, string> {
    const { mode = 'wire', faults = [], netdevs } = this.options
    return {
      LD_LIBRARY_PATH: buildSoftnic().directory,
      SOFTNIC_MODE: mode,
      SOFTNIC_CONTROL: this.#control,
      SOFTNIC_REPORT: join(this.folder, 'report.%p'),
      SOFTNIC_PCAP: this.pcap,
      ...(faults.length > 0 && { SOFTNIC_FAULTS: faults.join(';') }),
      ...(netdevs !== undefined && { SOFTNIC_NETDEVS: netdevs }),
    }
  }

  /** A command to run a program under. */
  get prefix(): string[] {
    return ['env', ...Object.entries(this.environment).map(([name, value]) => `${name}=${value}`)]
  }

  /** Gives the NIC a command; resolves when it has been carried out. */
  async command(...lines: string[]): Promise<void> {
    this.#lines += lines.length
    appendFileSync(this.#control, `${lines.join('\n')}\n`)
    for (let waited = 0; waited < 5000; waited += 2) {
      const acknowledged = this.#acknowledged()
      if (/not a command/.test(acknowledged)) throw new Error(`softnic: ${acknowledged}`)
      if (Number.parseInt(acknowledged, 10) >= this.#lines) return
      await sleep(2)
    }
    throw new Error(`softnic did not do ${lines} in 5 s`)
  }

  #acknowledged(): string {
    try {
      return readFileSync(`${this.#control}.ack`, 'utf8')
    } catch {
      return '' // nothing yet
    }
  }

  /** Of the process that ran on it last; written when its last device is closed, and when it ends. */
  report(): NicReport {
    const files = readdirSync(this.folder).filter((name) => /^report\.\d+$/.test(name))
    if (files.length !== 1) throw new Error(`${files.length} reports of the software NIC`)
    return JSON.parse(readFileSync(join(this.folder, files[0]!), 'utf8'))
  }

  /** The report of a process that made queue pairs and left nothing behind. */
  cleanReport(): NicReport {
    const report = this.report()
    expect(report.made.qps).toBeGreaterThan(0)
    expect(report.leaked).toEqual(Object.fromEntries(KINDS.map((kind) => [kind, 0])))
    return report
  }
}

/** A stream of backend ibverbs in namespace a, on the NIC. */
export function openOn(nic: Nic, ns: Netns, options: StreamOptions): Promise<RemoteStream> {
  return RemoteStream.open(ns, { backend: 'ibverbs', ...options }, nic.prefix)
}

export interface Sent {
  readonly ok?: object
  readonly error?: PlainError
}

/** What is expected of a heap of `packets` packets, by how many of it the wire has and, if none, whether any was tried. */
export function statusesOf(result: Sent, heaps: number): BatchOutcome['heaps'] {
  return result.ok ? Array(heaps).fill('sent') : (result.error?.outcome?.heaps ?? [`${result.error?.message}` as never])
}

/**
 * Compares what was said of heaps firstCnt … with what the peer saw: `sent` is whole on the wire, `partial` is there in part, `failed` and
 * `flushed` are not there at all. `unknown` may be either.
 */
export function compareWithWire(
  statuses: BatchOutcome['heaps'],
  firstCnt: number,
  wire: Map<number, number>,
  packets: number,
): void {
  for (const [j, status] of statuses.entries()) {
    const seen = wire.get(firstCnt + j) ?? 0
    const what = `heap ${firstCnt + j}, ${status}, ${seen} of ${packets} packets seen`
    if (status === 'sent') expect(seen, what).toBe(packets)
    else if (status === 'partial') expect(seen > 0 && seen < packets, what).toBe(true)
    else if (status === 'unknown') expect(seen, what).toBeLessThanOrEqual(packets)
    else expect(seen, what).toBe(0)
  }
}

const CLONE_NEWNET = 0x40000000
let setns: (fd: number, kind: number) => number

/** Runs `body` with this thread in a network namespace; sockets that it opens stay there. */
export async function inNamespace<T>(name: string, body: () => Promise<T>): Promise<T> {
  setns ??= koffi().load('libc.so.6').func('int setns(int, int)')
  const enter = (path: string): void => {
    const fd = openSync(path, 'r')
    const result = setns(fd, CLONE_NEWNET)
    closeSync(fd)
    if (result !== 0) throw new Error(`setns to ${path} failed`)
  }
  const own = openSync('/proc/thread-self/ns/net', 'r')
  enter(`/run/netns/${name}`)
  try {
    return await body()
  } finally {
    enter(`/proc/self/fd/${own}`)
    closeSync(own)
  }
}
