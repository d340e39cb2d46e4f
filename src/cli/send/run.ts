/** Runs `speadcast send`: opens a stream by the options, sends heaps of the pattern or of the input, and ends in order. */
import { openStream, type PathChange, type Stream } from '../../index.js'
import { complain } from '../common/exit.js'
import { cutOffAfter, onInterrupt } from '../common/interrupt.js'
import { say } from '../common/print.js'
import { showProgress } from '../common/progress.js'
import { Tally } from '../common/tally.js'
import type { SendFlags } from './flags.js'
import { batchHeapsOf, inputSource, patternSource } from './heaps.js'
import { type Input, openInput } from './input.js'
import { sendItems } from './items.js'
import { checkFlags, streamOptions } from './options.js'
import { reportSend } from './report.js'

const DEFAULT_HEAPS = 1000

export async function runSend(endpoints: string[], flags: SendFlags): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => stopping.abort())
  let stream: Stream | undefined
  try {
    checkFlags(flags)
    const input = flags.input === undefined ? undefined : await openInput(flags.input)
    const onPathChange = ({ what }: PathChange) => say(`speadcast send: ${what}`)
    stream = await openStream({ ...streamOptions(endpoints, flags), onPathChange })
    await send(stream, flags, input, stopping.signal)
  } catch (error) {
    complain('send', error)
  } finally {
    await stream?.destroy()
    undo()
  }
}

async function send(stream: Stream, flags: SendFlags, input: Input | undefined, stopping: AbortSignal): Promise<void> {
  const tally = new Tally('send')
  const { heaps = DEFAULT_HEAPS, batches, groupMode } = flags
  const items = sendItems(flags)
  const batchHeaps = batchHeapsOf(flags.batchHeaps, items.heapBytes)
  const pattern = { heaps, batchHeaps, batches, groupMode }
  const source = input ? inputSource(stream, items, flags, input, tally) : patternSource(stream, items, pattern, tally)
  stopping.addEventListener('abort', () =>
    say(`interrupted: sending what is queued, for ${flags.deadline} s at most; again to end at once`),
  )
  const settledInTime = cutOffAfter(stream, tally, stopping, flags.deadline)
  const hideProgress = showProgress('sent', () => ({ ...tally, totalBytes: source.totalBytes }))

  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  let failure: unknown
  await source.send(stopping).catch((error) => {
    failure = error
  })
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
  hideProgress()
  // The tally has the heaps that the deadline cut off.
  if (tally.cut) failure = undefined
  await stream.close().catch((error) => {
    failure ??= error
  })
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
