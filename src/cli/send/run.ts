/** Runs `speadcast send`: opens a stream by the options, sends heaps of the pattern or of the input, and ends in order. */
import { openStream, type PathChange, type Stream } from '../../index.js'
import { withAlternatives } from '../common/alternatives.js'
import { complain, usageError } from '../common/exit.js'
import { cutOffAfter, onInterrupt } from '../common/interrupt.js'
import { type CommandMetrics, openMetrics } from '../common/metrics.js'
import { say } from '../common/print.js'
import { checkLengthFlags, heapsOf } from '../common/run-flags.js'
import { sending, sendingTotals } from '../common/sending.js'
import { SubstreamTally } from '../common/substream-tally.js'
import { Tally } from '../common/tally.js'
import { callAt } from '../common/timer.js'
import { Watch } from '../common/watch.js'
import type { SendFlags } from './flags.js'
import { batchHeapsOf, inputSource, patternSource } from './heaps.js'
import { type Input, openInput } from './input.js'
import { sendItems } from './items.js'
import { checkFlags, packetSizeBytes, streamOptions } from './options.js'
import { reportSend } from './report.js'

const DEFAULT_HEAPS = 1000

export async function runSend(endpoints: string[], flags: SendFlags): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => stopping.abort())
  let stream: Stream | undefined
  let watch: Watch | undefined
  let metrics: CommandMetrics | undefined
  try {
    checkFlags(flags, endpoints)
    checkLengthFlags(flags)
    watch = new Watch('send', flags)
    const input = flags.input === undefined ? undefined : await openInput(flags.input)
    if (input && !input.live && endless(flags))
      throw usageError(`--forever: ${flags.input} is a file, which ends; without -n all of it is sent, once`)
    metrics = await openMetrics('send', flags)
    const onPathChange = ({ what }: PathChange) => say(`speadcast send: ${what}`, 'path-change')
    stream = await openStream({ ...streamOptions(endpoints, flags), onPathChange })
    metrics.next(stream)
    await send(stream, { flags, input, stopping: stopping.signal, watch })
  } catch (error) {
    complain('send', await withAlternatives(error, endpoints, flags))
  } finally {
    await stream?.destroy()
    watch?.close()
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
}

async function send(stream: Stream, { flags, input, stopping, watch }: Run): Promise<void> {
  const tally = new Tally('send')
  tally.substreams = new SubstreamTally(stream.endpoints.length)
  const { batches, groupMode, seconds: limit } = flags
  const heaps = heapsOf(flags, DEFAULT_HEAPS)
  const items = sendItems(flags)
  const batchHeaps = batchHeapsOf(flags.batchHeaps, items.heapBytes)
  const over = new AbortController()
  const ending = eitherOf(stopping, over.signal)
  const pattern = { heaps, batchHeaps, batches, groupMode, ...(limit !== undefined && { withdraw: over.signal }) }
  const source = input ? inputSource(stream, items, flags, input, tally) : patternSource(stream, items, pattern, tally)
  stopping.addEventListener('abort', () =>
    say(`interrupted: sending what is queued, for ${flags.deadline} s at most; again to end at once`),
  )
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
        heaps: input || heaps === Number.POSITIVE_INFINITY ? null : heaps,
        seconds: limit ?? null,
        packetSizeBytes: packetSizeBytes(flags),
        batches: source.batches,
        batchHeaps,
      },
    }),
  )

  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  const undoLimit = limit === undefined ? () => undefined : callAt(startedAt + limit * 1000, () => over.abort())
  let failure: unknown
  await source.send(ending).catch((error) => {
    failure = error
  })
  undoLimit()
  await stream.flush().catch((error) => {
    failure ??= error
  })
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

/** Not AbortSignal.any: Node 20 may collect its signal while somebody still asks it. */
function eitherOf(...signals: readonly AbortSignal[]): AbortSignal {
  const either = new AbortController()
  for (const signal of signals) {
    if (signal.aborted) either.abort()
    signal.addEventListener('abort', () => either.abort())
  }
  return either.signal
}
