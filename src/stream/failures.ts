import type { SendPromise } from './send-promise.js'

interface Failure {
  readonly promise: Pick<SendPromise<unknown>, 'observed'>
  readonly error: unknown
}

/** The failures of sends whose promises nobody has looked at. The first of them surfaces at the next send, flush or close. */
export class Failures {
  #noted: Failure[] = []
  #aside: Failure[] | undefined

  readonly note = (promise: Failure['promise'], error: unknown): void => {
    if (!promise.observed) this.#noted.push({ promise, error })
  }

  /** Forgets all of them. @throws the first that nobody has looked at meanwhile */
  rethrow(): void {
    if (this.#noted.length === 0) return
    const unseen = this.#noted.find(({ promise }) => !promise.observed)
    this.#noted = []
    if (unseen) throw unseen.error
  }

  /** Call it when sends are cut off: those that fail from here on were dropped, which is no failure. */
  setAside(): void {
    this.#aside ??= this.#noted
    this.#noted = []
  }

  /** Goes back to the failures before the first setAside(), if there was one. */
  restore(): void {
    if (this.#aside) this.#noted = this.#aside
  }
}
