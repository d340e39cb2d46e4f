/** Whether the kernel would pace what leaves by an interface: whether packets wait in fq there (tc-fq(8)). Linux only, cold. */
import { NativeError } from '../../ffi/native-error.js'
import { qdiscs, TC_H_ROOT } from '../../ffi/netlink/qdisc.js'
import { link } from '../../ffi/netlink/route.js'

export interface FairQueue {
  /** The interface whose queue it is; for a VLAN without one, the interface below. */
  readonly ifindex: number
  readonly interfaceName: string
  /** Messages of one socket that may wait there; the kernel drops others. */
  readonly flowLimit: number
  /** The most that it lets a socket have. */
  readonly maxRateBytesPerSecond: number
  /** Bytes of the link layer's header, which fq counts with every packet: it sees an 802.1Q tag beside the packet, and counts none. */
  readonly linkHeaderBytes: number
}

/** fq_init of net/sched/sch_fq.c; read from the kernel where it tells. */
const FLOW_LIMIT = 100
const ETHERNET_HEADER_BYTES = 14

/** The fq behind an interface; else, in words, the queue that is there instead, and the remedy. */
export function fairQueueOf(ifindex: number): FairQueue | string {
  try {
    return find(ifindex)
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return `the kernel does not tell of the queueing disciplines (${error.message})`
  }
}

function find(ifindex: number): FairQueue | string {
  const { name, kind, lower, mac } = link(ifindex)
  const all = qdiscs(ifindex)
  const root = all.find(({ parent }) => parent === TC_H_ROOT)
  const rootKind = root?.kind ?? 'noqueue'
  // A VLAN hands a packet to the interface below at once, together with the socket that it belongs to (vlan_dev_hard_start_xmit).
  if (kind === 'vlan' && rootKind === 'noqueue') {
    if (lower !== undefined) return find(lower)
    return `${name} has no queue, and the interface below is in another network namespace; ${fairQueueRemedy(name)}`
  }
  const leaves =
    rootKind === 'mq'
      ? all.filter((each) => each !== root && each.parent >>> 16 === root!.handle >>> 16)
      : all.filter((each) => each === root)
  const fqs = leaves.flatMap(({ fq }) => fq ?? [])
  if (fqs.length === 0 || fqs.length < leaves.length) {
    const below = rootKind === 'mq' ? ` over ${leaves.find(({ fq }) => !fq)?.kind ?? 'nothing'}` : ''
    return `the queueing discipline of ${name} is ${rootKind}${below}, not fq; ${fairQueueRemedy(name)}`
  }
  if (!fqs.every(({ paces }) => paces)) return `fq of ${name} is told not to pace (nopacing); ${fairQueueRemedy(name, ' pacing')}`
  return {
    ifindex,
    interfaceName: name,
    flowLimit: Math.min(...fqs.map(({ flowLimit }) => flowLimit ?? FLOW_LIMIT)),
    maxRateBytesPerSecond: Math.min(...fqs.map(({ maxRateBytesPerSecond }) => maxRateBytesPerSecond)),
    linkHeaderBytes: mac.length === 6 ? ETHERNET_HEADER_BYTES : 0,
  }
}

/** The command that makes an interface's root an fq; an fq keeps options that are not given. */
export function fairQueueRemedy(interfaceName: string, options = ''): string {
  return `as root: \`tc qdisc replace dev ${interfaceName} root fq${options}\``
}
