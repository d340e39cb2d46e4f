/** Where a batch may be cut: binary searches over its rows. */
import type { Posting } from '../backend/backend.js'

/** The first row up to which there are at least `limit` bytes, behind `from`; `rows` if there are fewer. */
export function crossing(bytesBefore: Float64Array, from: number, rows: number, limit: number): number {
  let low = from + 1
  let high = rows
  while (low < high) {
    const middle = (low + high) >> 1
    if (bytesBefore[middle]! >= limit) high = middle
    else low = middle + 1
  }
  return low
}

/** `end`, moved down to where a message ends; `from` if that is within the first. */
export function wholeMessages({ edge }: Posting, from: number, end: number): number {
  if (end === from || edge[end - 1] === end) return end
  // Rows of one message have one edge, and edges only rise.
  const cut = edge[end - 1]!
  let low = from
  let high = end - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (edge[middle] === cut) high = middle
    else low = middle + 1
  }
  return low
}
