/**
 * How the engine of one I/O thread follows that of another that has died: what the dead one had taken up settles, the next one is told what the dead
 * one was told, and there are not too many of them.
 */
import type { BackendCaps } from '../backend/backend.js'
import { counted, SpeadcastError } from '../errors.js'
import { Announced } from './announced.js'
import type { EngineOptions } from './contract.js'
import type { DriverClient, RestartInput } from './driver.js'
import type { Ring } from './ring.js'
import { salvage } from './salvage.js'

/** The first follows at once, and each further one after a pause four times as long as the one before it. */
const FIRST_PAUSE_MS = 100
const GROWTH = 4
const LONGEST_PAUSE_MS = 10_000

export class Succession {
  readonly announced: Announced
  #times: number[] = []

  constructor(
    readonly ring: Ring,
    readonly restart: RestartInput,
  ) {
    this.announced = new Announced(ring)
  }

  /** Settles what the dead engine had taken up. */
  settle(died: SpeadcastError, substreams: number, client: DriverClient): void {
    const all = this.restart.receiversAnew.length > 0
    // Sends that waited for a place come into the ring as others settle.
    do this.#settle(died, substreams, client, all)
    while (all && this.ring.settled !== this.ring.submitted)
  }

  #settle(died: SpeadcastError, substreams: number, client: DriverClient, all: boolean): void {
    const { announced, ring } = this
    const { outcomes, interlude, loops } = salvage({
      memory: ring.memory,
      substreams,
      compiledOf: (id) => announced.compiledOf(id),
      died,
      all,
      interludeHeaps: announced.interlude?.heaps,
      told: (submission) => client.knows(submission),
    })
    announced.endInterlude()
    for (const id of loops) announced.endLoop(id)
    for (const outcome of outcomes) client.outcome(outcome)
    if (interlude) client.interludeOver(interlude.outcome)
    client.harvest()
  }

  /** Milliseconds to wait before the next engine; undefined: there have been too many. @param now a clock, in milliseconds */
  next(now: number): number | undefined {
    const { most, withinMs } = this.restart
    this.#times = this.#times.filter((time) => now - time < withinMs)
    const before = this.#times.length
    if (before >= most) return undefined
    this.#times.push(now)
    return before === 0 ? 0 : Math.min(FIRST_PAUSE_MS * GROWTH ** (before - 1), LONGEST_PAUSE_MS)
  }

  tooMany(last: SpeadcastError): SpeadcastError {
    const { most, withinMs } = this.restart
    const why = `${last.message}; ${counted(most, 'new I/O thread')} within ${withinMs / 1000} s did not help, and onThreadDeath allows no more; look for the cause, and open another stream`
    return new SpeadcastError('ERR_SPEADCAST_WORKER', why, { cause: last })
  }
}

/** The options of an engine that takes another's place: the time of the first timestamp may be a wrap ago. */
export function onceStarted(options: EngineOptions): EngineOptions {
  const { schedule } = options
  const isOver = schedule?.startSeconds !== undefined && schedule.startSeconds < Date.now() / 1000
  return isOver ? { ...options, schedule: { ...schedule, startSeconds: undefined } } : options
}

/** Why batches that were compiled for the backend before cannot be sent by the next; undefined: they can. */
export function unfitness(next: BackendCaps, before: BackendCaps): string | undefined {
  const { name, headroomBytes, evidence } = next
  if (headroomBytes === before.headroomBytes && evidence === before.evidence) return undefined
  return `in the next one backend '${name}' makes other frames, because its interface has changed, and compiled batches do not fit; open another stream`
}
