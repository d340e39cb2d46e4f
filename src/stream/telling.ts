import { type BatchResult, SendError } from './result.js'
import type { SendPromise } from './send-promise.js'
import type { Description, Told } from './told.js'

/** A heap that tells a substream something. */
export interface Carrier {
  /** Its index in what is sent. */
  readonly heap: number
  readonly substream: number
  readonly descriptions: readonly Description[]
}

/** Descriptors on their way, in heaps that are sent together. */
export class Telling {
  constructor(
    readonly told: Told,
    readonly carriers: readonly Carrier[],
    /** A substream was told otherwise of one of the ids before. */
    readonly replaces: boolean,
  ) {}

  get substreams(): ReadonlySet<number> {
    return new Set(this.carriers.map(({ substream }) => substream))
  }

  /** Receivers do not know what was not sent. @param settled called when all of it was sent, or was not */
  follow(promise: SendPromise<BatchResult>, settled: () => void): void {
    promise.onSettled((error, result) => {
      this.lose(unsentHeaps(error, result))
      settled()
    })
  }

  lose(failedHeaps: readonly number[]): void {
    const failed = new Set(failedHeaps)
    for (const { heap, substream, descriptions } of this.carriers) if (failed.has(heap)) this.told.lose(substream, descriptions)
  }

  withdraw(): void {
    for (const { substream, descriptions } of this.carriers) this.told.withdraw(substream, descriptions)
  }
}

/** The heaps that a send did not send whole, by its settlement. */
export function unsentHeaps(error: unknown, result: BatchResult | undefined): readonly number[] {
  if (!(error instanceof SendError)) return result?.skipped?.heaps ?? []
  const { heaps } = error.outcome
  return [...heaps.keys()].filter((j) => heaps[j] !== 'sent')
}
