/** Runs `speadcast demo`: sends heaps over loopback, paced by the receiver's credits, and checks every byte. */

import { counted } from '../../errors.js'
import { openStream, packetsOf, type Stream } from '../../index.js'
import { CreditGate } from '../../receive/credit-gate.js'
import { openReceiver, type Receiver } from '../../receive/index.js'
import { complain, EXIT_FAILED, usageError } from '../common/exit.js'
import { freePort } from '../common/free-port.js'
import { onInterrupt } from '../common/interrupt.js'
import { printSummary, say } from '../common/print.js'
import { showProgress } from '../common/progress.js'
import { bytes, bytesPerSecond, count, many, table } from '../common/table.js'
import { Tally } from '../common/tally.js'
import { patternSource } from '../send/heaps.js'
import { tutorialItems } from '../send/items.js'

export interface DemoFlags {
  readonly bytes: number
  readonly heapSize: number
  readonly packetSize: number
  readonly buffer?: number
  readonly json?: true
}

const BATCHES = 4
const MOST_BATCH_BYTES = 512 * 1024
const GIVE_UP_MS = 3000

export async function runDemo(flags: DemoFlags): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => {
    say('interrupted: ending with what is under way; again to end at once')
    stopping.abort()
  })
  let receiver: Receiver | undefined
  let stream: Stream | undefined
  let gate: CreditGate | undefined
  try {
    const to = `127.0.0.1:${await freePort('127.0.0.1', 'udp')}`
    receiver = await openReceiver({
      endpoints: to,
      verify: true,
      credits: true,
      ...(flags.buffer !== undefined && { receiveBufferBytes: flags.buffer }),
    })
    gate = await CreditGate.open({ to })
    stream = await openStream({ to, packetSizeBytes: flags.packetSize })
    await demo(stream, receiver, gate, flags, stopping.signal)
  } catch (error) {
    complain('demo', error)
  } finally {
    gate?.close()
    await stream?.destroy()
    await receiver?.close().catch(() => undefined)
    undo()
  }
}

async function demo(stream: Stream, receiver: Receiver, gate: CreditGate, flags: DemoFlags, stopping: AbortSignal): Promise<void> {
  const heapUdpBytes = udpBytesOf(flags)
  const { windowBytes } = gate
  if (heapUdpBytes > windowBytes)
    throw usageError(
      `--heap-size ${flags.heapSize}: such a heap is ${heapUdpBytes} bytes of packets, and the receiver's socket buffer has room for ` +
        `${windowBytes}; use smaller heaps or raise net.core.rmem_max`,
    )
  const tally = new Tally('demo')
  const pattern = {
    heaps: Math.ceil(flags.bytes / flags.heapSize),
    // Several batches within the window, so that sender and receiver work at the same time.
    batchHeaps: Math.max(1, Math.floor(Math.min(windowBytes / BATCHES, MOST_BATCH_BYTES) / heapUdpBytes)),
    batches: BATCHES,
    groupMode: 'serial',
    beforeSend: (heaps: number) => gate.ready(heaps * heapUdpBytes),
  } as const
  const source = patternSource(stream, tutorialItems(flags.heapSize), pattern, tally)
  // An interrupt must end a wait for credits too.
  stopping.addEventListener('abort', () => gate.close())
  const hideProgress = showProgress('sent', () => ({ ...tally, totalBytes: source.totalBytes }))
  const startedAt = performance.now()
  await source.send(stopping)
  await stream.flush()
  await stream.sendEnd()
  const giveUp = setTimeout(() => void receiver.close().catch(() => undefined), GIVE_UP_MS)
  const received = await receiver.done
  clearTimeout(giveUp)
  hideProgress()
  await stream.close()

  const stats = stream.stats()
  const { heaps, heapsIncomplete, heapsCorrupt, receiveBufferBytes, droppedByKernel } = received
  const seconds = Math.max((tally.lastAt - startedAt) / 1000, received.seconds)
  const lost = tally.heaps - heaps
  const summary = {
    backend: stats.backend,
    reason: stats.reason,
    evidence: stats.evidence,
    interrupted: stopping.aborted,
    creditPaced: true,
    creditWindowBytes: windowBytes,
    heapsSent: tally.heaps,
    heapsReceived: heaps,
    heapsLost: lost,
    heapsIncomplete,
    heapsCorrupt,
    heapsFailed: tally.failed,
    heapSizeBytes: flags.heapSize,
    packetSizeBytes: flags.packetSize,
    packets: received.packets,
    payloadBytes: received.payloadBytes,
    seconds,
    payloadBytesPerSecond: received.payloadBytes / seconds,
    packetsPerSecond: received.packets / seconds,
    segmentation: String(stats.states.segmentation ?? 'off'),
    segmentationReason: String(stats.states.segmentationReason ?? ''),
    receiver: { backend: received.backend, receiveBufferBytes, droppedByKernel, gro: received.gro },
  }
  if (!printSummary(flags, summary))
    process.stdout.write(
      table([
        [
          'rate',
          `${bytesPerSecond(summary.payloadBytesPerSecond)} of samples, ${bytes(received.payloadBytes)} in ${seconds.toFixed(2)} s`,
        ],
        ['packets/s', `${count(summary.packetsPerSecond)}, of at most ${flags.packetSize} bytes`],
        ['heaps sent', `${count(tally.heaps)} of ${flags.heapSize} bytes`],
        ...(summary.interrupted ? ([['interrupted', `before all of ${many(pattern.heaps, 'heap')} were sent`]] as const) : []),
        ['heaps received', count(heaps)],
        ['heaps lost', `${count(lost)}${heapsIncomplete > 0 ? `, ${count(heapsIncomplete)} of them incomplete` : ''}`],
        ['heaps corrupt', `${count(heapsCorrupt)}, every byte checked`],
        ['backend', `${stats.backend} (${stats.reason})`],
        ['segmentation', `${summary.segmentation} (${summary.segmentationReason})`],
        ['receiver', `${received.backend}, socket buffer ${bytes(receiveBufferBytes)}`],
        ['pace', `by credits from the receiver: at most ${bytes(windowBytes)} under way`],
      ]),
    )
  for (const example of received.corruptExamples) say(`speadcast demo: ${example}`)
  if (lost !== 0 || heapsCorrupt > 0 || tally.failed > 0 || heaps === 0) {
    say(`speadcast demo: ${counted(lost, 'heap')} lost, ${heapsCorrupt} corrupt, ${tally.failed} not sent`)
    process.exitCode = EXIT_FAILED
  }
}

/** Returns the UDP payload of one heap as it will be cut; without segmentation offload it may be a packet's header less. */
function udpBytesOf({ heapSize, packetSize }: DemoFlags): number {
  const { group: items } = tutorialItems(heapSize)
  items.get('timestamp').value = 0
  items.get('adc_samples').value = new Int8Array(heapSize)
  const heap = items.getHeap({ descriptors: 'none', data: 'all' })
  return packetsOf(heap, 0, { maxPacketSizeBytes: packetSize, mergesEqualPackets: true }).reduce(
    (sum, packet) => sum + packet.length,
    0,
  )
}
