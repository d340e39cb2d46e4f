import type { RunReport } from './remote-stream.js'

export interface Claims {
  /** Heaps reported sent that are not whole on the wire, in batches that are not suspect. */
  trusted: number
  /** The same in suspect batches. */
  suspect: number
  /** Heaps reported failed that are on the wire, or partial that are whole there. */
  failedYetSeen: number
}

/** Compares a run's reports with the wire, heap by heap. It is the only batch of its stream, so send n has heap cnts from `firstCnt` + n × heaps. */
export function claims(
  report: RunReport,
  wire: ReadonlyMap<number, number>,
  { heaps, packetsPerHeap, firstCnt = 1 }: { heaps: number; packetsPerHeap: number; firstCnt?: number },
): Claims {
  const wrong = { trusted: 0, suspect: 0, failedYetSeen: 0 }
  for (const [n, first, suspect] of report.statuses) {
    if (first !== firstCnt + n * heaps) throw new Error(`send ${n} has heap cnt ${first}`)
    for (let j = 0; j < heaps; j++) if (wire.get(first + j) !== packetsPerHeap) wrong[suspect ? 'suspect' : 'trusted']++
  }
  for (const [n, { outcome }] of report.failed)
    for (const [j, status] of outcome!.heaps.entries()) {
      const seen = wire.get(firstCnt + n * heaps + j) ?? 0
      if (status === 'sent' && seen !== packetsPerHeap) wrong[outcome!.suspect ? 'suspect' : 'trusted']++
      if ((status === 'failed' && seen > 0) || (status === 'partial' && seen >= packetsPerHeap)) wrong.failedYetSeen++
    }
  return wrong
}
