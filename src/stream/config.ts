/** Checks the options of openStream once, at the edge: unknown keys, wrong types and contradictions never get past here. */
import * as v from 'valibot'
import { BACKEND_NAMES } from '../backend/names.js'
import { SpeadcastError } from '../errors.js'
import { checkClock, clockSchema } from './clock-options.js'
import { ignoredOption } from './foreign.js'
import { IoThread } from './io-thread.js'
import { checkOnError, onErrorSchema } from './on-error.js'
import { DEFAULTS, type IbverbsStreamOptions, type RdmaUdStreamOptions, type StreamOptions } from './options.js'
import { placed, THREAD_PLACE, type ThreadPlace } from './place-options.js'
import { parseRate, shareOfLink } from './rate.js'
import { choice, whole } from './schema.js'
import { contradictsRestart, threadDeathSchema } from './thread-death.js'

type Fault = NonNullable<NonNullable<StreamOptions['memory']>['failAt']>
type Defaulted<T, Undefaulted extends keyof T> = Required<Omit<T, Undefaulted>> & Pick<T, Undefaulted>

/** Options without a default, because their absence has a meaning. */
type Undefaulted =
  | 'interface'
  | 'thread'
  | 'ioThreads'
  | 'ttl'
  | 'dscp'
  | 'ibverbs'
  | 'rdmaUd'
  | 'pcapPath'
  | 'memory'
  | 'onPathChange'
  | 'onError'
  | 'onThreadDeath'
  | 'lagBoundSeconds'
  | 'sendBufferBytes'
  | 'tcp'
  | 'socket'
  | 'queueFull'
  | 'clock'

/** The options of openStream as they are used: checked, and with the defaults in place. */
export type StreamConfig = Readonly<
  Required<Omit<StreamOptions, Undefaulted | keyof ThreadPlace | 'to' | 'flavour' | 'rate'>> &
    ThreadPlace & { [K in Undefaulted]?: StreamOptions[K] | undefined } & {
      to: readonly string[]
      flavour: Required<NonNullable<StreamOptions['flavour']>>
      /** As it was given. */
      rate: number | string
      /** 0 until the link is known, where the rate is a share of it. */
      rateBytesPerSecond: number
      /** The share of the link that the rate is: 0.5 for '50%'. */
      rateShare?: number
    }
>

const seconds = (low: number) =>
  v.pipe(
    v.number('must be a number of seconds'),
    v.check((n) => n >= low && n <= 3600, `must be from ${low} to 3600 (seconds)`),
  )

const yesOrNo = v.boolean('must be true or false')

const memoryOptions = v.strictObject(
  {
    keepPackets: v.exactOptional(yesOrNo),
    acceptPerPost: v.exactOptional(whole(1, 2 ** 31, 'packets')),
    pauseNanoseconds: v.exactOptional(whole(0, 1e12, 'nanoseconds')),
    completeAfterReaps: v.exactOptional(whole(1, 2 ** 31, 'reaps')),
    failAt: v.exactOptional(v.custom<Fault>((it) => typeof it === 'function', 'must be a function of row and substream')),
  },
  'must be an object, see MemoryOptions',
)

const ibverbsOptions = v.strictObject(
  {
    library: v.exactOptional(v.string('must be the name or path of libibverbs')),
    queueDepth: v.optional(whole(16, 65536, 'work requests'), DEFAULTS.queueDepth),
    poll: v.optional(choice(['busy', 'adaptive', 'event']), 'adaptive'),
    pollMicroseconds: v.optional(whole(0, 1e6, 'microseconds'), DEFAULTS.pollMicroseconds),
    completionVector: v.optional(whole(0, 1023, 'completion vector'), 0),
    completionTimeoutMs: v.optional(whole(10, 600_000, 'milliseconds'), DEFAULTS.completionTimeoutMs),
    vlan: v.exactOptional(
      v.strictObject({ id: whole(1, 4094, 'VLAN id'), priority: v.exactOptional(whole(0, 7, 'priority code point')) }),
    ),
  },
  'must be an object, see IbverbsStreamOptions',
)

/** The options of backends 'ibverbs' and 'rdma-ud' where none are given. */
export const IBVERBS_DEFAULTS: Defaulted<IbverbsStreamOptions, 'library' | 'vlan'> = v.parse(ibverbsOptions, {})

const peer = v.strictObject(
  {
    gid: v.exactOptional(v.string('must be a GID, written as an IPv6 or IPv4 address')),
    qpn: whole(2, 2 ** 24 - 1, 'queue pair number'),
    qkey: v.exactOptional(whole(0, 2 ** 32 - 1, 'queue key')),
    lid: v.exactOptional(whole(0, 0xffff, 'local id')),
    mtuBytes: v.exactOptional(whole(256, 65536, 'bytes')),
  },
  'must be { gid, qpn, qkey, lid }',
)

const rdmaUdOptions = v.strictObject(
  {
    device: v.exactOptional(v.string("must be an RDMA device's name, with its port or without: 'mlx5_0:1'")),
    peers: v.exactOptional(v.array(peer, 'must be a list of { gid, qpn, qkey, lid }, one for each endpoint')),
    connectTimeoutMs: v.optional(whole(1, 600_000, 'milliseconds'), DEFAULTS.connectTimeoutMs),
  },
  'must be an object, see RdmaUdStreamOptions',
)

/** The options of backend 'rdma-ud' where none are given. */
export const RDMA_UD_DEFAULTS: Defaulted<RdmaUdStreamOptions, 'device' | 'peers'> = v.parse(rdmaUdOptions, {})

const tcpOptions = v.strictObject(
  {
    connectTimeoutMs: v.exactOptional(whole(1, 600_000, 'milliseconds')),
    reconnect: v.exactOptional(choice(['fail', 'retry'])),
    reconnectDelayMs: v.exactOptional(whole(1, 600_000, 'milliseconds')),
    reconnectDelayMaxMs: v.exactOptional(whole(1, 600_000, 'milliseconds')),
    reconnectSeconds: v.exactOptional(
      v.pipe(
        v.number('must be a number of seconds, or Infinity'),
        v.check((seconds) => seconds > 0, 'must be above 0 (seconds), or Infinity'),
      ),
    ),
  },
  'must be an object, see TcpStreamOptions',
)

const socket = v.strictObject({ fd: whole(0, 2 ** 31 - 1, 'descriptor of an open socket') }, 'must be { fd }')

const exactSplit = v.strictObject({
  payloadBytes: whole(0, 65507, 'bytes'),
  pointers: v.array(
    v.union(
      [
        v.picklist(['heap-cnt', 'heap-length', 'payload-offset', 'payload-length', 'padding']),
        v.strictObject({ item: whole(0, 2 ** 53 - 1, 'item id'), addressAsImmediate: v.exactOptional(yesOrNo) }),
      ],
      "must be 'heap-cnt', 'heap-length', 'payload-offset', 'payload-length', 'padding' or { item }",
    ),
    'must be a list of pointers',
  ),
  repeat: v.exactOptional(yesOrNo),
})

const countable = v.union([v.number(), v.bigint()], 'must be a whole number, as a bigint beyond 2^53')

const schema = v.strictObject({
  to: v.optional(
    v.pipe(
      v.union(
        [v.string(), v.array(v.string("must be an endpoint 'HOST:PORT'"))],
        "must be an endpoint 'HOST:PORT' or a list of them",
      ),
      v.transform((to) => (typeof to === 'string' ? [to] : to)),
    ),
  ),
  interface: v.optional(v.string('must be an interface name or address')),
  backend: v.optional(choice(['auto', ...BACKEND_NAMES]), 'auto'),
  thread: v.optional(
    v.union([v.picklist(['worker', 'inline']), v.instance(IoThread)], "must be 'worker', 'inline' or an IoThread"),
  ),
  ioThreads: v.optional(whole(1, 1024, 'I/O threads')),
  ...THREAD_PLACE,
  flavour: v.optional(
    v.strictObject(
      {
        heapAddressBits: v.optional(v.number('must be one of 8, 16, 24, 32, 40, 48, 56'), 48),
        bugCompat: v.optional(v.number('must be a sum of BUG_COMPAT flags'), 0),
      },
      'must be an object { heapAddressBits, bugCompat }',
    ),
    { heapAddressBits: 48, bugCompat: 0 },
  ),
  // openStream checks its range, because that error has a code of its own.
  packetSizeBytes: v.optional(
    v.pipe(v.number('must be a number of bytes'), v.integer('must be a whole number of bytes')),
    DEFAULTS.packetSizeBytes,
  ),
  split: v.optional(
    v.union([v.picklist(['even', 'greedy']), exactSplit], "must be 'even', 'greedy' or { payloadBytes, pointers, repeat }"),
    'even',
  ),
  repeatPointers: v.optional(yesOrNo, false),
  firstCnt: v.optional(countable, 1),
  cntStep: v.optional(countable, 1),
  descriptors: v.optional(
    v.union(
      [
        v.picklist(['first', 'in-band', 'none']),
        v.strictObject({
          everySeconds: v.exactOptional(
            v.pipe(v.number('must be a number of seconds'), v.minValue(0.001, 'must be at least 0.001 (seconds)')),
          ),
          firstCnt: v.exactOptional(whole(0, 2 ** 53 - 1, 'heap cnt')),
          cntStep: v.exactOptional(whole(1, 2 ** 53 - 1, 'heap cnt step')),
          stagger: v.exactOptional(yesOrNo),
        }),
      ],
      "must be 'first', 'in-band', 'none' or { everySeconds, firstCnt, cntStep, stagger }",
    ),
    'first',
  ),
  maxQueuedBytes: v.optional(
    v.pipe(
      v.number('must be a number of bytes'),
      v.check(
        (bytes) => bytes === Infinity || (Number.isSafeInteger(bytes) && bytes > 0),
        'must be a whole number of bytes from 1 up',
      ),
    ),
    Number.POSITIVE_INFINITY,
  ),
  queueFull: v.optional(choice(['reject', 'wait'])),
  rate: v.optional(
    v.union([v.number(), v.string()], "must be bytes per second, or a string with a unit such as '40Gbps' or '5GB/s'"),
    0,
  ),
  rateMethod: v.optional(choice(['auto', 'sw', 'kernel', 'hw']), 'auto'),
  rateBasis: v.optional(choice(['udp', 'wire']), 'udp'),
  burstBytes: v.optional(whole(1, 2 ** 31, 'bytes'), DEFAULTS.burstBytes),
  burstRateRatio: v.optional(
    v.pipe(
      v.number('must be a number from 1 up'),
      v.check((ratio) => ratio >= 1 && Number.isFinite(ratio), 'must be at least 1'),
    ),
    DEFAULTS.burstRateRatio,
  ),
  catchUpSeconds: v.optional(seconds(0), DEFAULTS.catchUpSeconds),
  clock: v.optional(clockSchema),
  lagBoundSeconds: v.optional(seconds(1e-6)),
  ttl: v.optional(whole(0, 255, 'hops')),
  multicastLoop: v.optional(yesOrNo, true),
  dscp: v.optional(whole(0, 63, 'DSCP value')),
  sourcePort: v.optional(whole(0, 65535, 'port'), 0),
  reusePort: v.optional(yesOrNo, false),
  broadcast: v.optional(yesOrNo, false),
  sendBufferBytes: v.optional(whole(0, 2 ** 30, 'bytes')),
  allowFragmentation: v.optional(yesOrNo, false),
  segmentation: v.optional(choice(['auto', 'off']), 'auto'),
  udpPath: v.optional(choice(['auto', 'io_uring', 'sendmmsg']), 'auto'),
  neighbourTimeoutMs: v.optional(whole(0, 60_000, 'milliseconds'), DEFAULTS.neighbourTimeoutMs),
  onPathChange: v.optional(v.function('must be a function of the change')),
  onError: v.optional(onErrorSchema),
  onThreadDeath: v.optional(threadDeathSchema),
  ibverbs: v.optional(ibverbsOptions),
  rdmaUd: v.optional(rdmaUdOptions),
  tcp: v.optional(tcpOptions),
  socket: v.optional(socket),
  pcapPath: v.optional(v.string('must be a file path')),
  memory: v.optional(memoryOptions),
  debug: v.optional(yesOrNo, false),
})

/** @throws ERR_SPEADCAST_CONFIG naming every offending option, its value and what is allowed. */
export function parseStreamConfig(input: unknown): StreamConfig {
  const config = parsed(input)
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  const { to } = config
  if (to === undefined && !config.socket) contradict("option 'to' is missing; give it the endpoints, 'HOST:PORT'")
  if (config.backend === 'pcap' && config.pcapPath === undefined) contradict("backend 'pcap' needs pcapPath, the file to write")
  const verbs = config.backend === 'ibverbs' || config.backend === 'rdma-ud'
  if (config.ibverbs?.vlan && config.backend === 'rdma-ud')
    contradict("ibverbs.vlan tags frames; backend 'rdma-ud' makes none, its VLAN is that of its GID: give the VLAN's interface")
  if (config.sourcePort > 0 && config.backend === 'rdma-ud')
    contradict("sourcePort is of UDP; backend 'rdma-ud' sends from a queue pair, leave it out")
  if (config.reusePort && config.sourcePort === 0) contradict('reusePort shares a source port; give sourcePort too')
  if (config.broadcast && config.backend === 'rdma-ud')
    contradict("broadcast is of IPv4; backend 'rdma-ud' sends to queue pairs and groups, leave it out")
  if (config.rateMethod === 'hw' && config.backend !== 'ibverbs')
    contradict("rateMethod 'hw' is pacing by the device: it needs backend 'ibverbs'")
  const rateShare = shareOfLink(config.rate)
  const rateBytesPerSecond = rateShare === undefined ? parseRate(config.rate) : 0
  checkClock({ ...config, rateBytesPerSecond, rateShare })
  if (config.rateMethod === 'kernel') {
    if (config.backend !== 'udp') contradict("rateMethod 'kernel' is pacing by the queue below a socket: it needs backend 'udp'")
    if (rateBytesPerSecond === 0 && rateShare === undefined) contradict("rateMethod 'kernel' needs a rate; give openStream one")
    if (config.udpPath === 'io_uring')
      contradict(
        "rateMethod 'kernel' lets packets wait, and udpPath 'io_uring' lends their memory meanwhile; leave one of the two out",
      )
  }
  if (config.allowFragmentation && verbs)
    contradict(`backend '${config.backend}' passes by the kernel and never fragments; leave allowFragmentation out`)
  if (config.ttl === 0 && verbs)
    contradict(`ttl is 0, which keeps packets on this host; backend '${config.backend}' passes by its kernel and needs at least 1`)
  if (config.backend === 'dgram' && config.thread !== undefined && config.thread !== 'inline')
    contradict("backend 'dgram' runs on the event loop; leave thread out or use 'inline'")
  if (placed(config) && config.thread instanceof IoThread)
    contradict(`${placed(config)} is for a shared I/O thread, and thread is one of your own; give it to new IoThread instead`)
  if (typeof config.descriptors === 'object') {
    const { everySeconds, firstCnt, cntStep, stagger } = config.descriptors
    if (stagger && everySeconds === undefined) contradict('descriptors.stagger is of repeats; give descriptors.everySeconds too')
    if (cntStep !== undefined && firstCnt === undefined)
      contradict('descriptors.cntStep is of a sequence of their own; give descriptors.firstCnt too')
  }
  if (config.queueFull !== undefined && config.maxQueuedBytes === Number.POSITIVE_INFINITY)
    contradict('queueFull says what happens at maxQueuedBytes, which is not given; give both, or leave queueFull out')
  checkOnError(config.onError, config.backend)
  const dead = contradictsRestart(config)
  if (dead) contradict(dead)
  if (config.ioThreads !== undefined && (config.thread instanceof IoThread || config.thread === 'inline'))
    contradict('ioThreads is for shared I/O threads; leave it out, or leave thread out')
  const checked = { ...config, to: to ?? [], rateBytesPerSecond, ...(rateShare !== undefined && { rateShare }) }
  // withTransport looks at those of TCP.
  const ignored = config.backend === 'tcp' ? undefined : ignoredOption(checked, config.backend)
  if (ignored) contradict(ignored)
  return checked
}

function parsed(input: unknown): v.InferOutput<typeof schema> {
  let problem: string
  try {
    const result = v.safeParse(schema, input)
    if (result.success) return result.output
    problem = describeIssues(result.issues)
  } catch (cause) {
    const message = 'openStream: the options cannot be read, because an accessor or a proxy throws; give plain objects'
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
  }
  throw new SpeadcastError('ERR_SPEADCAST_CONFIG', problem)
}

function describeIssues(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues
    .flatMap((issue) => precise(issue))
    .map(({ path, issue }) => {
      const name = path.join('.')
      if (path.length === 0)
        return `openStream: the options are ${issue.received}; give an object such as { to: '239.10.0.1:7148' }`
      if (issue.type === 'strict_object' && issue.expected === 'never')
        return `unknown option '${name}'; known ones: ${optionNames(...path.slice(0, -1)).join(', ')}`
      if (issue.received === 'undefined') return `option '${name}' is missing`
      return `option '${name}' is ${issue.received}; ${issue.message}`
    })
    .join('; ')
}

type Place = { readonly path: readonly string[]; readonly issue: v.BaseIssue<unknown> }

/** The issues inside the form that fits best of several, where there are any: of `split.payloadBytes` rather than of `split`. */
function precise(issue: v.BaseIssue<unknown>, outer: readonly string[] = []): Place[] {
  const path = [...outer, ...(issue.path ?? []).map(({ key }) => String(key))]
  const inside = issue.type === 'union' ? (issue.issues ?? []).filter((inner) => inner.path) : []
  return inside.length > 0 ? inside.flatMap((inner) => precise(inner, path)) : [{ path, issue }]
}

/** The common part of valibot's schemas of objects, optional, alternative and listed things; a picklist's options are strings. */
interface SchemaNode {
  readonly entries?: Readonly<Record<string, SchemaNode>>
  readonly wrapped?: SchemaNode
  readonly options?: readonly (SchemaNode | string)[]
  readonly item?: SchemaNode
}

function entriesOf(node: SchemaNode | string | undefined): SchemaNode['entries'] {
  if (typeof node !== 'object') return undefined
  return node.entries ?? entriesOf(node.wrapped) ?? entriesOf(node.item) ?? node.options?.map(entriesOf).find(Boolean)
}

/** Returns the names of the stream's options, or of those inside one of them: optionNames('flavour'). Empty where there are none. */
export function optionNames(...within: readonly string[]): string[] {
  let entries = entriesOf(schema as unknown as SchemaNode)
  for (const name of within) if (!/^\d+$/.test(name)) entries = entriesOf(entries?.[name])
  return Object.keys(entries ?? {})
}
