/** One run of a search: the agent opens a receiver, heaps go to it at a rate, and the agent says what came. */
import { openStream, type Stream, type StreamStats } from '../../../index.js'
import { cutOffAfter } from '../../common/interrupt.js'
import type { CommandMetrics } from '../../common/metrics.js'
import { paceReport } from '../../common/pace-report.js'
import type { Tally } from '../../common/tally.js'
import { transportOptions } from '../../common/transport-options.js'
import { batchHeapsOf, patternSource } from '../../send/heaps.js'
import { tutorialItems } from '../../send/items.js'
import type { BenchFlags } from '../flags.js'
import type { Control } from './control.js'
import type { Opened, Result } from './protocol.js'
import { type Cause, judge } from './verdict.js'

/** A run as the report has it. Rates are bytes a second; those of the sender over `secondsSent`, those received over `secondsReceived`. */
export interface Step {
  readonly heapSizeBytes: number
  readonly phase: 'full' | 'search' | 'confirm'
  /** UDP payload, as --rate counts; 0: as fast as possible. */
  readonly rateAsked: number
  readonly burstBytes: number
  /** UDP payload. */
  readonly rateReached: number
  /** UDP payload. */
  readonly rateReceived: number
  /** Item data of complete heaps. */
  readonly payloadRate: number
  /** Ethernet frames without FCS, which is what shapers and tcpdump count; undefined with TCP. */
  readonly frameRate?: number
  /** Ethernet frames with FCS, preamble and gap: what a link is full of. Undefined with TCP. */
  readonly wireRate?: number
  readonly secondsSent: number
  readonly secondsReceived: number
  readonly packetsSent: number
  readonly packetsReceived: number
  readonly packetsLost: number
  readonly packetsDuplicate: number
  readonly packetsReordered: number
  readonly heapsSent: number
  readonly heapsComplete: number
  readonly heapsIncomplete: number
  readonly droppedByReceiverSocket: number
  readonly droppedByReceiverInterface: number
  readonly refusedByReceiverMemory: number
  readonly droppedBelowSenderSocket: number
  readonly senderCpuSeconds: number
  readonly receiverCpuSeconds: number
  readonly passed: boolean
  readonly cause: Cause
  readonly why: string
}

export interface StepPlan {
  readonly flags: BenchFlags
  readonly heapSizeBytes: number
  readonly packetSizeBytes: number
  readonly phase: Step['phase']
  /** 0: as fast as possible. */
  readonly rate: number
  readonly burstBytes: number
  readonly firstCnt: number
  readonly tally: Tally
  readonly stopping: AbortSignal
  readonly metrics: CommandMetrics
}

/** SPEAD header and six pointers. */
const HEADER_BYTES = 8 + 6 * 8
/** Preamble, FCS and gap. */
const AROUND_FRAME_BYTES = 24
/** After Ctrl-C, queued batches may go for this time. */
const DEADLINE_SECONDS = 2
/** A run that is slower than its rate ends after this multiple of its time. */
const OVERTIME = 1.25
/** Returns undefined if it was interrupted. @throws what `control` throws; what openStream throws */
export async function runStep(control: Control, plan: StepPlan): Promise<{ step: Step; nextCnt: number } | undefined> {
  const { flags, heapSizeBytes, packetSizeBytes, rate, burstBytes, firstCnt, stopping } = plan
  const heapUdpBytes = heapSizeBytes + HEADER_BYTES * Math.ceil(heapSizeBytes / (packetSizeBytes - HEADER_BYTES))
  const heaps = rate === 0 ? Number.POSITIVE_INFINITY : Math.max(1, Math.ceil((rate * flags.seconds) / heapUdpBytes))
  const seconds = rate === 0 ? flags.seconds : Math.max(flags.seconds, heapUdpBytes / rate)
  const opened = await control.open(heapSizeBytes, seconds * OVERTIME)
  const stream = await openStream({
    to: control.endpoint(opened.port),
    backend: flags.backend,
    packetSizeBytes,
    rate,
    burstBytes,
    firstCnt,
    ...transportOptions(flags),
  })
  try {
    plan.metrics.next(stream, { heap_size_bytes: heapSizeBytes })
    const cpu = process.cpuUsage()
    const sent = await sendFor(stream, plan, heaps, rate === 0 ? seconds : seconds * OVERTIME)
    const stats = stream.stats()
    const { user, system } = process.cpuUsage(cpu)
    const result = await control.collect(stats.packets)
    if (stopping.aborted) return undefined
    const step = stepOf(plan, { ...sent, stats, opened, result, cpuSeconds: (user + system) / 1e6 })
    return { step, nextCnt: firstCnt + stats.heapsSent + stats.heapsFailed }
  } finally {
    await stream.destroy()
  }
}

interface SentRun {
  readonly seconds: number
  readonly heaps: number
  readonly heapsFailed: number
}

/** Sends `heaps` heaps, or for `seconds`. */
async function sendFor(stream: Stream, plan: StepPlan, heaps: number, seconds: number): Promise<SentRun> {
  const { flags, heapSizeBytes, tally, stopping } = plan
  // Short runs have several batches too.
  const batchHeaps = Math.min(batchHeapsOf(undefined, heapSizeBytes), Math.max(1, Math.ceil(heaps / 8)))
  const options = { heaps, batchHeaps, batches: flags.batches, groupMode: 'serial' } as const
  const source = patternSource(stream, tutorialItems(heapSizeBytes), options, tally)
  const settledInTime = cutOffAfter(stream, tally, stopping, DEADLINE_SECONDS)
  const before = { heaps: tally.heaps, failed: tally.failed }
  // Not AbortSignal.any: Node 20 may collect its signal while somebody still asks it.
  const enough = new AbortController()
  const end = (): void => enough.abort()
  const timer = setTimeout(end, seconds * 1000)
  stopping.addEventListener('abort', end)
  const startedAt = performance.now()
  try {
    await source.send(enough.signal)
    await stream.flush()
  } finally {
    clearTimeout(timer)
    stopping.removeEventListener('abort', end)
    settledInTime()
  }
  return {
    seconds: Math.max(tally.lastAt - startedAt, 1) / 1000,
    heaps: tally.heaps - before.heaps,
    heapsFailed: tally.failed - before.failed,
  }
}

interface Made extends SentRun {
  readonly stats: StreamStats
  readonly opened: Opened
  readonly result: Result
  readonly cpuSeconds: number
}

function stepOf({ heapSizeBytes, phase, rate, burstBytes, flags }: StepPlan, { stats, opened, result, ...made }: Made): Step {
  const { seconds } = made
  const { packets, udpBytes, wireBytes } = stats
  const dropped = Number(stats.states.dropsBelowSocket ?? 0)
  const rateReached = udpBytes / seconds
  const sent = {
    rateAsked: rate,
    rateReached,
    seconds,
    packets,
    heapsFailed: made.heapsFailed,
    dropped,
    reasons: rate === 0 ? [] : paceReport(stats, rate, 'udp', seconds).reasons,
    port: opened.port,
  }
  const onWire = flags.backend !== 'tcp' && wireBytes > udpBytes
  return {
    heapSizeBytes,
    phase,
    rateAsked: rate,
    burstBytes,
    rateReached,
    // A receiver's time from its first packet to its last is shorter than the sender's, and for a single burst it is almost 0.
    rateReceived: result.bytes / Math.max(result.seconds, seconds),
    payloadRate: result.payloadBytes / Math.max(result.seconds, seconds),
    ...(onWire && { frameRate: (wireBytes - AROUND_FRAME_BYTES * packets) / seconds, wireRate: wireBytes / seconds }),
    secondsSent: seconds,
    secondsReceived: result.seconds,
    packetsSent: packets,
    packetsReceived: result.packets,
    packetsDuplicate: result.duplicates,
    packetsReordered: result.reordered,
    heapsSent: made.heaps,
    heapsComplete: result.heaps,
    heapsIncomplete: result.heapsIncomplete,
    droppedByReceiverSocket: result.droppedByKernel,
    droppedByReceiverInterface: result.droppedByInterface,
    refusedByReceiverMemory: result.packetsRefused + result.heapsRefused + result.heapsEvicted,
    droppedBelowSenderSocket: dropped,
    senderCpuSeconds: made.cpuSeconds,
    receiverCpuSeconds: result.cpuSeconds,
    ...judge(sent, result),
  }
}
