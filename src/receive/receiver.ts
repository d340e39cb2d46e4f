/** The receiver as its user holds it: heaps out of an iterator, counters, and the summary at the end. */
import { checkBoolean, checkOptions } from '../checks.js'
import { INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import type { Events } from '../events.js'
import { formatGid } from '../net/address.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { ReceiverEvent, ReceiverEventOptions } from './events.js'
import type { HeapQueue } from './queue.js'
import type { ReceiveDriver } from './receive-driver.js'
import type { ReceivedHeap } from './received-heap.js'
import { type SessionSummary, STAT, STAT_NAMES, type StatName } from './session.js'
import { countersOf, type ReceiverCounters, type ReceiverEndpointCounters } from './stats.js'

/** The queue pair that takes an endpoint's datagrams. */
export interface ReceiverPeer extends Omit<DatagramPeer, 'gid' | 'mtuBytes'> {
  /** Its port's GID as an IPv6 address, or the IPv4 address that it stands for. */
  readonly gid: string
  /** The largest message that it takes, in bytes. */
  readonly mtuBytes: number
}

/**
 * The answer of `receiver.stats()`.
 * @example const { heaps, heapsIncomplete, droppedByKernel } = receiver.stats()
 */
export interface ReceiverStats extends ReceiverCounters {
  /** The way of receiving: 'recvmmsg' is backend 'native'. */
  readonly backend: 'recvmmsg' | 'tcp' | 'dgram' | 'rdma-ud' | 'pcap'
  /** Why it is not recvmmsg; empty if it is. */
  readonly backendReason: string
  /** Whether the kernel coalesces datagrams (UDP_GRO). */
  readonly gro: boolean
  /** Bytes of the socket's buffer as granted by the kernel; the smallest of the sockets'. */
  readonly receiveBufferBytes: number
  /**
   * Groups that were joined again because their interface was made anew or their route led elsewhere. Heaps sent to them
   * meanwhile are lost.
   */
  readonly groupsRejoined: number
  /** The NUMA node that packets and unfinished heaps lie on: the NIC's; left out where nothing is bound. */
  readonly numaNode?: number
  /** Why that one, or why nothing is bound; left out on machines with one node, and with node:dgram and pcap. */
  readonly numaNodeReason?: string
  /** With `stats({ endpoints: true })`, and in the summary of a receiver of several: counters of each, in the order of `receiver.endpoints`. */
  readonly endpoints?: readonly ReceiverEndpointCounters[]
}

/**
 * Says what `receiver.stats()` gives besides the receiver's counters.
 * @example receiver.stats({ endpoints: true })
 */
export interface ReceiverStatsOptions {
  /** Counters of each endpoint. Default false. */
  readonly endpoints?: boolean
}

/** Asks `receiver.stats()` for counters of each endpoint. */
export interface WithEndpoints {
  /** Asks for them. */
  readonly endpoints: true
}

/** The counters at the end, and what they come to. */
export interface ReceiveSummary extends ReceiverStats, SessionSummary {}

/**
 * Receives heaps; made by openReceiver. Iterating takes heaps from one queue: two iterations share them.
 * @example
 * for await (const heap of receiver) if (!heap.complete) console.warn(`heap ${heap.cnt} came with holes`)
 * const { heapsMissing } = await receiver.done
 */
export class Receiver implements AsyncIterable<ReceivedHeap>, AsyncDisposable {
  /** Resolves at the end of reception, whatever the reason; rejects only if receiving itself failed. */
  readonly done: Promise<ReceiveSummary>
  /** The canonical texts of the endpoints that it listens on, or that it takes of a capture. */
  readonly endpoints: readonly string[]
  /** With backend 'rdma-ud' the endpoints' queue pairs, as a sender's `rdmaUd.peers` takes them; else empty. */
  readonly peers: readonly ReceiverPeer[]
  readonly #driver: ReceiveDriver
  readonly #backendReason: string
  readonly #queue: HeapQueue
  readonly #events: Events<ReceiverEvent>
  #aborted = false
  #ended = false

  /** @internal */
  constructor(
    driver: ReceiveDriver,
    backendReason: string,
    endpoints: readonly string[],
    queue: HeapQueue,
    ended: Promise<SessionSummary>,
    events: Events<ReceiverEvent>,
    signal: AbortSignal | undefined,
  ) {
    this.#driver = driver
    this.#backendReason = backendReason
    this.#events = events
    this.endpoints = endpoints
    this.peers = (driver.peers ?? []).map((peer) => ({
      ...peer,
      gid: formatGid({ bytes: peer.gid }),
      mtuBytes: peer.mtuBytes ?? 0,
    }))
    this.#queue = queue
    const onAbort = () => {
      this.#aborted = true
      queue.clear()
      queue.end({ value: signal?.reason })
      driver.stop()
    }
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    this.done = ended
      .then(
        (summary) => {
          // A consumer that only iterates learns here of an output that failed.
          queue.end(summary.outputError === null ? undefined : { value: outputError(summary.outputError) })
          const several = this.endpoints.length > 1
          return {
            ...this.stats({ endpoints: several }),
            ...summary,
            reason: this.#aborted ? ('aborted' as const) : summary.reason,
          }
        },
        (error) => {
          queue.end({ value: error })
          throw error
        },
      )
      .finally(() => {
        this.#ended = true
        signal?.removeEventListener('abort', onAbort)
      })
    // A caller that only iterates learns of a failure there.
    this.done.catch(() => undefined)
  }

  /**
   * Returns the counters so far. Cheap, at any time; droppedByKernel lags by up to 50 ms.
   * @throws ERR_SPEADCAST_CONFIG for another option
   * @example const { heaps, heapsIncomplete, droppedByKernel } = receiver.stats()
   * @example for (const { endpoint, heaps } of receiver.stats({ endpoints: true }).endpoints) console.log(endpoint, heaps)
   */
  stats(options: ReceiverStatsOptions & WithEndpoints): ReceiverStats & Required<Pick<ReceiverStats, 'endpoints'>>
  stats(options?: ReceiverStatsOptions): ReceiverStats
  stats(options: ReceiverStatsOptions = {}): ReceiverStats {
    checkOptions('stats', options, ['endpoints'], 'there is')
    checkBoolean('stats', 'endpoints', options.endpoints)
    const { backend, gro, receiveBufferBytes, stats, memberships, numa } = this.#driver
    const groupsRejoined = memberships?.rejoined ?? 0
    const counters = Object.fromEntries(STAT_NAMES.map((name) => [name, stats[STAT[name]]])) as Record<StatName, number>
    const whole = { ...counters, backend, backendReason: this.#backendReason, gro, receiveBufferBytes, groupsRejoined, ...numa }
    return options.endpoints ? { ...whole, endpoints: this.endpoints.map((text, i) => countersOf(stats, i, text)) } : whole
  }

  /**
   * Gives what happens to the receiver from now on, in order: groups lost and joined again, drops by the kernel, senders that begin and fall silent,
   * TCP connections, its end. Ends with the receiver, by `break` or with the signal, and does not keep the process alive. A reader who
   * is behind by 256 events loses the oldest.
   * @throws ERR_SPEADCAST_CONFIG for another option or kind; the signal's reason if it has aborted, from the iteration too
   * @example for await (const { kind, message } of receiver.events({ kinds: ['membership', 'drops'] })) console.warn(kind, message)
   */
  events(options: ReceiverEventOptions = {}): AsyncIterableIterator<ReceiverEvent> {
    return this.#events.reader(options)
  }

  /** Whether it receives still. */
  get state(): 'receiving' | 'ended' {
    return this.#ended ? 'ended' : 'receiving'
  }

  /**
   * Ends reception with reason 'closed', unless it has ended already, and drops the heaps that nobody took. Idempotent.
   * @example const { heaps, reason } = await receiver.close()
   */
  close(): Promise<ReceiveSummary> {
    this.#driver.stop()
    this.#queue.clear()
    this.#queue.end()
    return this.done
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Receiver', how, () => {
      const { state, endpoints, peers } = this
      const { backend, packets, heaps, heapsIncomplete, droppedByKernel } = this.stats()
      return { state, endpoints, ...(peers.length > 0 && { peers }), backend, packets, heaps, heapsIncomplete, droppedByKernel }
    })
  }

  /**
   * Yields heaps until reception ends; leaving the loop closes the receiver.
   * @throws ERR_SPEADCAST_NATIVE where the output failed; the signal's reason
   */
  [Symbol.asyncIterator](): AsyncIterator<ReceivedHeap, undefined> {
    return {
      next: () => this.#queue.next(),
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }

  /** Closes; silent if it is closed or failed already. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined)
  }
}

const outputError = (message: string) => new SpeadcastError('ERR_SPEADCAST_NATIVE', message)
