import { performance } from 'node:perf_hooks'
import type { Driver } from '../engine/driver.js'
import { ensure } from '../errors.js'
import type { Batch, BatchOwner } from './batch.js'
import type { Lane, Lanes } from './lanes.js'
import type { Submissions } from './submissions.js'

/** The event loop gets a turn from `batch.free` after this long. */
const BREATH_MS = 0.5

type UserRegion = Batch<object>['template']['externalRegions'][number]

/** @internal The open batches of a stream with their lanes. It is all that a batch knows of its stream. */
export class Batches implements BatchOwner {
  readonly #open = new Map<Batch<object>, Lane>()
  /** The callback of each of the user's regions, for when it is released. */
  readonly #kept = new Map<UserRegion, () => void>()
  #lastTurn = performance.now()
  #closed = false

  constructor(
    readonly submissions: Submissions,
    readonly driver: Driver,
    readonly lanes: Lanes,
  ) {}

  add(batch: Batch<object>, lane: Lane): void {
    this.#open.set(batch, lane)
    for (const region of batch.template.externalRegions) this.#keep(region)
  }

  /** A device reads the region as long as it lives, because to pin it again for the next batch takes long. */
  #keep(region: UserRegion): void {
    if (this.#kept.has(region)) return
    const handle = region.handle()
    const forget = (): void => {
      this.#kept.delete(region)
      this.driver.forgetRegion(handle)
    }
    region.onRelease.add(forget)
    this.#kept.set(region, forget)
    this.driver.keepRegion(handle)
  }

  /** Undefined if the batch is closed, or another stream's. */
  laneOf(batch: Batch<object>): Lane | undefined {
    return this.#open.get(batch)
  }

  breathe(): Promise<void> | undefined {
    if (performance.now() - this.#lastTurn < BREATH_MS) return undefined
    return new Promise((resolve) =>
      setImmediate(() => {
        this.#lastTurn = performance.now()
        resolve()
      }),
    )
  }

  awaitBriefly(batch: { readonly state: string }): void {
    this.submissions.harvest()
    if (batch.state === 'in-flight') this.driver.waiter?.wait(batch, this.submissions)
  }

  closeBatch(batch: Batch<object>): void {
    ensure(batch.state !== 'in-flight', 'ERR_SPEADCAST_BATCH_STATE', () => 'close: the batch is in flight; await batch.free first')
    const lane = this.#open.get(batch)!
    this.#open.delete(batch)
    if (!this.#closed) this.lanes.drop(lane)
    batch.template.close()
  }

  /** The engine is gone: closes all of them. */
  close(): void {
    this.#closed = true
    for (const [region, forget] of this.#kept) region.onRelease.delete(forget)
    this.#kept.clear()
    for (const batch of [...this.#open.keys()]) batch.close()
  }
}
