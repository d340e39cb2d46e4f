/**
 * Settles what a dead engine had taken up, in its place, so that another can take over the ring. The engine's thread has ended, or has closed its
 * backend, and what it told has been read.
 *
 * | a submission                                      | becomes                                                             |
 * |---------------------------------------------------|---------------------------------------------------------------------|
 * | settled by the engine, published or not            | what it settled as                                                  |
 * | all of whose rows completed, partly counted        | sent                                                                |
 * | claimed                                            | failed: heaps of which packets may have left are unknown, the others flushed |
 * | claimed, of a loop                                 | failed: the loop is over                                            |
 * | claimed, that changes the heap cnts or resumes     | done                                                                |
 * | not claimed                                        | untouched: the next engine claims it, unless receivers are others    |
 */
import type { CompiledBatch } from '../batch/compile.js'
import type { SpeadcastError } from '../errors.js'
import { COUNTER, type CounterName, sumOf } from '../stats.js'
import type { Accounts } from './accounts.js'
import type { Unsettled } from './ledger.js'
import { FailureLog, type HeapStatus, type OutcomeMessage } from './outcome.js'
import { Claim, Ring } from './ring.js'
import type { CntSequence } from './scatter.js'
import { packetsOf } from './settlements.js'
import { Shares } from './shares.js'

interface Wreck {
  readonly memory: SharedArrayBuffer
  readonly substreams: number
  /** The variant with this id, also one that was dropped while it was under way. */
  readonly compiledOf: (id: number) => CompiledBatch | undefined
  readonly died: SpeadcastError
  /** Receivers know nothing of what was sent so far, so what waits for its turn fails too. */
  readonly all: boolean
  /** The heaps of an interlude that was asked for, and has not been told of. */
  readonly interludeHeaps: number | undefined
  /** Heaps of a submission as the dead engine told their fates. */
  readonly told: (submission: number) => boolean
}

interface Salvaged {
  /** Comes before the settlements that it explains. */
  readonly outcomes: readonly OutcomeMessage[]
  /** Where there was one: undefined if it was sent whole. */
  readonly interlude: { readonly outcome: OutcomeMessage | undefined } | undefined
  /** The loops that are over, by their ids. */
  readonly loops: readonly number[]
}

const UNTRIED = { slot: undefined, begunRows: 0, counted: 0, suspect: false }

/** A fate that the accounts have already. */
type Fate = { readonly outcome: OutcomeMessage | undefined; readonly suspect: boolean }

export function salvage(wreck: Wreck): Salvaged {
  // Anew, because the dead engine has named causes that this thread's accounts do not know.
  const ring = new Ring(wreck.memory)
  const { ledger, accounts } = ring
  const interlude = interludeOf(ring, wreck)
  const fates = new Map<number, Fate>()
  for (const flight of ledger.unsettled) {
    if (flight.slot === undefined || !ring.isSettled(flight.slot)) {
      const fate = fateOf(flight, flight.slot ?? 0, accounts, wreck)
      if (flight.slot !== undefined) fates.set(flight.slot, fate)
    }
  }
  const outcomes: OutcomeMessage[] = []
  const loops: number[] = []
  const end = wreck.all ? ring.submitted : ring.claimedEnd
  const claim = new Claim()
  /** The sequence that the last claim set, and the engine did not get to. */
  let sequence: CntSequence | undefined
  for (let count = ring.published; count !== end; count = (count + 1) | 0) {
    if (ring.wasClaimed(count)) sequence = undefined
    if (!ring.takeOver(count, claim)) continue
    const { variant, heaps } = claim
    let fate: Fate = { outcome: undefined, suspect: false }
    if (claim.setsSequence) {
      if (!ledger.isSetter(count)) {
        sequence = { nextHi: 0, nextLo: 0, stepHi: 0, stepLo: 0 }
        claim.writeTo(sequence)
      }
    } else if (claim.loop >= 0) {
      fate = lost(count, [], wreck.died)
      loops.push(claim.loop)
    } else if (claim.resumes < 0) fate = fates.get(count) ?? fateOf({ ...UNTRIED, variant, heaps }, count, accounts, wreck)
    if (fate.outcome && !wreck.told(count)) outcomes.push(fate.outcome)
    ring.settle(count, fate.outcome !== undefined, fate.suspect)
  }
  if (sequence) ledger.noteSequence(sequence)
  sumUp(accounts, wreck.substreams)
  ring.publish(end)
  ledger.reset(end)
  ring.reopen()
  return { outcomes, interlude, loops }
}

function interludeOf({ ledger, accounts }: Ring, wreck: Wreck): Salvaged['interlude'] {
  if (wreck.interludeHeaps === undefined) return undefined
  const { interlude } = ledger
  if (interlude) return fateOf(interlude, 0, accounts, wreck)
  return lost(0, new Array<HeapStatus>(wreck.interludeHeaps).fill('flushed'), wreck.died)
}

/** Counts what the engine has not counted. */
function fateOf(flight: Unsettled, submission: number, accounts: Accounts, { compiledOf, died }: Wreck): Fate {
  const { variant, heaps, begunRows, counted, suspect } = flight
  const compiled = compiledOf(variant)
  if (!compiled || counted === 'failure') return lost(submission, new Array<HeapStatus>(heaps).fill('unknown'), died)
  const { table } = compiled
  const bytesBefore = new Float64Array(table.rows + 1)
  for (let r = 0; r < table.rows; r++) bytesBefore[r + 1] = bytesBefore[r]! + table.udpBytes[r]!
  const shares = new Shares(compiled, bytesBefore)
  if (counted > 0) {
    accounts.sent({ shares, compiled }, heaps, suspect, undefined, counted)
    return { outcome: undefined, suspect }
  }
  const log = new FailureLog(table.heaps, table.rows)
  for (let r = 0; r < shares.rowsOf(heaps); r++) {
    if (r < begunRows) log.lose(r, table.heap[r]!)
    else log.flush(r, table.heap[r]!)
  }
  const message = log.message(submission, heaps, (j) => packetsOf(compiled, j), String)
  accounts.failed({ shares, compiled }, message, log, false, undefined)
  return { outcome: { ...message, died }, suspect: false }
}

function lost(submission: number, heaps: HeapStatus[], died: SpeadcastError): Fate {
  return { outcome: { type: 'outcome', submission, heaps, causes: [], packetsUnsent: 0, died }, suspect: false }
}

/**
 * The stream's counters are those of its substreams in sum, as nothing is under way. A dead engine counted some of them before the others. Packets and
 * bytes were counted as they were posted, and stay: those of unknown heaps are in no substream's account.
 */
function sumUp(accounts: Accounts, substreams: number): void {
  const sums = sumOf(accounts.read(new Array<string>(substreams).fill('')))
  for (const [name, sum] of Object.entries(sums)) accounts.counters[COUNTER[name as CounterName]] = sum
}
