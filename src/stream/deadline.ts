/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Waits for a promise that never rejects; returns whether the deadline came first. Without one it never does. */
export async function missesDeadline(done: Promise<void>, seconds: number | undefined): Promise<boolean> {
  if (seconds === undefined) {
    await done
    return false
  }
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(true), Math.min(seconds * 1000, MAX_TIMER_MS))
  })
  const late = await Promise.race([done.then(() => false), deadline])
  clearTimeout(timer)
  return late
}
