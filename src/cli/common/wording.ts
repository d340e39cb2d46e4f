/** Says in the words of the command line what the library says in its own: its options as flags. */

/**
 * The options of openStream, openReceiver and the functions of speadcast/devices, and the flags that set them. Dotted names are those of options
 * inside an option.
 */
export const FLAG_OF: Readonly<Record<string, string>> = {
  affinity: '--io-cpu',
  allowFragmentation: '--allow-fragmentation',
  anySource: '--any-source',
  backend: '--backend',
  broadcast: '--broadcast',
  bugCompat: '--bug-compat',
  burstBytes: '--burst',
  burstRateRatio: '--burst-rate-ratio',
  catchUpSeconds: '--catch-up',
  clock: '--clock',
  'clock.late': '--late',
  'clock.lateToleranceSeconds': '--late-tolerance',
  'clock.sampleRateHz': '--sample-rate',
  'clock.samplesPerHeap': '--timestamp-step',
  'clock.startAt': '--start-at',
  'clock.syncTime': '--clock',
  'clock.unsynchronised': '--unsynchronised',
  cntStep: '--cnt-step',
  credits: '--credits',
  deadlineSeconds: '--deadline',
  descriptors: '--descriptors',
  'descriptors.cntStep': '--descriptor-cnt-step',
  'descriptors.everySeconds': '--descriptors',
  'descriptors.firstCnt': '--descriptor-first-cnt',
  'descriptors.stagger': '--descriptor-stagger',
  device: '--device',
  dscp: '--dscp',
  endpoints: 'HOST:PORT',
  firstCnt: '--first-cnt',
  'flavour.bugCompat': '--bug-compat',
  'flavour.heapAddressBits': '--heap-address-bits',
  groupMode: '--group-mode',
  heapAddressBits: '--heap-address-bits',
  heapMemoryBytes: '--memory',
  'ibverbs.completionTimeoutMs': '--completion-timeout',
  'ibverbs.completionVector': '--completion-vector',
  'ibverbs.library': '--verbs-library',
  'ibverbs.poll': '--poll',
  'ibverbs.pollMicroseconds': '--poll-microseconds',
  'ibverbs.queueDepth': '--queue-depth',
  'ibverbs.vlan': '--vlan',
  interface: '--interface',
  ioThreads: '--io-threads',
  lagBoundSeconds: '--lag-bound',
  maxQueuedBytes: '--max-queued',
  multicastLoop: '--no-multicast-loop',
  neighbourTimeoutMs: '--neighbour-timeout',
  onError: '--on-error',
  onThreadDeath: '--on-thread-death',
  packetSizeBytes: '-p',
  payloadBytes: '--payload-bytes',
  pcapPath: '--pcap',
  pinThread: '--main-cpu',
  priority: '--priority',
  rate: '--rate',
  rateBasis: '--rate-basis',
  rateMethod: '--rate-method',
  'rdmaUd.connectTimeoutMs': '--connect-timeout',
  'rdmaUd.device': '--device',
  'rdmaUd.peers': '--peer',
  receiveBufferBytes: '--buffer',
  repeatPointers: '--repeat-pointers',
  reusePort: '--reuse-port',
  segmentation: '--segmentation',
  sendBufferBytes: '--send-buffer',
  sourcePort: '--source-port',
  split: '--split',
  'split.payloadBytes': '--payload-bytes',
  'tcp.connectTimeoutMs': '--connect-timeout',
  'tcp.reconnect': '--reconnect',
  'tcp.reconnectDelayMaxMs': '--reconnect-delay-max',
  'tcp.reconnectDelayMs': '--reconnect-delay',
  'tcp.reconnectSeconds': '--reconnect-seconds',
  thread: '--thread',
  timeoutSeconds: '--timeout',
  to: 'HOST:PORT',
  ttl: '--ttl',
  udpPath: '--udp-path',
  verbsLibrary: '--verbs-library',
} // biome-ignore format: a table

/** The flags that set the options of a group, for messages about the whole group. */
const GROUPS: Readonly<Record<string, string>> = {
  ibverbs: '--vlan, --queue-depth, --poll and others of verbs',
  rdmaUd: '--device, --peer and --connect-timeout',
  tcp: '--connect-timeout and --reconnect',
}

const listed = (names: readonly string[]): string =>
  names
    .toSorted((a, b) => b.length - a.length)
    .map((name) => name.replace('.', '\\.'))
    .join('|')
/** Options inside an option by their own names too, where those are no words of English. */
const FLAGS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    Object.entries(FLAG_OF)
      .map(([name, flag]) => [name.replace(/^.*\./, ''), flag] as const)
      .filter(([name]) => /[A-Z]/.test(name)),
  ),
  ...FLAG_OF,
}
const NAMES = Object.keys(FLAGS)
/** No words of English, so they are options wherever they stand outside of quotes. */
const CODED = new RegExp(
  `(?<![\\w.'"/-])(${listed(NAMES.filter((name) => /[A-Z.]/.test(name)))})((?:\\.\\w+)*)(?: '([\\w-]+)')?(?!\\w)`,
  'g',
)
/** Words of English, which are options where something is said of them. */
const PLAIN = listed(NAMES.filter((name) => !/[A-Z.]/.test(name) && name !== 'to' && name !== 'endpoints'))
const SUBJECT = new RegExp(`(^|[;:] )(${PLAIN})(?= (?:is\\b|are\\b|'))`, 'g')
const OBJECT = new RegExp(`\\b(leave|give|set|drop|without) (${PLAIN})\\b(?! ')`, 'g')
const QUOTED = /\boption '([A-Za-z]+(?:\.[A-Za-z]+)?)((?:\.\w+)*)'/g

const inside = (rest: string): string => (rest === '' ? '' : ` (${rest.slice(1)})`)

/** Names the flags of the options in a message of the library. Text that the message quotes stays as it is. */
export function inFlags(message: string): string {
  return (
    message
      .replace(/^serveMetrics: /, '--metrics: ')
      .replace(/^(?:openStream|openReceiver|explainBackends|listRdmaDevices|close): /, '')
      .replace(/^(affinity|priority): /, (_, name: string) => `${FLAG_OF[name]}: `)
      .replace(/^(ibverbs|rdmaUd|tcp) is only for/, (_, group: string) => `${GROUPS[group]} are only for`)
      .replace(QUOTED, (all, name: string, rest: string) => {
        const [outer = ''] = name.split('.')
        const flag = FLAG_OF[name] ?? FLAG_OF[outer]
        return flag === undefined ? all : `${flag}${inside(FLAG_OF[name] ? rest : name.slice(outer.length) + rest)}`
      })
      .replace(/\bmulticastLoop is false\b/g, '--no-multicast-loop is given')
      .replace(/\bpacketSizeBytes ≤ (\d+)/g, '-p $1')
      .replace(CODED, (_, name: string, rest: string, value?: string) => `${FLAGS[name]}${inside(rest)}${value ? ` ${value}` : ''}`)
      .replace(/(?<!-)\bbackends '([\w-]+)' (and|or) '([\w-]+)'/g, '--backend $1 $2 $3')
      .replace(/(?<!-)\b(backend|thread) '([\w-]+)'/g, '--$1 $2')
      .replace(SUBJECT, (_, before: string, name: string) => `${before}${FLAG_OF[name]}`)
      .replace(OBJECT, (_, verb: string, name: string) => `${verb} ${FLAG_OF[name]}`)
      .replace(/, so open a (?:stream|receiver) for each family$/, ', so run the command once for each family')
      .replace('give openStream one', 'give --rate')
      .replace('give one as option', 'give --interface')
      .replace('choose the interface by option', 'choose it by --interface')
      .replace(/(--[\w-]+) \(\1\)/g, '$1')
      // A literal of JavaScript's: a flag takes the digits alone.
      .replace(/(?<![\w.'"])(-?\d{16,})n\b/g, '$1')
  )
}
