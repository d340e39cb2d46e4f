/**
 * The promise of one send. It knows whether anybody looked: an ignored failure must not become an unhandled rejection, and must not
 * be lost either (it surfaces at the next send, flush or close).
 */
export class SendPromise<T> extends Promise<T> {
  observed = false

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

  /** A promise with its settling functions, quiet about rejection until somebody looks. */
  static create<T>(): { promise: SendPromise<T>; resolve: (value: T) => void; reject: (reason: unknown) => void } {
    let resolve!: (value: T) => void
    let reject!: (reason: unknown) => void
    const promise = new SendPromise<T>((res, rej) => {
      resolve = res
      reject = rej
    })
    Promise.prototype.then.call(promise, undefined, ignore)
    return { promise, resolve, reject }
  }
}

function ignore(): void {}
