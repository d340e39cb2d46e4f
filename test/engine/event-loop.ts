/** The event-loop driver under a virtual clock: timers and immediates are the test's, and time passes only as they say. */
import { expect } from 'vitest'
import { openMemory } from '#dist/src/backend/memory.js'
import { PreparedHeaps } from '#dist/src/batch/heaps.js'
import { type EngineMessage, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import type { Driver, DriverInput } from '#dist/src/engine/driver.js'
import { InlineDriver } from '#dist/src/engine/driver-inline.js'
import * as R from '#dist/src/engine/ring.js'
import { ENGINE_OPTIONS, type MakeRig, type Rig, submitTo } from '../support/engine-rig.js'

/** A turn of the loop takes this long while there is something to send. */
const TURN_NANOSECONDS = 1000

/** Event loop and clock in one. Node's own are in place again whenever no rig is at work. */
class VirtualLoop {
  /** Nanoseconds. */
  clock = 1e9
  #immediates: (() => void)[] = []
  readonly #timers = new Map<object, { readonly at: number; readonly run: () => void }>()

  constructor(readonly busy: () => boolean) {}

  /** Runs `body` with the loop's globals in the place of Node's. */
  within<T>(body: () => T): T {
    const { setTimeout, clearTimeout, setImmediate, clearImmediate } = globalThis
    const { now } = performance
    Object.assign(globalThis, {
      setTimeout: (run: () => void, milliseconds: number) => {
        const timer = { ref: () => timer, unref: () => timer, hasRef: () => true }
        this.#timers.set(timer, { at: this.clock + milliseconds * 1e6, run })
        return timer
      },
      clearTimeout: (timer: object) => void this.#timers.delete(timer),
      setImmediate: (run: () => void) => {
        this.#immediates.push(run)
        return run
      },
      clearImmediate: (run: () => void) => {
        this.#immediates = this.#immediates.filter((other) => other !== run)
      },
    })
    performance.now = () => this.clock / 1e6
    try {
      return body()
    } finally {
      Object.assign(globalThis, { setTimeout, clearTimeout, setImmediate, clearImmediate })
      performance.now = now
    }
  }

  /** One turn: all immediates, or else the next timer. Answers as the engine would for the work that is left. */
  turn(): number {
    const immediates = this.#immediates.splice(0)
    for (const run of immediates) run()
    if (immediates.length === 0) {
      const next = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0]
      if (!next) return NEXT_IDLE
      this.#timers.delete(next[0])
      this.clock = Math.max(this.clock, next[1].at)
      next[1].run()
    }
    if (this.#immediates.length > 0 && this.busy()) this.clock += TURN_NANOSECONDS
    if (this.#timers.size > 0) return NEXT_AT_DEADLINE
    return this.#immediates.length > 0 ? NEXT_STEP_NOW : NEXT_IDLE
  }
}

export const eventLoopRig: MakeRig = (memory = {}, options = {}) => {
  const ring = new R.Ring()
  const loop = new VirtualLoop(() => ring.settled !== ring.submitted)
  const messages: EngineMessage[] = []
  const settled: number[] = []
  let driver: Driver | undefined
  const backend = openMemory({ substreams: 4, ...memory }, { counters: ring.counters, wake: () => driver?.submitted() })
  const input: DriverInput = {
    ring,
    backend: { kind: 'memory', substreams: 4, ...memory },
    options: { ...ENGINE_OPTIONS, ...options },
  }
  // Its open() would make the backend itself; here the test holds it too.
  const Made = InlineDriver as unknown as new (...args: [DriverInput, typeof backend, undefined]) => InlineDriver
  const made = loop.within(() => new Made(input, backend, undefined))
  driver = made
  made.start({
    harvest: () => {
      const count = ring.settled
      while (settled.length < count) settled.push(settled.length + 1)
    },
    watched: false,
    outcome: (message) => messages.push(message),
    lost: () => expect.unreachable('no receiver comes and goes'),
    interludeOver: () => expect.unreachable('nobody asked for one'),
    loopNews: (message) => messages.push(message),
    knows: () => expect.unreachable('no thread dies'),
    threadDied: () => expect.unreachable('no thread dies'),
    threadRestarted: () => expect.unreachable('no thread dies'),
    die: (error) => expect.unreachable(error.stack),
  })
  const self: Rig = {
    engine: {
      step: () =>
        loop.within(() => {
          made.submitted()
          return loop.turn()
        }),
      addVariant: (id, compiled, rates) => made.addVariant(id, compiled, rates),
      dropVariant: (id) => made.dropVariant(id),
    },
    ring,
    backend,
    messages,
    settled,
    get clock() {
      return loop.clock
    },
    set clock(now) {
      loop.clock = now
    },
    add(id, references, mode = 'serial', packetSizeBytes = 1472) {
      const prepared = new PreparedHeaps(references, mode, { packetSizeBytes, split: 'even' })
      prepared.fill(references)
      made.addVariant(id, prepared.compilation().compile(), prepared.rates)
      return prepared
    },
    submit: (id, prepared) =>
      loop.within(() => {
        const count = submitTo(ring, id, prepared)
        made.submitted()
        return count
      }),
    run: (limit = 1_000_000) =>
      loop.within(() => {
        made.submitted()
        for (let i = 0; i < limit; i++) if (loop.turn() === NEXT_IDLE) return ring.closed ? NEXT_STOPPED : NEXT_IDLE
        throw new Error(`not idle after ${limit} turns`)
      }),
  }
  return self
}
