/** Whether a run passed, and why not. */
import { counted } from '../../../errors.js'
import { many } from '../../common/table.js'
import type { Result } from './protocol.js'
import { REACHED } from './search.js'

/**
 * Why packets were lost, or a rate was not kept: the way between the hosts; a queue on the way; the receiver's socket, memory or interface;
 * what is below the sender's socket; the sender itself; or nothing arrived at all.
 */
export type Cause =
  | 'none'
  | 'way'
  | 'queue'
  | 'receiver-socket'
  | 'receiver-memory'
  | 'receiver-interface'
  | 'sender-interface'
  | 'sender'
  | 'silence'

export interface Sent {
  /** Bytes a second of UDP payload; 0: as fast as possible. */
  readonly rateAsked: number
  readonly rateReached: number
  readonly seconds: number
  readonly packets: number
  readonly heapsFailed: number
  /** Packets that this host dropped below the socket. */
  readonly dropped: number
  /** Why the rate was not reached. */
  readonly reasons: readonly string[]
  readonly port: number
}

export interface Verdict {
  readonly passed: boolean
  readonly cause: Cause
  /** Empty where all is well. */
  readonly why: string
  readonly packetsLost: number
}

/** Packets were held back on the way where they took longer to arrive than to be sent: by this share and this time. */
const QUEUED_SHARE = 0.03
const QUEUED_SECONDS = 0.02

export function judge(sent: Sent, result: Result): Verdict {
  const packetsLost = Math.max(0, sent.packets - result.packets)
  const verdict = (passed: boolean, cause: Cause, why: string): Verdict => ({ passed, cause, why, packetsLost })
  if (sent.heapsFailed > 0) return verdict(false, 'sender', `${many(sent.heapsFailed, 'heap')} could not be sent`)
  if (result.packets === 0)
    return verdict(
      false,
      'silence',
      `nothing arrived: let port ${sent.port} through the firewalls (bench agent --data-port makes it a fixed one)`,
    )
  const { packetsRefused, heapsRefused, heapsEvicted } = result
  if (packetsLost > 0 || packetsRefused + heapsRefused + heapsEvicted + result.heapsIncomplete > 0)
    return lossOf(sent, result, packetsLost)
  if (result.seconds > sent.seconds * (1 + QUEUED_SHARE) + QUEUED_SECONDS)
    return verdict(
      false,
      'queue',
      `a queue on the way held packets back: sent in ${sent.seconds.toFixed(2)} s, arrived in ${result.seconds.toFixed(2)} s`,
    )
  if (sent.rateAsked > 0 && sent.rateReached < sent.rateAsked * REACHED)
    return verdict(true, 'sender', `the sender could not reach it${sent.reasons.length > 0 ? `: ${sent.reasons.join(', ')}` : ''}`)
  return verdict(true, 'none', '')
}

function lossOf(sent: Sent, result: Result, packetsLost: number): Verdict {
  const { packets, duplicates, malformed, messages, droppedByKernel, droppedByInterface, packetsRefused } = result
  // The kernel counts a coalesced run of packets as one drop.
  const perMessage = messages > 0 ? Math.max(1, (packets + duplicates + malformed) / messages) : 1
  const bySocket = Math.min(packetsLost, Math.round(droppedByKernel * perMessage))
  const byInterface = Math.min(packetsLost - bySocket, droppedByInterface)
  const bySender = Math.min(packetsLost - bySocket - byInterface, sent.dropped)
  const onWay = packetsLost - bySocket - byInterface - bySender
  const memory = packetsRefused + result.heapsRefused + result.heapsEvicted
  const parts: readonly (readonly [packets: number, cause: Cause, why: string])[] = [
    [
      bySocket,
      'receiver-socket',
      `the receiver's socket was full ${many(droppedByKernel, 'time')}${perMessage > 1 ? ` (some ${many(bySocket, 'packet')})` : ''}`,
    ],
    [byInterface, 'receiver-interface', `the receiver's interface dropped ${many(byInterface, 'packet')}`],
    [bySender, 'sender-interface', `this host dropped ${many(bySender, 'packet')} below the socket`],
    [memory, 'receiver-memory', `the receiver's memory was full for ${counted(memory, 'packet or heap', 'packets or heaps')}`],
    // The socket's drops are an estimate, so a small remainder does not count as lost on the way.
    [bySocket > 0 && onWay < bySocket / 10 ? 0 : onWay, 'way', `${many(onWay, 'packet')} lost on the way`],
  ]
  const found = parts.filter(([count]) => count > 0).toSorted(([a], [b]) => b - a)
  const cause = found[0]?.[1] ?? 'way'
  const why = found.map(([, , text]) => text).join('; ') || `${many(result.heapsIncomplete, 'heap')} incomplete`
  return { passed: false, cause, why, packetsLost }
}
