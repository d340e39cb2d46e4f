/**
 * Counts the bytes of a stream's sends that have not settled, and tells whether more may be queued.
 *
 * A send is taken while fewer bytes than the bound are queued. So one that is larger than the bound can be sent, and what is queued
 * exceeds the bound by less than one send.
 */
import { SpeadcastError } from '../errors.js'

export class QueueBound {
  /** Bytes of headers and payload in sends that have not settled. */
  bytes = 0
  #ready: PromiseWithResolvers<void> | undefined

  constructor(
    readonly most: number,
    /** Sends beyond the bound wait for their turn, instead of being refused. */
    readonly waits: boolean,
  ) {}

  get full(): boolean {
    return this.bytes >= this.most
  }

  /** Somebody waits for room. */
  get awaited(): boolean {
    return this.#ready !== undefined
  }

  /** Fulfils when there is room, of which there is none; the same promise for all who ask until then. */
  get room(): Promise<void> {
    this.#ready ??= withResolvers()
    return this.#ready.promise
  }

  /** Nobody needs to wait any more: there is room, or nothing can be sent, as the next send will say. */
  open(): void {
    this.#ready?.resolve()
    this.#ready = undefined
  }

  refusal(call: string): SpeadcastError {
    return new SpeadcastError(
      'ERR_SPEADCAST_QUEUE_FULL',
      `${call}: ${this.bytes} bytes are queued, and maxQueuedBytes is ${this.most}; ` +
        "await stream.ready before you send more, or open the stream with queueFull: 'wait'",
    )
  }
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>
  resolve(value: T): void
}

/** Node 20 has no Promise.withResolvers. */
function withResolvers(): PromiseWithResolvers<void> {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
