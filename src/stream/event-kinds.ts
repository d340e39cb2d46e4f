/** The kinds of events, which kind a changed state is, and the sentences that tell of it. */
import type { StateWords } from '../backend/states.js'
import { changesOf } from '../debug.js'
import { counted } from '../errors.js'

/** A kind of event; docs/diagnosing.md, "Events", says when each comes. */
export type StreamEventKind =
  | 'link'
  | 'route'
  | 'address'
  | 'neighbour'
  | 'refusal'
  | 'queue'
  | 'segmentation'
  | 'transport'
  | 'rate'
  | 'connection'
  | 'device'
  | 'recovery'
  | 'thread'
  | 'late'
  | 'lag'
  | 'clock'
  | 'error'

const KINDS = {
  link: true,
  route: true,
  address: true,
  neighbour: true,
  refusal: true,
  queue: true,
  segmentation: true,
  transport: true,
  rate: true,
  connection: true,
  device: true,
  recovery: true,
  thread: true,
  late: true,
  lag: true,
  clock: true,
  error: true,
} as const satisfies Record<StreamEventKind, true>

export const EVENT_KINDS = Object.keys(KINDS) as readonly StreamEventKind[]

/** The kind of a change of each state. 'way' goes with the change of a way beside it, and is a route's where there is none. */
export const KIND_OF_STATE = {
  interface: 'route',
  sourceAddress: 'address',
  sourcePort: 'address',
  pathChanges: 'way',
  lastPathChange: 'way',
  carrier: 'link',
  dropsBelowSocket: 'queue',
  dropsByIpsec: 'queue',
  queueChanges: 'queue',
  substreamsWithoutNeighbour: 'neighbour',
  substreamsRejected: 'refusal',
  portUnreachableAt: 'refusal',
  sendBufferBytes: 'rate',
  sendBufferClipped: 'rate',
  segmentation: 'segmentation',
  segmentationReason: 'segmentation',
  maxSegments: 'segmentation',
  udpPath: 'transport',
  udpPathReason: 'transport',
  zeroCopy: 'transport',
  rateMethod: 'rate',
  rateMethodReason: 'rate',
  frameBytesPerSecond: 'rate',
  connections: 'connection',
  connectionsLost: 'connection',
  reconnects: 'connection',
  device: 'device',
  port: 'device',
  portActive: 'link',
  queueDepth: 'device',
  recoveries: 'recovery',
  trouble: 'recovery',
  stalls: 'recovery',
  checksums: 'device',
  vlan: 'device',
  linkLayer: 'device',
  gid: 'address',
  gidIndex: 'address',
  peer: 'address',
  mtuBytes: 'route',
  path: 'transport',
  numaNode: 'device',
  numaNodeReason: 'device',
} as const satisfies Record<keyof StateWords, StreamEventKind | 'way'>

/** The kinds that a change of a way may be, the likeliest to explain it first. */
const WAYS: readonly StreamEventKind[] = ['connection', 'route', 'address']

/** Something that has changed. */
export interface StateChange {
  readonly kind: StreamEventKind
  readonly message: string
  /** The states of that kind that have changed, as they were, and as they are. */
  readonly before: StateWords
  readonly after: StateWords
}

/** One change for each kind. @param changed the names of the states that have */
export function changesByKind(changed: readonly (keyof StateWords)[], before: StateWords, after: StateWords): StateChange[] {
  const kinds = new Map<StreamEventKind, (keyof StateWords)[]>()
  const ways: (keyof StateWords)[] = []
  for (const name of changed) {
    const kind = KIND_OF_STATE[name]
    if (kind === 'way') ways.push(name)
    else kinds.set(kind, [...(kinds.get(kind) ?? []), name])
  }
  const way = WAYS.find((kind) => kinds.has(kind)) ?? 'route'
  if (ways.length > 0) kinds.set(way, [...(kinds.get(way) ?? []), ...ways])
  return [...kinds].map(([kind, names]) => {
    const [was, is] = [only(names, before), only(names, after)]
    return { kind, message: sentenceOf(names, was, is, after), before: was, after: is }
  })
}

const only = (names: readonly (keyof StateWords)[], states: StateWords): StateWords =>
  Object.fromEntries(names.filter((name) => states[name] !== undefined).map((name) => [name, states[name]]))

type Sentence = (is: StateWords, was: StateWords, all: StateWords) => string | undefined

const rose = (is = 0, was = 0): number => Math.max(0, is - was)

/** The words for a change of these states. Those that are left out go without saying beside another. */
const SENTENCES: Partial<Record<keyof StateWords, Sentence>> = {
  // The text begins with the time, which an event has too.
  lastPathChange: ({ lastPathChange }) => lastPathChange?.replace(/^\S+Z /, ''),
  interface: (is, was) => `packets leave by ${is.interface || 'no interface'} instead of ${was.interface || 'none'}`,
  sourceAddress: (is, was) => `packets come from ${is.sourceAddress || 'no address'} instead of ${was.sourceAddress || 'none'}`,
  carrier: ({ carrier }, _, all) =>
    `${all.interface || 'the interface'} ${carrier ? 'has a signal again' : 'has no signal: packets that leave meanwhile are lost'}`,
  portActive: ({ portActive }, _, { device, port }) => `port ${port} of ${device} is ${portActive ? 'active again' : 'not active'}`,
  dropsBelowSocket: ({ dropsBelowSocket }, was) =>
    `${counted(rose(dropsBelowSocket, was.dropsBelowSocket), 'packet')} more dropped below the socket`,
  dropsByIpsec: ({ dropsByIpsec }, was) => `IPsec dropped ${counted(rose(dropsByIpsec, was.dropsByIpsec), 'more packet')}`,
  queueChanges: (_, __, all) => `a queueing discipline below ${all.interface || 'the socket'} was replaced`,
  substreamsWithoutNeighbour: ({ substreamsWithoutNeighbour: now = 0 }) =>
    now === 0 ? 'every next hop answers again' : `the next hop of ${counted(now, 'substream')} does not answer`,
  substreamsRejected: ({ substreamsRejected: now = 0 }) =>
    now === 0 ? 'no substream is refused any more' : `${counted(now, 'substream')} refused by a router or a firewall`,
  portUnreachableAt: ({ portUnreachableAt }) => `nobody listens at ${portUnreachableAt}`,
  segmentation: ({ segmentation, segmentationReason }) => `segmentation is ${segmentation}${because(segmentationReason)}`,
  udpPath: ({ udpPath, udpPathReason }) => `messages go by ${udpPath}${because(udpPathReason)}`,
  zeroCopy: ({ zeroCopy }) => `messages are ${zeroCopy ? 'lent to the kernel' : 'copied'} now`,
  rateMethod: ({ rateMethod, rateMethodReason }) => `the rate is kept by '${rateMethod}'${because(rateMethodReason)}`,
  connectionsLost: ({ connectionsLost = 0 }) =>
    connectionsLost === 0 ? 'every connection is there again' : `${counted(connectionsLost, 'connection')} lost`,
  recoveries: ({ trouble }) => `the queue was made ready again${because(trouble)}`,
  stalls: (_, __, { device }) => `nothing completes on ${device}`,
}

const because = (reason: string | undefined): string => (reason ? `: ${reason}` : '')

function sentenceOf(names: readonly (keyof StateWords)[], was: StateWords, is: StateWords, all: StateWords): string {
  // The sentence about the way has the addresses and the interfaces in it.
  const told = is.lastPathChange ? (['lastPathChange'] as const) : names
  const sentences = told.flatMap((name) => SENTENCES[name]?.(is, was, all) ?? [])
  return sentences.length > 0 ? sentences.join('; ') : changesOf(was, is)
}
