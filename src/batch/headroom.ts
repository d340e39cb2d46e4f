import type { PacketPlan } from '../spead/index.js'

/**
 * A packet plan in memory: each packet's header has `headroomBytes` in front of it for the backend's own headers (Ethernet, IP and UDP of
 * a backend that makes frames), so that a frame begins with one segment. They belong to `headers`; packet p's SPEAD header is
 * `headers[headerStart[p] … headerStart[p + 1] − headroomBytes]`.
 */
export interface SpacedPlan extends PacketPlan {
  readonly headroomBytes: number
}

export function withHeadroom(plan: PacketPlan, headroomBytes: number): SpacedPlan {
  if (headroomBytes === 0) return { ...plan, headroomBytes }
  const { packets } = plan
  const headers = new Uint8Array(plan.headers.length + packets * headroomBytes)
  const headerStart = plan.headerStart.map((start, p) => start + (p + 1) * headroomBytes)
  for (let p = 0; p < packets; p++)
    headers.set(plan.headers.subarray(plan.headerStart[p]!, plan.headerStart[p + 1]!), headerStart[p]!)
  return { ...plan, headers, headerStart, headroomBytes }
}
