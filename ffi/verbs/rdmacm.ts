/**
 * librdmacm, for two things: to find the RDMA device and port of a local address, and to be a member of multicast groups. Loaded by
 * dlopen, as libibverbs is. Cold. The library keeps a device that it has found open until the process ends, and soft-RoCE's device
 * (unlike mlx5's) is not removed before.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { trustedVariable } from '../environment.js'
import { koffi } from '../koffi.js'
import { errno } from '../libc.js'
import { orRelease } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'
import { readI32, readPointer, readU8, readU32 } from '../memory/store-pointer.js'
import { ERRNO, NativeError } from '../native-error.js'
import { encodeSocketAddress } from '../socket/inet-socket.js'
import type { DatagramAddress } from './context.js'
import { setNonBlocking } from './context.js'
import { IBV_AH_ATTR, RDMA_CM_EVENT, RDMA_CM_EVENT_MULTICAST_JOIN, RDMA_CM_ID, RDMA_EVENT_CHANNEL, RDMA_PS_UDP } from './layout.js'
import { readDeviceName, type VerbsLibrary } from './library.js'

const PROTOTYPES = {
  rdma_create_event_channel: 'uint64_t rdma_create_event_channel()',
  rdma_destroy_event_channel: 'void rdma_destroy_event_channel(uint64_t channel)',
  rdma_create_id: 'int rdma_create_id(uint64_t channel, uint64_t id, uint64_t context, int ps)',
  rdma_bind_addr: 'int rdma_bind_addr(uint64_t id, uint64_t addr)',
  rdma_destroy_id: 'int rdma_destroy_id(uint64_t id)',
} as const

const GROUP_PROTOTYPES = {
  ...PROTOTYPES,
  rdma_join_multicast: 'int rdma_join_multicast(uint64_t id, uint64_t addr, uint64_t context)',
  rdma_leave_multicast: 'int rdma_leave_multicast(uint64_t id, uint64_t addr)',
  rdma_get_cm_event: 'int rdma_get_cm_event(uint64_t channel, uint64_t event)',
  rdma_ack_cm_event: 'int rdma_ack_cm_event(uint64_t event)',
} as const

type Native = (...args: number[]) => number
type Functions<Names extends string> = Record<Names, Native>

const DEFAULT_RDMACM_LIBRARY = 'librdmacm.so.1'

/** Undefined where the library cannot be loaded. */
function load<Names extends string>(path: string, prototypes: Record<Names, string>): Functions<Names> | undefined {
  try {
    const library = koffi().load(path)
    return Object.fromEntries(
      Object.entries<string>(prototypes).map(([name, prototype]) => [name, library.func(prototype) as Native]),
    ) as Functions<Names>
  } catch {
    return undefined
  }
}

/**
 * Device name and port of a local address (4 or 16 bytes); undefined when librdmacm is not there, cannot be used
 * (/dev/infiniband/rdma_cm), or knows no RDMA device at that address.
 */
export function deviceOfAddress(
  library: VerbsLibrary,
  address: Uint8Array,
  scopeId = 0,
  path = trustedVariable('SPEADCAST_RDMACM_LIBRARY') ?? DEFAULT_RDMACM_LIBRARY,
): { readonly device: string; readonly port: number } | undefined {
  const functions = load(path, PROTOTYPES)
  if (!functions) return undefined
  const channel = functions.rdma_create_event_channel()
  if (channel === 0) return undefined
  const scratch = new Scratch(128)
  let id = 0
  try {
    checkZero('rdma_create_id', functions.rdma_create_id(channel, scratch.address, 0, RDMA_PS_UDP))
    id = readPointer(scratch.address)
    const name = encodeSocketAddress({ family: address.length === 4 ? 4 : 6, bytes: address, port: 0, scopeId })
    checkZero('rdma_bind_addr', functions.rdma_bind_addr(id, scratch.put(name)))
    const context = readPointer(id + RDMA_CM_ID.verbs)
    return context === 0 ? undefined : { device: readDeviceName(library, context), port: readU8(id + RDMA_CM_ID.port_num) }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return undefined
  } finally {
    if (id !== 0) functions.rdma_destroy_id(id)
    functions.rdma_destroy_event_channel(channel)
    scratch.region.release()
  }
}

function checkZero(call: string, result: number): void {
  if (result !== 0) throw new NativeError(call, errno())
}

const POLL_MS = 2

/** The address of a group, as its senders need it. */
export interface Group extends DatagramAddress {
  readonly qpn: number
  readonly qkey: number
}

/**
 * Membership in groups, by a local address of the device, until close(). Joining tells the address of a group and makes the fabric
 * forward its datagrams to this port. A queue pair takes them after ibv_attach_mcast(3).
 */
export class GroupMembership {
  readonly #functions: Functions<keyof typeof GROUP_PROTOTYPES>
  readonly #scratch = new Scratch(256)
  readonly #channel: number
  readonly #id: number
  readonly #joined: Uint8Array[] = []
  #open = true

  /** @throws NativeError; ENOSYS without librdmacm, ENODEV or ENOENT without /dev/infiniband/rdma_cm or a device at the address */
  constructor(local: Uint8Array, scopeId = 0, path = trustedVariable('SPEADCAST_RDMACM_LIBRARY') ?? DEFAULT_RDMACM_LIBRARY) {
    const functions = load(path, GROUP_PROTOTYPES)
    if (!functions) throw new NativeError('dlopen', ERRNO.ENOSYS, path)
    this.#functions = functions
    this.#channel = orRelease(this.#scratch.region, () => {
      const channel = functions.rdma_create_event_channel()
      if (channel === 0) throw new NativeError('rdma_create_event_channel', errno() || ERRNO.ENODEV)
      return channel
    })
    let id = 0
    try {
      const { address } = this.#scratch
      setNonBlocking(readI32(this.#channel + RDMA_EVENT_CHANNEL.fd))
      checkZero('rdma_create_id', functions.rdma_create_id(this.#channel, address, 0, RDMA_PS_UDP))
      id = readPointer(address)
      checkZero('rdma_bind_addr', functions.rdma_bind_addr(id, this.#name(local, scopeId)))
      if (readPointer(id + RDMA_CM_ID.verbs) === 0) throw new NativeError('rdma_bind_addr', ERRNO.ENODEV, 'no RDMA device')
    } catch (error) {
      if (id !== 0) functions.rdma_destroy_id(id)
      functions.rdma_destroy_event_channel(this.#channel)
      this.#scratch.region.release()
      throw error
    }
    this.#id = id
  }

  #name(bytes: Uint8Array, scopeId: number): number {
    return this.#scratch.put(encodeSocketAddress({ family: bytes.length === 4 ? 4 : 6, bytes, port: 0, scopeId }))
  }

  /** @throws (rejects) NativeError; ETIMEDOUT when the fabric does not answer */
  async join(group: Uint8Array, scopeId: number, timeoutMs: number): Promise<Group> {
    const { rdma_join_multicast, rdma_get_cm_event, rdma_ack_cm_event } = this.#functions
    checkZero('rdma_join_multicast', rdma_join_multicast(this.#id, this.#name(group, scopeId), 0))
    const deadline = performance.now() + timeoutMs
    const at = this.#scratch.address
    while (rdma_get_cm_event(this.#channel, at) !== 0) {
      const why = errno()
      if (why !== ERRNO.EAGAIN && why !== ERRNO.EINTR) throw new NativeError('rdma_get_cm_event', why)
      if (performance.now() > deadline) throw new NativeError('rdma_join_multicast', ERRNO.ETIMEDOUT)
      await sleep(POLL_MS)
    }
    const event = readPointer(at)
    try {
      const kind = readU32(event + RDMA_CM_EVENT.event)
      const status = readI32(event + RDMA_CM_EVENT.status)
      if (kind !== RDMA_CM_EVENT_MULTICAST_JOIN || status !== 0)
        throw new NativeError('rdma_join_multicast', Math.abs(status) || ERRNO.EIO, `event ${kind}`)
      this.#joined.push(encodeSocketAddress({ family: group.length === 4 ? 4 : 6, bytes: group, port: 0, scopeId }))
      return readGroup(event)
    } finally {
      rdma_ack_cm_event(event)
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    const { rdma_leave_multicast, rdma_destroy_id, rdma_destroy_event_channel } = this.#functions
    for (const name of this.#joined) rdma_leave_multicast(this.#id, this.#scratch.put(name))
    rdma_destroy_id(this.#id)
    rdma_destroy_event_channel(this.#channel)
    this.#scratch.region.release()
  }
}

function readGroup(event: number): Group {
  const attr = event + RDMA_CM_EVENT['param.ud.ah_attr']
  const A = IBV_AH_ATTR
  return {
    gid: Uint8Array.from({ length: 16 }, (_, i) => readU8(attr + A['grh.dgid'] + i)),
    flowLabel: readU32(attr + A['grh.flow_label']),
    sourceGidIndex: readU8(attr + A['grh.sgid_index']),
    hopLimit: readU8(attr + A['grh.hop_limit']),
    trafficClass: readU8(attr + A['grh.traffic_class']),
    lid: readU32(attr + A.dlid) & 0xffff,
    serviceLevel: readU8(attr + A.sl),
    port: readU8(attr + A.port_num),
    qpn: readU32(event + RDMA_CM_EVENT['param.ud.qp_num']),
    qkey: readU32(event + RDMA_CM_EVENT['param.ud.qkey']),
  }
}
