// Checks the bytes that `speadcast send` puts on the wire and its report of them: read from its pcap files, byte by byte, and received by `recv`.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, test } from 'vitest'
import {
  CLI,
  type Datagram,
  datagramsOf,
  freePort,
  pointersOf,
  run,
  runJson,
  startReceiver,
  temporaryFolder,
} from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programFile } from '../support/program.js'
import { openTerminal, terminalUnavailable } from '../support/terminal.js'

const HEAP_CNT = 1
const STREAM_CTRL = 6
const DESCRIPTOR = 5
const TIMESTAMP = 0x1600
const SAMPLES = 0x3300

interface Packet extends Datagram {
  readonly pointers: ReturnType<typeof pointersOf>
  readonly value: (id: number) => number | undefined
  readonly data: Buffer
}

/** Runs send into a pcap file and reads that. */
async function capture(args: readonly string[], input?: Uint8Array) {
  const path = join(temporaryFolder(), 'x.pcap')
  const result = await runJson(['send', ...args, '--pcap', path], input)
  const packets = datagramsOf(readFileSync(path)).map((datagram): Packet => {
    const pointers = pointersOf(datagram.payload)
    return {
      ...datagram,
      pointers,
      value: (id) => pointers.find((pointer) => pointer.id === id)?.value,
      data: datagram.payload.subarray(8 + 8 * pointers.length),
    }
  })
  return { ...result, packets, heaps: packets.filter(({ value }) => value(TIMESTAMP) !== undefined) }
}

const cntOf = (packet: Packet): number => packet.value(HEAP_CNT)!
const has = (id: number) => (packet: Packet) => packet.value(id) !== undefined

describe('the tutorial’s heaps', () => {
  test.for(
    [
      ['udp', '-H', '8192'],
      ['udp', '-H', '8192', '--thread', 'inline'],
      ['dgram', '-H', '8192'],
      ['udp', '-H', '8192', '--group-mode', 'round-robin', '--batch-heaps', '7'],
      ['udp', '-H', '10007', '--split', 'greedy', '-p', '1001'],
      ['udp', '-H', '8192', '--heap-address-bits', '40', '--first-cnt', '0xfffffffff0'],
      // Timestamps that start again at 0, at another offset within the heap every time.
      ['udp', '-H', '200', '--heap-address-bits', '8', '--descriptors', 'none'],
      ['udp', '-H', '65535', '--heap-address-bits', '16'],
      ['udp', '-H', '3000', '--heap-address-bits', '16', '--group-mode', 'round-robin', '--batch-heaps', '8'],
      ['udp', '-H', '6'],
      ['udp', '-H', '1'],
    ].map((args) => ({ args })),
  )('$args arrive whole and right', async ({ args: [backend, ...args] }) => {
    const receiver = await startReceiver(['--verify', '--heaps', '50'])
    const sent = await runJson(['send', receiver.to, '-n', '50', '--rate', '500Mbps', '--backend', backend!, ...args])
    expect(sent).toMatchObject({ code: 0, stderr: '', json: { backend, heaps: 50, heapsFailed: 0, evidence: 'accepted' } })
    expect(await receiver.done).toMatchObject({ code: 0, json: { heaps: 50, heapsIncomplete: 0, heapsCorrupt: 0 } })
  })

  test('have the bytes of the tutorial', async () => {
    const { packets, json } = await capture(['10.0.0.5:7148', '-n', '300', '-H', '64', '--batch-heaps', '100'])
    const [descriptors, ...rest] = packets
    expect(descriptors!.pointers.filter(({ id }) => id === DESCRIPTOR)).toHaveLength(2)
    expect(descriptors!.data.toString('latin1')).toContain(`{'descr': '|i1', 'fortran_order': False, 'shape': (64,)}`)
    const stop = rest.pop()!
    expect(stop.value(STREAM_CTRL)).toBe(2)
    expect(rest).toHaveLength(300)
    rest.forEach((packet, i) => {
      expect([cntOf(packet), packet.value(TIMESTAMP), packet.to]).toEqual([2 + i, 64 * i, '10.0.0.5:7148'])
      expect(packet.data.equals(Buffer.alloc(64, i))).toBe(true)
    })
    expect(json).toMatchObject({ heaps: 300, payloadBytes: 300 * 64, packets: 302, evidence: 'written' })
  })

  test('have timestamps that wrap at the width of a small flavour', async () => {
    const { heaps } = await capture(['10.0.0.5:7148', '-n', '30', '-H', '200', '--heap-address-bits', '8', '--descriptors', 'none'])
    expect(heaps.map((packet) => packet.value(TIMESTAMP))).toEqual(Array.from({ length: 30 }, (_, i) => (200 * i) % 256))
  })

  test('of so few samples that they stand in the item pointer are right too', async () => {
    for (const size of [1, 2, 6]) {
      const { heaps } = await capture(['10.0.0.5:7148', '-n', '200', '-H', `${size}`])
      expect(heaps).toHaveLength(200)
      heaps.forEach((packet, i) => {
        const pointer = packet.pointers.find(({ id }) => id === SAMPLES)!
        expect(pointer).toEqual({ id: SAMPLES, immediate: true, value: Number(`0x${Buffer.alloc(size, i).toString('hex')}`) })
      })
    }
  })
})

describe('substreams', () => {
  // Neither 4 heaps a batch nor 2 batches are multiples of 3.
  test.for([
    ['pattern', []],
    ['input', ['--input', '-']],
  ] as const)('heap i goes to substream i mod n across batches: %s', async ([, args]) => {
    const input = args.length > 0 ? new Uint8Array(25 * 100 + 50) : undefined
    const heaps = input ? 26 : 25
    const { packets, json } = await capture(
      ['10.0.0.1+2:7148', '-n', `${heaps}`, '-H', '100', '--batch-heaps', '4', '--batches', '2', ...args],
      input,
    )
    const data = packets.filter(has(TIMESTAMP))
    expect(data.map((packet) => [packet.value(TIMESTAMP)! / 100, packet.to])).toEqual(
      Array.from({ length: heaps }, (_, i) => [i, `10.0.0.${1 + (i % 3)}:7148`]),
    )
    // One of each for every substream.
    for (const id of [DESCRIPTOR, STREAM_CTRL])
      expect(new Set(packets.filter(has(id)).map(({ to }) => to))).toEqual(
        new Set(['10.0.0.1:7148', '10.0.0.2:7148', '10.0.0.3:7148']),
      )
    expect(json).toMatchObject({ heaps })
  })

  test('round-robin sends a packet of each heap of a batch in turn', async () => {
    const { packets } = await capture(
      ['10.0.0.1:7148', '-n', '5', '-H', '2000', '--batch-heaps', '3', '--group-mode', 'round-robin', '--descriptors', 'none', '--no-stop'],
    ) // biome-ignore format: one line of arguments
    expect(packets.map(cntOf)).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 4, 5])
  })
})

test('by substream a batch goes to one endpoint after the other, its cnts as they were', async () => {
  const { packets } = await capture(
    ['10.0.0.1+1:7148', '-n', '10', '-H', '100', '--batch-heaps', '6', '--group-mode', 'by-substream', '--descriptors', 'none', '--no-stop'],
  ) // biome-ignore format: one line of arguments
  expect(packets.map((packet) => [cntOf(packet), packet.value(TIMESTAMP)! / 100, packet.to.slice(0, 8)])).toEqual(
    [1, 3, 5, 2, 4, 6, 7, 9, 8, 10].map((cnt) => [cnt, cnt - 1, cnt % 2 === 1 ? '10.0.0.1' : '10.0.0.2']),
  )
})

describe('heap cnts, descriptors, stop heaps', () => {
  test('cnts start, step and wrap as told', async () => {
    const { packets } = await capture(
      ['10.0.0.1:7148', '-n', '6', '-H', '64', '--first-cnt', '0xfffffffffffe', '--cnt-step', '3', '--descriptors', 'none', '--no-stop'],
    ) // biome-ignore format: one line of arguments
    const width = 2 ** 48
    expect(packets.map(cntOf)).toEqual(Array.from({ length: 6 }, (_, i) => (width - 2 + 3 * i) % width))
  })

  test.for([
    ['none', [], ['data', 'data', 'data', 'data']],
    ['first', [], ['descriptors', 'data', 'data', 'data', 'data']],
    ['in-band', [], ['both', 'data', 'data', 'data']],
  ] as const)('--descriptors %s', async ([when, args, expected]) => {
    const { packets } = await capture(
      ['10.0.0.1:7148', '-n', '4', '-H', '600', '--batch-heaps', '2', '--batches', '1', '--descriptors', when, '--no-stop', ...args],
    ) // biome-ignore format: one line of arguments
    const kinds = packets.map((packet) =>
      has(DESCRIPTOR)(packet) ? (has(TIMESTAMP)(packet) ? 'both' : 'descriptors') : has(TIMESTAMP)(packet) ? 'data' : 'other',
    )
    expect(kinds).toEqual(expected)
  })

  test('--descriptors SECONDS: again and again, between the heaps of a batch, with cnts of their own if told', async () => {
    const { packets } = await capture([
      ...['10.0.0.1+1:7148', '-n', '60', '-H', '600', '--rate', '200kB/s', '--burst', '1', '--no-stop'],
      ...['--descriptors', '0.01', '--descriptor-first-cnt', '1000', '--descriptor-cnt-step', '2', '--descriptor-stagger'],
    ])
    const own = packets.filter(has(DESCRIPTOR))
    // 60 heaps of 664 bytes take 0.2 s.
    expect(own.length).toBeGreaterThan(4)
    expect(own.map(cntOf)).toEqual(own.map((_, i) => 1000 + 2 * i))
    // At first to both, then in turn.
    expect(own.map(({ to }) => to)).toEqual(own.map((_, i) => `10.0.0.${1 + (i % 2)}:7148`))
    expect(packets.filter(has(TIMESTAMP)).map(cntOf)).toEqual(Array.from({ length: 60 }, (_, i) => 1 + i))
    expect(packets.map((packet) => (has(DESCRIPTOR)(packet) ? 'd' : 'x')).join('')).toMatch(/^d{2,}x+d+x+d/)
  })

  test('a stop heap ends every substream, or with --no-stop none', async () => {
    const args = ['10.0.0.1+3:7148', '-n', '2', '-H', '64']
    const { packets } = await capture(args)
    expect(packets.slice(-4).map((packet) => [packet.value(STREAM_CTRL), packet.to])).toEqual(
      [1, 2, 3, 4].map((host) => [2, `10.0.0.${host}:7148`]),
    )
    expect((await capture([...args, '--no-stop'])).packets.filter(has(STREAM_CTRL))).toEqual([])
  })
})

describe('packets', () => {
  const sizes = (packets: readonly Packet[]) => packets.map(({ payload }) => payload.length)
  const plain = ['10.0.0.1:7148', '-n', '1', '-H', '4000', '--descriptors', 'none', '--no-stop']

  test('even: as few as can be, of one size where that is possible', async () => {
    // 4000 bytes and 16 of item pointers are no multiple of 3: a third of them and 40 is 1378.7, the next multiple of 8 1384.
    const { packets, json } = await capture(plain)
    expect(sizes(packets)).toEqual([1384, 1384, 40 + 4016 - 2 * 1344])
    expect(json.packetSizeBytes).toBe(1472)
    // 4032 = 3 · 1344.
    expect(sizes((await capture([...plain, '-H', '4016'])).packets)).toEqual([1384, 1384, 1384])
  })

  test('greedy: full but for the last', async () => {
    // 1472 each, of which 40 are header and standard pointers, and 16 in the first packet timestamp and adc_samples.
    expect(sizes((await capture([...plain, '--split', 'greedy'])).packets)).toEqual([1472, 1472, 40 + (4000 - (1416 + 1432))])
  })

  test('exact: the payload asked for, and pointers in order', async () => {
    const { packets, json } = await capture([...plain, '--split', 'exact', '--payload-bytes', '1500'])
    expect(packets.map(({ data }) => data.length)).toEqual([1500, 1500, 1000])
    expect(packets.map(({ pointers }) => pointers.map(({ id }) => id))).toEqual([
      [1, 2, 3, 4, TIMESTAMP, SAMPLES],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ])
    expect(json.packetSizeBytes).toBe(8 + 6 * 8 + 1500)
  })

  test.for([['exact', '--payload-bytes', '1500'], ['even'], ['greedy']])('--repeat-pointers: %s', async (args) => {
    const { packets } = await capture([...plain, '--split', ...args, '--repeat-pointers'])
    expect(packets.length).toBeGreaterThan(2)
    for (const { pointers } of packets) expect(pointers.map(({ id }) => id)).toEqual([1, 2, 3, 4, TIMESTAMP, SAMPLES])
  })
})

describe('--json', () => {
  const TYPES = {
    backend: 'string',
    reason: 'string',
    evidence: 'string',
    heaps: 'number',
    heapsFailed: 'number',
    heapSizeBytes: 'number',
    packetSizeBytes: 'number',
    packets: 'number',
    payloadBytes: 'number',
    udpBytes: 'number',
    wireBytes: 'number',
    seconds: 'number',
    payloadBytesPerSecond: 'number',
    packetsPerSecond: 'number',
    segmentation: 'string',
    cpuSeconds: 'number',
  }

  test.for(['udp', 'dgram', 'memory', 'pcap'])('has the fields of the contract: %s', async (backend) => {
    const args = backend === 'pcap' ? ['--pcap', join(temporaryFolder(), 'x.pcap')] : ['--backend', backend]
    const receiver = await startReceiver([])
    const { code, stderr, json } = await runJson([
      'send',
      receiver.to,
      '-n',
      '20',
      '-H',
      '1000',
      '--rate',
      '200kB/s',
      '--burst',
      '1500',
      ...args,
    ])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(Object.fromEntries(Object.entries(json).map(([key, value]) => [key, typeof value]))).toMatchObject(TYPES)
    expect(json).toMatchObject({
      backend,
      heaps: 20,
      heapsFailed: 0,
      heapSizeBytes: 1000,
      packetSizeBytes: 1472,
      payloadBytes: 20_000,
    })
    expect(json.seconds).toBeGreaterThan(0)
    expect(json.payloadBytesPerSecond).toBeCloseTo(20_000 / json.seconds, 3)
    expect(json.packetsPerSecond).toBeCloseTo(json.packets / json.seconds, 3)
    expect(json.stats.pacedNanoseconds).toBeGreaterThan(0)
    const { heapsSent, packets, udpBytes } = json.stats
    expect(json.substreams).toMatchObject([{ endpoint: receiver.to, heapsSent, packets, udpBytes, failedByCause: {} }])
    expect(json.histograms.batchLatencyNanoseconds.count).toBe(json.stats.batches)
    expect(json.histograms.pacingLagNanoseconds.max).toBe(json.stats.greatestLagNanoseconds)
  })

  test.for(['10.0.0.5:7148', '[fd00::5]:7148'])('counts bytes as the frames to %s have them', async (to) => {
    const { packets, json } = await capture([to, '-n', '10', '-H', '5000'])
    const sum = (of: (packet: Packet) => number) => packets.reduce((total, packet) => total + of(packet), 0)
    expect(json.packets).toBe(packets.length)
    expect(json.udpBytes).toBe(sum(({ payload }) => payload.length))
    // A capture has Ethernet header to end of payload; on the wire there are FCS 4, preamble 8 and gap 12 more (IEEE 802.3).
    expect(json.wireBytes).toBe(sum(({ frameBytes }) => frameBytes + 4 + 8 + 12))
  })

  test('without it, standard output is a table and standard error stays empty where it is no terminal', async () => {
    const { code, stdout, stderr } = await run(['send', '127.0.0.1:7148', '-n', '2', '--backend', 'memory'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^heaps +2 sent, 0 failed$/m)
    expect(stdout).toMatch(/^payload +2\.10 MB \(2097152 bytes\)$/m)
    expect(stdout).toMatch(/^payload rate +[\d.]+ .?B\/s$/m)
  })
})

describe('--input', () => {
  /** Bytes that no shift or repetition of themselves equals: a counter times an odd constant, hashed by multiplication. */
  const samples = (length: number) => Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 13) & 0xff)
  const INPUT = samples(1_000_003)

  test.for([
    ['a file', ['-H', '8192'], 123],
    ['standard input', ['-H', '8192'], 123],
    ['a file', ['-H', '1000003'], 1],
    ['a file', ['-H', '1MiB'], 1],
    ['a file', ['-H', '1000000'], 2],
    ['a file', ['-H', '1000', '--batch-heaps', '300', '--group-mode', 'round-robin'], 1001],
    ['a file', ['-H', '6000', '--split', 'exact', '--payload-bytes', '1024'], 167],
    ['a file', ['-H', '5000', '--descriptors', 'in-band', '--backend', 'dgram'], 201],
  ] as const)('%s arrives byte for byte: %j', async ([from, args, heaps]) => {
    const folder = temporaryFolder()
    const [source, output] = [join(folder, 'in'), join(folder, 'out')]
    writeFileSync(source, INPUT)
    const receiver = await startReceiver(['--output', output])
    const sent =
      from === 'a file'
        ? await runJson(['send', receiver.to, '--input', source, '--rate', '1Gbps', ...args])
        : await runJson(['send', receiver.to, '--input', '-', '--rate', '1Gbps', ...args], INPUT)
    expect(sent).toMatchObject({ code: 0, stderr: '', json: { heaps, heapsFailed: 0, payloadBytes: INPUT.length } })
    expect(await receiver.done).toMatchObject({ code: 0, json: { heaps, heapsIncomplete: 0 } })
    expect(readFileSync(output).equals(INPUT)).toBe(true)
  })

  test('a last heap that is not full is described with its own shape, and timestamps count samples', async () => {
    const input = samples(2 * 1000 + 2 * 300)
    const { packets, heaps } = await capture(['10.0.0.5:7148', '--input', '-', '--dtype', '<i2', '-H', '1000'], input)
    expect(heaps.map((packet) => packet.value(TIMESTAMP))).toEqual([0, 500, 1000])
    expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
    const shapes = packets.filter(has(DESCRIPTOR)).map(({ data }) => data.toString('latin1').match(/'shape': \(\d+,\)/)![0])
    expect(shapes).toEqual([`'shape': (500,)`, `'shape': (300,)`])
  })

  test('a partial sample is an error that names the bytes left over; what is before it is sent', async () => {
    const { code, stderr, json, heaps } = await capture(
      ['10.0.0.5:7148', '--input', '-', '--dtype', '<i4', '-H', '1000'],
      samples(1000 + 4 * 5 + 3),
    )
    expect(code).toBe(1)
    expect(stderr).toMatch(/3 bytes left over at the end: a sample of item 'adc_samples' is 4 bytes/)
    expect(heaps.map(({ data }) => data.length)).toEqual([1000, 20])
    expect(json).toMatchObject({ heaps: 2, payloadBytes: 1020 })
  })

  test('a longer input takes no more memory', (ctx) => {
    need(ctx, existsSync('/dev/zero'), 'needs /dev/zero')
    const preload = pathToFileURL(programFile('cli/peak')).href
    const peakKibibytes = (heaps: number): number => {
      const args = ['--import', preload, CLI, 'send', '127.0.0.1:9', '--input', '/dev/zero', '-n', `${heaps}`, '--json']
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 25_000 })
      expect(status).toBe(0)
      return Number(stderr)
    }
    const [short, long] = [peakKibibytes(64), peakKibibytes(1024)]
    console.log(`send --input: at most ${short >> 10} MiB resident for 64 MiB of samples, ${long >> 10} MiB for 1 GiB`)
    expect(long - short).toBeLessThan(128 * 1024)
  })

  test('-n ends the input early', async () => {
    const { code, json, heaps } = await capture(['10.0.0.5:7148', '--input', '/dev/zero', '-H', '1000', '-n', '70'])
    expect({ code, heaps: json.heaps, packets: heaps.length }).toEqual({ code: 0, heaps: 70, packets: 70 })
  })

  test('empty input sends no heap and is no error', async () => {
    const { code, json, packets } = await capture(['10.0.0.5:7148', '--input', '-'], new Uint8Array())
    expect({ code, heaps: json.heaps, seconds: json.seconds }).toEqual({ code: 0, heaps: 0, seconds: 0 })
    expect(packets.filter(has(STREAM_CTRL))).toHaveLength(1)
  })

  test('a pipe by its name is refused with what to write instead', async () => {
    const { code, stderr } = await run(['send', '127.0.0.1:7148', '--input', '/dev/stdin'], 'x')
    expect(code).toBe(1)
    expect(stderr).toMatch(/it is a pipe; write: --input - < \/dev\/stdin/)
  })

  test('a terminal by its name is read as it is typed at, and Ctrl-C ends it while nothing comes', async (ctx) => {
    const why = terminalUnavailable()
    need(ctx, !why, why)
    const terminal = openTerminal(80, 24)
    await terminal.run('send 10.0.0.5:7148 --backend memory --input /dev/tty -H 8 --interval 0.1')
    await terminal.shows(/^interval +heaps/m)
    terminal.press('samples', 'Enter')
    await terminal.shows(/ s +1 +8 /)
    terminal.press('C-c')
    expect(await terminal.shows(/^status 0$/m)).toMatch(/heaps +1 sent, 0 failed/)
  })

  test('a name that is empty is shown as one', async () => {
    const { code, stderr } = await run(['send', '127.0.0.1:7148', '--input', ''])
    expect(code).toBe(1)
    expect(stderr).toMatch(/cannot read '': ENOENT/)
  })
})

describe('what cannot be sent', () => {
  test('packets beyond the MTU are refused before any is sent', async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { mtu: 1500 } })
    const args = ['send', `${ns.addresses.b.v4}:7148`, '-H', '16384', '-p', '9000', '--json']
    const { code, stdout, stderr } = await ns.exec('a', ['node', CLI, ...args], { check: false })
    expect(code).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_SPEADCAST_PACKET_SIZE', exitStatus: 2 } })
    expect(stderr).toMatch(/-p 9000 \+ 28 exceeds MTU 1500 of v0; pass -p 1472/)
  })

  test('one dead endpoint does not stop the others; its heaps are counted and its cause told once', async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    const to = [`${ns.addresses.b.v4}:7148`, '10.77.0.99:7148', `${ns.addresses.b.v4}:7149`]
    const args = ['send', ...to, '-n', '30', '-H', '1000', '--batch-heaps', '4', '--json']
    const { code, stdout, stderr } = await ns.exec('a', ['node', CLI, ...args], { check: false })
    const json = JSON.parse(stdout)
    expect({ code, json }).toMatchObject({ code: 1, json: { heaps: 20, heapsFailed: 10, payloadBytes: 20_000 } })
    expect(stderr.match(/10\.77\.0\.99:7148: nobody answers/g)).toHaveLength(1)
    expect(stderr).toMatch(/10 heaps were not sent whole/)
  })
})

test('on a terminal, standard error shows heaps, rate and time left, and is clean in the end', (ctx) => {
  need(ctx, !spawnSync('script', ['--version']).error, 'a terminal needs script (util-linux)')
  const command = `${process.execPath} ${CLI} send 127.0.0.1:7148 -n 30 -H 1MiB --rate 20MB/s --thread inline --backend memory`
  // -f: at once, -e: its exit status.
  const { status, stdout } = spawnSync('script', ['-qefc', command, '/dev/null'], { encoding: 'utf8', timeout: 30_000 })
  expect(status).toBe(0)
  const shown = stdout.split('\r\x1b[K')
  expect(shown.length).toBeGreaterThan(3)
  expect(shown.some((line) => /^sent \d+ heaps, [\d.]+ .?B\/s, \d+ %, ETA \d+:\d\d$/.test(line))).toBe(true)
  // The last thing behind the progress line is the table, from the left margin.
  expect(shown.at(-1)).toMatch(/^backend +memory/)
})

test('a port that nobody listens at is told of, in words and in --json', async (ctx) => {
  need(ctx, process.platform === 'linux', 'ICMP answers are read on Linux only')
  const args = ['send', `127.0.0.1:${await freePort()}`, '-n', '50', '-H', '8KiB', '--backend', 'udp', '--rate', '100Mbps']
  const { code, stdout } = await run(args)
  expect(code).toBe(0)
  expect(stdout).toMatch(/nobody listens: \d[\d,]* ICMP port unreachable/)
  const { json } = await runJson(args)
  expect((json as { stats: { portUnreachable: number } }).stats.portUnreachable).toBeGreaterThan(0)
})
