/** Joins multicast groups of the fabric, and turns refusals into errors with a remedy. Cold. */
import { NativeError } from '../../ffi/native-error.js'
import { type Group, GroupMembership } from '../../ffi/verbs/rdmacm.js'
import { SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'

/** An errno that the kernel uses inside, which no errno.h has but RDMA calls return. */
const ENOTSUPP = 524

/** @param local an address of the RDMA interface. @throws ERR_SPEADCAST_INTERFACE, _BACKEND */
export function openGroups(local: Uint8Array | undefined, ifindex: number | undefined): GroupMembership {
  if (!local)
    throw new SpeadcastError(
      'ERR_SPEADCAST_INTERFACE',
      'a multicast group is joined by an address of the RDMA interface; give interface (--interface)',
    )
  try {
    return new GroupMembership(local, ifindex)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `backend 'rdma-ud' cannot use multicast here: ${cause.message}; it takes librdmacm (Debian: librdmacm1), /dev/infiniband/rdma_cm (module rdma_ucm) and an interface of an RDMA device`,
      { cause },
    )
  }
}

/** @throws (rejects) ERR_SPEADCAST_UNREACHABLE */
export async function joinGroup(
  groups: GroupMembership,
  { bytes, scopeId, text }: ResolvedEndpoint,
  timeoutMs: number,
): Promise<Group> {
  try {
    return await groups.join(bytes, scopeId, timeoutMs)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    const remedy = cause.errno === ENOTSUPP && bytes.length === 16 ? '; Linux joins no IPv6 groups for RoCE, use an IPv4 one' : ''
    throw new SpeadcastError('ERR_SPEADCAST_UNREACHABLE', `${text}: the group cannot be joined (${cause.message})${remedy}`, {
      cause,
    })
  }
}
