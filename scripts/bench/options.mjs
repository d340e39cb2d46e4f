// The options of `npm run bench`. A wrong one ends the program with status 2.
import { parseArgs } from 'node:util'
import { GROUNDS } from './grounds.mjs'
import { SWEEPS } from './growth.mjs'
import { MEASURE_NAMES } from './measure.mjs'
import { parsePeer } from './peers.mjs'
import { PROGRAMS } from './programs.mjs'

const NAMES = Object.keys(PROGRAMS)

export const USAGE = `usage: npm run bench -- [options]

  --sizes LIST        heap sizes, as 256,8KiB,1MiB (default: powers of two from 256 to 64MiB)
  --packet-size LIST  largest UDP payload, as 9000,1472 (default 9000)
  --ground NAME       of ${Object.keys(GROUNDS).join(', ')} (default blackhole)
  --hogs LIST         endless loops that run beside, as 0,1,2: a round has each of these numbers (default 0)
  --batches LIST      batches of 512 KiB in flight, as 4,2 (default 4; spead2 always has its tutorial's 2)
  --only LIST         of ${NAMES.join(', ')}
                      (default: what runs on the ground, save ${NAMES.filter((name) => PROGRAMS[name].asked).join(', ')})
  --before DIRECTORY  a built tree of speadcast at another state: programs before and before-sendmmsg
  --peer NAME=COMMAND a program of yours that prints its MB/s (can be repeated); docs/bench/README.md has the words in braces it may use
  --repeats N         rounds per point; a round runs each program once (default 5)
  --bytes SIZE        payload timed in each run (default 4GiB; heaps under 1 KiB: half of it)
  --warmup-bytes SIZE payload sent before the clock starts (default 8GiB; likewise;
                      a quarter of it for programs that are compiled ahead,
                      of ours at least 6144 batches, up to six times as much)
  --window SECONDS    a program that would be timed for longer sends less, and its warm-up shrinks likewise (default 2)
  --max-disturbance X a round is repeated, up to twice, if the host stole or others used more than this share (default 0.05)
  --quick             256 B, 8 KiB, 64 KiB, 1 MiB; 1 GiB, half a second at most, 3 rounds, nothing repeated; committed ratios beside

  --record            write rows to docs/bench/ instead of .cache/bench/
  --out FILE          write rows there
  --append            keep the rows that the file has and run what its points lack of --repeats rounds
  --stop-after S      begin no round after S seconds; status 75 if rounds are left (call again with --append)

  --report LIST       no runs: print the tables of recorded files
  --targets LIST      no runs: judge recorded files by the targets

  --check             no rates: capture every packet, decode it with spead2, compare programs byte for byte
  --measure LIST      no rates: of ${MEASURE_NAMES.join(', ')}
  --rates LIST        of --measure pacing, as 100Mbps,1Gbps (default 100Mbps,1Gbps,5Gbps)
  --seconds N         length of --measure gc (default 60), and of each run of pacing and streams (default 5)
  --pairs N           pairs of --measure eventloop (default 5)
  --sweeps LIST       of --measure growth: of ${Object.keys(SWEEPS).join(', ')}, chains (default all, 3 rounds at most)
  --verbs             CPU per packet of posting through libibverbs, on the software NIC (null, model and copy)
  --packets N         packets of each run of --verbs (default 24000000: with a tenth, V8 is still compiling)
`

const OPTIONS = {
  sizes: { type: 'string' },
  'packet-size': { type: 'string' },
  ground: { type: 'string', default: 'blackhole' },
  hogs: { type: 'string', default: '0' },
  batches: { type: 'string', default: '4' },
  only: { type: 'string' },
  before: { type: 'string' },
  peer: { type: 'string', multiple: true, default: [] },
  repeats: { type: 'string' },
  bytes: { type: 'string' },
  'warmup-bytes': { type: 'string' },
  window: { type: 'string' },
  'max-disturbance': { type: 'string', default: '0.05' },
  quick: { type: 'boolean', default: false },
  record: { type: 'boolean', default: false },
  out: { type: 'string' },
  append: { type: 'boolean', default: false },
  'stop-after': { type: 'string', default: 'Infinity' },
  report: { type: 'string' },
  targets: { type: 'string' },
  check: { type: 'boolean', default: false },
  measure: { type: 'string' },
  rates: { type: 'string', default: '100Mbps,1Gbps,5Gbps' },
  seconds: { type: 'string' },
  sweeps: { type: 'string' },
  pairs: { type: 'string', default: '5' },
  verbs: { type: 'boolean', default: false },
  packets: { type: 'string', default: '24000000' },
  help: { type: 'boolean', default: false },
}

const QUICK = {
  sizes: '256,8KiB,64KiB,1MiB',
  only: 'floor,spead2-wheel,ours,ours-sendmmsg',
  bytes: '1GiB',
  'warmup-bytes': '2GiB',
  window: '0.5',
  repeats: '3',
}
const FULL = {
  sizes: Array.from({ length: 19 }, (_, i) => 2 ** (i + 8)).join(),
  bytes: '4GiB',
  'warmup-bytes': '8GiB',
  window: '2',
  repeats: '5',
}

function sizeOf(text, option) {
  const [, number, unit] = /^([1-9]\d*)(KiB|MiB|GiB)?$/.exec(text) ?? []
  if (!number) throw new Error(`--${option} ${text}: not a size such as 256, 8KiB or 1MiB`)
  return Number(number) * { undefined: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[unit]
}

/** Bytes per second. */
function rateOf(text, option) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(Mbps|Gbps)$/.exec(text) ?? []
  if (!(number > 0)) throw new Error(`--${option} ${text}: not a rate such as 100Mbps or 1Gbps`)
  return (Number(number) * { Mbps: 1e6, Gbps: 1e9 }[unit]) / 8
}

function numberOf(text, option, whole) {
  const value = Number(text)
  if (!(value > 0) || (whole && !Number.isInteger(value)))
    throw new Error(`--${option} ${text}: not a ${whole ? 'whole ' : ''}number above 0`)
  return value
}

function namesOf(text, option, known) {
  const names = text.split(',')
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Error(`--${option} ${unknown}: it is one of ${known.join(', ')}`)
  return names
}

function hogsOf(text) {
  if (!/^\d{1,3}$/.test(text)) throw new Error(`--hogs ${text}: not a number of processes from 0 to 999`)
  return Number(text)
}

const runsOn = (name, ground) => (PROGRAMS[name].ground ?? ground) === ground && (PROGRAMS[name].ground || ground !== 'softnic')

/** The programs asked for, or all that are not to be asked for; throws if one cannot run on the ground. */
function programsOn(ground, only) {
  if (only === undefined) return NAMES.filter((name) => !PROGRAMS[name].asked && runsOn(name, ground))
  const names = namesOf(only, 'only', NAMES)
  const other = names.find((name) => !runsOn(name, ground))
  if (other !== undefined) throw new Error(`--only ${other}: it does not run on --ground ${ground}`)
  return names
}

/** Throws with what is wrong. */
export function parseOptions(args) {
  const { values: given } = parseArgs({ args, options: OPTIONS })
  const values = { ...(given.quick ? QUICK : FULL), ...given }
  const whole = (option) => numberOf(values[option], option, true)
  const list = (option, of) => values[option].split(',').map((text) => of(text, option))
  const ground = namesOf(values.ground, 'ground', Object.keys(GROUNDS))[0]
  const hogCounts = list('hogs', hogsOf)
  if (values.verbs && hogCounts.some((hogs) => hogs > 0))
    throw new Error('--hogs: --verbs measures CPU time per packet; --ground softnic has the rate beside busy neighbours')
  const peers = []
  for (const text of values.peer) peers.push(parsePeer(text, [...NAMES, ...peers.map((peer) => peer.name)]))
  return {
    ...values,
    sizes: list('sizes', sizeOf),
    sizesGiven: given.sizes !== undefined,
    packetSizes: (values['packet-size'] ?? '9000').split(',').map((text) => numberOf(text, 'packet-size', true)),
    packetSizesGiven: given['packet-size'] !== undefined,
    ground,
    hogCounts,
    batchCounts: values.batches.split(',').map((text) => numberOf(text, 'batches', true)),
    names: programsOn(ground, values.only),
    peers,
    repeats: whole('repeats'),
    bytes: sizeOf(values.bytes, 'bytes'),
    warmupBytes: sizeOf(values['warmup-bytes'], 'warmup-bytes'),
    windowSeconds: numberOf(values.window, 'window'),
    maxDisturbance: numberOf(values['max-disturbance'], 'max-disturbance'),
    repeatsOfDisturbed: values.quick ? 0 : 2,
    stopAfterSeconds: numberOf(values['stop-after'], 'stop-after'),
    sweeps: values.sweeps === undefined ? undefined : namesOf(values.sweeps, 'sweeps', [...Object.keys(SWEEPS), 'chains']),
    rates: list('rates', rateOf),
    seconds: values.seconds === undefined ? undefined : numberOf(values.seconds, 'seconds'),
    measures: values.measure === undefined ? [] : namesOf(values.measure, 'measure', MEASURE_NAMES),
    packets: whole('packets'),
  }
}
