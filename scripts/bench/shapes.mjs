#!/usr/bin/env node
import { at, run } from '../lib/process.mjs'
// npm run bench:shapes: records the rows of two figures by npm run bench and those of a table, each into a file of its own in docs/bench/:
//   even-packets  heaps of about two packets, cut evenly and as spead2 cuts them, beside spead2
//   extra-packet  heaps of 2 to 20 packets that one or two more make equal, on a sender and on a spead2 receiver
//   in-flight     one to eight batches in flight
// npm run bench:shapes -- in-flight --repeats 5 --append --stop-after 60: one of them, with options of npm run bench.
import { askedParts } from './parts.mjs'

const KIB = 1024
/** Half the payload of the sweep: shapes need no last digit. */
const SWEEP = ['bench.mjs', '--bytes', '2GiB', '--repeats', '3']
/** A program in scripts/bench/ and its options. */
const SHAPES = {
  'even-packets': [
    ...SWEEP,
    ...['--sizes', [8, 9, 10, 12, 14, 16, 17, 18, 20, 22, 24, 26, 28, 32, 36].map((kib) => kib * KIB).join()],
    ...['--only', 'spead2,ours-sendmmsg,ours-sendmmsg-greedy'],
  ],
  'extra-packet': ['extra-packet.mjs'],
  'in-flight': [
    ...SWEEP,
    ...['--sizes', '8KiB,64KiB,512KiB,4MiB', '--batches', '1,2,3,4,5,6,7,8'],
    ...['--only', 'floor,ours,ours-sendmmsg'],
  ],
}

const { names, options } = askedParts('bench-shapes', Object.keys(SHAPES))
for (const name of names) {
  const [program, ...own] = SHAPES[name]
  const out = ['--out', at('docs/bench', `${name}.jsonl`)]
  const { status } = await run(process.execPath, [at('scripts/bench', program), ...own, ...out, ...options])
  process.exitCode ||= status
}
