/**
 * Writes packets to a pcap file as the frames a NIC would send, for tcpdump, tshark and dry runs. Evidence: `written` (write(2)
 * returned; not fsync). Nanosecond pcap, LINKTYPE_ETHERNET (draft-ietf-opsawg-pcap §4, magic 0xA1B23C4D), little-endian.
 *
 * | state  | legal              | leaves by                                                         |
 * |--------|--------------------|-------------------------------------------------------------------|
 * | open   | all                | close(), or a write error → broken                                |
 * | broken | post (fatal), close| close(); the file ends behind its last whole packet and is valid  |
 * | closed | close (no effect)  | never                                                             |
 *
 * post blocks for the file system, like any write to a file. There is one buffer of 1 MiB, for batches of any size.
 */
import { closeSync, ftruncateSync, writeSync } from 'node:fs'
import type { RegionFile } from '../../ffi/memory/region.js'
import { ERRNO, errnoName } from '../../ffi/native-error.js'
import { openPlainFile } from '../../ffi/plain-file.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { ensure, SpeadcastError } from '../errors.js'
import { parseAddress } from '../net/address.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { AROUND_FRAME_BYTES, copyAndSum, FrameTemplate, multicastMac, placeholderMac, type VlanTag } from '../net/frame.js'
import { COUNTER } from '../stats.js'
import {
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  type CompileHints,
  POST_FATAL,
  POST_OK,
  type Posting,
  type PostResult,
  type ReapResult,
} from './backend.js'
import { checkTable, filesOf, RegisteredRegions, refusesShort, SHORTER_FILE, singleEdges } from './gather.js'
import { States } from './states.js'

export interface PcapOptions {
  /** One per substream, all of one family. Nothing is sent to them; their addresses and ports are in the frames. */
  readonly endpoints: readonly ResolvedEndpoint[]
  /** Created or truncated. A regular file or a device. */
  readonly path: string
  /** Where the frames say they come from. */
  readonly source?: {
    /** Default 192.0.2.1 or 2001:db8::1, addresses reserved for documentation. */
    readonly address?: string
    /** Default 50000, an ephemeral port (RFC 6335); tcpdump takes it for no other protocol, as it does the first one, 49152. */
    readonly port?: number
    /** Default a locally administered MAC made from the address. */
    readonly mac?: Uint8Array
  }
  readonly vlan?: VlanTag
  /** Default 1 for multicast, else 64. */
  readonly ttl?: number
  /** 0–63, default 0. */
  readonly dscp?: number
  /** Nanoseconds, from any origin, that time stamps advance by. Default the system's monotonic clock. */
  readonly clock?: () => number
}

const BUFFER_BYTES = 1 << 20
const FILE_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
const MAGIC_NANOSECONDS = 0xa1b23c4d
const SNAP_BYTES = 262144
const LINKTYPE_ETHERNET = 1

interface PcapPosting extends Posting {
  readonly table: PacketTable
  readonly regions: readonly Uint8Array[]
  readonly files: readonly RegionFile[]
}

export class PcapBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  readonly #path: string
  readonly #counters: Float64Array
  readonly #regions = new RegisteredRegions()
  readonly #templates: readonly FrameTemplate[]
  readonly #clock: () => number
  readonly #clockOrigin: number
  readonly #originSeconds: number
  readonly #originNanoseconds: number
  readonly #buffer = new Uint8Array(BUFFER_BYTES)
  readonly #view = new DataView(this.#buffer.buffer)
  readonly #fd: number
  #state: 'open' | 'broken' | 'closed' = 'open'
  #used = 0
  /** Bytes of whole records in the file; after a failed write, #written may be more. */
  #whole = 0
  #written = 0
  #completed = 0
  /** The errno of the write that failed; meaningful in broken. */
  #errno = 0

  constructor(options: PcapOptions, environment: BackendEnvironment) {
    const { endpoints, path } = options
    this.#path = path
    this.states.add(() => ({ path }))
    this.#counters = environment.counters
    this.#templates = makeTemplates(options)
    this.#clock = options.clock ?? (() => performance.now() * 1e6)
    this.#clockOrigin = this.#clock()
    // Seconds apart from nanoseconds, because nanoseconds since 1970 do not fit a double.
    const milliseconds = Date.now()
    this.#originSeconds = Math.floor(milliseconds / 1000)
    this.#originNanoseconds = (milliseconds % 1000) * 1e6
    this.caps = {
      name: 'pcap',
      evidence: 'written',
      substreams: endpoints.length,
      maxPacketSizeBytes: endpoints[0]!.family === 4 ? 65507 : 65527,
      headroomBytes: 0,
      mergesEqualPackets: false,
      wireOverheadBytes: AROUND_FRAME_BYTES + this.#templates[0]!.headerBytes,
      pollNanoseconds: 0,
    }
    try {
      this.#fd = openPlainFile(path, 'truncate')
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `cannot create the pcap file '${path}': ${code ?? message}`, { cause })
    }
    // magic, version 2.4, two reserved words, snapshot length, link type
    const header = [MAGIC_NANOSECONDS, 2 | (4 << 16), 0, 0, SNAP_BYTES, LINKTYPE_ETHERNET]
    header.forEach((word, i) => {
      this.#view.setUint32(i * 4, word, true)
    })
    this.#used = FILE_HEADER_BYTES
    if (!this.#flush()) {
      closeSync(this.#fd)
      throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `cannot write the pcap file '${path}': ${errnoName(this.#errno)}`)
    }
  }

  register(region: TableRegion): void {
    this.#regions.register(region)
  }

  compile(table: PacketTable, _hints: CompileHints): PcapPosting {
    checkTable(table, this.caps)
    return { rows: table.rows, edge: singleEdges(table.rows), table, regions: this.#regions.of(table), files: filesOf(table) }
  }

  release(_posting: Posting): void {}

  /** Copies each packet once, summing on the way; accepted rows are in the file when it returns. Allocates no buffers. */
  post(posting: PcapPosting, first: number, end: number, out: PostResult): void {
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    this.#counters[COUNTER.posts]! += 1
    if (this.#state === 'open' && refusesShort(posting, first, end, out)) {
      this.#completed += out.skipped
      return
    }
    const { table } = posting
    let buffered = first
    for (let row = first; row < end && this.#state === 'open'; row++) {
      const bytes = this.#recordBytes(table, row)
      if (this.#used + bytes > BUFFER_BYTES) {
        if (!this.#flush()) break
        buffered = row
      }
      this.#append(posting, row, bytes)
    }
    if (this.#state === 'open' && this.#flush()) {
      out.accepted = end - first
    } else {
      out.accepted = buffered - first + this.#salvage(table, buffered, end)
      out.kind = POST_FATAL
      out.errno = this.#errno
      out.substream = table.substream[first + out.accepted]!
    }
    this.#completed += out.accepted
  }

  #recordBytes(table: PacketTable, row: number): number {
    return RECORD_HEADER_BYTES + this.#templates[table.substream[row]!]!.headerBytes + table.udpBytes[row]!
  }

  #append({ table, regions }: PcapPosting, row: number, recordBytes: number): void {
    const template = this.#templates[table.substream[row]!]!
    const frameAt = this.#used + RECORD_HEADER_BYTES
    const payloadAt = frameAt + template.headerBytes
    let at = payloadAt
    let sum = 0
    for (let s = table.segmentStart[row]!; s < table.segmentStart[row + 1]!; s++) {
      const from = table.segmentOffset[s]!
      const length = table.segmentLength[s]!
      sum = copyAndSum(sum, regions[table.segmentRegion[s]!]!, from, from + length, ((at - payloadAt) & 1) === 1, this.#buffer, at)
      at += length
    }
    template.write(this.#buffer, frameAt, at - payloadAt, sum)
    const nanoseconds = this.#originNanoseconds + Math.round(this.#clock() - this.#clockOrigin)
    const seconds = Math.floor(nanoseconds / 1e9)
    const view = this.#view
    view.setUint32(this.#used, this.#originSeconds + seconds, true)
    view.setUint32(this.#used + 4, nanoseconds - seconds * 1e9, true)
    view.setUint32(this.#used + 8, recordBytes - RECORD_HEADER_BYTES, true)
    view.setUint32(this.#used + 12, recordBytes - RECORD_HEADER_BYTES, true)
    this.#used += recordBytes
  }

  /** Writes the buffer; open → broken, and false, when the file system refuses. */
  #flush(): boolean {
    let at = 0
    try {
      while (at < this.#used) at += writeSync(this.#fd, this.#buffer, at, this.#used - at)
    } catch (error) {
      this.#state = 'broken'
      // Node's errno is negative.
      this.#errno = -((error as NodeJS.ErrnoException).errno ?? -ERRNO.EIO)
    }
    this.#used = 0
    this.#written += at
    if (this.#state === 'broken') return false
    this.#whole = this.#written
    return true
  }

  /** After a failed write: how many of the buffered rows, from … end−1, are whole in the file. Cuts off the piece of the next. */
  #salvage(table: PacketTable, from: number, end: number): number {
    let row = from
    for (; row < end; row++) {
      const bytes = this.#recordBytes(table, row)
      if (this.#whole + bytes > this.#written) break
      this.#whole += bytes
    }
    this.#written = this.#whole
    try {
      ftruncateSync(this.#fd, this.#whole)
    } catch {
      // A device cannot be cut; its reader sees a short last record.
    }
    return row - from
  }

  reap(out: ReapResult): void {
    out.completed = this.#completed
    out.failures = 0
    this.#completed = 0
  }

  suspicion(): number {
    return 0
  }

  waitSet(): readonly { fd: number; events: number }[] {
    return []
  }

  explain(errno: number): string {
    if (errno === ERRNO.EFAULT) return SHORTER_FILE
    return `${errnoName(errno)} while writing '${this.#path}'; the file holds ${this.#whole} bytes of whole packets`
  }

  /** @throws SpeadcastError ERR_SPEADCAST_NATIVE when the file system reports a failed write only now (quotas, network file systems). */
  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#regions.clear()
    try {
      closeSync(this.#fd)
    } catch (cause) {
      throw new SpeadcastError(
        'ERR_SPEADCAST_NATIVE',
        `closing '${this.#path}': ${(cause as NodeJS.ErrnoException).code}; it may be incomplete`,
        { cause },
      )
    }
  }
}

function makeTemplates(options: PcapOptions): FrameTemplate[] {
  const { endpoints, source = {}, vlan, ttl, dscp } = options
  ensure(endpoints.length > 0, 'ERR_SPEADCAST_CONFIG', () => 'the pcap backend needs at least one endpoint')
  const text = source.address ?? (endpoints[0]!.family === 4 ? '192.0.2.1' : '2001:db8::1')
  const address = parseAddress(text)
  ensure(address, 'ERR_SPEADCAST_CONFIG', () => `source address '${text}' is not an IP address`)
  return endpoints.map((endpoint) => {
    ensure(
      address.length === endpoint.bytes.length,
      'ERR_SPEADCAST_CONFIG',
      () => `source address ${text} and endpoint ${endpoint.text} are of different families`,
    )
    return new FrameTemplate({
      sourceMac: source.mac ?? placeholderMac(address),
      destinationMac: multicastMac(endpoint.bytes) ?? placeholderMac(endpoint.bytes),
      source: address,
      destination: endpoint.bytes,
      sourcePort: source.port ?? 50000,
      destinationPort: endpoint.port,
      ...(ttl !== undefined && { ttl }),
      ...(dscp !== undefined && { dscp }),
      ...(vlan && { vlan }),
    })
  })
}

/** @throws SpeadcastError ERR_SPEADCAST_BACKEND (the file cannot be created), ERR_SPEADCAST_CONFIG (a header field out of range). */
export function openPcap(options: PcapOptions, environment: BackendEnvironment): PcapBackend {
  return new PcapBackend(options, environment)
}
