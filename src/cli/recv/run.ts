/** Runs `speadcast recv`: receives until the end comes, and says what came. */
import type { Receiver, ReceiverEventKind, ReceiverOptions } from '../../receive/index.js'
import { tellEvents } from '../common/events.js'
import { complain, EXIT_FAILED, usageError } from '../common/exit.js'
import { onInterrupt } from '../common/interrupt.js'
import { type CommandMetrics, openMetrics } from '../common/metrics.js'
import { formatPeer } from '../common/peer.js'
import { pinMain } from '../common/place.js'
import { say } from '../common/print.js'
import { receiving, receivingTotals } from '../common/receiving.js'
import { Service } from '../common/service.js'
import { Watch } from '../common/watch.js'
import type { RecvFlags } from './flags.js'
import { printHeaps } from './heaps.js'
import { report } from './report.js'

/** The end has a summary. */
const TOLD: readonly ReceiverEventKind[] = ['membership', 'drops', 'sender', 'connection', 'refusal']
/** Kinds that change a few times in a run. */
const SAID: readonly ReceiverEventKind[] = ['membership', 'drops', 'refusal']

export async function runRecv(endpoints: string[], options: RecvFlags): Promise<void> {
  const { openReceiver } = await import('../../receive/index.js')
  let watch: Watch | undefined
  let service: Service | undefined
  let metrics: CommandMetrics | undefined
  let receiver: Receiver
  try {
    watch = new Watch('recv', options)
    if (endpoints.length === 0 && options.pcap === undefined)
      throw usageError("missing required argument 'HOST:PORT': say where to receive, or what to read, with --pcap FILE")
    checkFiles(options)
    service = await Service.open('recv')
    await pinMain(options)
    metrics = await openMetrics('recv', options)
    receiver = await openReceiver(receiverOptions(endpoints, options))
    metrics.next(receiver)
  } catch (error) {
    watch?.close()
    service?.close()
    await metrics?.close()
    complain('recv', error)
    if (isTaken(error)) process.exitCode = EXIT_FAILED
    return
  }
  const undo = onInterrupt(() => {
    service.stopping()
    void receiver.close().catch(() => undefined)
  })
  say(opened(receiver, options))
  for (const [i, peer] of receiver.peers.entries())
    say(`${receiver.endpoints[i]} is --peer ${formatPeer(peer)}, datagrams of ${peer.mtuBytes} bytes`)
  const told = tellEvents('recv', receiver.events({ kinds: TOLD }), SAID)
  try {
    await watch.start(receiving(receiver))
    // Whether heaps come is up to others.
    service.ready({
      what: 'got',
      totals: () => receivingTotals(receiver.stats()),
      moved: () => 0,
      idle: () => true,
      waitedSeconds: () => 0,
      patienceSeconds: 0,
    })
    if (prints(options)) await printHeaps(receiver, options)
    const summary = await receiver.done
    await told
    watch.end(receivingTotals(summary))
    report(summary, options)
  } catch (error) {
    complain('recv', error)
  } finally {
    watch.close()
    service.close()
    await metrics.close()
    undo()
  }
}

/** @throws ERR_SPEADCAST_CONFIG for '-', which many commands take for their standard input or output */
function checkFiles({ pcap, output }: RecvFlags): void {
  if (pcap === '-')
    throw usageError("--pcap '-': standard input cannot be read twice, as a capture is; name a file, or ./- for one of this name")
  if (output === '-')
    throw usageError(
      "--output '-': standard output has the summary, and a pipe may wait for ever; name a file, or ./- for one of this name",
    )
}

const prints = ({ values, descriptors }: RecvFlags): boolean => values === true || descriptors === true

function opened(receiver: Receiver, { pcap }: RecvFlags): string {
  const endpoints = receiver.endpoints.join(', ')
  if (pcap !== undefined) return `reading ${pcap}; ${endpoints === '' ? 'no SPEAD packet is in it' : endpoints}`
  const { backend, receiveBufferBytes, backendReason } = receiver.stats()
  const why = backendReason && ` (${backendReason})`
  // A connection's buffer is the kernel's to choose (tcp(7), tcp_rmem).
  if (backend === 'tcp') return `listening on ${endpoints}; ${backend}`
  return `listening on ${endpoints}; ${backend}${why}, ${backend === 'rdma-ud' ? 'receives of' : 'socket buffer'} ${receiveBufferBytes} bytes`
}

/** Whether another program has the port, which is no bad usage: it may be free in a moment. */
function isTaken(error: unknown): boolean {
  const cause = (error as Error).cause as { code?: unknown; errnoName?: unknown } | undefined
  return cause?.code === 'EADDRINUSE' || cause?.errnoName === 'EADDRINUSE'
}

function receiverOptions(endpoints: string[], options: RecvFlags): ReceiverOptions {
  const { heaps, timeout, stops, buffer, output, bugCompat, memory, cntStep } = options
  return {
    endpoints,
    ...(options.pcap !== undefined && { pcapPath: options.pcap }),
    ...(options.interface !== undefined && { interface: options.interface }),
    ...(heaps !== undefined && { heaps }),
    ...(timeout !== undefined && { timeoutSeconds: timeout }),
    ...(stops !== undefined && { stops }),
    ...(bugCompat !== undefined && { bugCompat }),
    ...(buffer !== undefined && { receiveBufferBytes: buffer }),
    ...(output !== undefined && { output }),
    ...(memory !== undefined && { heapMemoryBytes: memory }),
    ...(options.concurrentHeaps !== undefined && { maxHeaps: options.concurrentHeaps }),
    ...(!options.gro && { gro: false }),
    ...(cntStep !== undefined && { cntStep }),
    anySource: options.anySource ?? false,
    order: options.order,
    item: /^(0x[\da-f]+|\d+)$/i.test(options.item) ? Number(options.item) : options.item,
    verify: options.verify ?? false,
    hash: options.json === true || options.jsonStream === true || output !== undefined,
    deliver: prints(options),
    credits: options.credits ?? false,
    backend: options.backend,
    ...(options.device !== undefined && { device: options.device }),
    ...(options.ioCpu !== undefined && { affinity: options.ioCpu }),
    ...(options.priority !== undefined && { priority: options.priority }),
    ...(options.verbsLibrary !== undefined && { verbsLibrary: options.verbsLibrary }),
  }
}
