export interface Pacing {
  readonly rateBytesPerSecond: number
  readonly burstBytes: number
  readonly burstRateRatio: number
}
export type Packet = readonly [nanoseconds: number, bytes: number]

export function burstGap(pacing: Pacing): number
export function runsOf(packets: readonly Packet[], gapNanoseconds: number): number[]
export function burstsOf(
  packets: readonly Packet[],
  pacing: Pacing,
): { readonly runs: number; readonly backToBackBytes: number; readonly packetBytes: number; readonly runsOver: number }
