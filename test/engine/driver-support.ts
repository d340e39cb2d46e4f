/**
 * A driver with the ring and the submissions in front of it, as a stream has them, so that the same scenarios run on the event loop
 * (packets kept by the memory backend) and in an I/O thread (packets in a pcap file: nothing in memory crosses).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { MemoryBackend, MemoryOptions } from '#dist/src/backend/memory.js'
import type { GroupMode } from '#dist/src/batch/compile.js'
import { type HeapReference, PreparedHeaps } from '#dist/src/batch/heaps.js'
import type { EngineOptions } from '#dist/src/engine/contract.js'
import type { Driver, DriverInput } from '#dist/src/engine/driver.js'
import { InlineDriver } from '#dist/src/engine/driver-inline.js'
import { WorkerDriver } from '#dist/src/engine/driver-worker.js'
import { lease } from '#dist/src/engine/pool.js'
import * as R from '#dist/src/engine/ring.js'
import { IoThreadHandle } from '#dist/src/engine/thread.js'
import type { SpeadcastError } from '#dist/src/errors.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { News } from '#dist/src/stream/news.js'
import type { BatchResult } from '#dist/src/stream/result.js'
import { Send } from '#dist/src/stream/send.js'
import { SendPromise } from '#dist/src/stream/send-promise.js'
import { Submissions } from '#dist/src/stream/submissions.js'
import { ENGINE_OPTIONS } from '../support/engine-rig.js'
import { type PcapPacket, readPcap } from '../support/pcap.js'

export const KINDS = ['inline', 'worker'] as const
export type DriverKind = (typeof KINDS)[number]

const FIRST_PORT = 7148
const SUBSTREAMS = 4

export interface Variant {
  readonly id: number
  readonly heaps: number
  readonly rows: number
}

export interface Sent {
  readonly promise: SendPromise<BatchResult>
  readonly send: Send
}

export interface DriverRig {
  readonly driver: Driver
  /** Where it is an I/O thread's driver. */
  readonly thread: IoThreadHandle | undefined
  readonly ring: R.Ring
  readonly submissions: Submissions
  readonly deaths: SpeadcastError[]
  add(references: readonly HeapReference[], mode?: GroupMode): Variant
  /** The same variant may be under way many times: backends copy. Only what has a signal may be withdrawn. */
  send(variant: Variant, signal?: AbortSignal): Sent
  setSequence(next: number, step: number): void
  /** Everything sent so far, by backend; of an I/O thread only after `stop`. */
  packets(): readonly PcapPacket[]
  stop(how: typeof R.STOP_DRAIN | typeof R.STOP_ABORT): Promise<void>
}

export interface RigOptions {
  readonly memory?: Partial<MemoryOptions>
  readonly engine?: Partial<EngineOptions>
  /** The memory backend in an I/O thread, whose options the test needs more than its packets. */
  readonly keepNothing?: boolean
  /** The count of the first submission. */
  readonly first?: number
}

async function backendSpec(kind: DriverKind, options: RigOptions): Promise<{ spec: DriverInput['backend']; path?: string }> {
  if (kind === 'inline' || options.keepNothing) return { spec: { kind: 'memory', substreams: SUBSTREAMS, ...options.memory } }
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-driver-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'packets.pcap')
  const to = Array.from({ length: SUBSTREAMS }, (_, i) => `239.1.2.3:${FIRST_PORT + i}`)
  return { spec: { kind: 'pcap', path, endpoints: await resolveEndpoints(parseEndpoints(to)) }, path }
}

export async function driverRig(kind: DriverKind, options: RigOptions = {}): Promise<DriverRig> {
  const ring = new R.Ring(R.Ring.memoryFor(SUBSTREAMS, options.first))
  const deaths: SpeadcastError[] = []
  // A driver promises never to call back from within submitted().
  let submitting = false
  const { spec, path } = await backendSpec(kind, options)
  const input: DriverInput = {
    ring,
    backend: spec,
    options: { ...ENGINE_OPTIONS, ...options.engine },
  }
  const thread = kind === 'worker' ? new IoThreadHandle() : undefined
  const driver = await (thread ? WorkerDriver.open(input, lease(thread)) : InlineDriver.open(input))
  onTestFinished(() => thread?.end())
  const submissions = new Submissions(ring, driver, new News(), () => {})
  driver.start({
    harvest: () => {
      if (submitting) throw new Error('harvest from within submitted()')
      submissions.harvest()
    },
    get watched() {
      return submissions.watched
    },
    outcome: (message) => submissions.outcome(message),
    lost: (substreams) => submissions.lost(substreams),
    interludeOver: (outcome) => submissions.interludeOver(outcome),
    loopNews: (message) => submissions.loopNews(message),
    knows: (submission) => submissions.knows(submission),
    threadDied: (error, receivers) => submissions.threadDied(error, receivers),
    threadRestarted: () => submissions.threadRestarted(),
    die: (error) => {
      deaths.push(error)
      submissions.die(error)
    },
  })
  const submit = (send: Send): void => {
    submitting = true
    try {
      submissions.submit(send)
    } finally {
      submitting = false
    }
  }
  let ids = 0
  let stopped: Promise<void> | undefined
  const stop = (how: number): Promise<void> => {
    ring.stop(how)
    driver.submitted()
    stopped ??= driver.stopped().then(() => void submissions.harvest())
    return stopped
  }
  onTestFinished(() => stop(R.STOP_ABORT))
  return {
    driver,
    thread,
    ring,
    submissions,
    deaths,
    add(references, mode = 'serial') {
      const prepared = new PreparedHeaps(references, mode, { packetSizeBytes: 1472, split: 'even' })
      prepared.fill(references)
      const { rows, compile } = prepared.compilation()
      const id = ++ids
      driver.addVariant(id, compile(), prepared.rates)
      return { id, heaps: prepared.heaps, rows }
    },
    send({ id, heaps, rows }, signal) {
      const send = new Send(() => {})
      const promise = new SendPromise<BatchResult>(submissions.watch)
      Object.assign(send, { variant: id, heaps, rows, promise, signal })
      submit(send)
      return { promise, send }
    },
    setSequence(next, step) {
      const send = new Send(() => {})
      send.sequence = [Math.floor(next / 2 ** 32), next % 2 ** 32, Math.floor(step / 2 ** 32), step % 2 ** 32]
      submit(send)
    },
    packets: () => (path ? readPcap(path, FIRST_PORT) : (driver as InlineDriver & { backend: MemoryBackend }).backend.packets),
    stop,
  }
}

/** Fails instead of hanging. */
export function within<T>(what: string, promise: Promise<T>, milliseconds = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export const settledOf = (sent: readonly Sent[]) =>
  within(`${sent.length} sends settle`, Promise.allSettled(sent.map(({ promise }) => promise)), 20_000)
