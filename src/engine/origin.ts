import { performance } from 'node:perf_hooks'

/**
 * Where this thread's performance.now() begins, in nanoseconds of the monotonic clock that all threads share. performance.now() counts from the
 * thread's start, and performance.timeOrigin is of the wall clock, which is set now and then.
 */
export const ORIGIN_NANOSECONDS = origin()

/** The first calls take some microseconds, which the later ones do not. */
function origin(): number {
  let latest = Number.NEGATIVE_INFINITY
  for (let i = 0; i < 4; i++) {
    const [seconds, nanoseconds] = process.hrtime()
    latest = Math.max(latest, seconds * 1e9 + nanoseconds - performance.now() * 1e6)
  }
  return latest
}
