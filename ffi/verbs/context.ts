/**
 * RDMA devices through libibverbs: contexts, facts, memory registrations, address handles. Cold; the data path is in send-queue.ts,
 * work-requests.ts and receive-queue.ts.
 *
 * | object            | made by             | given back by | must be gone before          |
 * |-------------------|---------------------|---------------|------------------------------|
 * | VerbsContext      | open                | close         | —                            |
 * | protection domain | context.allocate    | release       | the context is closed        |
 * | registration      | domain.register     | release       | the domain is released, and with no work request of it under way |
 * | address handle    | domain.addressHandle | release      | the same                     |
 *
 * Giving back is idempotent and never throws. A device that is gone may refuse to take an object back: then the object is gone too.
 */
import { checkCall, errno, libc } from '../libc.js'
import { Scratch } from '../memory/scratch.js'
import { readI32, readPointer, readString, readU32 } from '../memory/store-pointer.js'
import { ERRNO, NativeError } from '../native-error.js'
import {
  EVENT_TYPE,
  IBV_ACCESS_LOCAL_WRITE,
  IBV_ACCESS_RELAXED_ORDERING,
  IBV_AH_ATTR,
  IBV_ASYNC_EVENT,
  IBV_CONTEXT,
  IBV_DEVICE_ATTR_EX,
  IBV_DEVICE_RAW_IP_CSUM,
  IBV_GID_ENTRY,
  IBV_MR,
  IBV_PORT_ATTR,
  IBV_QPT_RAW_PACKET,
  IBV_RAW_PACKET_CAP_IP_CSUM,
} from './layout.js'
import { extendedOperation, NOT_SUPPORTED, type Pointer, type VerbsLibrary } from './library.js'

export interface DeviceFacts {
  readonly firmware: string
  readonly vendorId: number
  readonly partId: number
  readonly ports: number
  readonly maxWorkRequests: number
  readonly maxSges: number
  readonly maxCqEntries: number
  /** The device fills IPv4 and UDP checksums of raw packets. */
  readonly checksumOffload: boolean
  /**
   * Rate limits that the device can keep for raw packet queues, in kilobits per second of frames; undefined when it can keep none.
   */
  readonly pacing: { readonly minKbps: number; readonly maxKbps: number } | undefined
}

export interface PortFacts {
  readonly state: number
  /** enum ibv_mtu: 1 is 256 bytes, each step doubles. It holds for RDMA; raw packets follow the netdev's MTU. */
  readonly activeMtu: number
  readonly maxMtu: number
  /** InfiniBand's local id; 0 with Ethernet. */
  readonly lid: number
  readonly width: number
  readonly speed: number
  readonly linkLayer: number
}

export interface Gid {
  readonly bytes: Uint8Array
  readonly index: number
  readonly port: number
  /** 0 InfiniBand, 1 RoCE version 1, 2 RoCE version 2 */
  readonly type: number
  /** Index of the netdev that the GID belongs to, for a VLAN's GID the VLAN's; 0 where there is none. */
  readonly ifindex: number
}

const NAME_BYTES = 64 // IBV_SYSFS_NAME_MAX
const MAX_GIDS = 1024
const F_GETFL = 3
const F_SETFL = 4
const O_NONBLOCK = 0x800

export function setNonBlocking(fd: number): void {
  const flags = checkCall('fcntl', libc().fcntl(fd, F_GETFL, 0), 'F_GETFL')
  checkCall('fcntl', libc().fcntl(fd, F_SETFL, flags | O_NONBLOCK), 'O_NONBLOCK')
}

/** Names of the RDMA devices that the library sees. @throws NativeError, for example where the kernel has no uverbs */
export function deviceNames(library: VerbsLibrary): string[] {
  return withDevices(library, (devices) => devices.map(({ name }) => name))
}

function withDevices<T>(library: VerbsLibrary, use: (devices: { name: string; device: number }[]) => T): T {
  const list = library.pointer<'ibv_device_list'>('ibv_get_device_list', 0)
  try {
    const devices: { name: string; device: number }[] = []
    for (let at: number = list; ; at += 8) {
      const device = readPointer(at)
      if (device === 0) break
      devices.push({ name: readString(library.call.ibv_get_device_name(device), NAME_BYTES), device })
    }
    return use(devices)
  } finally {
    library.call.ibv_free_device_list(list)
  }
}

export class VerbsContext {
  /** For poll(2): readable when there is an asynchronous event. */
  readonly asyncFd: number
  readonly #scratch = new Scratch(64 << 10)
  #open = true

  /** @throws NativeError; ENODEV when there is no device of the name */
  static open(library: VerbsLibrary, name: string): VerbsContext {
    return withDevices(library, (devices) => {
      const found = devices.find((device) => device.name === name)
      if (!found) throw new NativeError('ibv_open_device', ERRNO.ENODEV, name)
      const pointer = library.pointer<'ibv_context'>('ibv_open_device', found.device)
      try {
        return new VerbsContext(library, name, pointer)
      } catch (error) {
        library.call.ibv_close_device(pointer)
        throw error
      }
    })
  }

  private constructor(
    readonly library: VerbsLibrary,
    readonly name: string,
    readonly pointer: Pointer<'ibv_context'>,
  ) {
    this.asyncFd = readI32(pointer + IBV_CONTEXT.async_fd)
    setNonBlocking(this.asyncFd)
  }

  get completionVectors(): number {
    return readI32(this.pointer + IBV_CONTEXT.num_comp_vectors)
  }

  facts(): DeviceFacts {
    const { view, u8, address } = this.#scratch
    const A = IBV_DEVICE_ATTR_EX
    u8.fill(0, 0, A.size)
    const extended = extendedOperation(this.pointer, 'query_device_ex', 'int (uint64_t, uint64_t, uint64_t, size_t)')
    const result = extended ? extended(this.pointer, 0, address, A.size) : ERRNO.EOPNOTSUPP
    if (result !== 0 && !NOT_SUPPORTED.has(Math.abs(result)))
      throw new NativeError('ibv_query_device_ex', Math.abs(result), this.name)
    // The plain structure is the head of the extended one.
    if (result !== 0) this.library.done('ibv_query_device', this.name, this.pointer, address)
    const number = (field: keyof typeof A): number => view.getUint32(A[field], true)
    const pacedTypes = number('packet_pacing_caps.supported_qpts')
    const maxKbps = number('packet_pacing_caps.qp_rate_limit_max')
    return {
      firmware: readString(address, 64),
      vendorId: number('orig_attr.vendor_id'),
      partId: number('orig_attr.vendor_part_id'),
      ports: view.getUint8(A['orig_attr.phys_port_cnt']),
      maxWorkRequests: number('orig_attr.max_qp_wr'),
      maxSges: number('orig_attr.max_sge'),
      maxCqEntries: number('orig_attr.max_cqe'),
      checksumOffload:
        (number('raw_packet_caps') & IBV_RAW_PACKET_CAP_IP_CSUM) !== 0 ||
        (number('orig_attr.device_cap_flags') & IBV_DEVICE_RAW_IP_CSUM) !== 0,
      pacing:
        maxKbps > 0 && (pacedTypes & (1 << IBV_QPT_RAW_PACKET)) !== 0
          ? { minKbps: number('packet_pacing_caps.qp_rate_limit_min'), maxKbps }
          : undefined,
    }
  }

  /** @param port from 1 */
  port(port: number): PortFacts {
    const { view, u8, address } = this.#scratch
    const P = IBV_PORT_ATTR
    u8.fill(0, 0, P.size)
    this.library.done('ibv_query_port', `${this.name} port ${port}`, this.pointer, port, address)
    return {
      state: view.getUint32(P.state, true),
      activeMtu: view.getUint32(P.active_mtu, true),
      maxMtu: view.getUint32(P.max_mtu, true),
      lid: view.getUint16(P.lid, true),
      width: view.getUint8(P.active_width),
      speed: view.getUint8(P.active_speed),
      linkLayer: view.getUint8(P.link_layer),
    }
  }

  /** The GIDs of all ports; undefined where library or kernel are too old for the table (rdma-core 32, Linux 5.10). */
  gids(): Gid[] | undefined {
    const table = this.library.optional._ibv_query_gid_table
    if (!table) return undefined
    const { view, u8, address } = this.#scratch
    const G = IBV_GID_ENTRY
    const n = table(this.pointer, address, MAX_GIDS, 0, G.size)
    if (n < 0) return undefined
    return Array.from({ length: n }, (_, i) => {
      const at = i * G.size
      return {
        bytes: u8.slice(at + G.gid, at + G.gid + 16),
        index: view.getUint32(at + G.gid_index, true),
        port: view.getUint32(at + G.port_num, true),
        type: view.getUint32(at + G.gid_type, true),
        ifindex: view.getUint32(at + G.ndev_ifindex, true),
      }
    })
  }

  /**
   * Takes the next asynchronous event and acknowledges it; undefined when there is none. `element` is its queue's address, or its
   * port.
   */
  event(): { readonly name: string; readonly element: number } | undefined {
    const { view, address } = this.#scratch
    if (this.library.call.ibv_get_async_event(this.pointer, address) !== 0) return undefined
    const name = EVENT_TYPE[view.getUint32(IBV_ASYNC_EVENT.event_type, true)] ?? 'unknown event'
    const element = Number(view.getBigUint64(IBV_ASYNC_EVENT.element, true))
    this.library.call.ibv_ack_async_event(address)
    return { name, element }
  }

  allocateDomain(): ProtectionDomain {
    return new ProtectionDomain(this)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.library.forget(this.pointer)
    this.library.call.ibv_close_device(this.pointer)
    this.#scratch.region.release()
  }
}

export class ProtectionDomain {
  readonly pointer: Pointer<'ibv_pd'>
  #open = true

  constructor(readonly context: VerbsContext) {
    this.pointer = context.library.pointer('ibv_alloc_pd', context.pointer)
  }

  /**
   * Pins the memory and lets the device read it. @throws NativeError; ENOMEM beyond RLIMIT_MEMLOCK, EINVAL when it cannot be kept from
   * child processes
   * @param relaxedOrdering the device may reorder its accesses on PCI Express, where it knows how; completions come after them
   */
  register(address: number, byteLength: number, relaxedOrdering = true): MemoryRegistration {
    const { call, args } = registration(this, address, byteLength, relaxedOrdering)
    return registered(this, call(...args), byteLength)
  }

  /**
   * Does the same in another thread, because pinning a gigabyte takes a tenth of a second and more. The event loop calls `done`. The domain
   * must not be released before.
   */
  registerElsewhere(address: number, byteLength: number, done: (result: MemoryRegistration | NativeError) => void): void {
    const { call, args } = registration(this, address, byteLength, true)
    const asynchronous = call as unknown as { async(...args: [...number[], (error: unknown, pointer: number) => void]): void }
    asynchronous.async(...args, (_, pointer) => {
      try {
        done(registered(this, pointer, byteLength))
      } catch (error) {
        if (!(error instanceof NativeError)) throw error
        done(error)
      }
    })
  }

  /**
   * Makes the handle of another port's address. With Ethernet the kernel looks up the MAC, for a second at most, and this blocks
   * unless the neighbour is known.
   * @throws NativeError; ETIMEDOUT, EHOSTUNREACH or ENETUNREACH when the port cannot be reached
   */
  addressHandle(address: DatagramAddress): AddressHandle {
    return new AddressHandle(this, address)
  }

  release(): void {
    if (!this.#open) return
    this.#open = false
    this.context.library.call.ibv_dealloc_pd(this.pointer)
  }
}

export interface DatagramAddress {
  /** 16 bytes. */
  readonly gid: Uint8Array
  /** InfiniBand's local id of the other port; 0 with Ethernet. */
  readonly lid: number
  /** The port to send from, counted from 1. */
  readonly port: number
  /** Index of the GID to send from, in the port's table. */
  readonly sourceGidIndex: number
  readonly hopLimit: number
  readonly trafficClass: number
  readonly flowLabel?: number
  readonly serviceLevel?: number
}

export class AddressHandle {
  readonly pointer: Pointer<'ibv_ah'>
  #open = true

  constructor(
    readonly domain: ProtectionDomain,
    address: DatagramAddress,
  ) {
    const A = IBV_AH_ATTR
    const scratch = new Scratch(A.size)
    const { u8, view } = scratch
    u8.fill(0, 0, A.size)
    u8.set(address.gid, A['grh.dgid'])
    view.setUint32(A['grh.flow_label'], address.flowLabel ?? 0, true)
    view.setUint8(A['grh.sgid_index'], address.sourceGidIndex)
    view.setUint8(A['grh.hop_limit'], address.hopLimit)
    view.setUint8(A['grh.traffic_class'], address.trafficClass)
    view.setUint16(A.dlid, address.lid, true)
    view.setUint8(A.sl, address.serviceLevel ?? 0)
    view.setUint8(A.is_global, 1)
    view.setUint8(A.port_num, address.port)
    try {
      this.pointer = domain.context.library.pointer('ibv_create_ah', domain.pointer, scratch.address)
    } finally {
      scratch.region.release()
    }
  }

  release(): void {
    if (!this.#open) return
    this.#open = false
    this.domain.context.library.call.ibv_destroy_ah(this.pointer)
  }
}

/** The call that registers memory, and its arguments. */
function registration({ context, pointer }: ProtectionDomain, address: number, byteLength: number, relaxedOrdering: boolean) {
  const { library } = context
  // It drops optional access flags that the kernel does not know; ibv_reg_mr may refuse them.
  const iova2 = library.optional.ibv_reg_mr_iova2
  // Receive queues need write access. Sending would do without it, and then memory that is mapped read-only could be registered too.
  const access = IBV_ACCESS_LOCAL_WRITE | (iova2 && relaxedOrdering ? IBV_ACCESS_RELAXED_ORDERING : 0)
  return iova2
    ? { call: iova2, args: [pointer, address, byteLength, address, access] }
    : { call: library.call.ibv_reg_mr, args: [pointer, address, byteLength, access] }
}

/** Call it directly after the registration. @throws NativeError when that returned NULL */
function registered(domain: ProtectionDomain, pointer: number, byteLength: number): MemoryRegistration {
  if (pointer === 0) throw new NativeError('ibv_reg_mr', errno(), `${byteLength} bytes`)
  return new MemoryRegistration(domain, pointer as Pointer<'ibv_mr'>)
}

export class MemoryRegistration {
  readonly lkey: number
  readonly #pointer: Pointer<'ibv_mr'>
  #open = true

  constructor(
    readonly domain: ProtectionDomain,
    pointer: Pointer<'ibv_mr'>,
  ) {
    this.#pointer = pointer
    this.lkey = readU32(pointer + IBV_MR.lkey)
  }

  release(): void {
    if (!this.#open) return
    this.#open = false
    this.domain.context.library.call.ibv_dereg_mr(this.#pointer)
  }
}
