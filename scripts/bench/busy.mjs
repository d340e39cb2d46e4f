#!/usr/bin/env node
// npm run bench:busy: records docs/bench/busy.jsonl, by which the targets of a busy host are judged, in about 35 minutes:
//   unpaced and ibverbs  beside none, one and as many endless loops as there are CPUs
//   pacing, streams      paced senders, what they send back to back, and 64 of them in one process
//   unfilled, cost       small heaps without the fill, the main thread's cost of a heap, the growth by-substream
//   veth                 to a receiver
//   before               idle rates beside another built tree, into before.jsonl, another 20; only with --before DIRECTORY
// npm run bench:busy -- --append --stop-after 170: in parts; status 75 while rounds are left. The other options are bench.mjs's.
import os from 'node:os'
import { parseArgs } from 'node:util'
import { at, run } from '../lib/process.mjs'
import { askedParts } from './parts.mjs'

const CPUS = os.cpus().length
const HOGS = [...new Set([0, 1, CPUS])].join()
const EVERY_SIZE = Array.from({ length: 19 }, (_, i) => 2 ** (i + 8)).join()
/** The status of npm run bench when --stop-after ended its sweep. */
const UNFINISHED = 75

const PARTS = {
  unpaced: ['--sizes', '8KiB,64KiB,1MiB', '--hogs', HOGS, '--only', 'floor,spead2,ours,ours-sendmmsg'],
  ibverbs: ['--ground', 'softnic', '--sizes', '8KiB,1MiB', '--hogs', HOGS],
  pacing: ['--measure', 'pacing', '--hogs', `0,${CPUS}`],
  streams: ['--measure', 'streams'],
  unfilled: ['--sizes', '256,1KiB', '--only', 'floor-nofill,ours-nofill'],
  cost: ['--measure', 'mainthread,growth', '--sweeps', 'by-substream'],
  veth: ['--ground', 'veth', '--sizes', '256,8KiB', '--only', 'floor,ours,ours-sendmmsg'],
  before: [
    '--sizes',
    EVERY_SIZE,
    '--only',
    'ours,before,ours-sendmmsg,before-sendmmsg',
    '--bytes',
    '8GiB',
    '--warmup-bytes',
    '8GiB',
  ],
}

const { names, options } = askedParts('bench-busy', Object.keys(PARTS))
const { values } = parseArgs({
  args: options,
  strict: false,
  options: { append: { type: 'boolean' }, before: { type: 'string' }, 'stop-after': { type: 'string' } },
})
const end = performance.now() + Number(values['stop-after'] ?? Number.POSITIVE_INFINITY) * 1000
let append = values.append
for (const name of names) {
  if (name === 'before' && !values.before && names.length > 1) continue
  const secondsLeft = (end - performance.now()) / 1000
  if (secondsLeft <= 0) {
    process.exitCode = UNFINISHED
    break
  }
  // These runs send other amounts than the busy ones, so they have a file of their own.
  const file = name === 'before' ? 'before' : 'busy'
  const where = ['--out', at(`docs/bench/${file}.jsonl`), ...(append ? ['--append'] : [])]
  const within = Number.isFinite(secondsLeft) ? ['--stop-after', String(secondsLeft)] : []
  const { status } = await run(process.execPath, [at('scripts/bench/bench.mjs'), ...PARTS[name], ...where, ...options, ...within])
  append = true
  process.exitCode ||= status
  if (status !== 0) break
}
