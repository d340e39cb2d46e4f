import { type PacketPlan, planPackets } from '../spead/index.js'
import type { PlanOptions } from '../spead/plan.js'

/**
 * A packet plan in memory: each packet's header has `headroomBytes` in front of it for the backend's own headers (Ethernet, IP and UDP of
 * a backend that makes frames), so that a frame begins with one segment. They belong to `headers`; packet p's SPEAD header is
 * `headers[headerStart[p] … headerStart[p + 1] − headroomBytes]`.
 */
export interface SpacedPlan extends PacketPlan {
  readonly headroomBytes: number
}

export interface SpacedPlanOptions extends PlanOptions {
  readonly headroomBytes: number
}

/** Plans packets with room for the backend's headers; see `planPackets` for the errors. */
export function planSpaced({ headroomBytes, ...options }: SpacedPlanOptions): SpacedPlan {
  return withHeadroom(planPackets(options), headroomBytes)
}

export function withHeadroom(plan: PacketPlan, headroomBytes: number): SpacedPlan {
  if (headroomBytes === 0) return { ...plan, headroomBytes }
  const { packets } = plan
  const headers = new Uint8Array(plan.headers.length + packets * headroomBytes)
  const headerStart = plan.headerStart.map((start, p) => start + (p + 1) * headroomBytes)
  // Both arrays of starts have an entry for each packet and one more.
  for (let p = 0; p < packets; p++)
    headers.set(plan.headers.subarray(plan.headerStart[p]!, plan.headerStart[p + 1]!), headerStart[p]!)
  return { ...plan, headers, headerStart, headroomBytes }
}
