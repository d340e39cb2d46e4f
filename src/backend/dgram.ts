/**
 * node:dgram, for macOS, Windows and anything else: one send per packet, completed by callback. Evidence: `accepted`.
 * Runs on the event loop only. libuv queues what the kernel does not take at once, so posts are bounded to keep that queue short.
 *
 * node:dgram has no IP_RECVERR, so Linux calls a packet sent that a full queue below the socket dropped (876 of 900 through a small
 * tbf). Linux does count them: a batch during which the count rose is suspect.
 *
 * | state  | legal             | a send that is called back | leaves by |
 * |--------|-------------------|----------------------------|-----------|
 * | open   | all               | calls `wake`               | close()   |
 * | closed | close (no effect) | wakes nobody               | never     |
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { attachRegion } from '../../ffi/memory/region.js'
import { ERRNO, errnoName } from '../../ffi/native-error.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { SpeadcastError } from '../errors.js'
import { familyRemedy, needsScope } from '../net/address.js'
import { wireOverheadBytes } from '../net/frame.js'
import { localInterfaces } from '../net/interface.js'
import { pathTo } from '../net/route.js'
import { COUNTER } from '../stats.js'
import {
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  POST_AGAIN,
  POST_OK,
  type Posting,
  type PostResult,
  type ReapResult,
} from './backend.js'
import { singleEdges } from './gather.js'
import { States } from './states.js'
import type { UdpOptions } from './udp/open.js'

export type DgramOptions = Pick<UdpOptions, 'endpoints' | 'interface' | 'sourcePort' | 'ttl' | 'multicastLoop' | 'sendBufferBytes'>

/** Packets handed to libuv and not called back. */
const MAX_OUTSTANDING = 256

/** How often a busy stream asks the kernel for drops, which costs some 50 µs. */
const LOOK_MS = 1

class DgramPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  /** The buffers of each packet, as socket.send takes them. */
  readonly packets: readonly Uint8Array[][]
  constructor(readonly table: PacketTable) {
    this.rows = table.rows
    this.edge = singleEdges(table.rows)
    const memory = table.regions.map((region) => new Uint8Array(attachRegion(region)))
    this.packets = Array.from({ length: table.rows }, (_, r) => {
      const buffers: Uint8Array[] = []
      for (let s = table.segmentStart[r]!; s < table.segmentStart[r + 1]!; s++) {
        const from = table.segmentOffset[s]!
        buffers.push(memory[table.segmentRegion[s]!]!.subarray(from, from + table.segmentLength[s]!))
      }
      return buffers
    })
  }
}

class DgramBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  readonly #v6: boolean
  /** The address of each substream, with its zone. */
  readonly #addresses: readonly string[]
  #outstanding = 0
  #state: 'open' | 'closed' = 'open'
  #drops: number
  #dropsSeen = 0
  #lookedAt = 0
  readonly #out = {
    completed: 0,
    failures: 0,
    failedAt: new Uint32Array(MAX_OUTSTANDING),
    failedErrno: new Int32Array(MAX_OUTSTANDING),
  }

  constructor(
    readonly socket: Socket,
    readonly options: DgramOptions,
    readonly environment: BackendEnvironment,
  ) {
    this.caps = {
      name: 'dgram',
      evidence: 'accepted',
      substreams: options.endpoints.length,
      maxPacketSizeBytes: 65507,
      headroomBytes: 0,
      mergesEqualPackets: false,
      wireOverheadBytes: wireOverheadBytes(options.endpoints[0]!.family, vlanTagsTo(options)),
      pollNanoseconds: 0,
    }
    this.#v6 = options.endpoints[0]!.family === 6
    this.#addresses = options.endpoints.map(({ address, bytes, scopeId }) =>
      zoned(address, bytes, scopeId || (options.interface?.index ?? 0)),
    )
    this.#drops = dropsBelowSockets(this.#v6)
    this.states.add(() => ({
      sourcePort: this.socket.address().port,
      segmentation: 'off',
      segmentationReason: 'node:dgram has no segmentation offload',
      dropsBelowSocket: this.#dropsSeen,
    }))
  }

  register(_region: TableRegion): void {}
  compile(table: PacketTable): DgramPosting {
    return new DgramPosting(table)
  }
  release(_posting: Posting): void {}

  /** Completions come back in the order of the sends: libuv tries a send at once only while its queue is empty. */
  readonly #done = (error: (Error & { errno?: number }) | null): void => {
    const out = this.#out
    if (error) {
      out.failedAt[out.failures] = out.completed
      out.failedErrno[out.failures++] = Math.abs(error.errno ?? ERRNO.EIO)
    }
    out.completed++
    this.#outstanding--
    if (this.#state === 'open') this.environment.wake()
  }

  post(posting: DgramPosting, first: number, end: number, out: PostResult): void {
    const { endpoints } = this.options
    // Packets that wait to be reaped count too, or the failure arrays could overflow.
    const room = MAX_OUTSTANDING - this.#outstanding - this.#out.completed
    const n = Math.min(end - first, room)
    for (let r = first; r < first + n; r++) {
      const substream = posting.table.substream[r]!
      this.#outstanding++
      this.socket.send(posting.packets[r]!, endpoints[substream]!.port, this.#addresses[substream], this.#done)
    }
    this.environment.counters[COUNTER.posts]! += n
    this.environment.counters[COUNTER.plainMessages]! += n
    out.accepted = n
    out.skipped = 0
    out.kind = first + n < end ? POST_AGAIN : POST_OK
    out.waitFor = 'writable'
  }

  reap(out: ReapResult): void {
    const own = this.#out
    out.completed = own.completed
    out.failures = own.failures
    for (let i = 0; i < own.failures; i++) {
      out.failedAt[i] = own.failedAt[i]!
      out.failedErrno[i] = own.failedErrno[i]!
    }
    own.completed = 0
    own.failures = 0
  }

  suspicion(thorough: boolean): number {
    const now = performance.now()
    if (thorough || now - this.#lookedAt > LOOK_MS) {
      this.#lookedAt = now
      const drops = dropsBelowSockets(this.#v6)
      if (drops > this.#drops) {
        this.#dropsSeen += drops - this.#drops
        this.states.change()
      }
      this.#drops = drops
    }
    return this.#dropsSeen
  }
  waitSet(): readonly { fd: number; events: number }[] {
    return []
  }
  explain(errno: number, substream: number, udpBytes: number): string {
    const { text } = this.options.endpoints[substream]!
    const name = errnoName(errno)
    return name === 'EMSGSIZE'
      ? `${text}: a packet of ${udpBytes} bytes is too large for the path or the socket (EMSGSIZE)`
      : `${text}: ${name}`
  }
  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.socket.close()
  }
}

/** 802.1Q tags of the frames; 0 where no kernel tells, or no packet would leave. */
function vlanTagsTo({ endpoints, interface: iface }: DgramOptions): number {
  try {
    return pathTo(endpoints[0]!, iface).vlanTags
  } catch {
    return 0
  }
}

/** The address with the zone that it needs if it is link-local, as libuv reads it: an interface's name, on Windows its index. */
function zoned(address: string, bytes: Uint8Array, index: number): string {
  if (!needsScope(bytes) || index === 0) return address
  const name = process.platform === 'win32' ? undefined : localInterfaces().find((local) => local.index === index)?.name
  return `${address}%${name ?? index}`
}

/**
 * Counts the UDP packets of one family that a queue below any socket here ever refused (proc_pid_net(5), SndbufErrors), also those of our
 * socket, because it has no IP_RECVERR. 0 where no kernel tells.
 */
function dropsBelowSockets(v6: boolean): number {
  try {
    if (v6) return Number(/^Udp6SndbufErrors\s+(\d+)/m.exec(readFileSync('/proc/net/snmp6', 'latin1'))?.[1] ?? 0)
    const [names, values] = readFileSync('/proc/net/snmp', 'latin1')
      .split('\n')
      .filter((line) => line.startsWith('Udp: '))
      .map((line) => line.split(' '))
    return Number(values?.[names!.indexOf('SndbufErrors')] ?? 0)
  } catch {
    return 0
  }
}

export async function openDgram(options: DgramOptions, environment: BackendEnvironment): Promise<Backend> {
  const { endpoints } = options
  const v6 = endpoints[0]!.family === 6
  const socket = createSocket({
    type: v6 ? 'udp6' : 'udp4',
    ...(options.sendBufferBytes > 0 && { sendBufferSize: options.sendBufferBytes }),
    // Addresses are resolved already; the default lookup would make every send asynchronous.
    lookup: (host, _options, callback) => callback(null, host, v6 ? 6 : 4),
  })
  try {
    const listening = once(socket, 'listening')
    const { interface: iface } = options
    socket.bind({ port: options.sourcePort, ...(iface && { address: zoned(iface.address, iface.addressBytes, iface.index) }) })
    await listening
    // Sends under way keep the process by themselves; an idle stream must not.
    socket.unref()
    if (options.interface) socket.setMulticastInterface(v6 ? `::%${options.interface.name}` : options.interface.address)
    if (options.ttl !== undefined) {
      // 0 is for multicast alone.
      if (options.ttl > 0) socket.setTTL(options.ttl)
      socket.setMulticastTTL(options.ttl)
    }
    socket.setMulticastLoopback(options.multicastLoop)
  } catch (cause) {
    socket.close()
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `cannot open a UDP socket to ${endpoints[0]!.text}: ${(cause as Error).message}${familyRemedy(v6 ? 6 : 4, cause)}`,
      { cause },
    )
  }
  // ICMP errors of unconnected sockets are not reported; anything else is about one send and reaches its callback too.
  socket.on('error', () => {})
  return new DgramBackend(socket, options, environment)
}
