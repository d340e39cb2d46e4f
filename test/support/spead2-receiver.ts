import { expect } from 'vitest'
import type { GroupMode, StreamOptions, StreamStats } from '#dist/src/index.js'
import { type Netns, waitForOutput } from './netns.js'
import { peerScript, spead2Python } from './peer.js'
import { programArgv } from './program.js'

export interface InteropItem {
  name: string
  dtype?: string
  format?: [string, number][]
  shape: number[]
  order?: 'C' | 'F'
}

export interface Scenario {
  options: Omit<StreamOptions, 'to'>
  /** [host, port, device of the receiver to join a multicast group on]. */
  endpoints: [string, number, string?][]
  how: 'batch' | 'sendHeap' | 'sendHeaps'
  heaps: number
  items: InteropItem[]
  batchHeaps?: number
  groupMode?: GroupMode
  /** Substream of heap j: substreams[j mod length]; default j mod endpoints. */
  substreams?: number[]
  /** Every second batch sends only this number of heaps. */
  partial?: number
  /** The receiver's limit; default spead2's own. */
  maxHeaps?: number
  /** Connections instead of datagrams. */
  tcp?: boolean
  /** Address of the interface whose RDMA device receives, instead of the kernel. */
  ibverbs?: string
}

/** Commands to run the programs under, such as env with variables. */
export interface Under {
  readonly sender?: readonly string[]
  readonly receiver?: readonly string[]
}

export interface Received {
  version: string
  /** [endpoint, cnt, index, items, mistakes]. */
  heaps: [number, number, number, number, string[]][]
  done: {
    ended: boolean
    heaps: number
    incomplete: number
    descriptorHeaps: number
    rcvbufErrors: number
    sha256?: string
    bytes?: number
  }
}

const endpointText = ([host, port]: readonly [string, number, string?]): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`

/** Starts the real spead2 in namespace b; `received` waits until all its streams have ended. */
export async function startSpead2(
  ns: Netns,
  request: object,
  under: readonly string[] = [],
): Promise<{ received(): Promise<Received> }> {
  const child = ns.spawn('b', [...under, spead2Python()!, '-u', peerScript('spead2_receiver.py'), JSON.stringify(request)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await waitForOutput(child, /"ready"/)
  return {
    async received() {
      await ended
      const lines = text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { ready?: string; heap?: Received['heaps'][number]; done?: Received['done'] })
      const done = lines.find((line) => line.done)?.done
      if (!done) throw new Error(`the spead2 receiver ended early:\n${text}`)
      return { version: lines[0]!.ready!, heaps: lines.flatMap(({ heap }) => (heap ? [heap] : [])), done }
    },
  }
}

/** Sends a scenario to spead2. */
export async function transfer(ns: Netns, scenario: Scenario, under: Under = {}) {
  const { endpoints, items, maxHeaps, options, ibverbs, tcp } = scenario
  const wanted = {
    endpoints: endpoints.map(([h, p, d]) => [h, p, d ?? null]),
    items,
    maxHeaps: maxHeaps ?? 4,
    ...(ibverbs && { ibverbs }),
    ...(tcp && { tcp }),
  }
  const receiver = await startSpead2(ns, wanted, under.receiver)
  const request = {
    ...scenario,
    options: { rate: '500Mbps', ...options, to: endpoints.map((endpoint) => `${tcp ? 'tcp://' : ''}${endpointText(endpoint)}`) },
  }
  const { stdout } = await ns.exec('a', [...(under.sender ?? []), ...programArgv('support/send-scenario', request)], {
    timeoutMs: 25_000,
  })
  return { sent: JSON.parse(stdout) as { heaps: number; stats: StreamStats }, received: await receiver.received() }
}

/** Sends a scenario to spead2 and compares every heap. Returns how many. */
export async function exchange(ns: Netns, what: string, scenario: Scenario, under: Under = {}): Promise<number> {
  const { endpoints, substreams, heaps } = scenario
  const { sent, received } = await transfer(ns, scenario, under)
  const label = `${what}: ${JSON.stringify(received.done)}`
  // Defects of heaps come first, because they say more than a count.
  expect(received.heaps.filter(([, , , , wrong]) => wrong.length > 0).slice(0, 3), label).toEqual([])
  expect(received.done, label).toMatchObject({ ended: true, heaps, incomplete: 0, rcvbufErrors: 0 })
  expect(sent.heaps, label).toBe(heaps)
  const substreamOf = (j: number) => (substreams ? substreams[j % substreams.length]! : j % endpoints.length)
  const byIndex = [...received.heaps].sort(([, , a], [, , b]) => a - b)
  expect(
    byIndex.map(([endpoint, , index]) => [endpoint, index]),
    label,
  ).toEqual(Array.from({ length: heaps }, (_, j) => [substreamOf(j), j]))
  // Heap cnts rise with the heaps, whatever descriptors go in between.
  const cnts = byIndex.map(([, cnt]) => cnt)
  expect(
    cnts.every((cnt, i) => i === 0 || cnt > cnts[i - 1]!),
    label,
  ).toBe(true)
  // One substream's heaps arrive in their order, unless they take turns.
  if (scenario.groupMode !== 'round-robin')
    for (const n of endpoints.keys()) {
      const arrived = received.heaps.flatMap(([endpoint, , index]) => (endpoint === n ? [index] : []))
      expect(arrived, label).toEqual(arrived.toSorted((a, b) => a - b))
    }
  console.log(
    `peer spead2 ${received.version}: ${received.heaps.length} heaps compared (${what}; ${sent.stats.packets} packets, ` +
      `${received.done.descriptorHeaps} descriptor heaps, RcvbufErrors +${received.done.rcvbufErrors})`,
  )
  expect(received.version).toBe('4.5.1')
  expect(received.heaps.length).toBeGreaterThan(0)
  return received.heaps.length
}
