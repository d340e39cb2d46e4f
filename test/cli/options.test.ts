// Every option of `speadcast send` does something: in the bytes, in the summary, or it is refused. The list of options is commander's
// own, so an option without a row here fails.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { benchCommand } from '#dist/src/cli/bench/command.js'
import { BUG_COMPAT_NAMES } from '#dist/src/cli/common/arguments.js'
import { sendCommand } from '#dist/src/cli/send/command.js'
import type { SendFlags } from '#dist/src/cli/send/flags.js'
import { streamOptions } from '#dist/src/cli/send/options.js'
import { BUG_COMPAT } from '#dist/src/index.js'
import { optionNames } from '#dist/src/stream/config.js'
import { type Datagram, datagramsOf, pointersOf, type Run, run } from '../support/cli.js'

const folder = mkdtempSync(join(tmpdir(), 'speadcast-cli-options-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const SAMPLES = join(folder, 'samples')
writeFileSync(SAMPLES, Buffer.alloc(500, 'abcdefgh'))

const DESCRIPTOR = 5
const STREAM_CTRL = 6
const TIMESTAMP = 0x1600
const ADC_SAMPLES = 0x3300

interface Seen extends Run {
  readonly frames: readonly Datagram[]
  readonly packets: readonly { bytes: Buffer; pointers: ReturnType<typeof pointersOf>; data: Buffer }[]
  /** The summary; undefined where there is none. */
  readonly json: Record<string, never> & { stats: Record<string, number>; rate?: Record<string, unknown> }
}

const value = (packet: Seen['packets'][number], id: number) => packet.pointers.find((pointer) => pointer.id === id)?.value
const data = ({ packets }: Seen) =>
  packets.filter((packet) => value(packet, ADC_SAMPLES) !== undefined || value(packet, TIMESTAMP) !== undefined)
const cnts = ({ packets }: Seen) => packets.map((packet) => value(packet, 1))
const sizes = ({ packets }: Seen) => packets.map(({ bytes }) => bytes.length)
const kinds = ({ packets }: Seen) =>
  packets
    .map((packet) =>
      packet.pointers.some(({ id }) => id === DESCRIPTOR) ? 'd' : value(packet, STREAM_CTRL) === undefined ? 'x' : 'c',
    )
    .join('')
const refused = ({ code, stderr }: Seen) => (code === 0 ? 0 : [code, stderr])

/** An option whose effect another test shows. */
interface Elsewhere {
  readonly elsewhere: string
  readonly args: readonly string[]
  readonly sets?: readonly string[]
}

interface Row {
  /** Default: an address behind a router. */
  readonly to?: string
  /** Arguments without the option; default three heaps of 64 bytes. */
  readonly without?: readonly string[]
  /** With it; the default's come before them where `without` is the default. */
  readonly args: readonly string[]
  readonly look: (seen: Seen) => unknown
  /** The look without the option; left out: anything but the look with it. */
  readonly before?: unknown
  readonly after: unknown
  /** Arguments that set the stream's option, where `args` are refused by commander. */
  readonly sets?: readonly string[]
}
const THREE = ['-n', '3', '-H', '64']
const DATA = [...THREE, '--descriptors', 'none', '--no-stop']
const ONE = ['-n', '1', '-H', '4000', '--descriptors', 'none', '--no-stop']
const GREEDY = [...ONE, '--split', 'greedy']
const PACED = ['--rate', '10MB/s', '--burst', '64']
const CLOCKED = ['--clock', '1790000000', '--sample-rate', '1e6', '--unsynchronised', 'accept']
/** A group that has no member, so nobody answers. */
const GROUP = '239.77.0.1:7148'
const UDP = [...THREE, '--backend', 'udp', '--interface', '127.0.0.1']
const stamps = (seen: Seen) => data(seen).map((packet) => value(packet, TIMESTAMP))
const ids = (seen: Seen) =>
  data(seen)[0]!
    .pointers.map(({ id }) => id)
    .slice(4)
const lengths = (seen: Seen) => data(seen).map((packet) => packet.data.length)
/** The text of numpy's dtype in the first descriptor that has one. */
const descr = ({ packets }: Seen) => packets[0]!.data.toString('latin1').match(/'descr': '(...)'/)?.[1]
/** Whether a descriptor has this field of a SPEAD-64-48 format: a letter, and bits in two bytes. */
const hasField = (letter: string, bits: number) => (seen: Seen) =>
  seen.packets[0]!.data.includes(Buffer.from([letter.charCodeAt(0), bits >> 8, bits & 0xff]))
const onlyFor = (text: string, not = 'udp') => [2, expect.stringMatching(new RegExp(`${text}, not ${not}`))]

const ROWS: Readonly<Record<string, Row | Elsewhere>> = {
  '--heaps': { without: ['-H', '64'], args: [...THREE], look: ({ json }) => json.heaps, before: 1000, after: 3 },
  '--heap-size': { without: ['-n', '1'], args: ['-n', '1', '-H', '64'], look: ({ json }) => json.payloadBytes, before: 1048576, after: 64 },
  '--input': { without: [...THREE], args: ['-H', '100', '--input', SAMPLES], look: (seen) => Buffer.concat(data(seen).map((packet) => packet.data)).toString(), after: readFileSync(SAMPLES, 'latin1') },
  '--dtype': { args: ['--dtype', '<i2'], look: descr, before: '|i1', after: '<i2' },
  '--format': { without: ['-n', '1', '-H', '40'], args: ['-n', '1', '-H', '40', '--format', 'i10'], look: hasField('i', 10), before: false, after: true },
  '--items': { args: ['--items', '4'], look: ids, before: [TIMESTAMP, ADC_SAMPLES], after: [TIMESTAMP, 0x3300, 0x3301, 0x3302, 0x3303] },
  '--item': { without: ['-n', '1', '-H', '64'], args: ['-n', '1', '--item', 'volts:0x4300:<i2:2x8', '--item', 'feng_id:16641:u48=3'], look: (seen) => [...ids(seen), value(data(seen)[0]!, 0x4101), ...lengths(seen)], before: [TIMESTAMP, ADC_SAMPLES, undefined, 64], after: [TIMESTAMP, 0x4300, 0x4101, 3, 32], sets: ['--split', 'exact', '--payload-bytes', '1000', '--item', 'volts:0x4300:<i2:2x8'] },
  '--timestamp-id': { args: ['--timestamp-id', '0x1601'], look: ids, before: [TIMESTAMP, ADC_SAMPLES], after: [0x1601, ADC_SAMPLES] },
  '--timestamp-format': { args: ['--timestamp-format', 'u32'], look: hasField('u', 32), before: false, after: true },
  '--first-timestamp': { args: ['--first-timestamp', '1000'], look: stamps, before: [0, 64, 128], after: [1000, 1064, 1128] },
  '--timestamp-step': { args: ['--timestamp-step', '7'], look: stamps, before: [0, 64, 128], after: [0, 7, 14], sets: [...CLOCKED, '--timestamp-step', '7'] },
  '--loop': { without: ['-n', '4', '-H', '250'], args: ['-n', '4', '-H', '250', '--loop', SAMPLES], look: (seen) => data(seen).map((packet, i) => [stamps(seen)[i], packet.data.subarray(0, 4).toString()]), after: [[0, 'abcd'], [250, 'cdef'], [500, 'abcd'], [750, 'cdef']] },
  '--pad-last': { without: ['-H', '300', '--input', SAMPLES], args: ['-H', '300', '--input', SAMPLES, '--pad-last'], look: lengths, before: [300, 200], after: [300, 300] },
  '--samples-per-heap': { without: ['-H', '100', '--input', SAMPLES], args: ['-H', '100', '--input', SAMPLES, '--samples-per-heap', '7'], look: (seen) => data(seen).map((packet) => value(packet, TIMESTAMP)), before: [0, 100, 200, 300, 400], after: [0, 7, 14, 21, 28] },
  '--max-queued': { args: ['--max-queued', '0'], look: refused, before: 0, after: [2, expect.stringMatching(/--max-queued <BYTES>' argument '0' is invalid/)], sets: ['--max-queued', '1MiB'] },
  '--max-delay': { args: ['--max-delay', '5'], look: refused, before: 0, after: [2, expect.stringMatching(/--max-delay is for --input/)] },
  '--stop': { without: [...THREE, '--no-stop'], args: [...THREE, '--no-stop', '--stop'], look: kinds, before: 'dxxx', after: 'dxxxc' },
  '--no-stop': { args: ['--no-stop'], look: kinds, before: 'dxxxc', after: 'dxxx' },
  '--packet-size': { without: ONE, args: [...ONE, '-p', '9000'], look: sizes, after: [8 + 6 * 8 + 4000] },
  '--split': { without: ONE, args: [...ONE, '--split', 'greedy'], look: sizes, after: [1472, 1472, 40 + (4000 - (1416 + 1432))], sets: ['--split', 'exact', '--payload-bytes', '1000', '--repeat-pointers'] },
  '--payload-bytes': { without: [...ONE, '--split', 'exact', '--payload-bytes', '2000'], args: [...ONE, '--split', 'exact', '--payload-bytes', '3000'], look: ({ packets }) => packets.map((packet) => packet.data.length), before: [2000, 2000], after: [3000, 1000] },
  '--repeat-pointers': { without: GREEDY, args: [...GREEDY, '--repeat-pointers'], look: ({ packets }) => packets.map(({ pointers }) => pointers.length), before: [6, 4, 4], after: [6, 6, 6] },
  // SPEAD, packet header: magic, version, bytes of item id, bytes of heap address.
  '--heap-address-bits': { args: ['--heap-address-bits', '40'], look: ({ packets }) => [...packets[0]!.bytes.subarray(0, 4)], before: [0x53, 4, 2, 6], after: [0x53, 4, 3, 5] },
  '--bug-compat': { without: [...THREE, '--dtype', '<i2'], args: [...THREE, '--dtype', '<i2', '--bug-compat', 'swap-endian'], look: descr, before: '<i2', after: '>i2' },
  '--first-cnt': { without: DATA, args: [...DATA, '--first-cnt', '0x1000'], look: cnts, before: [1, 2, 3], after: [4096, 4097, 4098] },
  '--cnt-step': { without: DATA, args: [...DATA, '--cnt-step', '7'], look: cnts, before: [1, 2, 3], after: [1, 8, 15] },
  '--descriptors': { args: ['--descriptors', 'none'], look: kinds, before: 'dxxxc', after: 'xxxc', sets: ['--descriptors', '5'] },
  '--descriptor-first-cnt': { args: ['--descriptor-first-cnt', '500'], look: cnts, before: [1, 2, 3, 4, 5], after: [500, 1, 2, 3, 4] },
  '--descriptor-cnt-step': { without: [...THREE, '--descriptor-first-cnt', '500'], args: [...THREE, '--descriptor-cnt-step', '3'], look: refused, before: 0, after: [2, expect.stringMatching(/say where it begins with --descriptor-first-cnt/)], sets: ['--descriptor-first-cnt', '500', '--descriptor-cnt-step', '3'] },
  '--descriptor-stagger': { args: ['--descriptor-stagger'], look: refused, before: 0, after: [2, expect.stringMatching(/say how often with --descriptors SECONDS/)], sets: ['--descriptors', '5', '--descriptor-stagger'] },
  '--batch-heaps': { without: ['-n', '4', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin'], args: ['-n', '4', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin', '--batch-heaps', '2'], look: cnts, before: [1, 2, 3, 4, 1, 2, 3, 4], after: [1, 2, 1, 2, 3, 4, 3, 4] },
  // Refused after the first is mapped.
  '--batches': { args: ['-n', '1000000', '-H', '64MiB', '--batches', '65536'], look: refused, before: 0, after: [1, expect.stringMatching(/65536 batches of 1 heap for 1 endpoint take \d+ MiB/)] },
  '--group-mode': { without: ['-n', '2', '-H', '2000', '--descriptors', 'none', '--no-stop'], args: ['-n', '2', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin'], look: cnts, before: [1, 1, 2, 2], after: [1, 2, 1, 2] },
  '--rate': { args: ['--rate', '20kB/s', '--burst', '64'], look: ({ json }) => json.stats.pacedNanoseconds! > 0, before: false, after: true },
  '--clock': { without: DATA, args: [...DATA, ...CLOCKED], look: ({ json }) => json.clock !== undefined, before: false, after: true, sets: CLOCKED },
  '--sample-rate': { without: [...DATA, ...CLOCKED], args: [...DATA, '--clock', '1790000000', '--unsynchronised', 'accept'], look: refused, before: 0, after: [2, expect.stringMatching(/--clock needs --sample-rate/)], sets: [...CLOCKED, '--sample-rate', '2MHz'] },
  '--start-at': { without: [...DATA, ...CLOCKED], args: [...DATA, ...CLOCKED, '--start-at', '1790000001'], look: refused, before: 0, after: [2, expect.stringMatching(/--start-at passed/)], sets: [...CLOCKED, '--start-at', '2030-01-01T00:00:00Z'] },
  '--late': { without: [...DATA, ...CLOCKED, '--first-timestamp', '0'], args: [...DATA, ...CLOCKED, '--first-timestamp', '0', '--late', 'skip'], look: ({ json }) => json.heaps, before: 3, after: 0, sets: [...CLOCKED, '--late', 'skip'] },
  '--late-tolerance': { without: [...DATA, ...CLOCKED], args: [...DATA, ...CLOCKED, '--late-tolerance', '5'], look: refused, before: 0, after: [2, expect.stringMatching(/--late-tolerance is of heaps that are left out; give --late skip too/)], sets: [...CLOCKED, '--late', 'skip', '--late-tolerance', '5'] },
  '--unsynchronised': { without: DATA, args: [...DATA, '--unsynchronised', 'accept'], look: refused, before: 0, after: [2, expect.stringMatching(/--unsynchronised is of the observation clock; give --clock too/)], sets: CLOCKED },
  '--burst': { without: [...DATA, '--rate', '1GB/s'], args: [...DATA, '--rate', '1GB/s', '--burst', '1'], look: ({ json }) => json.stats.posts, before: 1, after: 3 },
  '--burst-rate-ratio': { args: [...PACED, '--burst-rate-ratio', '0.5'], look: refused, before: 0, after: [2, expect.stringMatching(/--burst-rate-ratio <RATIO>' argument '0\.5' is invalid/)], sets: ['--burst-rate-ratio', '2'] },
  '--rate-method': { without: [...THREE, ...PACED, '--rate-method', 'sw'], args: [...THREE, ...PACED, '--rate-method', 'kernel'], look: refused, before: 0, after: [2, expect.stringMatching(/pacing by the kernel needs --backend udp/)] },
  '--rate-basis': { without: [...THREE, ...PACED], args: [...THREE, ...PACED, '--rate-basis', 'wire'], look: ({ json }) => json.rate!.basis, before: 'udp', after: 'wire' },
  '--on-thread-death': { args: ['--on-thread-death', 'restart'], look: refused, before: 0, after: [2, expect.stringMatching(/--on-thread-death restart is for an I\/O thread, and this stream sends from the event loop|would begin the file/)], sets: ['--on-thread-death', 'restart'] },
  '--on-error': { args: ['--on-error', 'stop'], look: refused, before: 0, after: [2, expect.stringMatching(/--on-error <POLICY>' argument 'stop' is invalid.*It must be fail, skip or retry/)], sets: ['--on-error', 'retry:60'] },
  '--catch-up': { args: [...PACED, '--catch-up', '-1'], look: refused, before: 0, after: [2, expect.stringMatching(/--catch-up <SECONDS>' argument '-1' is invalid/)], sets: ['--catch-up', '0'] },
  '--lag-bound': { args: [...PACED, '--lag-bound', '0'], look: refused, before: 0, after: [2, expect.stringMatching(/--lag-bound <SECONDS>' argument '0' is invalid/)], sets: ['--lag-bound', '0.2'] },
  '--index': { without: DATA, args: [...DATA, '--index', '1', '--of', '3'], look: cnts, before: [1, 2, 3], after: [2, 5, 8] },
  '--of': { args: ['--of', '3'], look: refused, before: 0, after: [2, expect.stringMatching(/--of 3 says how many senders there are; say which one this is with --index I/)] },
  '--deal-endpoints': { to: '10.0.0.5:7148,10.0.0.6:7148', without: [...DATA, '--index', '1', '--of', '2'], args: [...DATA, '--index', '1', '--of', '2', '--deal-endpoints'], look: ({ frames }) => frames.map(({ to }) => to), before: ['10.0.0.5:7148', '10.0.0.6:7148', '10.0.0.5:7148'], after: ['10.0.0.6:7148', '10.0.0.6:7148', '10.0.0.6:7148'] },
  '--poll': { args: ['--backend', 'udp', '--poll', 'busy'], look: refused, before: 0, after: onlyFor('--poll is for --backend ibverbs and rdma-ud') },
  '--poll-microseconds': { args: ['--backend', 'udp', '--poll-microseconds', '9'], look: refused, before: 0, after: onlyFor('--poll-microseconds is for --backend ibverbs and rdma-ud') },
  '--queue-depth': { args: ['--backend', 'udp', '--queue-depth', '64'], look: refused, before: 0, after: onlyFor('--queue-depth is for --backend ibverbs and rdma-ud') },
  '--completion-vector': { args: ['--backend', 'udp', '--completion-vector', '1'], look: refused, before: 0, after: onlyFor('--completion-vector is for --backend ibverbs and rdma-ud') },
  '--completion-timeout': { args: ['--backend', 'udp', '--completion-timeout', '900'], look: refused, before: 0, after: onlyFor('--completion-timeout is for --backend ibverbs and rdma-ud') },
  '--vlan': { args: ['--backend', 'udp', '--vlan', '5:3'], look: refused, before: 0, after: onlyFor('--vlan is for --backend ibverbs') },
  '--connect-timeout': { args: ['--backend', 'udp', '--connect-timeout', '50'], look: refused, before: 0, after: onlyFor('--connect-timeout is for --backend tcp and rdma-ud') },
  '--reconnect': { args: ['--backend', 'udp', '--reconnect', 'retry'], look: refused, before: 0, after: onlyFor('--reconnect is for --backend tcp') },
  '--reconnect-delay': { args: ['--backend', 'tcp', '--reconnect-delay', '9'], look: refused, before: 0, after: [2, expect.stringMatching(/--reconnect-delay is of connecting again; give --reconnect retry too/)] },
  '--reconnect-delay-max': { args: ['--backend', 'tcp', '--reconnect-delay-max', '900'], look: refused, before: 0, after: [2, expect.stringMatching(/--reconnect-delay-max is of connecting again; give --reconnect retry too/)] },
  '--reconnect-seconds': { args: ['--backend', 'tcp', '--reconnect-seconds', '9'], look: refused, before: 0, after: [2, expect.stringMatching(/--reconnect-seconds is of connecting again; give --reconnect retry too/)] },
  '--device': { args: ['--backend', 'udp', '--device', 'mlx5_0'], look: refused, before: 0, after: onlyFor('--device is for --backend rdma-ud') },
  '--peer': { args: ['--backend', 'rdma-ud', '--peer', '1/2/3/4/5'], look: refused, before: 0, after: [2, expect.stringMatching(/'1\/2\/3\/4\/5' is no queue pair; write \[GID\/\]QPN\/QKEY\[\/LID\]/)], sets: ['--backend', 'rdma-ud', '--peer', '10.0.0.5/17/18/3'] },
  '--verbs-library': { args: ['--backend', 'ibverbs', '-p', '500', '--verbs-library', '/nonexistent.so'], look: refused, before: 0, after: [1, expect.stringMatching(/\/nonexistent\.so could not be loaded/)] },
  '--backend': { args: ['--backend', 'memory'], look: ({ json }) => json.backend, before: 'pcap', after: 'memory', sets: ['--backend', 'rdma-ud', '--connect-timeout', '50'] },
  '--udp-path': { without: [...THREE, '--backend', 'memory'], args: [...THREE, '--backend', 'memory', '--udp-path', 'sendmmsg'], look: refused, before: 0, after: [2, expect.stringMatching(/--udp-path is for --backend udp, not memory/)] },
  '--segmentation': { to: GROUP, without: UDP, args: [...UDP, '--segmentation', 'off'], look: ({ json }) => json.segmentation, before: 'on', after: 'off' },
  '--send-buffer': { to: GROUP, without: UDP, args: [...UDP, '--send-buffer', '64KiB'], look: ({ json }) => json.stats.sendBufferBytes, before: 1048576, after: 65536 },
  '--neighbour-timeout': { args: ['--neighbour-timeout', '61s'], look: refused, before: 0, after: onlyFor('--neighbour-timeout is for --backend udp, ibverbs and rdma-ud', 'pcap'), sets: ['--neighbour-timeout', '50ms'] },
  '--allow-fragmentation': { args: ['--backend', 'rdma-ud', '--allow-fragmentation'], look: refused, before: 0, after: onlyFor('--allow-fragmentation is for --backend udp and dgram', 'rdma-ud') },
  '--pcap': { without: [...THREE, '--backend', 'memory'], args: [...THREE], look: ({ json, packets }) => [json.backend, packets.length], before: ['memory', 0], after: ['pcap', 5], sets: ['--pcap', 'heaps.pcap'] },
  '--thread': { args: ['--backend', 'dgram', '--thread', 'worker'], look: refused, before: 0, after: [2, expect.stringMatching(/--backend dgram runs on the event loop/)] },
  '--io-threads': { args: ['--thread', 'inline', '--io-threads', '2'], look: refused, before: 0, after: [2, expect.stringMatching(/--io-threads is for shared I\/O threads/)] },
  '--io-cpu': { args: ['--io-cpu', '3-1'], look: refused, before: 0, after: [2, expect.stringMatching(/--io-cpu <CPUS>' argument '3-1' is invalid.* such as 2,3 or 0-3/)], sets: ['--io-cpu', '0-2,5'] },
  '--affinity': { args: ['--io-cpu', '1', '--affinity', '1'], look: refused, before: 0, after: [2, expect.stringMatching(/--affinity is the former name of --io-cpu; drop one/)], sets: ['--affinity', '0-2,5'] },
  '--main-cpu': { args: ['--main-cpu', '1023'], look: refused, before: 0, after: [2, expect.stringMatching(/^speadcast send: --main-cpu: none of CPUs 1023 may be used here .*; this process may use CPUs [\d,-]+/)] },
  '--priority': { args: ['--priority', 'rr:0'], look: refused, before: 0, after: [2, expect.stringMatching(/--priority <PRIORITY>' argument 'rr:0' is invalid.*rr:1 to rr:99/)], sets: ['--priority', 'rr:10'] },
  '--interface': { args: ['--interface', '127.0.0.1'], look: ({ frames }) => frames[0]!.from.startsWith('127.0.0.1:'), before: false, after: true },
  '--ttl': { args: ['--ttl', '9'], look: ({ frames }) => frames[0]!.ttl, before: 64, after: 9 },
  '--dscp': { args: ['--dscp', '46'], look: ({ frames }) => frames.map(({ dscp }) => dscp), before: [0, 0, 0, 0, 0], after: [46, 46, 46, 46, 46] },
  '--multicast-loop': { args: ['--multicast-loop'], elsewhere: 'transport-flags' , sets: ['--multicast-loop'] },
  '--no-multicast-loop': { args: ['--no-multicast-loop'], elsewhere: 'transport-flags' },
  '--source-port': { args: ['--source-port', '4321'], look: ({ frames }) => frames[0]!.from.endsWith(':4321'), before: false, after: true },
  '--reuse-port': { args: ['--reuse-port'], look: refused, before: 0, after: onlyFor('--reuse-port is for --backend udp, dgram and ibverbs', 'pcap') },
  '--broadcast': { args: ['--backend', 'rdma-ud', '--broadcast'], look: refused, before: 0, after: onlyFor('--broadcast is for --backend udp, dgram and ibverbs', 'rdma-ud') },
  '--deadline': { args: ['--deadline', '-1'], look: refused, before: 0, after: [2, expect.stringMatching(/--deadline <SECONDS>' argument '-1' is invalid/)] },
  '--forever': { args: ['--forever'], look: refused, before: 0, after: [2, expect.stringMatching(/--forever has no end, and -n 3 is one/)] },
  '--seconds': { args: ['--seconds', '0'], look: refused, before: 0, after: [2, expect.stringMatching(/--seconds <SECONDS>' argument '0' is invalid/)] },
  '--interval': { args: ['--interval', '60'], look: ({ stderr }) => stderr.split('\n').map((line) => line.split(/ +/)[0]), before: [''], after: ['interval', expect.stringMatching(/^0\.00-\d/), ''] },
  '--live': { args: ['--live'], look: ({ stderr }) => /^speadcast send: --live needs a terminal/.test(stderr), before: false, after: true },
  '--json-stream': { args: ['--json-stream'], look: refused, before: 0, after: [2, expect.stringMatching(/--json prints one object at the end, --json-stream one a line/)] },
  '--metrics': { args: ['--metrics', '127.0.0.1:0'], look: ({ stderr }) => /metrics at http:\/\/127\.0\.0\.1:\d+\/metrics/.test(stderr), before: false, after: true },
  '--json': { args: ['--json'], look: ({ stdout }) => stdout.startsWith('{'), before: false, after: true },
} // biome-ignore format: a table

/** Sends into a pcap file unless the arguments name another backend. */
async function observe(args: readonly string[], json: boolean, to = '10.0.0.5:7148'): Promise<Seen> {
  const path = join(folder, `${observed++}.pcap`)
  const out = args.includes('--backend') ? [] : ['--pcap', path]
  const ran = await run(['send', to, ...args, ...out, ...(json ? ['--json'] : [])])
  const frames = existsSync(path) ? datagramsOf(readFileSync(path)) : []
  const packets = frames.map(({ payload }) => {
    const pointers = pointersOf(payload)
    return { bytes: payload, pointers, data: payload.subarray(8 + 8 * pointers.length) }
  })
  return { ...ran, frames, packets, json: json && ran.stdout.startsWith('{') ? JSON.parse(ran.stdout) : undefined }
}
let observed = 0

describe('send', () => {
  test('every option has a row, and every row is an option', () => {
    const names = sendCommand().options.map(({ long }) => long)
    expect(names.length).toBeGreaterThan(20)
    expect(Object.keys(ROWS).toSorted()).toEqual(names.toSorted())
  })

  const here = Object.entries(ROWS).flatMap(([name, row]) => ('look' in row ? [[name, row] as const] : []))
  test('effects that are seen elsewhere have a test of that name there', () => {
    for (const [name, row] of Object.entries(ROWS))
      if ('elsewhere' in row)
        expect(readFileSync(new URL(`${row.elsewhere}.test.ts`, import.meta.url), 'utf8')).toContain(`test('${name}`)
  })

  test.concurrent.for(here)(
    '%s',
    { timeout: 60_000 },
    async ([name, { to, without = THREE, args, look, before, after }], { expect }) => {
      const json = name !== '--json'
      const base = await observe(without, json, to)
      const seen = await observe(without === THREE ? [...THREE, ...args] : args, json, to)
      if (before === undefined) expect(look(base)).not.toEqual(after)
      else expect(look(base)).toEqual(before)
      expect(look(seen)).toEqual(after)
      expect(base).toMatchObject({ code: 0, stderr: '' })
    },
  )
})

/** Returns the library's names of options at any depth, such as `ibverbs.vlan.id`. */
const pathsOf = (...within: string[]): string[] =>
  optionNames(...within).flatMap((name) => [[...within, name].join('.'), ...pathsOf(...within, name)])

/** The options of docs/options.md by their names, each with the flags that set it, or with why there is none. */
function flagsInDocs(): Map<string, { flags: string[]; text: string }> {
  const page = readFileSync(new URL('../../docs/options.md', import.meta.url), 'utf8')
  const section = page.split(/^## /m).find((text) => text.startsWith('Flags of the command line')) ?? ''
  const rows = [...section.matchAll(/^\| (`.*?`) \| (.*) \|$/gm)]
  return new Map(
    rows.flatMap(([, names = '', text = '']) => {
      const flags = [...text.matchAll(/`(--[a-z-]+)/g)].map(([, flag]) => flag!)
      return [...names.matchAll(/`([\w.]+)`/g)].map(([, name]) => [name!, { flags, text }] as const)
    }),
  )
}

/** The options of the stream that `send` opens for these arguments. */
function optionsFor(args: readonly string[]): Record<string, unknown> {
  let flags: SendFlags | undefined
  const send = sendCommand()
    .exitOverride()
    .action((_: string[], parsed: SendFlags) => {
      flags = parsed
    })
  send.parse(['127.0.0.1:7148', ...args], { from: 'user' })
  return streamOptions(['127.0.0.1:7148'], flags!) as unknown as Record<string, unknown>
}

const at = (options: unknown, path: string): unknown =>
  path
    .split('.')
    .reduce<unknown>(
      (inside, name) =>
        Array.isArray(inside) ? inside.map((one) => one[name]) : (inside as Record<string, unknown> | undefined)?.[name],
      options,
    )

describe('options of openStream', () => {
  const docs = flagsInDocs()

  test('each has a row in docs/options.md, with flags that there are or with why there is none', () => {
    expect([...docs.keys()].toSorted()).toEqual(pathsOf().toSorted())
    const known = sendCommand().options.map(({ long }) => long)
    for (const [name, { flags, text }] of docs) {
      expect(
        flags.filter((flag) => !known.includes(flag)),
        name,
      ).toEqual([])
      if (!/^`-/.test(text) && name !== 'to') expect(text, name).toMatch(/^none: .{20}/)
    }
  })

  test.for([...docs].filter(([, { text }]) => text.startsWith('`-')))('%s is set by its flags', ([name, { flags }]) => {
    const set = flags.map((flag) => {
      const row = ROWS[flag]!
      const before = 'look' in row ? (row.without ?? []) : []
      return [before, row.sets ?? row.args].map((args) => at(optionsFor(args), name))
    })
    expect(
      set.filter(([before, after]) => JSON.stringify(before) !== JSON.stringify(after)),
      JSON.stringify(set),
    ).not.toEqual([])
  })

  test('bench has all of those that say how packets are transported', () => {
    const transport = sendCommand().options.filter(({ helpGroupHeading = '' }) => helpGroupHeading.startsWith('Transport'))
    const bench = benchCommand().options.map(({ long }) => long)
    expect(transport.length).toBeGreaterThan(20)
    expect(transport.map(({ long }) => long).filter((long) => long !== '--pcap' && !bench.includes(long))).toEqual([])
  })
})

test('--bug-compat has the names and numbers of the library', () => {
  const { pyspead, ...names } = BUG_COMPAT_NAMES
  expect(pyspead).toBe(BUG_COMPAT.PYSPEAD_0_5_2)
  const library = Object.entries(BUG_COMPAT).map(([name, flag]) => [name.toLowerCase().replaceAll('_', '-'), flag])
  expect(names).toEqual(Object.fromEntries(library))
})
