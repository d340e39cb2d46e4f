/** The finding of a search for one heap size. */
import { count } from '../../common/table.js'
import type { Transport } from './protocol.js'
import { type RateSearch, REACHED } from './search.js'
import type { Step } from './step.js'
import type { Cause } from './verdict.js'

export interface Found {
  readonly transport: Transport
  readonly heapSizeBytes: number
  readonly packetSizeBytes: number
  /** UDP payload, as --rate counts, in bytes a second; undefined: no run arrived whole. */
  readonly rate: number | undefined
  /** Item data. */
  readonly payloadRate: number | undefined
  readonly frameRate: number | undefined
  readonly wireRate: number | undefined
  /** The longest burst of the runs at this rate. */
  readonly burstBytes: number
  /** Whether all rounds of confirmation passed. */
  readonly confirmed: boolean
  /** The cause that prevents a higher rate. */
  readonly limitedBy: Cause | 'rate' | 'unknown'
  readonly why: string
  readonly steps: readonly Step[]
}

const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2
}

/** Below this share of the highest rate that came through, bursts are probably too long. */
const BURST_HINT = 0.8

export interface Searched {
  readonly transport: Transport
  readonly heapSizeBytes: number
  readonly packetSizeBytes: number
  readonly steps: readonly Step[]
}

/** @param searched with a step at least */
export function foundOf(searched: Searched, search: RateSearch): Found {
  const { transport, steps } = searched
  const { low } = search
  const tcp = transport === 'tcp'
  const passed = steps.filter((step) => step.passed)
  // Runs with one rate asked are rounds of each other, also those that were asked to be as fast as possible.
  const best = passed.at(-1)
  const all =
    best === undefined || low === 0
      ? []
      : passed.filter(({ rateAsked, burstBytes }) => rateAsked === best.rateAsked && burstBytes === best.burstBytes)
  const reached = all.filter(({ rateAsked, rateReached }) => rateReached >= rateAsked * REACHED)
  const rounds = reached.length > 0 ? reached : all
  const last = rounds.at(-1)
  if (last === undefined) {
    const worst = steps.at(-1)!
    const none = { rate: undefined, payloadRate: undefined, frameRate: undefined, wireRate: undefined, confirmed: false }
    return { ...searched, ...none, burstBytes: worst.burstBytes, limitedBy: worst.cause, why: worst.why }
  }
  // If a queue on the way buffers the excess, the way's rate is the rate at which packets arrive.
  const rate = Math.min(
    median(rounds.map(({ rateReached }) => rateReached)),
    median(rounds.map(({ rateReceived }) => rateReceived)),
  )
  const scaled = (of: number | undefined): number | undefined => (of === undefined ? undefined : (of / last.rateReached) * rate)
  return {
    ...searched,
    rate,
    payloadRate: (last.payloadRate / last.rateReceived) * rate,
    frameRate: scaled(last.frameRate),
    wireRate: scaled(last.wireRate),
    burstBytes: last.burstBytes,
    confirmed: tcp || search.confirmed,
    ...limitOf(steps, rate, last, tcp),
  }
}

function limitOf(steps: readonly Step[], rate: number, last: Step, tcp: boolean): Pick<Found, 'limitedBy' | 'why'> {
  if (tcp) return { limitedBy: 'none', why: 'TCP finds its rate by itself' }
  const failed = steps
    .filter((step) => !step.passed && step.burstBytes === last.burstBytes)
    .toSorted((a, b) => a.rateReached - b.rateReached)
  const above = failed.find(({ rateReached }) => rateReached >= rate * REACHED) ?? failed.at(-1)
  // Other runs let more through, so shorter bursts may let this rate through.
  const most = Math.max(...failed.map(({ rateReceived }) => rateReceived))
  const hint =
    above?.cause === 'way' && rate < most * BURST_HINT
      ? `; a queue on the way may be too short for bursts of ${count(last.burstBytes)} bytes: try a smaller --burst`
      : ''
  if (above) return { limitedBy: above.cause, why: `${above.why}${hint}` }
  const slow = steps.findLast((step) => step.cause === 'sender' && step.rateAsked > last.rateAsked)
  if (slow) return { limitedBy: 'sender', why: slow.why }
  if (last.cause === 'sender') return { limitedBy: 'sender', why: last.why }
  if (last.rateAsked > 0) return { limitedBy: 'rate', why: 'no higher rate was allowed (--rate)' }
  return { limitedBy: 'sender', why: 'the sender does not send faster' }
}
