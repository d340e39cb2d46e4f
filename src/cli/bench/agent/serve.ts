/** An agent's part of the runs of one master: a receiver for each, and what it counted. */
import { setTimeout as sleep } from 'node:timers/promises'
import { counted } from '../../../errors.js'
import { openReceiver, type Receiver } from '../../../receive/index.js'
import { freePort } from '../../common/free-port.js'
import { printJson, say } from '../../common/print.js'
import { binaryBytes, bytesPerSecond, many } from '../../common/table.js'
import { interfaceDrops } from './interface-drops.js'
import type { LineChannel } from './line-channel.js'
import { endpointOf } from './place.js'
import {
  messageOf,
  type Open,
  type Opened,
  PROTOCOL_VERSION,
  ProtocolError,
  parseFromMaster,
  type Refused,
  type Result,
  type Welcome,
} from './protocol.js'

export interface AgentLimits {
  readonly memoryBytes: number
  readonly bufferBytes: number | undefined
  readonly dataPort: number | undefined
  readonly mostSeconds: number
  readonly json: boolean
}

/** The sums of all runs that an agent served. */
export interface Served {
  masters: number
  runs: number
  packets: number
  bytes: number
  heaps: number
  heapsIncomplete: number
  payloadBytes: number
}

interface Ends {
  /** The address of this host that the master connected to, on which heaps are received. */
  readonly address: string
  readonly from: string
  /** The sums to which each run adds. */
  readonly served: Served
}

/** A master that asks for nothing for this time counts as gone. */
const IDLE_SECONDS = 60
/** A master may take this much longer than it announced, because it opens its stream and sends what was queued. */
const GRACE_SECONDS = 20
/** A run is complete when nothing came for this time. */
const QUIET_MS = 300
/** The agent waits no longer than this for the last packets of a run. */
const MOST_QUIET_SECONDS = 10
const LOOK_MS = 20
const TRIES = 5

/** Serves runs until the master goes away. @throws ProtocolError, the connection's error */
export async function serveMaster(channel: LineChannel, ends: Ends, limits: AgentLimits): Promise<void> {
  const { mostSeconds } = limits
  // A heap's slot is the next power of two.
  const mostHeapBytes = Math.floor(limits.memoryBytes / 2)
  channel.send({ type: 'welcome', version: PROTOCOL_VERSION, mostSeconds, mostHeapBytes } satisfies Welcome)
  const refuse = (why: string): void => channel.send({ type: 'refused', why } satisfies Refused)
  for (;;) {
    const line = await channel.next(IDLE_SECONDS)
    if (line === undefined) return
    const open = parseFromMaster(line)
    if (open.type !== 'open') throw new ProtocolError(`'${open.type}' where a run should begin`)
    if (open.seconds > mostSeconds)
      refuse(`a run of ${open.seconds} s is too long; this agent was started with --most-seconds ${mostSeconds}`)
    else if (open.heapSizeBytes > mostHeapBytes)
      refuse(
        `heaps of ${open.heapSizeBytes} bytes are too large for this agent's memory; start it with a larger --memory than ${limits.memoryBytes}`,
      )
    else {
      const went = await serveRun(channel, open, ends, limits)
      if (!went) return
    }
  }
}

/** Returns false where the master went away meanwhile. */
async function serveRun(channel: LineChannel, open: Open, { address, from, served }: Ends, limits: AgentLimits): Promise<boolean> {
  let receiver: Receiver
  let port: number
  try {
    ;({ receiver, port } = await openRun(address, open, limits))
  } catch (error) {
    channel.send({ type: 'refused', why: `the agent cannot receive: ${messageOf(error)}`.slice(0, 500) } satisfies Refused)
    return true
  }
  const stop = (): void => void receiver.close().catch(() => undefined)
  channel.gone.addEventListener('abort', stop)
  try {
    const cpu = process.cpuUsage()
    const drops = interfaceDrops(address)
    const { backend, receiveBufferBytes } = receiver.stats()
    channel.send({ type: 'opened', port, receiveBufferBytes, receiver: backend } satisfies Opened)
    const line = await channel.next(open.seconds + GRACE_SECONDS)
    if (line === undefined) return false
    const collect = parseFromMaster(line)
    if (collect.type !== 'collect') throw new ProtocolError(`'${collect.type}' where a run should end`)
    await settle(receiver, collect.packets, channel.gone)
    const summary = await receiver.close()
    const { user, system } = process.cpuUsage(cpu)
    const { packets, bytes, messages, heaps, heapsIncomplete, payloadBytes, duplicates, reordered, malformed } = summary
    const { packetsRefused, heapsRefused, heapsEvicted, droppedByKernel, seconds } = summary
    const result: Result = {
      type: 'result',
      ...{ packets, bytes, messages, heaps, heapsIncomplete, payloadBytes, duplicates, reordered, malformed },
      ...{ packetsRefused, heapsRefused, heapsEvicted },
      // The receiver by node:dgram cannot count them (NaN).
      droppedByKernel: Number.isNaN(droppedByKernel) ? 0 : droppedByKernel,
      droppedByInterface: Math.max(0, interfaceDrops(address) - drops),
      seconds,
      cpuSeconds: (user + system) / 1e6,
    }
    channel.send(result)
    served.runs++
    for (const name of ['packets', 'bytes', 'heaps', 'heapsIncomplete', 'payloadBytes'] as const) served[name] += result[name]
    tell(result, open, collect.packets, from, limits)
    return true
  } finally {
    channel.gone.removeEventListener('abort', stop)
    await receiver.close().catch(() => undefined)
  }
}

async function openRun(address: string, { transport }: Open, limits: AgentLimits): Promise<{ receiver: Receiver; port: number }> {
  for (let tries = 1; ; tries++) {
    const port = limits.dataPort ?? (await freePort(address, transport))
    try {
      const receiver = await openReceiver({
        endpoints: endpointOf(address, port, transport),
        stops: 0,
        deliver: false,
        heapMemoryBytes: limits.memoryBytes,
        ...(limits.bufferBytes !== undefined && { receiveBufferBytes: limits.bufferBytes }),
      })
      return { receiver, port }
    } catch (error) {
      // Another program may have taken it since.
      if (limits.dataPort !== undefined || tries === TRIES) throw error
    }
  }
}

/** Waits until all packets came, or no more do. */
async function settle(receiver: Receiver, expected: number, gone: AbortSignal): Promise<void> {
  const startedAt = performance.now()
  let changedAt = startedAt
  let before = -1
  for (;;) {
    const { packets, bytes } = receiver.stats()
    const now = performance.now()
    if (bytes !== before) changedAt = now
    before = bytes
    if (packets >= expected || gone.aborted || now - changedAt >= QUIET_MS || now - startedAt >= MOST_QUIET_SECONDS * 1000) return
    await sleep(LOOK_MS)
  }
}

function tell(result: Result, { heapSizeBytes, transport }: Open, expected: number, from: string, limits: AgentLimits): void {
  const { type: _, ...counts } = result
  if (limits.json) printJson({ master: from, heapSizeBytes, transport, ...counts })
  else {
    const lost = Math.max(0, expected - result.packets)
    const rate = result.seconds > 0 ? bytesPerSecond(result.bytes / result.seconds) : 'no time'
    say(
      `${from}: heaps of ${binaryBytes(heapSizeBytes)} by ${transport.toUpperCase()}: ${many(result.packets, 'packet')} in ${result.seconds.toFixed(2)} s, ` +
        `${rate}, ${many(lost, 'packet')} lost, ${counted(result.droppedByKernel, 'drop')} by the socket`,
    )
  }
}
