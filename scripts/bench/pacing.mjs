// --measure pacing: how near paced senders come to their rate and how much CPU time that takes; then, from a capture, how much they
// send back to back. --measure streams: many of them in one process. speadcast and spead2 from source, in turn, on the black hole.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { at } from '../lib/process.mjs'
import { DESTINATION, INTERFACE, PORT } from './blackhole.mjs'
import { burstsOf } from './bursts.mjs'
import { beside, compileBeside } from './hogs.mjs'
import { peerPython } from './programs.mjs'
import { runRounds, watched } from './rounds.mjs'
import { spead2WithGso } from './spead2-gso.mjs'
import { showHogs, showRate } from './text.mjs'

/** The default of both programs. */
const BURST = { burstBytes: 65536, burstRateRatio: 1.05 }
/**
 * V8 optimises code that has run some thousand times; until then a burst of ours takes twice the CPU. Both programs get this time.
 */
const WARMUP_BURSTS = 40_000
/** The warm-up is this share of the time measured: 5 to 20 s where that is 5. */
const WARMUP_SHARE = { least: 1, most: 4 }
const warmupSeconds = (rateBytesPerSecond, seconds) =>
  Math.min(
    WARMUP_SHARE.most * seconds,
    Math.max(WARMUP_SHARE.least * seconds, (WARMUP_BURSTS * BURST.burstBytes) / rateBytesPerSecond),
  )

/** The largest runs show within a second or two, and a capture holds every packet. */
const BURST_SECONDS = 2
const BURST_RATE_BYTES_PER_SECOND = 125e6
const STREAMS = 64
const STREAM_RATE_BYTES_PER_SECOND = 2.5e6
/** 64 KiB: several batches of each of 64 streams are in flight. */
const STREAM_BATCH_HEAPS = 8
const SPEAD2_THREADS = 4

const PROGRAMS = {
  ours: async () => [process.execPath, at('scripts/bench/paced.mjs')],
  async spead2() {
    const python = peerPython()
    return ['env', `PYTHONPATH=${await spead2WithGso(python)}`, python, at('scripts/bench/spead2_paced.py')]
  },
}

/** name → command, for the programs asked for. */
async function commands(asked) {
  await compileBeside()
  const names = Object.keys(PROGRAMS).filter((name) => asked.includes(name))
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await PROGRAMS[name]()])))
}

const runPaced = async (hole, command, hogs, options) => {
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  return JSON.parse(await hole.run(beside(hogs, [...command, ...flags, '--interface', INTERFACE, DESTINATION])))
}

/** How near to the rate, as a part of it: −0.01 is a hundredth too slow. */
const errorOf = ({ udpBytes, seconds, rateBytesPerSecond, streams }) => udpBytes / (seconds * rateBytesPerSecond * streams) - 1

const percent = (value, digits = 2) => `${(100 * value).toFixed(digits)} %`

function ratePoint(hole, programs, rateBytesPerSecond, hogs, { seconds, maxDisturbance }) {
  return {
    facts: { kind: 'pacing', rateBytesPerSecond, hogs },
    label: `${showRate(rateBytesPerSecond)}, ${showHogs(hogs)}`,
    run: (name) =>
      watched(maxDisturbance, async () => {
        const row = await runPaced(hole, programs[name], hogs, {
          rate: rateBytesPerSecond,
          'warmup-seconds': warmupSeconds(rateBytesPerSecond, seconds),
          seconds,
        })
        return { ...row, error: errorOf(row) }
      }),
    show: ({ error, cpuSeconds, seconds }) => `${percent(error, 3)} off, ${percent(cpuSeconds / seconds, 1)} of a CPU`,
  }
}

/** Starts a capture of `seconds`; the function returned waits for its packets. */
async function startCapture(hole, seconds) {
  const [program, ...args] = [...hole.prefix, peerPython(), at('scripts/bench/capture_times.py'), INTERFACE, PORT, seconds].map(
    String,
  )
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part) => {
    text += part
  })
  await Promise.race([once(child.stdout, 'data'), closed])
  return async () => {
    const [code] = await closed
    if (code !== 0) throw new Error(`capture_times.py exited with ${code}`)
    return JSON.parse(text.slice('ready\n'.length)).packets
  }
}

function burstPoint(hole, programs, rateBytesPerSecond, hogs, { maxDisturbance }) {
  const pacing = { rateBytesPerSecond, ...BURST }
  return {
    facts: { kind: 'bursts', ...pacing, hogs },
    label: `bursts at ${showRate(rateBytesPerSecond)}, ${showHogs(hogs)}`,
    run: (name) =>
      watched(maxDisturbance, async () => {
        // The capture begins before the first packet and ends well behind the last.
        const seen = await startCapture(hole, BURST_SECONDS + 3)
        const { program } = await runPaced(hole, programs[name], hogs, {
          rate: rateBytesPerSecond,
          'warmup-seconds': 0.5,
          seconds: BURST_SECONDS,
        })
        const packets = await seen()
        if (packets.length === 0) throw new Error(`${name} sent nothing that the capture saw`)
        return { program, packets: packets.length, ...burstsOf(packets, pacing) }
      }),
    show: ({ backToBackBytes, runsOver, runs }) => `${backToBackBytes} B at most, ${runsOver} of ${runs} runs over`,
  }
}

/** Takes and returns what runRounds() does. */
export async function pacing(hole, options) {
  const programs = await commands(options.names)
  const { rates, hogCounts } = options
  const names = Object.keys(programs)
  const points = rates.flatMap((rate) => hogCounts.map((hogs) => ratePoint(hole, programs, rate, hogs, options)))
  const left = await runRounds(points, names, options)
  await hole.segmentInSoftware(true)
  try {
    const bursts = hogCounts.map((hogs) => burstPoint(hole, programs, BURST_RATE_BYTES_PER_SECOND, hogs, options))
    return left + (await runRounds(bursts, names, options))
  } finally {
    await hole.segmentInSoftware(false)
  }
}

/** Takes and returns what runRounds() does. The run of one stream shows what the others add to its memory. */
export async function streams(hole, options) {
  const programs = await commands(options.names)
  const { maxDisturbance, hogCounts, seconds } = options
  const point = (count, hogs) => ({
    facts: { kind: 'streams', streams: count, hogs },
    label: `${count} × ${showRate(STREAM_RATE_BYTES_PER_SECOND)}, ${showHogs(hogs)}`,
    run: (name) =>
      watched(maxDisturbance, async () => {
        const { streamRates, ...row } = await runPaced(hole, programs[name], hogs, {
          rate: STREAM_RATE_BYTES_PER_SECOND,
          streams: count,
          'batch-heaps': STREAM_BATCH_HEAPS,
          'warmup-seconds': 2,
          seconds,
          ...(name === 'spead2' && { threads: SPEAD2_THREADS }),
        })
        const worstError = Math.min(...streamRates) / STREAM_RATE_BYTES_PER_SECOND - 1
        return { ...row, error: errorOf(row), worstError }
      }),
    show: ({ worstError, threads, rssBytes, cpuSeconds, seconds: time }) =>
      `worst ${percent(worstError)}, ${threads} threads, ${Math.round(rssBytes / 1e6)} MB, ${percent(cpuSeconds / time, 0)} of a CPU`,
  })
  const points = hogCounts.flatMap((hogs) => [1, STREAMS].map((count) => point(count, hogs)))
  return runRounds(points, Object.keys(programs), options)
}
