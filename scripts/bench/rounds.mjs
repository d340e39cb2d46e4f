// Rounds: at each point every program once, one behind the other, until the points have as many as were asked for.
import { watchLoad } from './machine.mjs'
import { pointKey, progress } from './points.mjs'

/** Each round begins with the next program, so that none always runs behind the same one. */
const rotated = (list, by) => list.map((_, i) => list[(i + by) % list.length])

/** Runs `body` and adds to its row the shares of the machine that its host stole and that other programs used meanwhile. */
export async function watched(maxDisturbance, body) {
  const load = watchLoad()
  const row = await body()
  const shares = load()
  return { ...row, ...shares, disturbed: shares.stealShare + shares.otherShare > maxDisturbance }
}

async function runRound({ facts, label, run, show }, round, names, { repeatsOfDisturbed, out, log }) {
  for (let attempt = 0; attempt <= repeatsOfDisturbed; attempt++) {
    const runs = []
    for (const name of rotated(names, round)) runs.push({ ...facts, ...(await run(name)), round, attempt })
    for (const row of runs) out.add(row)
    const shown = names.map((name) => `${name} ${show(runs.find((row) => row.program === name))}`).join(', ')
    const disturbed = runs.some((row) => row.disturbed)
    const again = disturbed && attempt < repeatsOfDisturbed
    log(`${label}, round ${round + 1}: ${shown}${disturbed ? ` (disturbed, ${again ? 'again' : 'kept'})` : ''}`)
    if (!again) break
  }
}

/**
 * Runs the rounds that the points lack of `repeats` and adds the rows to `out`. The points of a round follow one another, so that
 * points are compared within the same minute. Returns how many rounds there was no time for.
 * @param points `{ facts, label, run(name) → row, show(row) }`; `facts` are what rows of the point have in common
 * @param options `{ repeats, repeatsOfDisturbed, endsAt, out, log }`: no round begins after `endsAt`, in performance.now()'s time; `log` takes
 * a line on how it goes
 */
export async function runRounds(points, names, options) {
  const all = points.map((point) => ({ ...point, ...progress(options.out.rows, pointKey(point.facts), names) }))
  let left = 0
  for (let done = 0; done < options.repeats; done++)
    for (const point of all) {
      if (point.complete > done) continue
      if (performance.now() >= options.endsAt) left++
      else await runRound(point, point.next++, names, options)
    }
  return left
}
