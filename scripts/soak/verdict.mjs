// Compares what a soak's sender said with what its receiver got, and looks for anything that grew. Pure.
import { spread } from './ranges.mjs'
import { HEAP_BYTES, NUMBERS, STREAMS } from './streams.mjs'

/** Samples before this do not count, because V8 still compiles and its heaps still grow to their size. */
const WARM_SECONDS = 30
const MOST_BYTES_A_BATCH = 10
const MOST_RATE_ERROR = 0.001
/** A time without work is counted when it is over, so each end of the measurement may be off by one. */
const ENDS_SECONDS = 0.5
/** While a stream waits for a neighbour its lag is as of the last post, so the measurement begins and ends behind a second in which it ran. */
const STEADY = 0.02
/** The kernel drops what it coalesced (UDP_GRO, 64 KiB at most) whole, and counts it as one. */
const HEAPS_A_DROP = Math.ceil((64 << 10) / HEAP_BYTES) + 1

/** Growth of y by x, by least squares. */
export function slope(points) {
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length
  const x = mean(points.map(([a]) => a))
  const y = mean(points.map(([, b]) => b))
  const over = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0)
  return over / points.reduce((sum, [a]) => sum + (a - x) ** 2, 0)
}

const SENT = ['sent', 'suspect']
const count = (words, test) => words.reduce((sum, word, n) => sum + (test(word, n) ? 1 : 0), 0)

/**
 * Heaps that were lost just before the sender could learn of it: drops that the kernel counts are looked for every 20 ms (docs/outcomes.md), and
 * a link that is set down drops what waits in its queue before it refuses the next packet.
 */
const LATE_SECONDS = 0.05

const EVIDENCE = ['suspect', 'failed', 'partial']

/** For each heap, whether one that tells of trouble follows it within that time at the stream's rate. */
function beforeEvidence(name, fates) {
  const heaps = Math.ceil((STREAMS[name].rateBytesPerSecond * LATE_SECONDS) / HEAP_BYTES)
  let next = Number.POSITIVE_INFINITY
  return fates
    .map((_, i) => i)
    .reverse()
    .map((i) => {
      if (EVIDENCE.includes(fates[i])) next = i
      return next - i <= heaps
    })
    .reverse()
}

/** A loop's account beside what came. */
function looped(name, lines, { submitted, stats }, gotten, wrong) {
  const account = lines.sender.find(({ kind, stream }) => kind === 'loop' && stream === name)
  const { sentHeaps, failedHeaps, suspectHeaps } = account
  const got = spread(
    lines.receiver.filter((line) => line.kind === 'got' && line.stream === name),
    submitted,
  )
  const lost = sentHeaps - count(got, (word) => word === 'whole')
  const { droppedByKernel } = gotten.stats
  // Each time, some may have gone just before the evidence.
  const late = Math.ceil((STREAMS[name].rateBytesPerSecond * LATE_SECONDS) / HEAP_BYTES) * Math.ceil(suspectHeaps / NUMBERS)
  const say = (text) => wrong.push(`${name}: ${text}`)
  if (lost > suspectHeaps + late + (droppedByKernel || 0) * HEAPS_A_DROP)
    say(`${lost} heaps reported sent did not come, and ${suspectHeaps} were suspect`)
  if (lost < 0) say(`${-lost} heaps reported failed came whole`)
  if (got.some((word) => word === 'corrupt' || word === 'twice')) say('heaps came twice, or with other samples')
  if (stats.heapsSent !== sentHeaps || stats.heapsFailed !== failedHeaps)
    say(`counters say ${stats.heapsSent} sent and ${stats.heapsFailed} failed, the loop ${sentHeaps} and ${failedHeaps}`)
  return `${name}: ${sentHeaps} heaps sent (${suspectHeaps} suspect), ${failedHeaps} failed; not come: ${lost}; the receiver's socket dropped ${droppedByKernel}`
}

/** The fates of one stream's heaps beside what came of them. */
function heaps(name, lines, wrong) {
  const end = lines.sender.find(({ kind, stream }) => kind === 'end' && stream === name)
  const gotten = lines.receiver.find(({ kind, stream }) => kind === 'end' && stream === name)
  if (!end || !gotten) {
    wrong.push(`${name}: the ${end ? 'receiver' : 'sender'} did not come to its end`)
    return `${name}: no report`
  }
  if (STREAMS[name].loop) return looped(name, lines, end, gotten, wrong)
  const of = (list, kind) => list.filter((line) => line.kind === kind && line.stream === name)
  const fates = spread(of(lines.sender, 'fate'), end.submitted)
  const got = spread(of(lines.receiver, 'got'), end.submitted)
  const late = beforeEvidence(name, fates)
  const tcp = name === 'tcp'
  const { droppedByKernel } = gotten.stats
  const came = (i) => got[i] === 'whole' || got[i] === 'twice'
  const n = {
    trustedLost: count(fates, (fate, i) => fate === 'sent' && !came(i) && !late[i]),
    lateLost: count(fates, (fate, i) => fate === 'sent' && !came(i) && late[i]),
    suspectLost: count(fates, (fate, i) => fate === 'suspect' && !came(i)),
    failedGot: count(fates, (fate, i) => ['failed', 'flushed', 'partial', 'skipped'].includes(fate) && came(i)),
    fateless: count(fates, (fate) => fate === '' || fate === 'twice'),
    twice: count(got, (word) => word === 'twice'),
    corrupt: count(got, (word) => word === 'corrupt'),
    sent: count(fates, (fate) => SENT.includes(fate)),
    suspect: count(fates, (fate) => fate === 'suspect'),
  }
  const say = (text) => wrong.push(`${name}: ${text}`)
  // The receiver's socket was full: its own count says how much that explains.
  if (n.trustedLost > (droppedByKernel || 0) * HEAPS_A_DROP)
    say(`${n.trustedLost} heaps reported sent did not come, and none of their batches is suspect`)
  if (n.failedGot > 0 && !tcp) say(`${n.failedGot} heaps reported failed came whole`)
  if (n.fateless > 0) say(`${n.fateless} heaps have no fate, or two`)
  if (n.twice > 0 && !tcp) say(`${n.twice} heaps came twice`)
  if (n.corrupt > 0) say(`${n.corrupt} heaps came with other samples`)
  if (end.submitted !== end.settled) say(`${end.submitted} heaps were submitted and ${end.settled} settled`)
  if (end.stats.heapsSent !== n.sent) say(`counters say ${end.stats.heapsSent} heaps sent, their promises ${n.sent}`)
  if (end.stats.heapsSent + end.stats.heapsFailed + end.stats.heapsSkipped !== end.submitted)
    say(
      `counters say ${end.stats.heapsSent} sent, ${end.stats.heapsFailed} failed and ${end.stats.heapsSkipped} left out of ${end.submitted}`,
    )
  return (
    `${name}: ${end.submitted} heaps, ${n.sent} sent (${n.suspect} suspect), ${end.stats.heapsFailed} failed with ${JSON.stringify(end.errnos)}, ${end.stats.heapsSkipped} left out; ` +
    `not come: ${n.trustedLost} trusted, ${n.lateLost} just before the evidence, ${n.suspectLost} suspect; the receiver's socket dropped ${droppedByKernel}`
  )
}

/**
 * Bytes that went, or failed when their time came, beside those that the rate has for the same time: from one place of its schedule, which is the
 * time less the lag and what the limiter says it gave up, to another.
 */
function rate(name, samples, wrong) {
  const places = samples.map(({ milliseconds, streams }) => {
    const { packets, packetsFailed, udpBytes, givenUpNanoseconds, lagNanoseconds } = streams[name].stats
    return {
      bytes: (packets + packetsFailed) * (udpBytes / packets),
      seconds: milliseconds / 1e3 - (givenUpNanoseconds + lagNanoseconds) / 1e9,
      givenUp: givenUpNanoseconds / 1e9,
    }
  })
  const errorOf = (from, to) => (to.bytes - from.bytes) / (to.seconds - from.seconds) / STREAMS[name].rateBytesPerSecond - 1
  const steady = places.filter((place, i) => i > 0 && Math.abs(errorOf(places[i - 1], place)) < STEADY)
  const ends = steady.length > 1 ? steady : places
  const [first, last] = [ends[0], ends.at(-1)]
  const error = errorOf(first, last)
  if (!(Math.abs(error) <= MOST_RATE_ERROR + ENDS_SECONDS / (last.seconds - first.seconds)))
    wrong.push(`${name}: the rate is off by ${(error * 100).toFixed(3)} %`)
  const { greatestLagNanoseconds } = samples.at(-1).streams[name].stats
  return (
    `${name}: rate off by ${(error * 100).toFixed(3)} %, ${(last.givenUp - first.givenUp).toFixed(2)} s given up, ` +
    `lag at most ${(greatestLagNanoseconds / 1e6).toFixed(0)} ms`
  )
}

/**
 * @param collections V8's lines about collections (--trace-gc)
 * @param beside whether others used the CPUs: memory, collections and rates are told then, and not judged
 */
export function verdict(lines, collections, how, beside = false) {
  const wrong = []
  const amiss = beside ? [] : wrong
  const report = []
  for (const [program, code] of Object.entries(how)) if (code !== 0) wrong.push(`the ${program} ended with ${code}`)
  for (const name of Object.keys(STREAMS)) report.push(heaps(name, lines, wrong))
  const samples = lines.sender.filter(({ kind }) => kind === 'sample')
  const warm = samples.filter(({ milliseconds }) => milliseconds > WARM_SECONDS * 1000)
  if (warm.length < 10) return { report: [...report, 'too short to tell of memory and rate'], wrong }
  for (const name of Object.keys(STREAMS)) if (STREAMS[name].keepsRate) report.push(rate(name, warm, amiss))
  const batches = (sample) => Object.values(sample.streams).reduce((sum, { stats }) => sum + stats.batches, 0)
  const growth = slope(warm.map((sample) => [batches(sample), sample.rssBytes]))
  if (growth > MOST_BYTES_A_BATCH) amiss.push(`memory grows by ${growth.toFixed(1)} bytes a batch`)
  report.push(
    `memory: ${growth.toFixed(2)} bytes a batch over ${batches(warm.at(-1)) - batches(warm[0])} batches, ${(warm[0].rssBytes / 1e6).toFixed(1)} → ${(warm.at(-1).rssBytes / 1e6).toFixed(1)} MB of RSS`,
  )
  // V8's heaps take pages and give them back.
  for (const [what, slack] of [
    ['descriptors', 0],
    ['mappings', 8],
  ]) {
    const most = (part) => Math.max(...part.map((sample) => sample[what]))
    const half = warm.length >> 1
    const [before, after] = [most(warm.slice(0, half)), most(warm.slice(half))]
    report.push(`${what}: at most ${before} in the first half, ${after} in the second`)
    if (after > before + slack) amiss.push(`${what} grew from ${before} to ${after}`)
  }
  // A thread whose streams are closed gives memory back.
  const major = majorCollections(collections, warm.at(-1).milliseconds - 1000)
  report.push(`major collections after ${WARM_SECONDS} s by isolate: ${[...major.values()].join(', ') || 'none'}`)
  // The main thread collects for each sample. Every other isolate is an I/O thread's.
  if (major.size > 1) amiss.push(`an I/O thread had a major collection after ${WARM_SECONDS} s`)
  return { report, wrong }
}

/** Isolate → Mark-Compact collections from the warm-up until then: `[pid:isolate]   1234 ms: Mark-Compact …`. Milliseconds of an isolate's life. */
export function majorCollections(text, until) {
  const counts = new Map()
  for (const [, isolate, milliseconds] of text.matchAll(/^\[\d+:(0x[\da-f]+)\]\s+(\d+) ms: Mark-Compact/gm))
    if (milliseconds > WARM_SECONDS * 1000 && milliseconds < until) counts.set(isolate, (counts.get(isolate) ?? 0) + 1)
  return counts
}
