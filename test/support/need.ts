/** Skips a test with its reason if the machine cannot run it. Under CI it fails instead, so a green CI skipped nothing. */
export function need(ctx: { skip(note?: string): never }, ok: unknown, why: string): asserts ok {
  if (ok) return
  if (process.env.CI === 'true') throw new Error(`CI may not skip: ${why}`)
  ctx.skip(why)
}
