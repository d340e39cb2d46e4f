// Gathers rows of runs into points. A point has every round of one ground, packet size, number of batches, number of hogs and heap
// size. Pure.
import { summarise } from './statistics.mjs'

export function groupBy(list, key) {
  const groups = new Map()
  for (const item of list) groups.set(key(item), [...(groups.get(key(item)) ?? []), item])
  return groups
}

export const groundOf = (row) => row.ground ?? 'blackhole'
/** Busy neighbours that ran beside the program. */
export const hogsOf = (row) => row.hogs ?? 0
/** kind of row → the fields that make its point. */
const KEYS = {
  run: [groundOf, (row) => row.packetSizeBytes, (row) => row.pointBatches, hogsOf, (row) => row.heapSizeBytes],
  pacing: [(row) => row.rateBytesPerSecond, hogsOf],
  bursts: [(row) => row.rateBytesPerSecond, hogsOf],
  streams: [(row) => row.streams, hogsOf],
}
/** The point of a row, as text; undefined for kinds that have no rounds of programs. */
export const pointKey = (row) => KEYS[row.kind] && [row.kind, ...KEYS[row.kind].map((of) => of(row))].join()
const runsOf = (rows) => rows.filter((row) => row.kind === 'run')

/** Rows by rounds: a repeated round counts once, by its last attempt. */
export const lastAttempts = (rows) =>
  [...groupBy(rows, (row) => row.round).values()].map((round) => {
    const last = Math.max(...round.map((row) => row.attempt ?? 0))
    return round.filter((row) => (row.attempt ?? 0) === last)
  })

export function points(rows) {
  return [...groupBy(runsOf(rows), pointKey).values()].map((own) => {
    const rounds = lastAttempts(own).map((round) => Object.fromEntries(round.map((row) => [row.program, row])))
    const { heapSizeBytes, packetSizeBytes, pointBatches } = own[0]
    return {
      ground: groundOf(own[0]),
      heapSizeBytes,
      packetSizeBytes,
      batches: pointBatches,
      hogs: hogsOf(own[0]),
      rounds,
      repeated: new Set(own.map((r) => `${r.round},${r.attempt}`)).size - rounds.length,
    }
  })
}

/** Points that share all but the heap size, by heap size. */
export const groups = (all) =>
  [...groupBy(all, (point) => [point.ground, point.packetSizeBytes, point.batches, point.hogs].join()).values()].map((group) =>
    group.toSorted((a, b) => a.heapSizeBytes - b.heapSizeBytes),
  )

/** Summary (statistics.mjs) of the ratio a/b within each round that has both; undefined if none has. */
export const ratio = (point, a, b) =>
  summarise(
    point.rounds
      .filter((round) => round[a] && round[b])
      .map((round) => round[a].payloadBytesPerSecond / round[b].payloadBytesPerSecond),
  )

/** Summary of a program's payload bytes a second. */
export const rate = (point, program) =>
  summarise(point.rounds.filter((round) => round[program]).map((round) => round[program].payloadBytesPerSecond))

const rateIn = (point, program, round) => point.rounds.find((own) => own[program]?.round === round)?.[program].payloadBytesPerSecond

/**
 * Summary of a program's rate at one point over its own at another, by rounds of the same number: the share that busy neighbours
 * leave it.
 */
export const share = (point, of, program) =>
  summarise(
    point.rounds
      .map((round) => round[program])
      .filter((row) => row && rateIn(of, program, row.round))
      .map((row) => row.payloadBytesPerSecond / rateIn(of, program, row.round)),
  )

/** Number of the next round at a point, and how many of its rounds ran all of `programs`. */
export function progress(rows, key, programs) {
  const own = rows.filter((row) => pointKey(row) === key)
  const complete = [...groupBy(own, (row) => row.round).values()].filter((round) =>
    programs.every((name) => round.some((row) => row.program === name)),
  )
  return { complete: complete.length, next: Math.max(-1, ...own.map((row) => row.round)) + 1 }
}
