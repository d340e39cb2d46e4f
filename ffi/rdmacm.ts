/**
 * librdmacm, for one question: which RDMA device and port a local address belongs to. By dlopen, like libibverbs. Cold.
 * It keeps a device that it has found open until the process ends, and soft-RoCE's (unlike mlx5's) is not removed before.
 */
import { koffi } from './koffi.js'
import { errno } from './libc.js'
import { readPointer, readU8 } from './memory.js'
import { NativeError } from './native-error.js'
import { Scratch } from './scratch.js'
import { encodeSocketAddress } from './udp-socket.js'
import { RDMA_CM_ID, RDMA_PS_UDP } from './verbs-layout.js'
import { readDeviceName, type VerbsLibrary } from './verbs-library.js'

const PROTOTYPES = {
  rdma_create_event_channel: 'uint64_t rdma_create_event_channel()',
  rdma_destroy_event_channel: 'void rdma_destroy_event_channel(uint64_t channel)',
  rdma_create_id: 'int rdma_create_id(uint64_t channel, uint64_t id, uint64_t context, int ps)',
  rdma_bind_addr: 'int rdma_bind_addr(uint64_t id, uint64_t addr)',
  rdma_destroy_id: 'int rdma_destroy_id(uint64_t id)',
} as const

type Native = (...args: number[]) => number
type Functions = Record<keyof typeof PROTOTYPES, Native>

export const DEFAULT_RDMACM_LIBRARY = 'librdmacm.so.1'

/** Undefined where the library is not there. */
function load(path: string): Functions | undefined {
  try {
    const library = koffi().load(path)
    return Object.fromEntries(
      Object.entries(PROTOTYPES).map(([name, prototype]) => [name, library.func(prototype) as Native]),
    ) as Functions
  } catch {
    return undefined
  }
}

/**
 * Device name and port of a local address (4 or 16 bytes); undefined when librdmacm is not there, cannot be used (/dev/infiniband/rdma_cm),
 * or knows no RDMA device at that address.
 */
export function deviceOfAddress(
  library: VerbsLibrary,
  address: Uint8Array,
  scopeId = 0,
  path = process.env.SPEADCAST_RDMACM_LIBRARY || DEFAULT_RDMACM_LIBRARY,
): { readonly device: string; readonly port: number } | undefined {
  const functions = load(path)
  if (!functions) return undefined
  const scratch = new Scratch(128)
  const channel = functions.rdma_create_event_channel()
  if (channel === 0) return undefined
  let id = 0
  try {
    check('rdma_create_id', functions.rdma_create_id(channel, scratch.address, 0, RDMA_PS_UDP))
    id = readPointer(scratch.address)
    const name = encodeSocketAddress({ family: address.length === 4 ? 4 : 6, bytes: address, port: 0, scopeId })
    check('rdma_bind_addr', functions.rdma_bind_addr(id, scratch.put(name)))
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

function check(call: string, result: number): void {
  if (result !== 0) throw new NativeError(call, errno())
}
