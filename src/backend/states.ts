/**
 * The words that a stream tells of itself, as `stream.stats().states`: what was granted, which way packets take, and why. Words that a backend
 * has nothing to say of are left out. Each is followed here by the backends that tell it.
 * @example if (stream.stats().states.carrier === false) console.warn('the cable is out')
 */
export type StateWords = {
  /** The interfaces that packets leave by, with a comma between; `udp`, `ibverbs`, and `dgram` where `interface` was given. */
  readonly interface?: string
  /** The source address of packets; `udp`, `ibverbs`, and `dgram` where `interface` was given. */
  readonly sourceAddress?: string
  /** The UDP source port; `udp`, `dgram`, `ibverbs`. */
  readonly sourcePort?: number
  /** How often the way of packets has changed since the stream was opened; `udp`, `dgram`, `ibverbs`, `tcp`. See `StreamOptions.onPathChange`. */
  readonly pathChanges?: number
  /** The last such change with its time, for a person; left out before the first. */
  readonly lastPathChange?: string
  /** Whether the interface has a signal; `udp`. */
  readonly carrier?: boolean
  /** Packets that queues below the socket dropped in silence; `udp`, `dgram`. Batches meanwhile are `suspect`. */
  readonly dropsBelowSocket?: number
  /** Packets that IPsec dropped on this host, for want of a state; `udp`. */
  readonly dropsByIpsec?: number
  /** How often a queueing discipline (tc(8)) below the socket was replaced, or an fq set anew; `udp`. */
  readonly queueChanges?: number
  /** Substreams whose next hop has not answered ARP or neighbour discovery, so that their heaps wait or fail; `udp`, `ibverbs`. */
  readonly substreamsWithoutNeighbour?: number
  /** Substreams that a router or a firewall refuses (ICMP); `udp`. */
  readonly substreamsRejected?: number
  /** Endpoints at which nobody listens, each with how many of its packets came back as port unreachable (ICMP): '10.0.0.5:7148: 12'; `udp`. */
  readonly portUnreachableAt?: string
  /** Bytes of the socket's send buffer as granted (SO_SNDBUF, socket(7)); `udp`. */
  readonly sendBufferBytes?: number
  /** Says what to raise, where less than `StreamOptions.sendBufferBytes` was granted; `udp`. */
  readonly sendBufferClipped?: string
  /** Whether messages of several packets are cut below the socket (udp(7), UDP_SEGMENT): 'on', 'off', or 'paused' after a refusal; `udp`, `dgram`. */
  readonly segmentation?: string
  /** Why that is so. */
  readonly segmentationReason?: string
  /** The most packets of one segmented message; `udp`. */
  readonly maxSegments?: number
  /** The call that takes messages: 'sendmmsg' or 'io_uring'; `udp`. */
  readonly udpPath?: string
  /** Why that one. */
  readonly udpPathReason?: string
  /** Whether messages are sent without a copy just now; `udp`. */
  readonly zeroCopy?: boolean
  /** The keeper of the rate: 'sw' this program, 'kernel' fq, 'hw' the device; of streams with a rate. */
  readonly rateMethod?: string
  /** Why that one. */
  readonly rateMethodReason?: string
  /** Bytes of frames a second that fq was given, headers included (SO_MAX_PACING_RATE); `udp` with rateMethod 'kernel'. */
  readonly frameBytesPerSecond?: number
  /** Connections that were made, one for each endpoint; `tcp`. */
  readonly connections?: number
  /** Those of them that are lost just now; `tcp`. */
  readonly connectionsLost?: number
  /** How often a connection was made again; `tcp` with `reconnect: 'retry'`. */
  readonly reconnects?: number
  /** The NUMA node that batches, the ring and the accounts, and what is mapped for the backend, are on: the NIC's; left out where nothing is bound. */
  readonly numaNode?: number
  /** Why that one, or why nothing is bound; left out on machines with one node. */
  readonly numaNodeReason?: string
  /** The RDMA device; `ibverbs`, `rdma-ud`. */
  readonly device?: string
  /** The port of the device; `ibverbs`, `rdma-ud`. */
  readonly port?: number
  /** Whether that port is active; `ibverbs`, `rdma-ud`. */
  readonly portActive?: boolean
  /** Packets that may be under way at the device; `ibverbs`, `rdma-ud`. */
  readonly queueDepth?: number
  /** How often the queue was in error and made ready again; `ibverbs`, `rdma-ud`. */
  readonly recoveries?: number
  /** The trouble that put it in error, for a person; left out before the first time. */
  readonly trouble?: string
  /** How often nothing completed for `completionTimeoutMs`; left out before the first time; `ibverbs`, `rdma-ud`. */
  readonly stalls?: number
  /** The place where checksums are computed: 'device', 'software', or 'none for UDP over IPv4'; `ibverbs`. */
  readonly checksums?: string
  /** VLAN tags of frames, the outermost first with a point between; left out without; `ibverbs`. */
  readonly vlan?: string | number
  /** 'Ethernet' (RoCE) or 'InfiniBand'; `rdma-ud`. */
  readonly linkLayer?: string
  /** The sending port's GID; `rdma-ud`. */
  readonly gid?: string
  /** Its index in the port's table; `rdma-ud`. */
  readonly gidIndex?: number
  /** The first receiver's queue pair, as GID/qpn/qkey and /lid where there is one, and how many more there are; `rdma-ud`. */
  readonly peer?: string
  /** Bytes of a datagram that the port's MTU allows; `rdma-ud`. */
  readonly mtuBytes?: number
  /** The file that is written; `pcap`. */
  readonly path?: string
}

/**
 * Gathers these words. Each part of a backend adds those that it answers for and says when they change, so that nobody has to compare them to
 * learn that they are the same.
 */
export class States {
  /** Rises whenever `read` would answer differently. */
  changes = 0
  readonly #parts: (() => StateWords)[] = []

  /** @param words asked for at every `read` */
  add(words: () => StateWords): void {
    this.#parts.push(words)
  }

  /** Words of a part have changed. */
  change(): void {
    this.changes++
  }

  /** Cold: call it when `changes` rose. */
  read(): StateWords {
    return Object.assign({}, ...this.#parts.map((words) => words()))
  }
}
