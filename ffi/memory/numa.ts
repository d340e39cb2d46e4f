/**
 * The NUMA node that pages come from (numa(7)): of a mapping by mbind(2), of all that the calling thread maps by set_mempolicy(2). The policy is
 * MPOL_PREFERRED, so that a node that is full makes memory slow and never makes it fail. It holds for pages faulted in later. The kernel's
 * NUMA balancing leaves pages of a mapping that has a policy where they are.
 */
import { koffi } from '../koffi.js'
import {
  MPOL_DEFAULT,
  MPOL_F_ADDR,
  MPOL_F_NODE,
  MPOL_MF_MOVE,
  MPOL_PREFERRED,
  SC_PAGESIZE,
  SYS_get_mempolicy,
  SYS_mbind,
  SYS_set_mempolicy,
} from '../layout.js'
import { errno, isMapFailed, libc } from '../libc.js'
import { ERRNO, NativeError } from '../native-error.js'

/** No node in particular. */
export const ANY_NODE = -1
export const MOST_NODES = 1024

const PROT_READ_WRITE = 3
const MAP_PRIVATE_ANONYMOUS = 0x22
/** A page of any of Linux's sizes. Its start has the mask of nodes, and what the kernel answers stands behind that. */
const SCRATCH_BYTES = 65536
/** Buffers below the smallest page share theirs with whatever the process has beside them. */
const LEAST_SHARED_BYTES = 4096
const ANSWER_AT = MOST_NODES / 8
const OWN_MASK_AT = ANSWER_AT + 8
/** The kernel counts the bits of a mask and one more (get_nodes() in mm/mempolicy.c). */
const MASK_BITS = MOST_NODES + 1

let scratch: { readonly address: number; readonly bytes: DataView } | undefined

/** Mapped here because regions stand on this file. */
function scratchPage(): { readonly address: number; readonly bytes: DataView } {
  if (scratch) return scratch
  const address = libc().mmap(0, SCRATCH_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
  if (isMapFailed(address)) throw new NativeError('mmap', errno(), `${SCRATCH_BYTES} bytes`)
  scratch = { address, bytes: new DataView(koffi().view(BigInt(address), SCRATCH_BYTES) as ArrayBuffer) }
  return scratch
}

function maskOf(node: number): number {
  const { address, bytes } = scratchPage()
  for (let i = 0; i < ANSWER_AT; i++) bytes.setUint8(i, 0)
  bytes.setUint8(node >> 3, 1 << (node & 7))
  return address
}

/**
 * Makes later pages of the range come from `node` first, or from where the thread that touches them runs (ANY_NODE). 0 or an errno.
 * @param flags MPOL_MF_MOVE: pages that are there already move to the node
 */
export function bindPages(address: number, byteLength: number, node: number, flags = 0): number {
  const { syscall } = libc()
  const result =
    node === ANY_NODE
      ? syscall(SYS_mbind, address, byteLength, MPOL_DEFAULT, 0, 0, 0)
      : syscall(SYS_mbind, address, byteLength, MPOL_PREFERRED, maskOf(node), MASK_BITS, flags)
  return result < 0 ? errno() : 0
}

/**
 * Binds the pages of words that threads share, and moves what was touched already: V8 takes a SharedArrayBuffer from malloc(3), which may
 * give memory that others had. Words that fill no page, and all of them with ANY_NODE, stay where they are, without a system call.
 */
export function bindShared({ buffer }: { readonly buffer: SharedArrayBuffer }, node: number): void {
  if (node === ANY_NODE || buffer.byteLength < LEAST_SHARED_BYTES) return
  const address = Number(koffi().address(new Uint8Array(buffer)))
  const start = address - (address % libc().sysconf(SC_PAGESIZE))
  bindPages(start, address + buffer.byteLength - start, node, MPOL_MF_MOVE)
}

let preferred = ANY_NODE

/** The node that this thread's regions come from where nobody names another: that of onNode(). */
export const preferredNode = (): number => preferred

/**
 * Makes all that `map` maps and touches come from `node` first, memory of the kernel on its behalf too. Regions are bound each, because pools hand on
 * pages that were touched before. Afterwards the thread has the policy that it had. `map` must not await, because others would map by it meanwhile, nor
 * call this.
 */
export function onNode<T>(node: number | undefined, map: () => T): T {
  if (node === undefined || node === ANY_NODE) return map()
  const { syscall } = libc()
  const { address, bytes } = scratchPage()
  // numactl(8) may have given the process a policy.
  syscall(SYS_get_mempolicy, address + ANSWER_AT, address + OWN_MASK_AT, MASK_BITS, 0, 0, 0)
  const own = bytes.getInt32(ANSWER_AT, true)
  syscall(SYS_set_mempolicy, MPOL_PREFERRED, maskOf(node), MASK_BITS, 0, 0, 0)
  preferred = node
  try {
    return map()
  } finally {
    preferred = ANY_NODE
    syscall(SYS_set_mempolicy, own, address + OWN_MASK_AT, MASK_BITS, 0, 0, 0)
  }
}

/** The node that has the page at `address`, which is touched. @throws NativeError */
export function nodeOfPage(address: number): number {
  const { address: at, bytes } = scratchPage()
  if (libc().syscall(SYS_get_mempolicy, at + ANSWER_AT, 0, 0, address, MPOL_F_NODE | MPOL_F_ADDR, 0) < 0)
    throw new NativeError('get_mempolicy', errno(), `address 0x${address.toString(16)}`)
  return bytes.getInt32(ANSWER_AT, true)
}

/** Why no memory can be bound to `node` here, with the remedy; undefined if it can. */
export function bindingRefused(node: number): string | undefined {
  const { address } = scratchPage()
  const failure = bindPages(address, SCRATCH_BYTES, node)
  if (failure === 0) {
    bindPages(address, SCRATCH_BYTES, ANY_NODE)
    return undefined
  }
  const { message } = new NativeError('mbind', failure, `node ${node}`)
  return `${message}; ${remedyOf(failure)}`
}

function remedyOf(failure: number): string {
  if (failure === ERRNO.EPERM)
    return "the container's seccomp filter forbids it (docker run --cap-add SYS_NICE; Kubernetes: capabilities.add: [SYS_NICE])"
  if (failure === ERRNO.EINVAL)
    return 'there is no such node, or the cpuset leaves it out (Mems_allowed_list in /proc/self/status has those it allows)'
  return 'the kernel has no NUMA (CONFIG_NUMA)'
}
