/**
 * The rdma-ud backend: SPEAD packets as datagrams (UD) of InfiniBand or RoCE, for another speadcast that listens for them. Any RDMA
 * device can send them, soft-RoCE too. A packet is the message, with nothing in front of it.
 */
import { ERRNO } from '../../../ffi/native-error.js'
import type { SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { DatagramDestination } from '../../../ffi/verbs/work-requests.js'
import type { PacketTable } from '../../batch/table.js'
import { ensure } from '../../errors.js'
import { formatGid } from '../../net/address.js'
import { datagramOverheadBytes } from '../../rdma/fabric.js'
import type { BackendEnvironment } from '../backend.js'
import type { StateWords } from '../states.js'
import type { VerbsBackend } from './backend.js'
import {
  closeDestinations,
  describePort,
  type OpenFabric,
  openFabric,
  type PortWatch,
  type RdmaUdOptions,
  tooLarge,
} from './datagrams-open.js'
import { causeName, explainCause, type LastFailure } from './open.js'
import { type PostingOptions, VerbsPosting } from './posting.js'
import type { QueueKind } from './queue-kind.js'
import { startQueue } from './start.js'

/**
 * A datagram's work request begins with 16 bytes of control and 48 of address: with four SGEs it takes two of mlx5's blocks of 64.
 */
const SHAPE = { type: 'datagram', maxSges: 4, requestBytes: 64 } as const
const FORM = { headerBytes: 0, leastBytes: 0, checksumOffload: false } as const

class DatagramPosting extends VerbsPosting {
  constructor(table: PacketTable, options: PostingOptions, destinations: readonly DatagramDestination[]) {
    super(table, options, FORM)
    for (let row = 0; row < table.rows; row++) this.chain.datagram(row, destinations[table.substream[row]!]!)
  }
}

class Datagrams implements QueueKind<DatagramPosting> {
  readonly name = 'rdma-ud'
  readonly headroomBytes = 0
  readonly wireOverheadBytes: number
  readonly pacesItself = false
  readonly packetMs = 0
  readonly displaced = ''
  readonly #options: RdmaUdOptions
  readonly #open: OpenFabric
  readonly #watch: PortWatch

  constructor(options: RdmaUdOptions, open: OpenFabric) {
    this.#options = options
    this.#open = open
    this.wireOverheadBytes = datagramOverheadBytes(
      open.fabric,
      options.endpoints.some(({ multicast }) => multicast),
    )
    open.states.add(() => this.#words())
    this.#watch = open.watch
  }

  get passable(): boolean {
    return this.#watch.passable
  }

  #words(): StateWords {
    const { fabric, destinations } = this.#open
    const peer = ({ peer: { gid, lid, qpn, qkey } }: (typeof destinations)[number]): string =>
      `${formatGid({ bytes: gid })}/${qpn}/0x${qkey.toString(16)}${lid > 0 ? `/${lid}` : ''}`
    return {
      linkLayer: fabric.ethernet ? 'Ethernet' : 'InfiniBand',
      gid: formatGid(fabric.gid),
      gidIndex: fabric.gid.index,
      // One shows whether it is the right one; a stream may have thousands.
      peer: `${peer(destinations[0]!)}${destinations.length > 1 ? ` and ${destinations.length - 1} more` : ''}`,
    }
  }

  compile(table: PacketTable, options: PostingOptions): DatagramPosting {
    const { packetSizeBytes } = this.#options
    for (let row = 0; row < table.rows; row++)
      ensure(
        table.udpBytes[row]! <= packetSizeBytes,
        'ERR_SPEADCAST_PACKET_SIZE',
        () => `a packet of ${table.udpBytes[row]} bytes exceeds the stream's packetSizeBytes, ${packetSizeBytes}`,
      )
    return new DatagramPosting(table, options, this.#open.destinations)
  }

  /** Looks at the link too, because it may have been the reason of a failure. */
  ready(queue: SendQueue): void {
    queue.ready()
    this.#watch.look()
  }

  /** The MTU may have shrunk since the batch was compiled. A larger packet would be dropped and called sent. */
  admit(posting: DatagramPosting, first: number, n: number): number {
    const { mtuBytes, passable, shut } = this.#watch
    if (passable) return n
    if (shut !== 0) return 0
    const { udpBytes } = posting.table
    let fitting = 0
    while (fitting < n && udpBytes[first + fitting]! <= mtuBytes) fitting++
    return fitting
  }

  refusal(): number {
    return this.#watch.shut || ERRNO.EMSGSIZE
  }

  prepare(posting: DatagramPosting, first: number, end: number): void {
    posting.prepare(first, end)
  }

  get watchFd(): number | undefined {
    return this.#watch.fd
  }

  suspicion(): number {
    return this.#watch.suspicion()
  }

  explain(cause: number, substream: number, udpBytes: number, last: LastFailure): string {
    const { fabric } = this.#open
    const { text } = this.#options.endpoints[substream]!
    const where = describePort(fabric)
    switch (causeName(cause)) {
      case 'EMSGSIZE':
        return `${text}: ${tooLarge(`a packet of ${udpBytes} bytes`, this.#watch.mtuBytes, where)}`
      case 'ENETDOWN':
        return `${text}: ${where} has no link (ENETDOWN); sending goes on when it is back`
      case 'ENODEV':
        return `${text}: the interface or the device of ${where} is gone (ENODEV); open another stream when it is back`
      default:
        return explainCause(cause, text, where, udpBytes, last)
    }
  }

  close(): void {
    this.#watch.close()
    closeDestinations(this.#open.destinations)
    this.#open.groups?.close()
  }
}

/** @throws ERR_SPEADCAST_BACKEND and what openFabric throws; the message has the remedy */
export async function openRdmaUd(options: RdmaUdOptions, environment: BackendEnvironment): Promise<VerbsBackend<DatagramPosting>> {
  const open = await openFabric(options)
  return startQueue(options, open, new Datagrams(options, open), SHAPE, environment)
}
