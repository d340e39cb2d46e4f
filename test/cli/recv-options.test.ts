// Every option of `speadcast recv` does something: in the heaps, in the summary, or it is refused. The list of options is commander's own, so
// an option without a row here fails, and so does an option of openReceiver that has neither a flag nor a reason for having none.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { recvCommand } from '#dist/src/cli/recv/command.js'
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { ethernet, ipv4, pcapOf, udp } from '../receive/pcap-write.js'
import { freePort, type Run, run } from '../support/cli.js'
import { header, packet, payloadOf, pointer } from '../tcp/receiver-support.js'

const folder = mkdtempSync(join(tmpdir(), 'speadcast-recv-options-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const path = (name: string): string => join(folder, name)

/** The middle or the whole of a heap of item 0x3300. */
function part(cnt: number, payload: Uint8Array, at: number, length: number): Buffer {
  const pointers = [pointer(1, cnt), pointer(2, length), pointer(3, at), pointer(4, payload.length), pointer(0x3300, 0, false)]
  return Buffer.concat([header(5), ...pointers, payload])
}
const half = (cnt: number, at: number, fromPort = 50_000) => ({
  frame: ethernet(ipv4(udp(part(cnt, payloadOf(cnt, 100), at, 200), { fromPort }))),
})
const whole = (cnt: number, bytes = 100) => ({ frame: ethernet(ipv4(udp(packet(cnt, payloadOf(cnt, bytes))))) })

/** Captures by their names, each of heaps that some option looks at differently. */
const BASE = path('base.pcap')
const SHORTS = path('shorts.pcap')
const TWO_PORTS = path('ports.pcap')
const WOVEN = path('woven.pcap')
const STEPS = path('steps.pcap')
const LARGE = path('large.pcap')

beforeAll(async () => {
  writeFileSync(TWO_PORTS, pcapOf([half(1, 0, 50_000), half(1, 100, 50_001)]))
  writeFileSync(WOVEN, pcapOf([half(1, 0), half(2, 0), half(1, 100), half(2, 100)]))
  writeFileSync(STEPS, pcapOf([whole(1), whole(15)]))
  const large = Array.from({ length: 40 }, (_, i) => ({
    frame: ethernet(ipv4(udp(part(1, payloadOf(1, 50_000), 50_000 * i, 2_000_000)))),
  }))
  writeFileSync(LARGE, pcapOf(large))
  writeFileSync(path('samples'), Buffer.alloc(500, 'abcdefgh'))
  await run(['send', '10.0.0.5:7148', '-n', '3', '-H', '64', '--pcap', BASE])
  await run(['send', '10.0.0.5:7148', '-H', '100', '--input', path('samples'), '--dtype', '<i2', '--pcap', SHORTS])
})

interface Seen extends Run {
  /** The summary; undefined where there is none. */
  readonly json: Record<string, never> & { items: { dtype: string }[] }
}
interface Row {
  /** Arguments without the option; default the capture of three heaps. */
  readonly without?: readonly string[]
  /** With it; those without come before. */
  readonly args: readonly string[]
  readonly look: (seen: Seen) => unknown
  readonly before: unknown
  readonly after: unknown
}
const from = (capture: string): readonly string[] => ['--pcap', capture]
const output = (name: string): readonly string[] => [...from(BASE), '--output', path(name)]
const refused = ({ code, stderr }: Seen) => (code === 0 ? 0 : [code, stderr])
const live = async (): Promise<readonly string[]> => [`127.0.0.1:${await freePort()}`, '--timeout', '0.2']
const LIVE: readonly string[] = []

const ROWS: Readonly<Record<string, Row>> = {
  '--pcap': { without: LIVE, args: from(BASE), look: ({ json }) => json.backend, before: 'recvmmsg', after: 'pcap' },
  '--heaps': { args: ['-n', '2'], look: ({ json }) => [json.heaps, json.reason], before: [3, 'end'], after: [2, 'heaps'] },
  '--timeout': { args: ['--timeout', '0'], look: refused, before: 0, after: [2, expect.stringMatching(/--timeout <SECONDS>' argument '0' is invalid/)] },
  '--values': { args: ['--values'], look: ({ stderr }) => stderr.match(/adc_samples = .*/)?.[0], before: undefined, after: `adc_samples = [${new Array(64).fill(0).join(' ')}]` },
  '--descriptors': { args: ['--descriptors'], look: ({ stderr }) => stderr.match(/descriptor of adc.*/)?.[0], before: undefined, after: 'descriptor of adc_samples (0x3300): |i1 [64], ADC converter output' },
  '--verify': { without: from(STEPS), args: ['--verify'], look: refused, before: 0, after: [1, expect.stringMatching(/2 heaps are corrupt/)] },
  '--output': { args: ['--output', path('out')], look: ({ json }) => (json.outputFiles as unknown as unknown[]).length, before: 0, after: 1 },
  '--order': { without: output('order'), args: ['--order', 'sender'], look: () => readdirSync(folder).filter((name) => /^order\.\d$/.test(name)), before: [], after: ['order.0'] },
  '--item': { args: ['--item', '0x1600'], look: ({ json }) => json.outputBytes, before: 3 * 64, after: 3 * 6 },
  // As if they were PySPEAD's, which name the other byte order.
  '--bug-compat': { without: from(SHORTS), args: ['--bug-compat', '4'], look: ({ json }) => json.items.at(-1)!.dtype, before: '<i2', after: '>i2' },
  '--interface': { args: ['--interface', 'lo'], look: refused, before: 0, after: [2, expect.stringMatching(/of sockets/)] },
  '--stops': { args: ['--stops', '1'], look: ({ json }) => json.reason, before: 'end', after: 'stop' },
  '--buffer': { without: LIVE, args: ['--buffer', '8192'], look: ({ json }) => json.receiveBufferBytes === 8192, before: false, after: true },
  '--backend': { without: LIVE, args: ['--backend', 'dgram'], look: ({ json }) => json.backend, before: 'recvmmsg', after: 'dgram' },
  '--device': { args: ['--device', 'mlx5_0'], look: refused, before: 0, after: [2, expect.stringMatching(/rdma-ud/)] },
  '--verbs-library': { args: ['--verbs-library', '/nonexistent.so'], look: refused, before: 0, after: [2, expect.stringMatching(/rdma-ud/)] },
  '--memory': { without: from(LARGE), args: ['--memory', '1MiB'], look: refused, before: 0, after: [1, expect.stringMatching(/1 heap refused/)] },
  '--concurrent-heaps': { without: from(WOVEN), args: ['--concurrent-heaps', '1'], look: ({ json }) => [json.heaps, json.heapsIncomplete], before: [2, 0], after: [1, 1] },
  '--no-gro': { without: LIVE, args: ['--no-gro'], look: ({ json }) => json.gro, before: true, after: false },
  '--any-source': { without: from(TWO_PORTS), args: ['--any-source'], look: ({ json }) => json.heaps, before: 0, after: 1 },
  '--cnt-step': { without: from(STEPS), args: ['--cnt-step', '7'], look: ({ json }) => [json.cntStep, json.heapsMissing], before: [14, 0], after: [7, 1] },
  '--credits': { args: ['--credits'], look: refused, before: 0, after: [2, expect.stringMatching(/of sockets/)] },
  '--io-cpu': { without: LIVE, args: ['--io-cpu', '1023'], look: refused, before: [1, expect.anything()], after: [2, expect.stringMatching(/--io-cpu: none of CPUs 1023 may be used here .*; this process may use CPUs [\d,-]+/)] },
  '--priority': { args: ['--priority', '5'], look: refused, before: 0, after: [2, expect.stringMatching(/--priority is for the receiving thread, and --backend pcap receives in this one; leave it out/)] },
  '--main-cpu': { args: ['--main-cpu', '1023'], look: refused, before: 0, after: [2, expect.stringMatching(/--main-cpu: none of CPUs 1023 may be used here/)] },
  '--live': { args: ['--live'], look: ({ stderr }) => /--live needs a terminal/.test(stderr), before: false, after: true },
  '--interval': { args: ['--interval', '0'], look: refused, before: 0, after: [2, expect.stringMatching(/--interval <SECONDS>' argument '0' is invalid/)] },
  '--json-stream': { args: ['--json-stream'], look: ({ stdout }) => stdout.startsWith('{"kind":"start"'), before: false, after: true },
  '--metrics': { args: ['--metrics', '127.0.0.1:0'], look: ({ stderr }) => /metrics at http:\/\/127\.0\.0\.1:\d+\/metrics/.test(stderr), before: false, after: true },
  '--json': { args: ['--json'], look: ({ stdout }) => stdout.startsWith('{'), before: false, after: true },
} // biome-ignore format: a table

async function observe(args: readonly string[], json: boolean): Promise<Seen> {
  const ran = await run(['recv', ...args, ...(json ? ['--json'] : [])])
  return { ...ran, json: json && ran.stdout.startsWith('{') ? JSON.parse(ran.stdout) : undefined }
}

describe('recv', () => {
  test('every option has a row, and every row is an option', () => {
    const names = recvCommand().options.map(({ long }) => long)
    expect(names.length).toBeGreaterThan(20)
    expect(Object.keys(ROWS).toSorted()).toEqual(names.toSorted())
  })

  test.for(Object.entries(ROWS))('%s', { timeout: 60_000 }, async ([name, { without = from(BASE), args, look, before, after }]) => {
    const json = !['--json', '--json-stream', '--live'].includes(name)
    const base = await observe(without === LIVE ? await live() : without, json)
    expect(look(base)).toEqual(before)
    const seen = await observe(name === '--pcap' ? args : [...(without === LIVE ? await live() : without), ...args], json)
    expect(look(seen)).toEqual(after)
  })
})

/** The flag of each option of openReceiver, or the reason for having none. */
const FLAG_OF: Readonly<Record<keyof ReceiverOptions, `--${string}` | `no flag: ${string}` | 'argument'>> = {
  endpoints: 'argument',
  pcapPath: '--pcap',
  interface: '--interface',
  receiveBufferBytes: '--buffer',
  maxHeaps: '--concurrent-heaps',
  heapMemoryBytes: '--memory',
  timeoutSeconds: '--timeout',
  heaps: '--heaps',
  stops: '--stops',
  signal: 'no flag: Ctrl-C ends it',
  verify: '--verify',
  hash: 'no flag: with --json and --output it is computed',
  output: '--output',
  order: '--order',
  item: '--item',
  bugCompat: '--bug-compat',
  deliver: 'no flag: --values and --descriptors take the heaps',
  anySource: '--any-source',
  cntStep: '--cnt-step',
  credits: '--credits',
  backend: '--backend',
  device: '--device',
  verbsLibrary: '--verbs-library',
  onChange: 'no flag: the command says it on standard error',
  gro: '--no-gro',
  affinity: '--io-cpu',
  priority: '--priority',
}

test('every option of openReceiver has a flag or a reason', async () => {
  const unknown = await openReceiver({ nonesuch: 1 } as never).catch(({ message }) => message as string)
  const known = `${unknown}`.match(/there are: (.*)/)![1]!.split(', ')
  expect(Object.keys(FLAG_OF).toSorted()).toEqual(known.toSorted())
  const flags = Object.values(FLAG_OF).filter((flag) => flag.startsWith('--'))
  const options = recvCommand().options.map(({ long }) => long)
  expect(options).toEqual(expect.arrayContaining(flags))
  // The others are of the command: what it prints, and in which form.
  expect(options.filter((option) => !flags.includes(option as never)).toSorted()).toEqual([
    '--descriptors',
    '--interval',
    '--json',
    '--json-stream',
    '--live',
    '--main-cpu',
    '--metrics',
    '--values',
  ])
})

test('the file of --output is the samples that --item names', () => {
  expect(readFileSync(path('out'))).toEqual(Buffer.concat([0, 1, 2].map((index) => Buffer.alloc(64, index))))
})
