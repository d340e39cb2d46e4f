// Measures the steps of docs/tutorial.md, beside the same with spead2's wheel: `npm run build && node scripts/bench/tutorial.mjs`.
// Needs root, for a network namespace with an interface that drops everything, and the tests' Python environment (`npm test` makes it).
// The two programs of a step run one behind the other. A pair that others on the machine disturbed is run again, and the least
// disturbed one counts; each waits until nobody else is at work, `--patience` seconds at most. Prints a line for each pair, then the
// page's table: medians, slowest and fastest. `--write` puts them into the page.
import { readdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { at, read } from '../lib/process.mjs'
import { DESTINATION, openBlackHole } from './blackhole.mjs'
import { watchLoad } from './machine.mjs'
import { median } from './statistics.mjs'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    attempts: { type: 'string', default: '3' },
    quiet: { type: 'string', default: '0.1' },
    write: { type: 'boolean', default: false },
    patience: { type: 'string', default: '10' },
  },
})
const files = readdirSync(at('docs/examples')).filter((name) => name.startsWith('tutorial-'))
/** How much a run sends, by step: about a second's worth. The heap size is an option from step 4 on, the packet size from step 3 on. */
const MEBIBYTES = { [2 ** 20]: [1024, 1024, 2048, 2048, 4096, 4096], 8192: [0, 0, 0, 128, 512, 4096] }
const points = files.sort().flatMap((file, i) =>
  [2 ** 20, 8192].flatMap((size) => {
    const heaps = (MEBIBYTES[size][i] * 2 ** 20) / size
    if (heaps === 0) return []
    const options = ['-n', heaps, ...(i < 2 ? [] : ['-p', 8972]), ...(i < 3 ? [] : ['-H', size])]
    return {
      step: i + 1,
      size,
      commands: {
        ours: [process.execPath, '--import', 'tsx', `docs/examples/${file}`, ...options, DESTINATION],
        spead2: ['.cache/venv/bin/python', 'scripts/bench/spead2_tutorial.py', ...options, i + 1, DESTINATION],
      },
      kept: [],
    }
  }),
)

const quiet = (disturbance) => disturbance <= Number(values.quiet)
const watched = async (body) => {
  const load = watchLoad()
  const result = await body()
  const { stealShare, otherShare } = load()
  return { ...result, disturbance: stealShare + otherShare }
}

async function awaitQuiet() {
  const until = performance.now() + 1000 * Number(values.patience)
  while (performance.now() < until) if (quiet((await watched(() => wait(500))).disturbance)) return
}

async function runPair({ commands }, hole, round) {
  const pair = { ours: 0, spead2: 0 }
  for (const name of round % 2 ? ['spead2', 'ours'] : ['ours', 'spead2'])
    pair[name] = Number.parseFloat(await hole.run(commands[name]))
  return pair
}

/** The page with the table under its heading, instead of the one that may stand there. */
const withTable = (page, table) =>
  page.replace(/(## The rates\n\n)(MB of samples[^|]*(\|.*\n)+\n)?/, (_, heading) => heading + table)

process.chdir(at())
const hole = await openBlackHole()
try {
  for (let round = 0; round < Number(values.rounds); round++)
    for (const point of points) {
      let best
      for (let attempt = 0; attempt < Number(values.attempts) && !(best && quiet(best.disturbance)); attempt++) {
        await awaitQuiet()
        const pair = await watched(() => runPair(point, hole, round))
        if (!best || pair.disturbance < best.disturbance) best = pair
      }
      point.kept.push(best)
      console.log(
        `${round} | ${point.step} | ${point.size} | ${best.ours} | ${best.spead2} | disturbed ${best.disturbance.toFixed(2)}`,
      )
    }
} finally {
  hole.close()
}
const cell = (kept, program) => {
  const rates = kept.map((pair) => pair[program])
  return `${Math.round(median(rates))} (${Math.min(...rates)}–${Math.max(...rates)})`
}
const row = (step) =>
  [2 ** 20, 8192].flatMap((size) => {
    const kept = points.find((point) => point.step === step && point.size === size)?.kept
    return kept ? [cell(kept, 'ours'), cell(kept, 'spead2')] : ['', '']
  })
const rows = files.map((_, i) => `| ${i + 1} | ${row(i + 1).join(' | ')} |\n`).join('')
const table = `MB of samples a second: the median of ${values.rounds} rounds, and the slowest and the fastest. Both programs of a step ran one behind the other,
on an interface that drops everything: ${cpus().length} CPUs (${cpus()[0].model}), Node ${process.version}.

| step | 1 MiB heaps: speadcast | spead2 | 8 KiB heaps: speadcast | spead2 |
|---|---|---|---|---|
${rows}
`
if (values.write) writeFileSync(at('docs/tutorial.md'), withTable(read(at('docs/tutorial.md')), table))
else console.log(`\n${table}`)
