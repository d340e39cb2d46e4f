#!/usr/bin/env node
import { at } from '../lib/process.mjs'
// npm run bench: how fast we send, beside spead2, beside node:dgram and beside what the kernel allows at all.
// docs/bench/README.md says what is measured and how to read it. Needs Linux and root.
import { checkWire } from './check.mjs'
import { GROUNDS } from './grounds.mjs'
import { describeMachine } from './machine.mjs'
import { measure, ROUND_MEASURES } from './measure.mjs'
import { openNic } from './nic.mjs'
import { parseOptions, USAGE } from './options.mjs'
import { PROGRAMS } from './programs.mjs'
import { prepare, pythonVersions, sweep } from './rates.mjs'
import { machineLines, reportText } from './report.mjs'
import { openRows, readRows } from './rows.mjs'
import { targetLines } from './targets.mjs'
import { measureVerbs } from './verbs.mjs'

const COMMITTED = at('docs/bench/udp-blackhole.jsonl')
const CHECKED_SIZES = [256, 8192, 16384, 65536, 2 ** 18, 2 ** 20]
const CHECKED_PACKET_SIZES = [9000, 1472]
/** Exit status of a sweep that --stop-after ended: EX_TEMPFAIL of sysexits.h. */
const UNFINISHED = 75

const log = (text) => process.stderr.write(`${text}\n`)
const fileOf = (options, name) => options.out ?? at(options.record ? 'docs/bench' : '.cache/bench', `${name}.jsonl`)

/** The options with what else runRounds() takes. */
const inTime = (options, out) => ({ ...options, out, log, endsAt: performance.now() + options.stopAfterSeconds * 1000 })

/**
 * Runs `body` on a ground. A signal ends the process, whose exit handler removes the ground and ends the programs that run there.
 */
async function on(open, body) {
  const ground = await open()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))
  try {
    await body(ground)
  } finally {
    ground.close()
  }
}

async function rates(options) {
  const { names, quick } = options
  const programs = await prepare(options)
  const machine = {
    ...(await describeMachine()),
    ...(await pythonVersions(names)),
    programs: Object.fromEntries(programs.map(({ name, what }) => [name, what])),
  }
  const out = openRows(fileOf(options, `udp-${options.ground}${quick ? '-quick' : ''}`), machine, options)
  const start = performance.now()
  let left
  await on(GROUNDS[options.ground], async (ground) => {
    left = await sweep(ground, programs, inTime(options, out))
  })
  log(`rows: ${out.file}; ${Math.round((performance.now() - start) / 1000)} s${left ? `; ${left} rounds left` : ''}`)
  console.log(reportText(out.rows, quick ? readRows(COMMITTED) : undefined))
  if (left) process.exitCode = UNFINISHED
}

async function measures(options) {
  await PROGRAMS.ours.prepare()
  const rounds = options.measures.some((name) => ROUND_MEASURES.includes(name))
  const machine = { ...(await describeMachine()), ...(await pythonVersions(rounds ? ['spead2'] : [])) }
  const out = openRows(fileOf(options, 'measures'), machine, options)
  let left = 0
  await on(GROUNDS.blackhole, async (hole) => {
    for (const name of options.measures) left += await measure(hole, name, inTime(options, out))
  })
  log(`rows: ${out.file}${left ? `; ${left} rounds left` : ''}`)
  if (rounds) console.log(reportText(out.rows))
  if (left) process.exitCode = UNFINISHED
}

async function verbs(options) {
  const machine = { ...(await describeMachine()), ...(await pythonVersions(['spead2'])) }
  const out = openRows(fileOf(options, 'verbs'), machine, options)
  let left
  await on(openNic, async (nic) => {
    left = await measureVerbs(nic, options, out, log)
  })
  log(`rows: ${out.file}${left ? `; ${left} rounds left` : ''}`)
  console.log(reportText(out.rows))
  if (left) process.exitCode = UNFINISHED
}

const check = (options) =>
  on(GROUNDS.blackhole, async (hole) => {
    const wrong = await checkWire(hole, options.names, {
      sizes: options.sizesGiven ? options.sizes : CHECKED_SIZES,
      packetSizes: options.packetSizesGiven ? options.packetSizes : CHECKED_PACKET_SIZES,
      batches: options.batchCounts[0],
    })
    for (const line of wrong) console.log(`WRONG: ${line}`)
    if (wrong.length) process.exitCode = 1
    else console.log('all as it should be')
  })

/** Prints `show(rows)` for each file of the list. */
function read(list, show) {
  for (const file of list.split(',')) {
    const rows = readRows(file)
    if (rows.length === 0) throw new Error(`${file} has no rows`)
    console.log(`${file}\n${show(rows)}\n`)
  }
}

const judged = (rows) => [machineLines(rows[0]), ...targetLines(rows)].join('\n')

let options
try {
  options = parseOptions(process.argv.slice(2))
} catch (error) {
  log(`bench: ${error.message}`)
  process.exit(2)
}
if (options.help) process.stdout.write(USAGE)
else if (options.report) read(options.report, (rows) => reportText(rows))
else if (options.targets) read(options.targets, judged)
else if (options.verbs) await verbs(options)
else if (options.check) await check(options)
else if (options.measures.length) await measures(options)
else await rates(options)
