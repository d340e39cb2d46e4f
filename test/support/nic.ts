/**
 * The ibverbs backend on the software NIC (test/softnic): runs a process on the NIC, makes the NIC fail, and reads the NIC's
 * report.
 */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, type TestContext } from 'vitest'
import { koffi } from '#dist/ffi/koffi.js'
import type { BatchOutcome, StreamOptions } from '#dist/src/index.js'
import { CLI } from './cli.js'
import { need } from './need.js'
import { makeNetns, type Netns, type NetnsOptions, netnsUnavailable } from './netns.js'
import { type PlainError, RemoteStream } from './remote-stream.js'
import {
  buildSoftnic,
  Control,
  NOTHING_LEAKED,
  readReport,
  type SoftnicReport,
  type SoftnicSettings,
  softnicUnavailable,
} from './softnic.js'

export { CLI }
export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Returns why there is no software NIC here, or no namespace to use it in; empty if there are both. */
export function nicUnavailable(): string {
  return netnsUnavailable() || softnicUnavailable()
}

export function needNic(ctx: TestContext): void {
  const why = nicUnavailable()
  need(ctx, !why, why)
}

export type NicOptions = Pick<SoftnicSettings, 'mode' | 'faults' | 'netdevs'>

/** A software NIC for one process. Its files are removed when the test ends. */
export class Nic {
  readonly folder = mkdtempSync(join(tmpdir(), 'speadcast-ibverbs-'))
  readonly pcap = join(this.folder, 'frames.pcap')
  readonly environment: Record<string, string>
  readonly library: string
  readonly #control = new Control(join(this.folder, 'control'))

  /** @param whenOver calls back when the files may be removed */
  constructor({ mode = 'wire', ...options }: NicOptions = {}, whenOver: (remove: () => void) => void = onTestFinished) {
    const { directory, environment } = buildSoftnic()
    this.library = join(directory, 'libibverbs.so.1')
    const report = join(this.folder, 'report.%p')
    this.environment = environment({ mode, ...options, control: this.#control, report, pcap: this.pcap })
    whenOver(() => rmSync(this.folder, { recursive: true, force: true }))
  }

  /** A command that runs a program on the NIC, when the program's own command line follows it. */
  get prefix(): string[] {
    return ['env', ...Object.entries(this.environment).map(([name, value]) => `${name}=${value}`)]
  }

  /** Gives the NIC of the running process commands; resolves when they have been carried out. */
  async command(...commands: string[]): Promise<void> {
    for (const command of commands) await this.#control.apply(command)
  }

  get #reportName(): string {
    const files = readdirSync(this.folder).filter((name) => /^report\.\d+$/.test(name))
    if (files.length !== 1) throw new Error(`${files.length} reports of the software NIC`)
    return files[0]!
  }

  /** The process that runs on the NIC; known once that has looked for its device. */
  get pid(): number {
    return Number(this.#reportName.split('.')[1])
  }

  /** The report that the NIC wrote when the process closed its last device, or when it ended. */
  report(): SoftnicReport {
    return readReport(join(this.folder, this.#reportName))
  }

  /** The report of a process that made queue pairs and left nothing behind. */
  cleanReport(): SoftnicReport {
    const report = this.report()
    expect(report.made.qps).toBeGreaterThan(0)
    expect(report.leaked).toEqual(NOTHING_LEAKED)
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

/** The status of each heap of a send; the message of an error that is no SendError. */
export function statusesOf(result: Sent, heaps: number): BatchOutcome['heaps'] {
  return result.ok ? Array(heaps).fill('sent') : (result.error?.outcome?.heaps ?? [`${result.error?.message}` as never])
}

/**
 * Compares the statuses of heaps firstCnt … with the packets that the peer saw: a `sent` heap is whole on the wire, a `partial` one
 * there in part, a `failed` or `flushed` one not at all. An `unknown` one may be either.
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

export interface NicHere {
  readonly ns: Netns
  readonly nic: Nic
}

/**
 * The software NIC for the process of a test file, whose library reads its environment once, and namespaces for as long as the file
 * runs. The object returned has both from beforeAll on, if there is a NIC.
 *
 * @param ready is called last and must look for a device, because the NIC takes commands only from then on
 */
export function nicHere(netns: NetnsOptions, options: NicOptions, ready: (here: NicHere) => unknown): NicHere {
  const here = {} as { ns: Netns; nic: Nic }
  let removeFiles: (() => void) | undefined
  beforeAll(async () => {
    if (nicUnavailable()) return
    here.ns = await makeNetns(netns)
    here.nic = new Nic(options, (remove) => {
      removeFiles = remove
    })
    Object.assign(process.env, here.nic.environment)
    await ready(here)
  })
  afterAll(async () => {
    removeFiles?.()
    await here.ns?.[Symbol.asyncDispose]()
  })
  return here
}
