/** Node takes a longer timer for one of 1 ms. */
const LONGEST_MS = 2 ** 31 - 1

/**
 * Calls `then` once, when performance.now() has reached `at`: later if the process is busy, never earlier. Does not keep the process alive.
 * Returns a function that undoes it.
 */
export function callAt(at: number, then: () => void): () => void {
  let timer: NodeJS.Timeout
  const wait = (): void => {
    timer = setTimeout(look, Math.max(0, Math.min(Math.ceil(at - performance.now()), LONGEST_MS))).unref()
  }
  const look = (): void => (performance.now() < at ? wait() : then())
  wait()
  return () => clearTimeout(timer)
}
