// Bytes that leave back to back, from the times and sizes of captured packets. Pure.

/**
 * Packets nearer to one another than this share of the time that a burst takes at the burst rate are back to back. At 1 Gb/s that is 125 µs:
 * packets of one message were seen 1 to 5 µs apart, messages of one burst up to 50, bursts 450 and more.
 */
const GAP_SHARE = 1 / 4

/** Nanoseconds. */
export const burstGap = ({ rateBytesPerSecond, burstBytes, burstRateRatio }) =>
  (GAP_SHARE * burstBytes * 1e9) / (rateBytesPerSecond * burstRateRatio)

/** Bytes of each run of packets with less than `gapNanoseconds` from one to the next; `packets` are `[nanoseconds, bytes]` in order. */
export function runsOf(packets, gapNanoseconds) {
  const runs = []
  let last = Number.NEGATIVE_INFINITY
  for (const [at, bytes] of packets) {
    if (at - last < gapNanoseconds) runs[runs.length - 1] += bytes
    else runs.push(bytes)
    last = at
  }
  return runs
}

/**
 * Counts the runs of a stream that keeps a rate: how many there were, the largest, and how many were larger than a burst and one packet. The
 * first and the last may be cut by the ends of the capture and still count: they are parts of what left.
 */
export function burstsOf(packets, pacing) {
  const runs = runsOf(packets, burstGap(pacing))
  const packetBytes = Math.max(...packets.map(([, bytes]) => bytes))
  const allowed = pacing.burstBytes + packetBytes
  return {
    runs: runs.length,
    backToBackBytes: Math.max(...runs),
    packetBytes,
    runsOver: runs.filter((bytes) => bytes > allowed).length,
  }
}
