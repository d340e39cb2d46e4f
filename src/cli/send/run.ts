/** Runs `speadcast send`: opens a stream by the options, sends heaps of the pattern or of the input, and ends in order. */
import { openStream, type Stream, type StreamEventKind } from '../../index.js'
import { withAlternatives } from '../common/alternatives.js'
import { tellEvents } from '../common/events.js'
import { complain, usageError } from '../common/exit.js'
import { cutOffAfter, onInterrupt } from '../common/interrupt.js'
import { type CommandMetrics, openMetrics } from '../common/metrics.js'
import { pinMain } from '../common/place.js'
import { say } from '../common/print.js'
import { checkLengthFlags, heapsOf } from '../common/run-flags.js'
import { sending, sendingTotals } from '../common/sending.js'
import { type Served, Service } from '../common/service.js'
import { SubstreamTally } from '../common/substream-tally.js'
import { Tally } from '../common/tally.js'
import { callAt } from '../common/timer.js'
import { Watch } from '../common/watch.js'
import type { SendFlags } from './flags.js'
import { dealt, withShare } from './fleet.js'
import { batchHeapsOf, inputSource, patternSource } from './heaps.js'
import { type Input, openInput } from './input.js'
import { sendItems } from './items.js'
import { checkFlags, packetSizeBytes, streamOptions } from './options.js'
import { loopSource } from './replay.js'
import { reportSend } from './report.js'

/** Kinds that change a few times in a run. */
const SAID: readonly StreamEventKind[] = ['link', 'route', 'address', 'connection', 'device', 'recovery', 'thread', 'lag', 'clock']

const DEFAULT_HEAPS = 1000

export async function runSend(given: string[], all: SendFlags): Promise<void> {
  let [endpoints, flags] = [given, all]
  const stopping = new AbortController()
  let service: Service | undefined
  const undo = onInterrupt(() => {
    service?.stopping()
    stopping.abort()
  })
  let stream: Stream | undefined
  let watch: Watch | undefined
  let metrics: CommandMetrics | undefined
  try {
    flags = withShare(all)
    endpoints = dealt(given, flags)
    checkFlags(flags, endpoints)
    checkLengthFlags(flags)
    watch = new Watch('send', flags)
    const path = flags.input ?? flags.loop
    const input = path === undefined ? undefined : await openInput(path)
    if (flags.input !== undefined && input && !input.live && endless(flags))
      throw usageError(`--forever: ${flags.input} is a file, which ends; without -n all of it is sent, once`)
    service = await Service.open('send')
    await pinMain(flags)
    metrics = await openMetrics('send', flags)
    stream = await openStream(streamOptions(endpoints, flags))
    metrics.next(stream)
    await send(stream, { flags, input, stopping: stopping.signal, watch, service })
  } catch (error) {
    complain('send', await withAlternatives(error, endpoints, flags))
  } finally {
    await stream?.destroy()
    watch?.close()
    service?.close()
    await metrics?.close()
    undo()
  }
}

const endless = ({ forever, heaps }: SendFlags): boolean => forever === true || heaps === 0

interface Run {
  readonly flags: SendFlags
  readonly input: Input | undefined
  readonly stopping: AbortSignal
  readonly watch: Watch
  readonly service: Service
}

async function send(stream: Stream, { flags, input, stopping, watch, service }: Run): Promise<void> {
  const tally = new Tally('send')
  const isLoop = flags.loop !== undefined
  if (!isLoop) tally.substreams = new SubstreamTally(stream.endpoints.length)
  const { batches, groupMode, seconds: limit } = flags
  const heaps = heapsOf(flags, isLoop ? Number.POSITIVE_INFINITY : DEFAULT_HEAPS)
  const items = sendItems(flags)
  const batchHeaps = batchHeapsOf(flags.batchHeaps, items.heapBytes)
  const over = new AbortController()
  const ending = eitherOf(stopping, over.signal)
  const timestampGiven = flags.firstTimestamp !== undefined
  const pattern = { heaps, batchHeaps, batches, groupMode, timestampGiven, ...(limit !== undefined && { withdraw: over.signal }) }
  const source = !input
    ? patternSource(stream, items, pattern, tally)
    : isLoop
      ? loopSource(stream, items, flags, input, heaps, tally)
      : inputSource(stream, items, flags, input, tally)
  stopping.addEventListener('abort', () =>
    say(`interrupted: sending what is queued, for ${flags.deadline} s at most; again to end at once`),
  )
  const told = tellEvents('send', stream.events(), SAID)
  const settledInTime = cutOffAfter(stream, tally, ending, flags.deadline)
  await watch.start(
    sending({
      stream,
      tally,
      what: 'sent',
      totalBytes: source.totalBytes,
      heapSizeBytes: items.heapBytes,
      rateBasis: flags.rateBasis,
      chosen: {
        heaps: flags.input !== undefined || heaps === Number.POSITIVE_INFINITY ? null : heaps,
        seconds: limit ?? null,
        packetSizeBytes: packetSizeBytes(flags),
        batches: source.batches,
        batchHeaps,
        ...(flags.of !== undefined && { index: flags.index, of: flags.of }),
      },
    }),
  )

  service.ready(served(stream, tally, flags))
  if (flags.startAt !== undefined) say(`waiting for --start-at ${flags.startAt}`)
  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  const undoLimit = limit === undefined ? () => undefined : callAt(startedAt + limit * 1000, () => over.abort())
  let failure: unknown
  await source.send(ending).catch((error) => {
    failure = error
  })
  // Queued heaps may take longer than the limit too, at a low rate or by the clock.
  await stream.flush().catch((error) => {
    failure ??= error
  })
  undoLimit()
  const { user, system } = process.cpuUsage(cpuBefore)
  // The stop heap goes after a failure too, because receivers wait for it.
  if (flags.stop && !tally.cut) {
    try {
      await stream.sendEnd()
    } catch (error) {
      if (!tally.cut) tally.stopFailed(error)
    }
  }
  settledInTime()
  // The tally has the heaps that the deadline cut off.
  if (tally.cut) failure = undefined
  await stream.close().catch((error) => {
    failure ??= error
  })
  await told
  watch.end(sendingTotals(stream, tally))
  const seconds = tally.heaps > 0 ? (tally.lastAt - startedAt) / 1000 : 0
  reportSend(stream, tally, flags, {
    heapBytes: items.heapBytes,
    batches: source.batches,
    batchHeaps,
    seconds,
    cpuSeconds: (user + system) / 1e6,
    failure,
  })
}

/** The stream as the service manager is told of it. Where this program does not keep the rate, packets wait until a buffer has room. */
function served(stream: Stream, tally: Tally, flags: SendFlags): Served {
  const { rateBytesPerSecond } = stream
  const { rateMethod = 'sw', sendBufferBytes = flags.burst } = stream.stats().states
  return {
    what: 'sent',
    totals: () => sendingTotals(stream, tally),
    moved() {
      const { packets, packetsFailed, heapsSent, heapsFailed } = stream.stats()
      return packets + packetsFailed + heapsSent + heapsFailed
    },
    idle: () => stream.stats().inFlight === 0,
    waitedSeconds: () => stream.stats().pacedNanoseconds / 1e9,
    patienceSeconds: rateMethod === 'sw' ? 0 : (2 * sendBufferBytes) / rateBytesPerSecond,
  }
}

/** Not AbortSignal.any: Node 20 may collect its signal while somebody still asks it. */
function eitherOf(...signals: readonly AbortSignal[]): AbortSignal {
  const either = new AbortController()
  for (const signal of signals) {
    if (signal.aborted) either.abort()
    signal.addEventListener('abort', () => either.abort())
  }
  return either.signal
}
