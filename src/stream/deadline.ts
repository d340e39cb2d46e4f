/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Whether it settles within this time; undefined = waits for ever. */
export async function within(seconds: number | undefined, settled: Promise<void>): Promise<boolean> {
  if (seconds === undefined) return settled.then(() => true)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.min(seconds * 1000, MAX_TIMER_MS))
  })
  try {
    return await Promise.race([settled.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
