/** The parts of an engine, made in the order in which they need each other. */
import type { Backend } from '../backend/backend.js'
import { Completions } from './completions.js'
import { type EngineMessage, type EngineOptions, isPaced } from './contract.js'
import { Flights } from './flights.js'
import { Intake } from './intake.js'
import { Interlude } from './interlude.js'
import { Loops } from './loops.js'
import { Pacer } from './pacer.js'
import { excusesOf, type Retries, retriesOf } from './retries.js'
import type { Ring } from './ring.js'
import { Schedule, type TaiReading } from './schedule.js'
import { Settlements } from './settlements.js'
import { Variants } from './variants.js'

export interface EngineInput {
  readonly backend: Backend
  readonly ring: Ring
  readonly options: EngineOptions
  readonly emit: (message: EngineMessage) => void
  readonly settled: () => void
  readonly beforeClaim: () => void
  readonly clock: () => number
  readonly tai: TaiReading
}

export interface EngineParts {
  readonly backend: Backend
  readonly flights: Flights
  readonly interlude: Interlude
  readonly variants: Variants
  readonly loops: Loops
  readonly intake: Intake
  readonly completions: Completions
  readonly settlements: Settlements
  /** 1 for each substream whose heaps may fail without failing the send; absent where none may. */
  readonly excuses: Uint8Array | undefined
  /** Absent where no substream's rows are posted again. */
  readonly retries: Retries | undefined
  /** Absent where the engine is as fast as possible, or the backend paces itself. */
  readonly pacer: Pacer | undefined
}

export function partsOf({ backend, ring, options, emit, settled, beforeClaim, clock, tai }: EngineInput): EngineParts {
  const { counters } = ring
  const flights = new Flights(ring.published, ring.ledger)
  const interlude = new Interlude()
  const excuses = excusesOf(options.onError)
  const retries = retriesOf({ backend, accounts: ring.accounts, flights, interlude, policies: options.onError ?? [], excuses })
  const completions = new Completions(backend, counters, excuses, retries)
  const schedule = options.schedule && new Schedule(options.schedule, tai, clock)
  const pacer =
    isPaced(options) && !backend.caps.pacesItself ? new Pacer(options, backend.caps, counters, schedule, emit) : undefined
  const variants = new Variants(backend, pacer, options.schedule?.item)
  const loops = new Loops(variants, emit)
  const settlements = new Settlements(backend, ring, flights, variants, emit, settled)
  const intake = new Intake({ backend, ring, flights, variants, loops, settlements, pacer, beforeClaim })
  return { backend, flights, interlude, variants, loops, intake, completions, settlements, excuses, retries, pacer }
}
