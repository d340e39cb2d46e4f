// The sweep: every point, every round, every program of it in turn.
import { $ } from 'zx'
import { ADDRESS, FRAME_OVERHEAD_BYTES, PORT } from './blackhole.mjs'
import { watchLoad } from './machine.mjs'
import { heedsHeaps, peerCommand, peerRate } from './peers.mjs'
import { pointKey, progress } from './points.mjs'
import { batchHeaps, PROGRAMS, peerPython, runOptions } from './programs.mjs'
import { showBytes } from './text.mjs'

/** Least batches of a run, warm-up or timed: each is used once. */
const LEAST_BATCHES = 4
/** Of the bytes of a run: what is sent to learn a program's rate. */
const PROBE_SHARE = 1 / 128
/** Of the warm-up: for a program compiled ahead. */
const AHEAD_SHARE = 1 / 4
/** V8 compiles what has run often: batches in a warm-up of a program `byBatch`, for up to so many times the bytes. */
const WARMUP_BATCHES = 6144
const MOST_WARMUPS = 6

/** What runs in a round: `{ name, what, batches?, ahead?, byBatch?, sized, run(ground, point) → row }`. */
export async function prepare(names, peers) {
  const programs = []
  for (const name of names) {
    const { what, batches, ahead, byBatch, prepare: make } = PROGRAMS[name]
    const command = await make()
    const run = async (ground, point) => JSON.parse(await ground.run([...command, ...runOptions(point)]))
    programs.push({ name, what, batches, ahead, byBatch, sized: true, run })
  }
  for (const { name, command } of peers) {
    const run = async (ground, { heaps, warmupHeaps, ...point }) => {
      const { text, env } = peerCommand(command, { ...point, heaps: heaps + warmupHeaps, address: ADDRESS, port: PORT })
      const payloadBytesPerSecond = peerRate(await ground.run(['sh', '-c', text], env))
      const { heapSizeBytes, packetSizeBytes } = point
      return { heapSizeBytes, packetSizeBytes, heapsAsked: heaps + warmupHeaps, payloadBytesPerSecond }
    }
    programs.push({ name, what: command, sized: heedsHeaps(command), run })
  }
  return programs
}

/** Of Python, if anything here runs in it. */
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

/** One run of one program, with what the interface, the receiver and the machine say about it. */
async function runOnce(ground, program, point, maxDisturbance) {
  const stop = await ground.receive()
  const before = await ground.counters()
  const load = watchLoad()
  const row = await program.run(ground, { ...point, batches: program.batches ?? point.batches })
  const received = await stop()
  const disturbance = load()
  const after = await ground.counters()
  const messages = after.packets - before.packets
  const given = after.bytes - before.bytes - messages * FRAME_OVERHEAD_BYTES
  const udpBytes = row.udpBytes ?? given
  // What the other end of a veth had no room for is not among what it was given.
  if (given !== udpBytes && !((after.dropped ?? 0) > (before.dropped ?? 0)))
    throw new Error(
      `${program.name} says it sent ${udpBytes} UDP bytes in heaps of ${row.heapSizeBytes}; the interface was given ${given}`,
    )
  const loss = received && {
    receivedPackets: received.packets,
    receivedUdpBytes: received.udpBytes,
    lossShare: Math.round((1 - received.udpBytes / udpBytes) * 1e6) / 1e6,
  }
  const disturbed = disturbance.stealShare + disturbance.otherShare > maxDisturbance
  return { ...row, program: program.name, udpBytes, messages, ...loss, ...disturbance, disturbed }
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

/** Each round begins with the next program, so that none always runs behind the same one. */
const rotated = (list, by) => list.map((_, i) => list[(i + by) % list.length])

/**
 * Runs what the points lack of `repeats` rounds and adds the rows to `out`. Returns how many rounds are left, for want of time.
 * @param log takes a line on how it goes
 */
export async function sweep(ground, programs, options, out, log) {
  const { ground: groundName, packetSizes, batchCounts, sizes, repeats, repeatsOfDisturbed, maxDisturbance } = options
  const end = performance.now() + options.stopAfterSeconds * 1000
  const names = programs.map((program) => program.name)
  let left = 0
  for (const packetSizeBytes of packetSizes)
    for (const batches of batchCounts)
      for (const heapSizeBytes of sizes) {
        const point = { heapSizeBytes, packetSizeBytes, batches }
        const key = pointKey({ ground: groundName, packetSizeBytes, pointBatches: batches, heapSizeBytes })
        const { complete, next } = progress(out.rows, key, names)
        const counts = {}
        for (let round = next, done = complete; done < repeats; round++, done++) {
          if (performance.now() >= end) {
            left += repeats - done
            break
          }
          for (const program of programs) counts[program.name] ??= await sizeOfRun(ground, program, point, options)
          for (let attempt = 0; attempt <= repeatsOfDisturbed; attempt++) {
            const runs = []
            for (const program of rotated(programs, round))
              runs.push(await runOnce(ground, program, { ...point, ...counts[program.name] }, maxDisturbance))
            for (const row of runs) out.add({ kind: 'run', ground: groundName, pointBatches: batches, ...row, round, attempt })
            const shown = names.map((name) => {
              const { payloadBytesPerSecond } = runs.find((row) => row.program === name)
              return `${name} ${Math.round(payloadBytesPerSecond / 1e6)}`
            })
            const disturbed = runs.some((row) => row.disturbed)
            const again = disturbed && attempt < repeatsOfDisturbed
            const why = disturbed ? ` (disturbed, ${again ? 'again' : 'kept'})` : ''
            log(
              `${showBytes(heapSizeBytes)}, packets ≤ ${packetSizeBytes}, ${batches} batches, round ${round + 1}: ${shown.join(', ')} MB/s${why}`,
            )
            if (!again) break
          }
        }
      }
  return left
}
