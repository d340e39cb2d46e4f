/** The ibverbs backend: SPEAD packets in Ethernet frames of our own making, through an RDMA device's Ethernet port. */
import type { SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { PacketTable } from '../../batch/table.js'
import { AROUND_FRAME_BYTES } from '../../net/frame.js'
import type { BackendEnvironment } from '../backend.js'
import type { StateWords } from '../states.js'
import type { VerbsBackend } from './backend.js'
import type { LastFailure } from './open.js'
import type { PostingOptions } from './posting.js'
import type { QueueKind } from './queue-kind.js'
import { explainRaw, frameRateKbps, moveDevice, type OpenRawDevice, openDevice } from './raw-open.js'
import type { IbverbsOptions } from './raw-options.js'
import { IbverbsPosting } from './raw-posting.js'
import { startQueue } from './start.js'

/**
 * A raw work request begins with 48 bytes. With two SGEs, headers and payload, it takes two of mlx5's blocks of 64; five fit into
 * the same.
 */
const SHAPE = { type: 'raw', maxSges: 5, requestBytes: 48 } as const

class RawFrames implements QueueKind<IbverbsPosting> {
  readonly name = 'ibverbs'
  readonly headroomBytes: number
  readonly wireOverheadBytes: number
  readonly pacesItself: boolean
  readonly packetMs: number
  readonly #options: IbverbsOptions
  readonly #device: OpenRawDevice

  constructor(options: IbverbsOptions, device: OpenRawDevice) {
    this.#options = options
    this.#device = device
    const { headerBytes } = device.frames.headers.templates[0]!
    this.headroomBytes = Math.ceil(headerBytes / 8) * 8
    this.wireOverheadBytes = AROUND_FRAME_BYTES + headerBytes
    this.pacesItself = options.hardwareRateBytesPerSecond !== undefined
    // A kilobit per second is a bit per millisecond.
    this.packetMs = this.pacesItself ? ((options.packetSizeBytes + headerBytes) * 8) / frameRateKbps(options, headerBytes) : 0
    device.states.add(() => this.#words())
  }

  get passable(): boolean {
    return this.#device.frames.passable
  }

  get displaced(): string {
    return this.#device.frames.displaced
  }

  move(letGo: () => void): boolean {
    return moveDevice(this.#device, letGo)
  }

  #words(): StateWords {
    const { facts, frames } = this.#device
    const { headers } = frames
    const { vlans, port } = headers.source
    return {
      interface: frames.home.interfaceName,
      sourceAddress: frames.sourceAddress,
      sourcePort: port,
      checksums: facts.checksumOffload ? 'device' : headers.templates[0]!.ipv6 ? 'software' : 'none for UDP over IPv4',
      substreamsWithoutNeighbour: frames.gates.closedCount,
      ...(vlans.length > 0 && { vlan: vlans.length > 1 ? vlans.map(({ id }) => id).join('.') : vlans[0]!.id }),
    }
  }

  compile(table: PacketTable, options: PostingOptions): IbverbsPosting {
    const { facts, frames } = this.#device
    const { templates, revision } = frames.headers
    const posting = new IbverbsPosting(table, options, templates, facts.checksumOffload)
    posting.headerRevision = revision
    return posting
  }

  /** Sets the device's rate limit too, because a queue loses it on leaving the ready state. */
  ready(queue: SendQueue): void {
    queue.ready()
    if (!this.pacesItself) return
    const { headerBytes } = this.#device.frames.headers.templates[0]!
    const { packetSizeBytes, hardwareBurstBytes = 0 } = this.#options
    queue.limitRate(frameRateKbps(this.#options, headerBytes), packetSizeBytes + headerBytes, hardwareBurstBytes)
  }

  admit(posting: IbverbsPosting, first: number, n: number): number {
    const { gates } = this.#device.frames
    return gates.any ? gates.open(posting.table.substream, undefined, first, n) : n
  }

  refusal(posting: IbverbsPosting, row: number): number {
    return this.#device.frames.gates.refusal(posting.table.substream[row]!)
  }

  prepare(posting: IbverbsPosting, first: number, end: number): void {
    const { headers, gates } = this.#device.frames
    headers.keepUp(gates)
    if (posting.headerRevision !== headers.revision || first < posting.framedFrom) posting.writeFrames(first, headers.revision)
    posting.prepare(first, end)
  }

  get watchFd(): number {
    return this.#device.frames.fd
  }

  suspicion(): number {
    return this.#device.frames.suspicion()
  }

  explain(cause: number, substream: number, udpBytes: number, last: LastFailure): string {
    const path = this.#device.frames.gates.paths[substream]!
    return explainRaw(cause, path, udpBytes, this.#device.frames, last)
  }

  close(): void {
    this.#device.frames.close()
  }
}

/** @throws ERR_SPEADCAST_BACKEND and what openDevice throws; the message has the remedy */
export async function openIbverbs(options: IbverbsOptions, environment: BackendEnvironment): Promise<VerbsBackend<IbverbsPosting>> {
  const device = await openDevice(options)
  return startQueue(options, device, new RawFrames(options, device), SHAPE, environment)
}
