// The sweep: every point, every round, every program of it in turn.
import { $ } from 'zx'
import { FRAME_OVERHEAD_BYTES, PORT } from './blackhole.mjs'
import { beside, compileBeside } from './hogs.mjs'
import { heedsHeaps, peerCommand, peerRate } from './peers.mjs'
import { batchHeaps, PROGRAMS, peerPython, runOptions } from './programs.mjs'
import { runRounds, watched } from './rounds.mjs'
import { showBytes, showHogs } from './text.mjs'

/** Least batches of a run, warm-up or timed: each is used once. */
const LEAST_BATCHES = 4
/** Share of a run's bytes that is sent beforehand, to learn a program's rate. */
const PROBE_SHARE = 1 / 128
/** Share of the warm-up that a program compiled ahead gets. */
const AHEAD_SHARE = 1 / 4
/**
 * Batches of a warm-up of a program `byBatch`, because V8 compiles code that has run often. It sends at most MOST_WARMUPS times the
 * usual bytes for that.
 */
const WARMUP_BATCHES = 6144
const MOST_WARMUPS = 6

/** The programs of a round: `{ name, what, batches?, ahead?, byBatch?, sized, run(ground, point) → row }`. */
export async function prepare({ names, peers, before }) {
  await compileBeside()
  const programs = []
  for (const name of names) {
    const { what, batches, ahead, byBatch, prepare: make } = PROGRAMS[name]
    const command = await make({ before })
    const run = async (ground, point) =>
      JSON.parse(await ground.run(beside(point.hogs, [...command, ...runOptions(point, ground.address)])))
    programs.push({ name, what, batches, ahead, byBatch, sized: true, run })
  }
  for (const { name, command } of peers) {
    const run = async (ground, { heaps, warmupHeaps, ...point }) => {
      const { text, env } = peerCommand(command, { ...point, heaps: heaps + warmupHeaps, address: ground.address, port: PORT })
      const payloadBytesPerSecond = peerRate(await ground.run(beside(point.hogs, ['sh', '-c', text]), env))
      const { heapSizeBytes, packetSizeBytes } = point
      return { heapSizeBytes, packetSizeBytes, heapsAsked: heaps + warmupHeaps, payloadBytesPerSecond }
    }
    programs.push({ name, what: command, sized: heedsHeaps(command), run })
  }
  return programs
}

/** Versions of Python and its packages, if one of the programs runs in it. */
export async function pythonVersions(names) {
  if (!names.some((name) => name.startsWith('spead2'))) return {}
  const code =
    'import json, platform, numpy, spead2; print(json.dumps([spead2.__version__, numpy.__version__, platform.python_version()]))'
  const [spead2, numpy, python] = JSON.parse((await $({ quiet: true })`${peerPython()} -c ${code}`).stdout)
  return { spead2, numpy, python }
}

const wholeBatches = (bytes, heapSizeBytes) => {
  const perBatch = batchHeaps(heapSizeBytes)
  return perBatch * Math.max(LEAST_BATCHES, Math.round(bytes / (perBatch * heapSizeBytes)))
}

/** One run of one program, with the counts of interface and receiver and the machine's load. */
async function runOnce(ground, program, point, maxDisturbance) {
  const stop = await ground.receive()
  const before = await ground.counters()
  let received
  const row = await watched(maxDisturbance, async () => {
    const own = await program.run(ground, { ...point, batches: program.batches ?? point.batches })
    received = await stop()
    return own
  })
  const after = await ground.counters()
  const messages = after.packets - before.packets
  const given = after.bytes - before.bytes - messages * FRAME_OVERHEAD_BYTES
  const udpBytes = row.udpBytes ?? given
  // A veth does not count packets that its other end had no room for.
  if (given !== udpBytes && !((after.dropped ?? 0) > (before.dropped ?? 0)))
    throw new Error(
      `${program.name} says it sent ${udpBytes} UDP bytes in heaps of ${row.heapSizeBytes}; the interface was given ${given}`,
    )
  const loss = received && {
    receivedPackets: received.packets,
    receivedUdpBytes: received.udpBytes,
    lossShare: Math.round((1 - received.udpBytes / udpBytes) * 1e6) / 1e6,
  }
  return { ...row, program: program.name, udpBytes, messages, ...loss }
}

function warmupOf({ ahead, byBatch }, heapSizeBytes, bytes) {
  if (ahead) return bytes * AHEAD_SHARE
  const often = byBatch ? WARMUP_BATCHES * batchHeaps(heapSizeBytes) * heapSizeBytes : 0
  return Math.max(bytes, Math.min(often, MOST_WARMUPS * bytes))
}

/** Heaps of a run that takes about the window at most: known only when a small one has shown the program's rate. */
async function sizeOfRun(ground, program, point, { bytes, warmupBytes, windowSeconds, maxDisturbance }) {
  const { heapSizeBytes } = point
  const part = heapSizeBytes < 1024 ? 1 / 2 : 1
  const most = part * bytes
  const warmup = part * warmupOf(program, heapSizeBytes, warmupBytes)
  const all = { heaps: wholeBatches(most, heapSizeBytes), warmupHeaps: wholeBatches(warmup, heapSizeBytes) }
  if (!program.sized) return all
  const few = wholeBatches(most * PROBE_SHARE, heapSizeBytes)
  if (few >= all.heaps) return all
  const probe = await runOnce(ground, program, { ...point, heaps: few, warmupHeaps: few }, maxDisturbance)
  const share = Math.min(1, (probe.payloadBytesPerSecond * windowSeconds) / most)
  return { heaps: wholeBatches(share * most, heapSizeBytes), warmupHeaps: wholeBatches(share * warmup, heapSizeBytes) }
}

/**
 * Runs packet sizes, batches in flight and heap sizes one after another; a round has every number of hogs. Returns what runRounds()
 * does.
 */
export async function sweep(ground, programs, options) {
  const { packetSizes, batchCounts, sizes, hogCounts } = options
  const names = programs.map((program) => program.name)
  let left = 0
  for (const packetSizeBytes of packetSizes)
    for (const batches of batchCounts)
      for (const heapSizeBytes of sizes) {
        const points = hogCounts.map((hogs) => {
          const counts = {}
          const point = { heapSizeBytes, packetSizeBytes, batches, hogs }
          return {
            facts: { kind: 'run', ground: options.ground, pointBatches: batches, hogs, packetSizeBytes, heapSizeBytes },
            label: `${showBytes(heapSizeBytes)}, packets ≤ ${packetSizeBytes}, ${batches} batches, ${showHogs(hogs)}`,
            async run(name) {
              const program = programs.find((one) => one.name === name)
              counts[name] ??= await sizeOfRun(ground, program, point, options)
              return runOnce(ground, program, { ...point, ...counts[name] }, options.maxDisturbance)
            },
            show: ({ payloadBytesPerSecond }) => `${Math.round(payloadBytesPerSecond / 1e6)} MB/s`,
          }
        })
        left += await runRounds(points, names, options)
      }
  return left
}
