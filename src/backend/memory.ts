/**
 * Keeps packets in memory instead of sending them: tests, dry runs, and a network that fails to order. Evidence: `written`.
 *
 * | state  | legal                      | leaves by                                                  |
 * |--------|----------------------------|------------------------------------------------------------|
 * | open   | all                        | an injected fault that is fatal → broken; close() → closed |
 * | broken | all; post answers fatal    | close() → closed                                           |
 * | closed | packets, close (no effect) | never                                                      |
 */
import type { RegionFile } from '../../ffi/memory/region.js'
import { ERRNO, errnoName } from '../../ffi/native-error.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { wireOverheadBytes } from '../net/frame.js'
import { COUNTER } from '../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  type CompileHints,
  POST_FATAL,
  POST_OK,
  POST_SKIP,
  type Posting,
  type PostResult,
  type ReapResult,
} from './backend.js'
import { checkTable, filesOf, RegisteredRegions, refusesShort, SHORTER_FILE, singleEdges } from './gather.js'
import { States } from './states.js'

/**
 * A failure to inject: an errno (as `skip`), or how it shows. `skip`: that packet cannot be sent, the next may. `again`: nothing
 * is wrong, try again; failAt is then asked for the same row once more. `late`: the packet is taken, and reported as failed when it
 * completes, as a NIC does. `fatal`: the backend is broken for good.
 */
export type Fault =
  | number
  | {
      /** The error's number. */
      readonly errno: number
      /** How it shows. */
      readonly how: 'skip' | 'again' | 'late' | 'fatal'
    }

/**
 * Options of backend 'memory', as `StreamOptions.memory`; the stream fills in `substreams` and `family`.
 * @example await openStream({ to: '10.0.0.5:7148', backend: 'memory', memory: { keepPackets: false } })
 */
export interface MemoryOptions {
  /** How many endpoints the stream has. */
  readonly substreams: number
  /** The endpoints' family. Default 4. */
  readonly family?: 4 | 6
  /** false counts packets and drops their bytes. Default true: memory grows with every packet sent. */
  readonly keepPackets?: boolean
  /** At most this many rows are taken per post; more are answered `again`. Default no bound. */
  readonly acceptPerPost?: number
  /** The pause asked for with `again`. Default 1000. */
  readonly pauseNanoseconds?: number
  /** Rows complete at the n-th reap after their post, as with a device that works by itself. Default 1, the next. */
  readonly completeAfterReaps?: number
  /**
   * Faults to inject. Default: none. `row` counts rows since open, those given up included. Not for streams with an I/O thread, because
   * functions do not cross.
   */
  readonly failAt?: (row: number, substream: number) => Fault | undefined
}

/** A packet as it would have gone out: UDP payload only. */
export interface MemoryPacket {
  /** Index of its endpoint. */
  readonly substream: number
  /** SPEAD header, item pointers and payload; a copy. */
  readonly bytes: Uint8Array
}

interface MemoryPosting extends Posting {
  readonly table: PacketTable
  readonly regions: readonly Uint8Array[]
  readonly files: readonly RegionFile[]
}

export class MemoryBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  /** In sending order; empty with `keepPackets: false`. The caller may clear it (`packets.length = 0`). */
  readonly packets: MemoryPacket[] = []
  readonly #options: MemoryOptions
  readonly #environment: BackendEnvironment
  readonly #regions = new RegisteredRegions()
  /** Rows answered so far (taken or given up), and how many of them were reported complete. */
  #row = 0
  #completed = 0
  #reaps = 0
  /** Rows before `row` complete at reap number `reap`; oldest first. */
  readonly #ripening: { row: number; reap: number }[] = []
  readonly #late: { row: number; errno: number }[] = []
  #suspicion = 0
  #state: 'open' | 'broken' | 'closed' = 'open'
  /** Meaningful in broken. */
  #fatal = { errno: 0, substream: 0 }
  /** The last post was refused, because a file is too short. */
  #refused = false
  #waking: NodeJS.Immediate | undefined

  constructor(options: MemoryOptions, environment: BackendEnvironment) {
    this.#options = options
    this.#environment = environment
    this.caps = {
      name: 'memory',
      evidence: 'written',
      substreams: options.substreams,
      maxPacketSizeBytes: 65507,
      headroomBytes: 0,
      mergesEqualPackets: false,
      wireOverheadBytes: wireOverheadBytes(options.family ?? 4),
      pollNanoseconds: 0,
    }
  }

  register(region: TableRegion): void {
    this.#regions.register(region)
  }

  compile(table: PacketTable, _hints: CompileHints): MemoryPosting {
    checkTable(table, this.caps)
    return { rows: table.rows, edge: singleEdges(table.rows), table, regions: this.#regions.of(table), files: filesOf(table) }
  }

  release(_posting: Posting): void {}

  post(posting: MemoryPosting, first: number, end: number, out: PostResult): void {
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    this.#environment.counters[COUNTER.posts]! += 1
    this.#refused = this.#state === 'open' && refusesShort(posting, first, end, out)
    if (this.#refused) {
      this.#row += out.skipped
      this.#ripen()
      return
    }
    const { acceptPerPost = end - first, keepPackets = true } = this.#options
    const { table } = posting
    const limit = Math.min(end, first + acceptPerPost)
    let row = first
    for (; row < limit && out.kind === POST_OK; row++) {
      const substream = table.substream[row]!
      if (this.#fails(substream, out)) break
      out.accepted++
      const late = this.#late.at(-1)?.row === this.#row
      this.#row++
      if (keepPackets && !late) this.packets.push({ substream, bytes: gather(posting, row) })
    }
    if (out.kind === POST_OK && row < end) this.#again(out)
    if (out.accepted + out.skipped > 0) this.#ripen()
    else this.#scheduleWake()
  }

  #ripen(): void {
    this.#ripening.push({ row: this.#row, reap: this.#reaps + (this.#options.completeAfterReaps ?? 1) })
    this.#scheduleWake()
  }

  /** True when the row at hand is not taken; `out` then says why. */
  #fails(substream: number, out: PostResult): boolean {
    if (this.#state === 'broken') {
      out.kind = POST_FATAL
      out.errno = this.#fatal.errno
      out.substream = this.#fatal.substream
      return true
    }
    const fault = this.#options.failAt?.(this.#row, substream)
    if (fault === undefined) return false
    const { errno, how } = typeof fault === 'number' ? { errno: fault, how: 'skip' as const } : fault
    out.errno = errno
    out.substream = substream
    switch (how) {
      case 'late':
        this.#late.push({ row: this.#row, errno })
        return false
      case 'again':
        if (errno === ERRNO.ENOBUFS) this.#environment.counters[COUNTER.noBuffers]! += 1
        this.#again(out, errno)
        return true
      case 'fatal':
        this.#state = 'broken'
        this.#fatal = { errno, substream }
        out.kind = POST_FATAL
        return true
      case 'skip':
        out.kind = POST_SKIP
        out.skipped = 1
        this.#row++
        return true
    }
  }

  #again(out: PostResult, errno = 0): void {
    this.#environment.counters[COUNTER.waits]! += 1
    again(out, this.#options.pauseNanoseconds ?? 1000, errno)
  }

  reap(out: ReapResult): void {
    this.#reaps++
    let done = this.#completed
    while (this.#ripening.length > 0 && this.#ripening[0]!.reap <= this.#reaps) done = this.#ripening.shift()!.row
    out.failures = 0
    while (this.#late.length > 0 && this.#late[0]!.row < done) {
      const { row, errno } = this.#late[0]!
      if (out.failures === out.failedAt.length) {
        // No room to report this one: complete only the rows before it now, the others at the next reap.
        this.#ripening.unshift({ row: done, reap: this.#reaps })
        done = row
        break
      }
      this.#late.shift()
      out.failedAt[out.failures] = row - this.#completed
      out.failedErrno[out.failures++] = errno
    }
    out.completed = done - this.#completed
    this.#completed = done
    this.#scheduleWake()
  }

  /** Nothing outside makes time pass for the rows in flight, so reap is asked for until they are complete. */
  #scheduleWake(): void {
    if (this.#waking || this.#state === 'closed' || this.#ripening.length === 0) return
    this.#waking = setImmediate(() => {
      this.#waking = undefined
      this.#environment.wake()
    })
  }

  suspicion(): number {
    return this.#suspicion
  }

  /** Makes what is sent now doubtful, as a carrier loss would. */
  suspect(): void {
    this.#suspicion++
  }

  waitSet(): readonly { fd: number; events: number }[] {
    return []
  }

  explain(errno: number, substream: number, udpBytes: number): string {
    if (this.#refused && errno === ERRNO.EFAULT) return SHORTER_FILE
    return `${errnoName(errno)} injected by failAt on substream ${substream}, packet of ${udpBytes} bytes`
  }

  close(): void {
    this.#state = 'closed'
    clearImmediate(this.#waking)
    this.#regions.clear()
  }
}

function gather({ table, regions }: MemoryPosting, row: number): Uint8Array {
  const bytes = new Uint8Array(table.udpBytes[row]!)
  let at = 0
  for (let s = table.segmentStart[row]!; s < table.segmentStart[row + 1]!; s++) {
    const from = table.segmentOffset[s]!
    bytes.set(regions[table.segmentRegion[s]!]!.subarray(from, from + table.segmentLength[s]!), at)
    at += table.segmentLength[s]!
  }
  return bytes
}

export function openMemory(options: MemoryOptions, environment: BackendEnvironment): MemoryBackend {
  return new MemoryBackend(options, environment)
}
