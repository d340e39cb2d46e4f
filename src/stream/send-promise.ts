/**
 * The promise of one send. It knows whether anybody looked: an ignored failure must not become an unhandled rejection, and must not
 * be lost either (it surfaces at the next send, flush or close).
 *
 * One is made per batch, so it allocates little: no executor closure, and no handler unless it really rejects.
 */
type Resolve<T> = (value: T) => void
type Reject = (reason: unknown) => void

let resolveOfNew: Resolve<never>
let rejectOfNew: Reject
const capture = (resolve: Resolve<never>, reject: Reject): void => {
  resolveOfNew = resolve
  rejectOfNew = reject
}

/**
 * The promise of a send. To drop it is safe: a failure that nobody looks at surfaces at the next send, flush or close, and never as an
 * unhandled rejection.
 * @example stream.send(batch)
 */
export class SendPromise<T> extends Promise<T> {
  // None of these is a property, because util.inspect would show it beside the promise's state.
  #observed = false
  #watched = false
  #settled = false
  readonly #watch: (promise: SendPromise<T>) => void
  readonly #fulfil: Resolve<T>
  readonly #reject: Reject

  /** @internal */
  constructor(watch: (promise: SendPromise<T>) => void) {
    super(capture as (resolve: Resolve<T>, reject: Reject) => void)
    this.#watch = watch
    this.#fulfil = resolveOfNew as Resolve<unknown> as Resolve<T>
    this.#reject = rejectOfNew
  }

  /** @internal Somebody looks at it. */
  get observed(): boolean {
    return this.#observed
  }

  /** @internal */
  set observed(yes: boolean) {
    this.#observed = yes
  }

  /** @internal The engine was asked to report this one's settlement at once. */
  get watched(): boolean {
    return this.#watched
  }

  /** @internal */
  set watched(yes: boolean) {
    this.#watched = yes
  }

  // Derived promises are ordinary ones.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: await and the combinators call `then` on a subclass, which is how observation is noticed
  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    // biome-ignore lint/suspicious/noExplicitAny: as Promise has it, so that a handler may say what it takes, such as a SendError
    onRejected?: ((reason: any) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#observed = true
    this.#reportAtOnce()
    return super.then(onFulfilled, onRejected)
  }

  /** @internal Fulfils when this settles, either way; does not count as observing. */
  settled(): Promise<void> {
    this.#reportAtOnce()
    return Promise.prototype.then.call(this, ignore, ignore) as Promise<void>
  }

  /** @internal Calls back when this has settled, with the reason if it rejects; does not count as observing, nor as waiting. */
  onSettled(callback: (reason?: unknown, result?: T) => void): void {
    Promise.prototype.then.call(this, (result) => callback(undefined, result as T), callback)
  }

  /** Somebody waits for it. */
  #reportAtOnce(): void {
    if (!this.#settled && !this.#watched) this.#watch(this)
  }

  /** @internal */
  fulfil(value: T): void {
    this.#settled = true
    this.#fulfil(value)
  }

  /** @internal Rejects without ever becoming an unhandled rejection. */
  fail(reason: unknown): void {
    this.#settled = true
    Promise.prototype.then.call(this, undefined, ignore)
    this.#reject(reason)
  }
}

function ignore(): void {}
