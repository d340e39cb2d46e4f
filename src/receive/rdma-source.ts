/**
 * Takes datagrams (UD) of InfiniBand or RoCE. Each endpoint has a queue pair, whose receives are posted out of one registered region, the
 * front of the receiving memory. A datagram that finds no receive posted is dropped, and nobody counts it.
 */

import { onNode } from '../../ffi/memory/numa.js'
import { attachRegion, type RegionHandle } from '../../ffi/memory/region.js'
import type { ReceiveMemory } from '../../ffi/socket/recvmmsg.js'
import type { MemoryRegistration, ProtectionDomain } from '../../ffi/verbs/context.js'
import { IBV_GRH, WC_STATUS } from '../../ffi/verbs/layout.js'
import type { GroupMembership } from '../../ffi/verbs/rdmacm.js'
import { HEADER_BYTES, ReceiveQueue } from '../../ffi/verbs/receive-queue.js'
import { SpeadcastError } from '../errors.js'
import type { ResolvedInterface } from '../net/interface.js'
import { explained, loadLibrary } from '../rdma/errors.js'
import { type FabricPort, openFabricPort, portChoice } from '../rdma/fabric.js'
import { joinGroup, openGroups } from '../rdma/groups.js'
import { type DatagramPeer, DEFAULT_QKEY } from '../rdma/rendezvous.js'
import type { ReceiveEndpoint } from './receive-driver.js'
import { SenderNumbers } from './sender-numbers.js'
import type { ReceiveSession } from './session.js'
import type { PacketSource } from './source.js'

export interface RdmaSourceInput {
  readonly kind: 'rdma-ud'
  readonly endpoints: readonly ReceiveEndpoint[]
  readonly interface?: ResolvedInterface | undefined
  readonly device?: string | undefined
  readonly verbsLibrary?: string | undefined
  /** Receives to post for each endpoint. */
  readonly slots: number
}

/** Holds the room for a header and the largest datagram there is. */
export const SLOT_BYTES = Math.ceil((4096 + HEADER_BYTES) / 64) * 64
const JOIN_MS = 5000
const SUCCESS = 0
const BACKEND = 'rdma-ud'

interface Listener {
  readonly queue: ReceiveQueue
  /** Where its first slot is in the memory. */
  readonly at: number
}

export class RdmaSource implements PacketSource {
  readonly buffer: ArrayBuffer
  readonly freeAt: number
  readonly endpoints: number
  readonly fds: readonly number[]
  /** The queue pairs by which senders find the endpoints. */
  readonly peers: readonly DatagramPeer[]
  readonly #fabric: FabricPort
  readonly #domain: ProtectionDomain
  readonly #registration: MemoryRegistration
  readonly #groups: GroupMembership | undefined
  readonly #listeners: readonly Listener[]
  readonly #words: Uint32Array
  readonly #senders = new SenderNumbers()
  #lastSender = -1
  readonly #last = new Uint32Array(6)

  /** @throws ERR_SPEADCAST_BACKEND, _INTERFACE, _ENDPOINT */
  static async open(input: RdmaSourceInput, memory: ReceiveMemory): Promise<RdmaSource> {
    const { endpoints, slots } = input
    const own = endpoints.find(({ multicast }) => !multicast)
    const choice = portChoice(input.device, input.interface, own?.bytes)
    const fabric = openFabricPort(loadLibrary(BACKEND, input.verbsLibrary), choice)
    const opened: { close(): void }[] = [fabric.context]
    try {
      const domain = explained(BACKEND, () => fabric.context.allocateDomain())
      opened.push({ close: () => domain.release() })
      const registration = explained(BACKEND, () => domain.register(memory.address, endpoints.length * slots * SLOT_BYTES))
      opened.push({ close: () => registration.release() })
      const { maxWorkRequests, maxCqEntries } = explained(BACKEND, () => fabric.context.facts())
      const listeners: Listener[] = []
      let groups: GroupMembership | undefined
      for (const [i, endpoint] of endpoints.entries()) {
        const at = i * slots * SLOT_BYTES
        const settings = {
          type: 'datagram',
          port: fabric.port,
          qkey: DEFAULT_QKEY,
          completionVector: 0,
          slots: Math.min(slots, maxWorkRequests, maxCqEntries),
          slotBytes: SLOT_BYTES,
          address: memory.address + at,
          lkey: registration.lkey,
        } as const
        const queue = explained(BACKEND, () => onNode(memory.node, () => new ReceiveQueue(domain, settings)))
        opened.push(queue)
        explained(BACKEND, () => queue.start())
        listeners.push({ queue, at })
        if (!endpoint.multicast) continue
        if (!groups) {
          groups = openGroups(input.interface?.addressBytes, input.interface?.index)
          opened.push(groups)
        }
        const { gid, lid } = await joinGroup(groups, endpoint, JOIN_MS)
        explained(BACKEND, () => queue.attach(gid, lid))
      }
      return new RdmaSource(memory, slots, fabric, domain, registration, listeners, groups)
    } catch (error) {
      for (const each of opened.reverse()) each.close()
      throw error
    }
  }

  private constructor(
    memory: RegionHandle,
    slots: number,
    fabric: FabricPort,
    domain: ProtectionDomain,
    registration: MemoryRegistration,
    listeners: readonly Listener[],
    groups: GroupMembership | undefined,
  ) {
    this.buffer = attachRegion(memory)
    this.#words = new Uint32Array(this.buffer, 0, Math.floor(this.buffer.byteLength / 4))
    this.freeAt = arenaBytes(listeners.length, slots)
    this.endpoints = listeners.length
    this.fds = [...listeners.map(({ queue }) => queue.channelFd), fabric.context.asyncFd]
    const { gid, facts, mtuBytes } = fabric
    this.peers = listeners.map(({ queue }) => ({
      gid: gid.bytes,
      lid: fabric.ethernet ? 0 : facts.lid,
      qpn: queue.number,
      qkey: DEFAULT_QKEY,
      mtuBytes,
    }))
    this.#fabric = fabric
    this.#domain = domain
    this.#registration = registration
    this.#listeners = listeners
    this.#groups = groups
  }

  /** Polls the completion queue once. @param endpoint below `endpoints`, so there is a listener */
  take(endpoint: number, session: ReceiveSession): number {
    const { queue, at } = this.#listeners[endpoint]!
    const n = queue.poll()
    if (n < 0) throw new SpeadcastError('ERR_SPEADCAST_NATIVE', 'the completion queue of a receiving queue pair is broken')
    for (let i = 0; i < n; i++) {
      const status = queue.status(i)
      if (status !== SUCCESS)
        throw new SpeadcastError(
          'ERR_SPEADCAST_NATIVE',
          `a receiving queue pair failed (${WC_STATUS[status] ?? status}, vendor code 0x${queue.vendorError(i).toString(16)})`,
        )
      const base = at + queue.slot(i) * SLOT_BYTES
      session.message(endpoint)
      session.packet(base + HEADER_BYTES, queue.messageBytes(i), this.#sender(queue, i, base), endpoint)
    }
    if (n > 0) queue.spent(n)
    return n
  }

  /** Returns the number of the queue pair and port that a datagram came from. Six compares recognise the sender of the last one, the usual case. */
  #sender(queue: ReceiveQueue, i: number, base: number): number {
    const words = this.#words
    const last = this.#last
    const from = queue.sourceQueuePair(i)
    const lid = queue.sourceLid(i)
    const header = base >> 2
    // An IPv6 header, or a global route header, which looks like one, fills the 40 bytes. An IPv4 header fills the last 20, and only its
    // source stays the same. All these words are inside the slot.
    const ipv6 = (words[header]! & 0xf0) === 0x60
    const at = ipv6 ? header + IBV_GRH.sgid / 4 : header + IPV4_SOURCE / 4
    const a = words[at]!
    const b = ipv6 ? words[at + 1]! : 0
    const c = ipv6 ? words[at + 2]! : 0
    const d = ipv6 ? words[at + 3]! : 0
    if (
      last[0] === from &&
      last[1] === lid &&
      last[2] === a &&
      last[3] === b &&
      last[4] === c &&
      last[5] === d &&
      this.#lastSender >= 0
    )
      return this.#lastSender
    last[0] = from
    last[1] = lid
    last[2] = a
    last[3] = b
    last[4] = c
    last[5] = d
    this.#lastSender = this.#senders.of(last.join())
    return this.#lastSender
  }

  arm(): void {
    for (const { queue } of this.#listeners) queue.arm()
  }

  woken(): void {
    for (const { queue } of this.#listeners) queue.takeEvents()
    for (let event = this.#fabric.context.event(); event; event = this.#fabric.context.event())
      if (event.name === 'IBV_EVENT_DEVICE_FATAL')
        throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `device ${this.#fabric.device} is gone or broken (${event.name})`)
  }

  dropped(): number {
    return Number.NaN
  }

  close(): void {
    for (const { queue } of this.#listeners) queue.close()
    this.#groups?.close()
    this.#registration.release()
    this.#domain.release()
    this.#fabric.context.close()
  }
}

/** Offset of the source address of an IPv4 header, which stands at the end of the 40 bytes (RoCE version 2). */
const IPV4_SOURCE = 20 + 12

/** Returns the size of the registered region, a multiple of 4096. */
export function arenaBytes(endpoints: number, slots: number): number {
  return Math.ceil((endpoints * slots * SLOT_BYTES) / 4096) * 4096
}
