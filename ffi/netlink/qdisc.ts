/** Asks for the queueing disciplines of interfaces (tc(8)) by rtnetlink(7). Linux only. Cold: link-losses.ts notices when they change. */
import { type Attributes, attributesOf, query, textOf, u32Of } from './query.js'

// linux/rtnetlink.h, linux/pkt_sched.h
export const RTM_NEWQDISC = 36
export const RTM_GETQDISC = 38
export const TC_H_ROOT = 0xffffffff
export const TCA_KIND = 1
export const TCA_OPTIONS = 2
export const TCA_FQ_FLOW_PLIMIT = 2
export const TCA_FQ_RATE_ENABLE = 5
export const TCA_FQ_FLOW_MAX_RATE = 7
/** Bytes of struct tcmsg: u8 family, 3 pad, i32 ifindex, u32 handle, u32 parent, u32 info. */
export const TCMSG_LEN = 20

export interface Qdisc {
  /** 'fq', 'mq', 'pfifo_fast', 'noqueue'… */
  readonly kind: string
  /** Major number in the upper 16 bits, minor in the lower; 0 if the kernel made it by itself. */
  readonly handle: number
  /** TC_H_ROOT, or the class of another one's that it belongs to: the handle's major number and one of its own. */
  readonly parent: number
  /** How fq (tc-fq(8)) is set, as far as the kernel tells. */
  readonly fq?: Fq
}

export interface Fq {
  /** False after `nopacing`: SO_MAX_PACING_RATE has no effect. */
  readonly paces: boolean
  /** Packets of one flow that may wait; a segmented message counts as one. */
  readonly flowLimit: number | undefined
  /** The most that each flow may have: `maxrate`. Infinity without. */
  readonly maxRateBytesPerSecond: number
}

/** All queueing disciplines of an interface, the root first; an interface that is not there has none. @throws NativeError */
export function qdiscs(ifindex: number): Qdisc[] {
  const all: Qdisc[] = []
  query({
    what: 'RTM_GETQDISC',
    type: RTM_GETQDISC,
    answer: RTM_NEWQDISC,
    dump: true,
    header: new Uint8Array(TCMSG_LEN),
    onMessage: (view, body, found) => {
      // The kernel does not filter the dump by interface.
      if (view.getInt32(body + 4, true) !== ifindex) return
      const kind = textOf(found, TCA_KIND) ?? ''
      all.push({
        kind,
        handle: view.getUint32(body + 8, true),
        parent: view.getUint32(body + 12, true),
        ...(kind === 'fq' && { fq: fqOf(view, found) }),
      })
    },
    restart: () => all.splice(0),
  })
  return all
}

function fqOf(view: DataView, found: Attributes): Fq {
  const nested = found.get(TCA_OPTIONS)
  const options = nested ? attributesOf(view, nested.at, nested.at + nested.length) : new Map()
  const maxRate = u32Of(view, options, TCA_FQ_FLOW_MAX_RATE) ?? 0xffffffff
  return {
    paces: u32Of(view, options, TCA_FQ_RATE_ENABLE) !== 0,
    flowLimit: u32Of(view, options, TCA_FQ_FLOW_PLIMIT),
    maxRateBytesPerSecond: maxRate === 0xffffffff ? Number.POSITIVE_INFINITY : maxRate,
  }
}
