/** The rights of this process, as the RDMA subsystem of the kernel counts it. Linux only, cold. */
import { readFileSync } from 'node:fs'

/** The initial user namespace maps every id to itself (user_namespaces(7)). */
const INITIAL = /^\s*0\s+0\s+4294967295\s*$/

/**
 * Whether this process is in another user namespace than the initial one, as in a rootless container. ib_uverbs asks capable(), which
 * counts capabilities in the initial one alone: CAP_NET_RAW when a raw packet queue pair is made, CAP_IPC_LOCK when memory is pinned.
 */
export function inUserNamespace(): boolean {
  try {
    return !INITIAL.test(readFileSync('/proc/self/uid_map', 'utf8'))
  } catch {
    return false // a kernel without user namespaces
  }
}
