#!/usr/bin/env node
// npm run bench: how fast we send, beside spead2 and beside what the kernel allows at all, on an interface that drops everything.
// docs/bench/README.md says what is measured and how to read it. Needs Linux and root.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { $ } from 'zx'
import { FRAME_OVERHEAD_BYTES, openBlackHole } from './bench/blackhole.mjs'
import { checkWire } from './bench/check.mjs'
import { describeMachine, watchLoad } from './bench/machine.mjs'
import { MEASURE_NAMES, measure } from './bench/measure.mjs'
import { PROGRAMS, peerPython, runOptions } from './bench/programs.mjs'
import { printReport, showBytes } from './bench/report.mjs'
import { at } from './lib/process.mjs'

const USAGE = `usage: npm run bench -- [options]

  --sizes LIST        heap sizes, as 256,8KiB,1MiB (default: powers of two from 256 to 16MiB)
  --bytes SIZE        payload timed in each run (default 4GiB; heaps under 1 KiB: half of it)
  --warmup-bytes SIZE payload sent before the clock starts (default 2GiB)
  --repeats N         rounds per point; a round runs each program once (default 5)
  --batches LIST      batches of 512 KiB in flight, as 4,2 (default 4,2; spead2 always has its tutorial's 2)
  --packet-size N     largest UDP payload (default 9000)
  --only LIST         of ${Object.keys(PROGRAMS).join(', ')} (default floor,spead2,ours)
  --quick             256 B, 8 KiB, 64 KiB, 1 MiB; 1 GiB, 3 rounds, 4 batches; committed ratios beside
  --max-disturbance X a round is repeated, up to twice, if the host stole or others used more than this share (default 0.05)
  --check             no rates: capture every packet, decode it with spead2, compare floor and ours byte for byte
  --measure LIST      no rates: of ${MEASURE_NAMES.join(', ')}
  --verbs             CPU per packet of posting through libibverbs, on the software NIC (null and model)
  --packets N         packets of each run of --verbs (default 2000000)
  --seconds N         length of --measure gc (default 60)
  --pairs N           pairs of --measure eventloop (default 5)
  --record            write rows to docs/bench/ instead of .cache/bench/
  --out FILE          write rows there
  --report FILE       only print the tables of recorded rows
`

const { values } = parseArgs({
  options: {
    sizes: { type: 'string' },
    bytes: { type: 'string' },
    'warmup-bytes': { type: 'string', default: '2GiB' },
    repeats: { type: 'string' },
    batches: { type: 'string' },
    'packet-size': { type: 'string', default: '9000' },
    only: { type: 'string', default: 'floor,spead2,ours' },
    quick: { type: 'boolean', default: false },
    'max-disturbance': { type: 'string', default: '0.05' },
    check: { type: 'boolean', default: false },
    measure: { type: 'string' },
    verbs: { type: 'boolean', default: false },
    packets: { type: 'string', default: '2000000' },
    seconds: { type: 'string', default: '60' },
    pairs: { type: 'string', default: '5' },
    record: { type: 'boolean', default: false },
    out: { type: 'string' },
    report: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

function refuse(message) {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(2)
}

function bytesOf(text) {
  const [, number, unit] = /^(\d+)(KiB|MiB|GiB)?$/.exec(text) ?? []
  if (!number) refuse(`${text} is not a size such as 256, 8KiB or 1MiB`)
  return Number(number) * { undefined: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[unit]
}
const list = (text) => text.split(',')
/** The names of a list option, each one of `known`. */
function namesOf(option, known) {
  const names = list(values[option])
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) refuse(`--${option} ${unknown}: it is one of ${known.join(', ')}`)
  return names
}
const readRows = (file) =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
    : []
const log = (text) => process.stderr.write(`${text}\n`)

const COMMITTED = at('docs/bench/udp-blackhole.jsonl')
const REPEATS_OF_DISTURBED = 2
const quick = values.quick
const packetSizeBytes = Number(values['packet-size'])
const batchCounts = list(values.batches ?? (quick ? '4' : '4,2')).map(Number)
const sizes = list(values.sizes ?? (quick ? '256,8KiB,64KiB,1MiB' : Array.from({ length: 17 }, (_, i) => 2 ** (i + 8)).join())).map(
  bytesOf,
)
const names = namesOf('only', Object.keys(PROGRAMS))
const measureNames = values.measure === undefined ? [] : namesOf('measure', MEASURE_NAMES)

/** Where rows go: fresh with every call of the script, the machine first. */
function openRows(name, machine) {
  const file = values.out ?? at(values.record ? 'docs/bench' : '.cache/bench', `${name}.jsonl`)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(machine)}\n`)
  const rows = [machine]
  return {
    file,
    rows,
    add(row) {
      rows.push(row)
      appendFileSync(file, `${JSON.stringify(row)}\n`)
    },
  }
}

/** One run of one program, with what the interface and the machine say about it. */
async function runOnce(hole, command, name, point) {
  const args = runOptions({ ...point, batches: PROGRAMS[name].batches ?? point.batches })
  const before = await hole.counters()
  const load = watchLoad()
  const row = JSON.parse(await hole.run([...command, ...args]))
  const disturbance = load()
  const after = await hole.counters()
  const messages = after.packets - before.packets
  const udpBytesOnInterface = after.bytes - before.bytes - messages * FRAME_OVERHEAD_BYTES
  if (udpBytesOnInterface !== row.udpBytes)
    throw new Error(
      `${name} says it sent ${row.udpBytes} UDP bytes in heaps of ${row.heapSizeBytes}; the interface was given ${udpBytesOnInterface}`,
    )
  const disturbed = disturbance.stealShare + disturbance.otherShare > Number(values['max-disturbance'])
  return { kind: 'run', pointBatches: point.batches, ...row, program: name, messages, ...disturbance, disturbed }
}

async function rates(hole) {
  const commands = {}
  for (const name of names) commands[name] = await PROGRAMS[name].prepare()
  const machine = await describeMachine()
  const usesSpead2 = names.some((name) => name.startsWith('spead2'))
  if (usesSpead2) machine.spead2 = (await $`${peerPython()} -c ${'import spead2; print(spead2.__version__)'}`).stdout.trim()
  machine.programs = Object.fromEntries(names.map((name) => [name, PROGRAMS[name].what]))
  const out = openRows(quick ? 'udp-blackhole-quick' : 'udp-blackhole', machine)
  const bytes = bytesOf(values.bytes ?? (quick ? '1GiB' : '4GiB'))
  const repeats = Number(values.repeats ?? (quick ? 3 : 5))
  const warmupBytes = bytesOf(values['warmup-bytes'])
  for (const batches of batchCounts)
    for (const heapSizeBytes of sizes) {
      const point = { heapSizeBytes, packetSizeBytes, batches, warmupBytes, bytes: heapSizeBytes < 1024 ? bytes / 2 : bytes }
      for (let round = 0; round < repeats; round++)
        for (let attempt = 0; attempt <= REPEATS_OF_DISTURBED; attempt++) {
          const runs = []
          for (const name of names) runs.push(await runOnce(hole, commands[name], name, point))
          for (const row of runs) out.add({ ...row, round, attempt })
          const shown = runs.map((row) => `${row.program} ${Math.round(row.payloadBytesPerSecond / 1e6)}`).join(', ')
          const again = runs.some((row) => row.disturbed)
            ? attempt < REPEATS_OF_DISTURBED
              ? ' (disturbed, again)'
              : ' (disturbed, kept)'
            : ''
          log(`${showBytes(heapSizeBytes)}, ${batches} batches, round ${round + 1}: ${shown} MB/s${again}`)
          if (!again.includes('again')) break
        }
    }
  log(`rows: ${out.file}; ${showBytes(bytes)} a run (half for heaps under 1 KiB) behind ${showBytes(warmupBytes)} of warm-up`)
  printReport(out.rows, quick ? readRows(COMMITTED) : [])
}

async function measures(hole) {
  await PROGRAMS.ours.prepare()
  const out = openRows('measures', await describeMachine())
  for (const name of measureNames) out.add(await measure(hole, name, values))
  log(`rows: ${out.file}`)
}

async function verbs() {
  const { measureVerbs } = await import('./bench/verbs.mjs')
  let out
  await measureVerbs({ repeats: Number(values.repeats ?? 5), packets: Number(values.packets) }, (row) => {
    if (out) out.add(row)
    else out = openRows('verbs', row)
  })
  log(`rows: ${out.file}`)
}

async function check(hole) {
  const wrong = await checkWire(hole, names, {
    sizes: values.sizes ? sizes : [256, 8192, 16384, 65536, 2 ** 18, 2 ** 20],
    packetSizes: values['packet-size'] === '9000' ? [9000, 1472] : [packetSizeBytes],
    batches: batchCounts[0],
  })
  for (const line of wrong) console.log(`WRONG: ${line}`)
  if (wrong.length) process.exitCode = 1
  else console.log('all as it should be')
}

if (values.help) process.stdout.write(USAGE)
else if (values.report) printReport(readRows(values.report))
else if (values.verbs) await verbs()
else {
  const hole = await openBlackHole()
  // The namespace goes with the process (its exit handler), and what runs in it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))
  try {
    await (values.check ? check : measureNames.length ? measures : rates)(hole)
  } finally {
    hole.close()
  }
}
