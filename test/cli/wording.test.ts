/** The command speaks of its flags: no option of the library is left in what it says. */
import { Item, openStream, type SpeadcastError, type StreamOptions } from 'speadcast'
import { openReceiver } from 'speadcast/receive'
import { expect, test } from 'vitest'
import { FLAG_OF, inFlags } from '#dist/src/cli/common/wording.js'
import { recvCommand } from '#dist/src/cli/recv/command.js'
import { sendCommand } from '#dist/src/cli/send/command.js'
import { optionNames } from '#dist/src/stream/config.js'
import { run } from '../support/cli.js'
import { page } from '../support/documents.js'

/** Options that no flag sets, so that no error of the command is about them. */
const WITHOUT_FLAG: readonly string[] = ['debug', 'memory', 'onPathChange', 'queueFull', 'socket']
const GROUPS: readonly string[] = ['flavour', 'ibverbs', 'rdmaUd', 'tcp', 'split', 'descriptors']

const NAMES = optionNames()
const CODED = NAMES.filter((name) => /[A-Z]/.test(name) && !WITHOUT_FLAG.includes(name))

test('every option of openStream has a flag or a reason', () => {
  const known = (name: string) => FLAG_OF[name] !== undefined || WITHOUT_FLAG.includes(name) || GROUPS.includes(name)
  expect(NAMES.length).toBeGreaterThan(30)
  expect(NAMES.filter((name) => !known(name))).toEqual([])
})

test('the flags are those that docs/options.md has', () => {
  const table = page('docs/options.md').text.split('## Flags of the command line')[1]!.split('\n## ')[0]!
  const rows = [...table.matchAll(/^\| (`[^|]*) \| `(--?[\w-]+)/gm)].flatMap(([, options, flag]) =>
    [...options!.matchAll(/`([\w.]+)`/g)].map(([, option]) => [option!, flag!] as const),
  )
  expect(rows.length).toBeGreaterThan(30)
  const flags = Object.values(FLAG_OF)
  expect(rows.filter(([option, flag]) => !flags.includes(flag) && !option.startsWith('split.pointers'))).toEqual([])
  // Options inside a group that have a flag of their own, and single options.
  const own = rows.filter(([option]) => FLAG_OF[option] !== undefined || !option.includes('.'))
  const told = own.filter(([option]) => !GROUPS.includes(option) && !option.startsWith('memory'))
  for (const [option, flag] of told) expect([option, FLAG_OF[option] === flag || option === 'cntStep']).toEqual([option, true])
})

test('every flag is one of a command', () => {
  const flags = new Set(
    [sendCommand(), recvCommand()].flatMap(({ options }) => options.flatMap(({ short, long }) => [short, long])),
  )
  expect(Object.values(FLAG_OF).filter((flag) => flag !== 'HOST:PORT' && !flags.has(flag))).toEqual([])
})

const TO = '127.0.0.1:9'
const told = (opening: Promise<{ close(): Promise<unknown> }>): Promise<string> =>
  opening.then(
    (open) => open.close().then(() => ''),
    ({ message }: SpeadcastError) => message,
  )

/** Options that contradict each other, or the backend. */
const CONTRADICTIONS: readonly Partial<StreamOptions>[] = [
  { backend: 'pcap' },
  { backend: 'udp', pcapPath: 'x' },
  { backend: 'dgram', ibverbs: {} },
  { backend: 'udp', rdmaUd: {} },
  { backend: 'rdma-ud', sourcePort: 5 },
  { backend: 'rdma-ud', broadcast: true },
  { backend: 'rdma-ud', ibverbs: { vlan: { id: 5 } } },
  { backend: 'rdma-ud', rdmaUd: { peers: [{ qpn: 17 }, { qpn: 18 }] } },
  { backend: 'rdma-ud', rdmaUd: { peers: [{ qpn: 1 }] } },
  { backend: 'ibverbs', allowFragmentation: true },
  { backend: 'ibverbs', ttl: 0 },
  { backend: 'dgram', thread: 'worker' },
  { backend: 'dgram', dscp: 5 },
  { backend: 'dgram', affinity: [0] },
  { backend: 'dgram', udpPath: 'io_uring' },
  { backend: 'udp', rateMethod: 'hw' },
  { backend: 'auto', rateMethod: 'kernel', rate: 5e6 },
  { backend: 'udp', rateMethod: 'kernel' },
  { backend: 'udp', rateMethod: 'kernel', rate: 5e6, udpPath: 'io_uring' },
  { backend: 'udp', rateMethod: 'kernel', rate: 5e6 },
  { backend: 'tcp', reusePort: true, sourcePort: 5 },
  { backend: 'tcp', broadcast: true },
  { backend: 'tcp', rateBasis: 'wire' },
  { backend: 'tcp', udpPath: 'sendmmsg' },
  { reusePort: true },
  { ttl: 0 },
  { thread: 'inline', ioThreads: 2 },
  { thread: 'inline', affinity: [0] },
  { thread: 'inline', priority: 5 },
  { priority: 'rr:0' },
  { affinity: [1023] },
  { descriptors: { stagger: true } },
  { descriptors: { cntStep: 2 } },
  { packetSizeBytes: 7 },
  { packetSizeBytes: 65_507, interface: 'no-such-interface' },
  { rate: '10 parsec' as '10G' },
  { rate: '50%' },
  { firstCnt: -1 },
  { cntStep: 0 },
  { flavour: { heapAddressBits: 47 } },
  { flavour: { heapAddressBits: 48, bugCompat: 64 } },
  { interface: 'no-such-interface' },
  { backend: 'ibverbs' },
]

test('no name of an option is left in an error of openStream', async () => {
  // Whole groups come from several flags, which the command puts together.
  const wrong = NAMES.filter((name) => !WITHOUT_FLAG.includes(name)).flatMap((name): object[] =>
    GROUPS.includes(name)
      ? optionNames(name).flatMap((inner) => (FLAG_OF[`${name}.${inner}`] ? [{ [name]: { [inner]: {} } }] : []))
      : [{ [name]: { no: 'such' } }, { [name]: Number.NaN }],
  ) as Partial<StreamOptions>[]
  const messages: string[] = []
  for (const options of [...CONTRADICTIONS, ...wrong]) {
    const message = await told(openStream({ to: TO, ...options }))
    // Lists of the known options are for programs, and no command line leads there.
    if (message !== '' && !message.includes('known ones: ')) messages.push(message)
  }
  expect(messages.length).toBeGreaterThan(70)
  for (const message of messages) {
    const said = inFlags(message)
    for (const name of CODED) expect([said, said.includes(name)]).toEqual([said, false])
    expect(said).not.toMatch(/^(affinity|priority):|\boption '|openStream|\b(ibverbs|rdmaUd|tcp|flavour|split|descriptors)\.\w/)
  }
})

test('nor in one of openReceiver', async () => {
  const wrong = [
    'heapMemoryBytes',
    'receiveBufferBytes',
    'timeoutSeconds',
    'bugCompat',
    'cntStep',
    'heaps',
    'stops',
    'verbsLibrary',
    'anySource',
  ]
  for (const name of wrong) {
    const message = await told(openReceiver({ endpoints: TO, [name]: -1.5 }))
    expect(message).toContain(name)
    const said = inFlags(message)
    if (/[A-Z]/.test(name)) expect(said).not.toContain(name)
    expect(said).not.toContain('openReceiver')
  }
})

test.for([
  [
    'packetSizeBytes 9000 + 28 exceeds MTU 1500 of eth0; pass packetSizeBytes ≤ 1472 or raise the MTU',
    '-p 9000 + 28 exceeds MTU 1500 of eth0; pass -p 1472 or raise the MTU',
  ],
  ["option 'rateMethod' is \"fast\"; must be 'auto' or 'sw'", "--rate-method is \"fast\"; must be 'auto' or 'sw'"],
  ["rateMethod 'kernel' needs a rate; give openStream one", '--rate-method kernel needs a rate; give --rate'],
  ["backend 'ibverbs' cannot work here: no devices", '--backend ibverbs cannot work here: no devices'],
  [
    "ibverbs is only for backends 'ibverbs' and 'rdma-ud', not 'udp'",
    "--vlan, --queue-depth, --poll and others of verbs are only for --backend ibverbs and rdma-ud, not 'udp'",
  ],
  [
    "backend 'dgram' runs on the event loop; leave thread out or use 'inline'",
    "--backend dgram runs on the event loop; leave --thread out or use 'inline'",
  ],
  ['name the queue pair by rdmaUd.peers (--peer)', 'name the queue pair by --peer'],
  ["item 'a': 18446744073709551616n is out of range for u64", "item 'a': 18446744073709551616 is out of range for u64"],
  ['raise heapMemoryBytes (--memory)', 'raise --memory'],
  ['nothing completed for completionTimeoutMs', 'nothing completed for --completion-timeout'],
  // Words that the user typed stay as they are.
  ["endpoint 'packetSizeBytes': the port is missing", "endpoint 'packetSizeBytes': the port is missing"],
  ['cannot read /tmp/rateMethod: ENOENT', 'cannot read /tmp/rateMethod: ENOENT'],
  ["no interface is named 'rate'; there are: lo", "no interface is named 'rate'; there are: lo"],
  [
    'the interface is down, and packets to it were lost at this rate',
    'the interface is down, and packets to it were lost at this rate',
  ],
] as const)('%s', ([message, said]) => {
  expect(inFlags(message)).toBe(said)
})

test('the commands say it so', async () => {
  const { stderr } = await run(['send', '127.0.0.1:9', '--interface', 'lo', '-p', '65507', '--rate', '1', '--backend', 'memory'])
  expect(stderr).toMatch(/^speadcast send: --rate '1' has no known unit/)
  const doctor = await run(['doctor', '127.0.0.1:9', '-p', '65507'])
  expect(`${doctor.stdout}${doctor.stderr}`).not.toContain('packetSizeBytes')
})

test('an id that is a text is quoted, and told as the number to write', () => {
  for (const id of ['0x1600', '5632']) {
    const make = () => new Item({ id: id as unknown as number, name: 'x', dtype: 'u1' })
    expect(make).toThrow(`item 'x': id is '${id}'; it must be a whole number above 0: write ${id}, without quotes`)
  }
  expect(() => new Item({ id: 'x' as unknown as number, name: 'x', dtype: 'u1' })).toThrow(
    /id is 'x'; it must be a whole number above 0$/,
  )
})
