/**
 * node:dgram, for macOS, Windows and anything else: one send per packet, completed by callback. Evidence: `accepted`.
 * Runs on the event loop only. libuv queues what the kernel does not take at once, so posts are bounded to keep that queue short.
 *
 * node:dgram has no IP_RECVERR, so Linux calls a packet sent that a full queue below the socket dropped (876 of 900 through a small
 * tbf). Linux does count them: a batch during which the count rose is suspect.
 *
 * An interface that the user chose may be made anew or get another address. The socket is bound to what was, so it is replaced:
 *
 * | state    | packets                    | leaves by                                                                      |
 * |----------|----------------------------|--------------------------------------------------------------------------------|
 * | open     | go                         | one refused as if address or interface were gone → doubtful; close → closed     |
 * | doubtful | wait for those under way   | none is under way → open, if nothing has changed; renewing; lost                |
 * | renewing | wait                       | another socket is bound → open, or cannot be → lost; close → closed             |
 * | lost     | are refused                | RETRY_MS later, as doubtful; close → closed                                     |
 * | closed   | none                       | never                                                                           |
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { ERRNO, errnoName } from '../../ffi/native-error.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { SpeadcastError } from '../errors.js'
import { familyRemedy, needsScope } from '../net/address.js'
import { needsInterface } from '../net/endpoint.js'
import { wireOverheadBytes } from '../net/frame.js'
import { interfaceNow, type ResolvedInterface } from '../net/interface.js'
import { pathTo } from '../net/route.js'
import { dropsBelowSockets } from '../net/udp-drops.js'
import { COUNTER } from '../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  POST_AGAIN,
  POST_OK,
  POST_SKIP,
  type Posting,
  type PostResult,
  type ReapResult,
} from './backend.js'
import { DgramPosting } from './dgram-posting.js'
import { SHORTER_FILE } from './gather.js'
import { PathNews } from './path-news.js'
import { portTaken } from './paths.js'
import { Recent } from './recent.js'
import { States, type StateWords } from './states.js'
import type { UdpOptions } from './udp/open.js'

export type DgramOptions = Pick<
  UdpOptions,
  'endpoints' | 'interface' | 'sourcePort' | 'reusePort' | 'broadcast' | 'ttl' | 'multicastLoop' | 'sendBufferBytes'
>

/** Packets handed to libuv and not called back. */
const MAX_OUTSTANDING = 256

/** How often a busy stream asks the kernel for drops, which costs some 50 µs. */
const LOOK_MS = 1
/** Interfaces are looked at no more often. */
const RETRY_MS = 1000
/** Errnos of packets whose interface or source address may be gone. */
const GONE: readonly (number | undefined)[] = [
  ERRNO.ENODEV,
  ERRNO.ENXIO,
  ERRNO.EADDRNOTAVAIL,
  ERRNO.EINVAL,
  ERRNO.ENETUNREACH,
  ERRNO.EHOSTUNREACH,
]

class DgramBackend implements Backend {
  readonly caps: BackendCaps
  readonly states = new States()
  readonly #v6: boolean
  readonly #port: number
  /** undefined while it is replaced, or could not be. */
  #socket: Socket | undefined
  #state: 'open' | 'doubtful' | 'renewing' | 'lost' | 'closed' = 'open'
  #interface: ResolvedInterface | undefined
  readonly #interfaceNow = new Recent<ReturnType<typeof interfaceNow>>()
  /** The address of each substream, with its zone. */
  #addresses: readonly string[]
  /** While the state is lost. */
  #lost = { errno: 0, why: '' }
  #interfaceLookedAt = Number.NEGATIVE_INFINITY
  readonly #news = new PathNews(this.states)
  #outstanding = 0
  /** The system's counter; undefined where there is none. */
  #drops: number | undefined
  /** Looks that found no counter where there was one: no descriptor was left to read it by. */
  #unread = 0
  #dropsSeen = 0
  #lookedAt = 0
  readonly #out = {
    completed: 0,
    failures: 0,
    failedAt: new Uint32Array(MAX_OUTSTANDING),
    failedErrno: new Int32Array(MAX_OUTSTANDING),
  }

  constructor(
    socket: Socket,
    readonly options: DgramOptions,
    readonly environment: BackendEnvironment,
  ) {
    this.#socket = socket
    this.#port = socket.address().port
    this.#interface = options.interface
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
    this.#addresses = addressesOf(options, options.interface)
    this.#drops = dropsBelowSockets(this.#v6)
    this.states.add(() => this.#words())
  }

  #words(): StateWords {
    return {
      ...(this.#interface && { interface: this.#interface.name, sourceAddress: this.#interface.address }),
      sourcePort: this.#port,
      segmentation: 'off',
      segmentationReason: 'node:dgram has no segmentation offload',
      dropsBelowSocket: this.#dropsSeen,
    }
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
      const errno = Math.abs(error.errno ?? ERRNO.EIO)
      out.failedErrno[out.failures++] = errno
      if (this.#state === 'open' && this.#interface && GONE.includes(errno) && this.#mayLook()) this.#state = 'doubtful'
    }
    out.completed++
    this.#outstanding--
    if (this.#state !== 'closed') this.environment.wake()
  }

  #mayLook(): boolean {
    return performance.now() - this.#interfaceLookedAt >= RETRY_MS
  }

  /** Whether packets may be handed to the socket now; else `out` says what to do. */
  #ready(posting: DgramPosting, first: number, end: number, out: PostResult): boolean {
    if (this.#state === 'doubtful' && this.#outstanding === 0) this.#lookAtInterface()
    if (this.#state === 'lost' && this.#mayLook()) this.#lookAtInterface()
    if (this.#state === 'open') return true
    if (this.#state !== 'lost') {
      again(out, 'writable')
      return false
    }
    const { substream } = posting.table
    let to = first + 1
    while (to < end && substream[to] === substream[first]) to++
    out.kind = POST_SKIP
    out.errno = this.#lost.errno
    out.substream = substream[first]!
    out.skipped = to - first
    this.#out.completed += out.skipped
    return false
  }

  /** With no packet under way, finds the interface again. Replaces the socket if it has another index or address. */
  #lookAtInterface(): void {
    this.#interfaceLookedAt = performance.now()
    const before = this.#interface!
    const wasLost = this.#state === 'lost'
    const found = interfaceNow(before)
    if (!found) {
      // The last answer holds.
      if (!wasLost) this.#state = 'open'
    } else if ('why' in found) {
      this.#lose(ERRNO[found.errno]!, found.why)
    } else if (!wasLost && found.index === before.index && found.address === before.address) {
      this.#state = 'open'
    } else {
      this.#state = 'renewing'
      this.#socket?.close()
      this.#socket = undefined
      void this.#renew(found)
    }
  }

  async #renew(iface: ResolvedInterface): Promise<void> {
    try {
      const socket = await openSocket(this.options, iface, this.#port)
      if ((this.#state as string) === 'closed') {
        socket.close()
        return
      }
      this.#socket = socket
      this.#interface = iface
      this.#addresses = addressesOf(this.options, iface)
      this.#state = 'open'
      this.#lost = { errno: 0, why: '' }
      this.#news.note(`packets leave by ${iface.name} (index ${iface.index}) from ${iface.address}`)
    } catch (error) {
      if ((this.#state as string) === 'closed') return
      this.#lose(Math.abs((error as NodeJS.ErrnoException).errno ?? ERRNO.EIO), (error as Error).message)
    }
    this.environment.wake()
  }

  #lose(errno: number, why: string): void {
    if (this.#state !== 'lost' && this.#lost.why !== why) this.#news.note(`${why} (${errnoName(errno)})`)
    this.#state = 'lost'
    this.#lost = { errno, why }
  }

  post(posting: DgramPosting, first: number, end: number, out: PostResult): void {
    const { endpoints } = this.options
    out.accepted = 0
    out.skipped = 0
    if (this.#state !== 'open' && !this.#ready(posting, first, end, out)) return
    // Packets that wait to be reaped count too, or the failure arrays could overflow.
    const room = MAX_OUTSTANDING - this.#outstanding - this.#out.completed
    const n = Math.min(end - first, room)
    for (let r = first; r < first + n; r++) {
      const substream = posting.table.substream[r]!
      this.#outstanding++
      this.#socket!.send(posting.packets[r]!, endpoints[substream]!.port, this.#addresses[substream], this.#done)
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
      if (drops === undefined) {
        if (this.#drops !== undefined) this.#unread++
      } else {
        if (drops > this.#drops!) {
          this.#dropsSeen += drops - this.#drops!
          this.environment.counters[COUNTER.droppedBelow]! += drops - this.#drops!
          this.states.change()
        }
        this.#drops = drops
      }
    }
    return this.#dropsSeen + this.#news.changes + this.#unread
  }
  waitSet(): readonly { fd: number; events: number }[] {
    return []
  }
  explain(errno: number, substream: number, udpBytes: number): string {
    const { text } = this.options.endpoints[substream]!
    const name = errnoName(errno)
    const iface = GONE.includes(errno) ? this.#interface : undefined
    const lost = iface && this.#interfaceNow.get(() => interfaceNow(iface))
    if (lost && 'why' in lost) return `${text}: ${lost.why} (${name}); the stream goes on when it is back`
    if (name === 'EACCES') return `${text}: EACCES (as for a prohibit route, or a broadcast address without the option broadcast)`
    if (name === 'EFAULT') return `${text}: ${SHORTER_FILE}`
    return name === 'EMSGSIZE'
      ? `${text}: a packet of ${udpBytes} bytes is too large for the path or the socket (EMSGSIZE)`
      : `${text}: ${name}`
  }
  close(): void {
    this.#state = 'closed'
    this.#socket?.close()
    this.#socket = undefined
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

/** The addresses with the zones that they need if they are link-local, as libuv reads them: an interface's name, on Windows its index. */
function addressesOf({ endpoints }: DgramOptions, iface: ResolvedInterface | undefined): string[] {
  return endpoints.map(({ address, bytes, scopeId, zone }) =>
    needsScope(bytes) ? zoned(address, zone ?? iface?.name, scopeId || (iface?.index ?? 0)) : address,
  )
}

function zoned(address: string, name: string | undefined, index: number): string {
  return index === 0 ? address : `${address}%${(process.platform === 'win32' ? undefined : name) ?? index}`
}

/** A socket that is bound and configured. @throws (rejects) what node:dgram says */
async function openSocket(options: DgramOptions, iface: ResolvedInterface | undefined, port: number): Promise<Socket> {
  const v6 = options.endpoints[0]!.family === 6
  const socket = createSocket({
    type: v6 ? 'udp6' : 'udp4',
    ...(options.reusePort && { reuseAddr: true }),
    ...(options.sendBufferBytes > 0 && { sendBufferSize: options.sendBufferBytes }),
    // Addresses are resolved already; the default lookup would make every send asynchronous.
    lookup: (host, _options, callback) => callback(null, host, v6 ? 6 : 4),
  })
  try {
    const listening = once(socket, 'listening')
    const source = iface && (needsScope(iface.addressBytes) ? zoned(iface.address, iface.name, iface.index) : iface.address)
    socket.bind({ port, ...(source && { address: source }) })
    await listening
    // Sends under way keep the process by themselves; an idle stream must not.
    socket.unref()
    if (iface) socket.setMulticastInterface(v6 ? `::%${iface.name}` : iface.address)
    if (options.ttl !== undefined) {
      // 0 is for multicast alone.
      if (options.ttl > 0) socket.setTTL(options.ttl)
      socket.setMulticastTTL(options.ttl)
    }
    socket.setMulticastLoopback(options.multicastLoop)
    if (options.broadcast) socket.setBroadcast(true)
  } catch (error) {
    socket.close()
    throw error
  }
  // ICMP errors of unconnected sockets are not reported; anything else is about one send and reaches its callback too.
  socket.on('error', () => {})
  return socket
}

export async function openDgram(options: DgramOptions, environment: BackendEnvironment): Promise<Backend> {
  const local = options.interface ? undefined : options.endpoints.find(({ bytes, scopeId }) => needsScope(bytes) && !scopeId)
  if (local) throw needsInterface(local)
  try {
    const socket = await openSocket(options, options.interface, options.sourcePort)
    return new DgramBackend(socket, options, environment)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const why = code === 'EADDRINUSE' ? portTaken(options.sourcePort, message) : message
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `cannot open a UDP socket to ${options.endpoints[0]!.text}: ${why}${familyRemedy(options.endpoints[0]!.family, cause)}`,
      { cause },
    )
  }
}
