/**
 * An engine on the memory backend under a clock of the test's own: stepped by hand, or by the event-loop driver (test/engine/event-loop.ts).
 */
import { type MemoryBackend, type MemoryOptions, openMemory } from '#dist/src/backend/memory.js'
import type { GroupMode } from '#dist/src/batch/compile.js'
import { type HeapReference, PreparedHeaps } from '#dist/src/batch/heaps.js'
import {
  type EngineMessage,
  type EngineOptions,
  NEXT_AT_DEADLINE,
  NEXT_IDLE,
  NEXT_STEP_NOW,
  NEXT_STOPPED,
} from '#dist/src/engine/contract.js'
import { Engine } from '#dist/src/engine/engine.js'
import * as R from '#dist/src/engine/ring.js'
import { Heap } from '#dist/src/spead/index.js'

export function rawHeap(bytes: number, fill = 0): Heap {
  return new Heap().addRaw({ id: 0x1000, bytes: new Uint8Array(bytes).fill(fill), allowImmediate: false })
}

export interface Rig {
  readonly engine: Pick<Engine, 'step' | 'addVariant' | 'dropVariant'>
  readonly ring: R.Ring
  readonly backend: MemoryBackend
  readonly messages: EngineMessage[]
  readonly settled: number[]
  clock: number
  /** Prepares heaps under a variant id. */
  add(id: number, references: readonly HeapReference[], mode?: GroupMode, packetSizeBytes?: number): PreparedHeaps
  /** Queues variant `id`; returns its count in the ring. */
  submit(id: number, prepared: PreparedHeaps): number
  /** Steps until idle or stopped, moving the clock to every deadline; returns the last answer. */
  run(limit?: number): number
}

export type MakeRig = (memory?: Partial<MemoryOptions>, options?: Partial<EngineOptions>) => Rig

export const ENGINE_OPTIONS: EngineOptions = {
  rateBytesPerSecond: 0,
  rateBasis: 'udp',
  burstBytes: 65536,
  burstRateRatio: 1.05,
  catchUpSeconds: 0.05,
  maxInFlight: 8,
}

let makeRig: MakeRig = steppedRig

/** Sets who steps the engine in the tests that follow. */
export function driveWith(make: MakeRig): void {
  makeRig = make
}

export const rig: MakeRig = (memory, options) => makeRig(memory, options)

/** Pushes a submission as the stream does; it may be withdrawn. */
export function submitTo(ring: R.Ring, id: number, prepared: PreparedHeaps): number {
  const { heaps, explicitCnts } = prepared
  const { rows } = prepared.compilation()
  return ring.push({ variant: id, heaps, rows, explicitCnts, sequence: undefined }, R.STATE_QUEUED)
}

/** Pushes a new sequence of heap cnts: next and step as 32-bit halves. */
export function submitSequence(ring: R.Ring, ...sequence: [number, number, number, number]): number {
  return ring.push({ variant: 0, heaps: 0, rows: 0, explicitCnts: false, sequence }, R.STATE_QUEUED)
}

/** The state and the outcome of a submission, whose slot is empty from then on. */
export function settlementOf(ring: R.Ring, count: number): { state: number; outcome: number; suspect: boolean } {
  const state = ring.stateOf(count)
  const settlement = new R.Settlement()
  ring.take(count, settlement)
  const { outcome, suspect } = settlement
  return { state, outcome, suspect }
}

export function steppedRig(
  memory: Partial<MemoryOptions> = {},
  options: Partial<EngineOptions> = {},
  first = 0,
): Rig & { readonly engine: Engine } {
  const ring = new R.Ring(R.Ring.memoryFor(4, first))
  const backend = openMemory({ substreams: 4, ...memory }, { counters: ring.counters, wake: () => {} })
  const messages: EngineMessage[] = []
  const settled: number[] = []
  const engine = new Engine(
    backend,
    ring,
    { ...ENGINE_OPTIONS, ...options },
    (message) => messages.push(message),
    () => settled.push(ring.settled),
    () => {},
    () => self.clock,
  )
  const self: Rig & { readonly engine: Engine } = {
    engine,
    ring,
    backend,
    messages,
    settled,
    clock: 1e9,
    add(id, references, mode = 'serial', packetSizeBytes = 1472) {
      const prepared = new PreparedHeaps(references, mode, { packetSizeBytes, split: 'even', headroomBytes: 0 })
      prepared.fill(references)
      engine.addVariant(id, prepared.compilation().compile(), prepared.rates)
      return prepared
    },
    submit: (id, prepared) => submitTo(ring, id, prepared),
    run(limit = 100_000) {
      for (let i = 0; i < limit; i++) {
        const next = engine.step(self.clock)
        if (next === NEXT_IDLE || next === NEXT_STOPPED) return next
        if (next === NEXT_AT_DEADLINE) self.clock = Math.max(self.clock, engine.deadline)
        else if (next !== NEXT_STEP_NOW) self.clock += 1000
      }
      throw new Error(`not idle after ${limit} steps`)
    },
  }
  return self
}

/** The heap cnt of a SPEAD-64-48 packet whose first item pointer is the heap cnt (SPEAD §8.1). */
export function cntOf(packet: { readonly bytes: Uint8Array }): number {
  const view = new DataView(packet.bytes.buffer, packet.bytes.byteOffset)
  return view.getUint16(10) * 2 ** 32 + view.getUint32(12)
}
