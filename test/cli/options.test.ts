// Every option of `speadcast send` does something: in the bytes, in the summary, or it is refused. The list of options is commander's
// own, so an option without a row here fails.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { sendCommand } from '#dist/src/cli/send/command.js'
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

interface Row {
  /** Arguments without the option; default three heaps of 64 bytes. */
  readonly without?: readonly string[]
  /** With it; the default's come before them where `without` is the default. */
  readonly args: readonly string[]
  readonly look: (seen: Seen) => unknown
  /** The look without the option; left out: anything but the look with it. */
  readonly before?: unknown
  readonly after: unknown
}
const THREE = ['-n', '3', '-H', '64']
const DATA = [...THREE, '--descriptors', 'none', '--no-stop']
const ONE = ['-n', '1', '-H', '4000', '--descriptors', 'none', '--no-stop']
const GREEDY = [...ONE, '--split', 'greedy']
const PACED = ['--rate', '10MB/s', '--burst', '64']

const ROWS: Readonly<Record<string, Row>> = {
  '--heaps': { without: ['-H', '64'], args: [...THREE], look: ({ json }) => json.heaps, before: 1000, after: 3 },
  '--heap-size': { without: ['-n', '1'], args: ['-n', '1', '-H', '64'], look: ({ json }) => json.payloadBytes, before: 1048576, after: 64 },
  '--input': { without: [...THREE], args: ['-H', '100', '--input', SAMPLES], look: (seen) => Buffer.concat(data(seen).map((packet) => packet.data)).toString(), after: readFileSync(SAMPLES, 'latin1') },
  '--dtype': { without: ['-H', '100', '--input', SAMPLES], args: ['-H', '100', '--input', SAMPLES, '--dtype', '<i2'], look: ({ packets }) => packets[0]!.data.toString('latin1').match(/'descr': '(...)'/)![1], before: '|i1', after: '<i2' },
  '--samples-per-heap': { without: ['-H', '100', '--input', SAMPLES], args: ['-H', '100', '--input', SAMPLES, '--samples-per-heap', '7'], look: (seen) => data(seen).map((packet) => value(packet, TIMESTAMP)), before: [0, 100, 200, 300, 400], after: [0, 7, 14, 21, 28] },
  '--max-delay': { args: ['--max-delay', '5'], look: refused, before: 0, after: [2, expect.stringMatching(/--max-delay is for --input/)] },
  '--stop': { without: [...THREE, '--no-stop'], args: [...THREE, '--no-stop', '--stop'], look: kinds, before: 'dxxx', after: 'dxxxc' },
  '--no-stop': { args: ['--no-stop'], look: kinds, before: 'dxxxc', after: 'dxxx' },
  '--packet-size': { without: ONE, args: [...ONE, '-p', '9000'], look: sizes, after: [8 + 6 * 8 + 4000] },
  '--split': { without: ONE, args: [...ONE, '--split', 'greedy'], look: sizes, after: [1472, 1472, 40 + (4000 - (1416 + 1432))] },
  '--payload-bytes': { without: [...ONE, '--split', 'exact', '--payload-bytes', '2000'], args: [...ONE, '--split', 'exact', '--payload-bytes', '3000'], look: ({ packets }) => packets.map((packet) => packet.data.length), before: [2000, 2000], after: [3000, 1000] },
  '--repeat-pointers': { without: GREEDY, args: [...GREEDY, '--repeat-pointers'], look: ({ packets }) => packets.map(({ pointers }) => pointers.length), before: [6, 4, 4], after: [6, 6, 6] },
  // SPEAD, packet header: magic, version, bytes of item id, bytes of heap address.
  '--heap-address-bits': { args: ['--heap-address-bits', '40'], look: ({ packets }) => [...packets[0]!.bytes.subarray(0, 4)], before: [0x53, 4, 2, 6], after: [0x53, 4, 3, 5] },
  '--first-cnt': { without: DATA, args: [...DATA, '--first-cnt', '0x1000'], look: cnts, before: [1, 2, 3], after: [4096, 4097, 4098] },
  '--cnt-step': { without: DATA, args: [...DATA, '--cnt-step', '7'], look: cnts, before: [1, 2, 3], after: [1, 8, 15] },
  '--descriptors': { args: ['--descriptors', 'none'], look: kinds, before: 'dxxxc', after: 'xxxc' },
  '--descriptor-first-cnt': { args: ['--descriptor-first-cnt', '500'], look: cnts, before: [1, 2, 3, 4, 5], after: [500, 1, 2, 3, 4] },
  '--descriptor-cnt-step': { without: [...THREE, '--descriptor-first-cnt', '500'], args: [...THREE, '--descriptor-cnt-step', '3'], look: refused, before: 0, after: [2, expect.stringMatching(/say where it begins with --descriptor-first-cnt/)] },
  '--descriptor-stagger': { args: ['--descriptor-stagger'], look: refused, before: 0, after: [2, expect.stringMatching(/say how often with --descriptors SECONDS/)] },
  '--batch-heaps': { without: ['-n', '4', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin'], args: ['-n', '4', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin', '--batch-heaps', '2'], look: cnts, before: [1, 2, 3, 4, 1, 2, 3, 4], after: [1, 2, 1, 2, 3, 4, 3, 4] },
  // Refused after the first is mapped.
  '--batches': { args: ['-n', '1000000', '-H', '64MiB', '--batches', '65536'], look: refused, before: 0, after: [1, expect.stringMatching(/65536 batches of 1 heap for 1 endpoint take \d+ MiB/)] },
  '--group-mode': { without: ['-n', '2', '-H', '2000', '--descriptors', 'none', '--no-stop'], args: ['-n', '2', '-H', '2000', '--descriptors', 'none', '--no-stop', '--group-mode', 'round-robin'], look: cnts, before: [1, 1, 2, 2], after: [1, 2, 1, 2] },
  '--rate': { args: ['--rate', '20kB/s', '--burst', '64'], look: ({ json }) => json.stats.pacedNanoseconds! > 0, before: false, after: true },
  '--burst': { without: [...DATA, '--rate', '1GB/s'], args: [...DATA, '--rate', '1GB/s', '--burst', '1'], look: ({ json }) => json.stats.posts, before: 1, after: 3 },
  '--burst-rate-ratio': { args: [...PACED, '--burst-rate-ratio', '0.5'], look: refused, before: 0, after: [2, expect.stringMatching(/--burst-rate-ratio <RATIO>' argument '0\.5' is invalid/)] },
  '--rate-method': { without: [...THREE, ...PACED, '--rate-method', 'sw'], args: [...THREE, ...PACED, '--rate-method', 'kernel'], look: refused, before: 0, after: [2, expect.stringMatching(/pacing by the kernel needs --backend udp/)] },
  '--rate-basis': { without: [...THREE, ...PACED], args: [...THREE, ...PACED, '--rate-basis', 'wire'], look: ({ json }) => json.rate!.basis, before: 'udp', after: 'wire' },
  '--catch-up': { args: [...PACED, '--catch-up', '-1'], look: refused, before: 0, after: [2, expect.stringMatching(/--catch-up <SECONDS>' argument '-1' is invalid/)] },
  '--poll': { args: ['--backend', 'udp', '--poll', 'busy'], look: refused, before: 0, after: [2, expect.stringMatching(/--poll and --verbs-library are for --backend ibverbs and rdma-ud, not udp/)] },
  '--device': { args: ['--backend', 'udp', '--device', 'mlx5_0'], look: refused, before: 0, after: [2, expect.stringMatching(/--device and --peer are for --backend rdma-ud, not udp/)] },
  '--peer': { args: ['--backend', 'rdma-ud', '--peer', '1/2/3/4/5'], look: refused, before: 0, after: [2, expect.stringMatching(/'1\/2\/3\/4\/5' is no queue pair; write \[GID\/\]QPN\/QKEY\[\/LID\]/)] },
  '--verbs-library': { args: ['--backend', 'ibverbs', '-p', '500', '--verbs-library', '/nonexistent.so'], look: refused, before: 0, after: [1, expect.stringMatching(/\/nonexistent\.so could not be loaded/)] },
  '--backend': { args: ['--backend', 'memory'], look: ({ json }) => json.backend, before: 'pcap', after: 'memory' },
  '--udp-path': { without: [...THREE, '--backend', 'memory'], args: [...THREE, '--backend', 'memory', '--udp-path', 'sendmmsg'], look: refused, before: 0, after: [2, expect.stringMatching(/--udp-path is for --backend udp, not memory/)] },
  '--pcap': { without: [...THREE, '--backend', 'memory'], args: [...THREE], look: ({ json, packets }) => [json.backend, packets.length], before: ['memory', 0], after: ['pcap', 5] },
  '--thread': { args: ['--backend', 'dgram', '--thread', 'worker'], look: refused, before: 0, after: [2, expect.stringMatching(/--backend dgram runs on the event loop/)] },
  '--interface': { args: ['--interface', '127.0.0.1'], look: ({ frames }) => frames[0]!.from.startsWith('127.0.0.1:'), before: false, after: true },
  '--ttl': { args: ['--ttl', '9'], look: ({ frames }) => frames[0]!.ttl, before: 64, after: 9 },
  '--source-port': { args: ['--source-port', '4321'], look: ({ frames }) => frames[0]!.from.endsWith(':4321'), before: false, after: true },
  '--reuse-port': { args: ['--reuse-port'], look: refused, before: 0, after: [2, expect.stringMatching(/--reuse-port shares a source port; say which with --source-port/)] },
  '--broadcast': { args: ['--backend', 'rdma-ud', '--broadcast'], look: refused, before: 0, after: [2, expect.stringMatching(/--broadcast is of IPv4/)] },
  '--deadline': { args: ['--deadline', '-1'], look: refused, before: 0, after: [2, expect.stringMatching(/--deadline <SECONDS>' argument '-1' is invalid/)] },
  '--json': { args: ['--json'], look: ({ stdout }) => stdout.startsWith('{'), before: false, after: true },
} // biome-ignore format: a table

/** Sends into a pcap file unless the arguments name another backend. */
async function observe(args: readonly string[], json: boolean): Promise<Seen> {
  const path = join(folder, `${observed++}.pcap`)
  const out = args.includes('--backend') ? [] : ['--pcap', path]
  const ran = await run(['send', '10.0.0.5:7148', ...args, ...out, ...(json ? ['--json'] : [])])
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

  test.concurrent.for(Object.entries(ROWS))(
    '%s',
    { timeout: 60_000 },
    async ([name, { without = THREE, args, look, before, after }], { expect }) => {
      const json = name !== '--json'
      const base = await observe(without, json)
      const seen = await observe(without === THREE ? [...THREE, ...args] : args, json)
      if (before === undefined) expect(look(base)).not.toEqual(after)
      else expect(look(base)).toEqual(before)
      expect(look(seen)).toEqual(after)
      expect(base).toMatchObject({ code: 0, stderr: '' })
    },
  )
})
