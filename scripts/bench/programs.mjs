// The programs that are compared: how each is built and started. All take the same options and print one JSON row.
import { existsSync, mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { ADDRESS, PORT } from './blackhole.mjs'
import { spead2WithGso } from './spead2-gso.mjs'

const FLOOR = at('.cache/bench/floor')
const PYTHON = process.env.SPEADCAST_TEST_PYTHON ?? at('.cache/venv/bin/python')
export const BATCH_BYTES = 512 * 1024

function python() {
  if (!existsSync(PYTHON)) throw new Error(`no Python with spead2 at ${PYTHON}: npm test sets one up`)
  return PYTHON
}

/** The Python of everything that decodes with spead2. */
export const peerPython = python

function ours(...options) {
  if (!existsSync(at('lib/index.js'))) throw new Error('speadcast is not built: npm run build')
  return [process.execPath, at('scripts/bench/ours.mjs'), ...options]
}

async function floor(...options) {
  mkdirSync(at('.cache/bench'), { recursive: true })
  await $`gcc -O3 -march=native -pthread -o ${FLOOR} ${at('scripts/bench/floor.c')}`
  return [FLOOR, ...options]
}

/** @param tree a built tree of speadcast at another state */
function before(tree, ...options) {
  if (!tree) throw new Error('which tree is to be run beside this one? --before DIRECTORY, built')
  const program = resolve(tree, 'scripts/bench/ours.mjs')
  for (const file of [program, resolve(tree, 'dist/src/index.js')])
    if (!existsSync(file)) throw new Error(`--before ${tree}: there is no ${file}`)
  return [process.execPath, program, ...options]
}

/**
 * name → prepare({ before }) → the command. spead2 keeps the two batches of its tutorial ("no benefit to using more than two").
 *
 * - `sameBytes`: puts the floor's packets on the wire, byte for byte
 * - `asked`: runs only if it is named
 * - `ground`: the only ground that it runs on, if that is not a UDP one
 * - `ahead`: is compiled before it runs, so it is as fast from the start as ever
 * - `byBatch`: is compiled while it runs, and does the same work for a batch of any size
 */
export const PROGRAMS = {
  floor: {
    what: 'C, sendmmsg on prebuilt messages, fill on its own thread',
    ahead: true,
    sameBytes: true,
    prepare: () => floor(),
  },
  'floor-nofill': {
    what: 'the same, samples left as they are',
    asked: true,
    ahead: true,
    prepare: () => floor('--no-fill'),
  },
  'spead2-wheel': {
    what: "spead2's Python batch program on PyPI's wheel, which has no segmentation offload",
    batches: 2,
    ahead: true,
    prepare: async () => [python(), at('scripts/bench/spead2_batch.py')],
  },
  spead2: {
    what: 'the same on spead2 built from source, with segmentation offload',
    batches: 2,
    ahead: true,
    prepare: async () => ['env', `PYTHONPATH=${await spead2WithGso(python())}`, python(), at('scripts/bench/spead2_batch.py')],
  },
  dgram: {
    what: 'node:dgram: connected socket, packets built before the clock starts',
    sameBytes: true,
    async prepare() {
      ours()
      return [process.execPath, at('scripts/bench/dgram.mjs')]
    },
  },
  ours: {
    what: 'speadcast: main thread fills, I/O thread sends; copies messages or lends them to io_uring as it sees fit',
    sameBytes: true,
    byBatch: true,
    prepare: async () => ours(),
  },
  'ours-sendmmsg': {
    what: "the same with udpPath 'sendmmsg', which always copies",
    sameBytes: true,
    byBatch: true,
    prepare: async () => ours('--udp-path', 'sendmmsg'),
  },
  'ours-sendmmsg-greedy': {
    what: "the same with split 'greedy': packets as spead2 cuts them",
    asked: true,
    byBatch: true,
    prepare: async () => ours('--udp-path', 'sendmmsg', '--split', 'greedy'),
  },
  'ours-nofill': {
    what: 'speadcast, samples left as they are',
    asked: true,
    byBatch: true,
    prepare: async () => ours('--no-fill'),
  },
  before: {
    what: 'speadcast at another state (--before)',
    asked: true,
    byBatch: true,
    prepare: async (options) => before(options.before),
  },
  'before-sendmmsg': {
    what: "the same with udpPath 'sendmmsg'",
    asked: true,
    byBatch: true,
    prepare: async (options) => before(options.before, '--udp-path', 'sendmmsg'),
  },
  'ours-ibverbs': {
    what: "speadcast's ibverbs backend through the software NIC, completions polled and awaited as it sees fit",
    ground: 'softnic',
    byBatch: true,
    prepare: async () => ours('--backend', 'ibverbs'),
  },
}

export const batchHeaps = (heapSizeBytes) => Math.max(1, Math.floor(BATCH_BYTES / heapSizeBytes))

/** Options of one run: `heaps` are timed, behind `warmupHeaps`, which are whole batches. */
export const runOptions = ({ heapSizeBytes, packetSizeBytes, batches, heaps, warmupHeaps }, address = ADDRESS) =>
  [
    ...['--heap-size', heapSizeBytes, '--heaps', heaps, '--warmup-heaps', warmupHeaps],
    ...['--packet-size', packetSizeBytes, '--batches', batches, '--batch-bytes', BATCH_BYTES, `${address}:${PORT}`],
  ].map(String)
