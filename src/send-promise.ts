/**
 * The promise of one send. It knows whether anybody looked: an ignored failure must not become an unhandled rejection, and must not
 * be lost either (it surfaces at the next send, flush or close).
 *
 * One is made per batch, so it is built with what is at hand: no executor closure, and no handler unless it really rejects.
 */
type Resolve<T> = (value: T) => void
type Reject = (reason: unknown) => void

let resolveOfNew: Resolve<never>
let rejectOfNew: Reject
const capture = (resolve: Resolve<never>, reject: Reject): void => {
  resolveOfNew = resolve
  rejectOfNew = reject
}

export class SendPromise<T> extends Promise<T> {
  observed = false
  /** @internal */
  readonly fulfil: Resolve<T>
  readonly #reject: Reject

  constructor() {
    super(capture as (resolve: Resolve<T>, reject: Reject) => void)
    this.fulfil = resolveOfNew as Resolve<unknown> as Resolve<T>
    this.#reject = rejectOfNew
  }

  // Derived promises are ordinary ones.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: await and the combinators call `then` on a subclass, which is how observation is noticed
  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.observed = true
    return super.then(onFulfilled, onRejected)
  }

  /** @internal Rejects without ever becoming an unhandled rejection. */
  fail(reason: unknown): void {
    Promise.prototype.then.call(this, undefined, ignore)
    this.#reject(reason)
  }
}

function ignore(): void {}
