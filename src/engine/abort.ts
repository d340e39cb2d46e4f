/** The end of everything that an engine has claimed, when the stream is destroyed or its deadline has come. */
import { CAUSE_FLUSHED } from '../backend/backend.js'
import type { Flight } from './flights.js'
import type { EngineParts } from './parts.js'

/** Rows that were not posted are flushed, and those that an asynchronous backend still holds cannot be waited for. */
export function giveUpAll({ backend, flights, interlude, completions, settlements, retries }: EngineParts): void {
  const flush = (flight: Flight): void => {
    if (flight.rowsPosted < flight.rows) flight.fail(flight.rowsPosted, flight.rows - flight.rowsPosted, CAUSE_FLUSHED, backend)
    flight.rows = flight.rowsPosted
  }
  if (interlude.underWay) {
    completions.giveUp(interlude.flight)
    flush(interlude.flight)
  }
  settlements.forgetInterlude(interlude)
  retries?.abort()
  while (flights.posted !== flights.claimed) {
    flush(flights.at(flights.posted))
    flights.pass()
  }
  retries?.lose(completions)
  for (let k = flights.settled; k !== flights.claimed; k = (k + 1) | 0) completions.giveUp(flights.at(k))
}
