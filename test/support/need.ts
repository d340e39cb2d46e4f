/** Skips a test with its reason where the machine cannot run it; fails instead under CI, so that a green CI skipped nothing. */
export function need(ctx: { skip(note?: string): never }, ok: unknown, why: string): asserts ok {
  if (ok) return
  if (process.env.CI === 'true') throw new Error(`CI may not skip: ${why}`)
  ctx.skip(why)
}
