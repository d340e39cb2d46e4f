// Captures by hand, of every form that is read, and of those that are refused.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { run } from '../support/cli.js'
import { packet, payloadOf } from '../tcp/receiver-support.js'
import { file, folder, read } from './pcap-support.js'
import { type Captured, ethernet, ipv4, ipv6, pcapOf, udp } from './pcap-write.js'

const one = udp(packet(1, payloadOf(1, 100)))
const frame = (cnt: number, bytes = 100): Buffer => ethernet(ipv4(udp(packet(cnt, payloadOf(cnt, bytes)))))
const frames = (count: number): Captured[] => Array.from({ length: count }, (_, i) => ({ frame: frame(i + 1), at: 1 + i / 1000 }))
const v4 = ipv4(one)
const v6 = ipv6(one)

const FORMS: Readonly<Record<string, readonly [Buffer, string]>> = {
  'Ethernet, little-endian, nanoseconds': [pcapOf([{ frame: ethernet(v4) }]), '10.0.0.5:7148'],
  'big-endian, microseconds': [pcapOf([{ frame: ethernet(v4) }], { bigEndian: true, nanoseconds: false }), '10.0.0.5:7148'],
  'big-endian, nanoseconds': [pcapOf([{ frame: ethernet(v4) }], { bigEndian: true }), '10.0.0.5:7148'],
  'little-endian, microseconds': [pcapOf([{ frame: ethernet(v4) }], { nanoseconds: false }), '10.0.0.5:7148'],
  'a frame check sequence, and how long it is told': [pcapOf([{ frame: Buffer.concat([ethernet(v4), Buffer.alloc(4, 9)]) }], { linkType: 0x24000001 }), '10.0.0.5:7148'],
  'a VLAN tag': [pcapOf([{ frame: ethernet(v4, 0x0800, [0x8100]) }]), '10.0.0.5:7148'],
  'two VLAN tags': [pcapOf([{ frame: ethernet(v6, 0x86dd, [0x88a8, 0x8100]) }]), '[fd77::2]:7148'],
  'options of IPv4': [pcapOf([{ frame: ethernet(ipv4(one, { options: 12 })) }]), '10.0.0.5:7148'],
  'a padded frame': [pcapOf([{ frame: Buffer.concat([ethernet(v4), Buffer.alloc(30)]) }]), '10.0.0.5:7148'],
  'IPv6': [pcapOf([{ frame: ethernet(v6) }]), '[fd77::2]:7148'],
  'extension headers': [pcapOf([{ frame: ethernet(ipv6(one, { extensions: [[0, [0, 1, 4, 0, 0, 0, 0]], [60, [1, ...new Array<number>(14).fill(0)]], [43, [0, 0, 0, 0, 0, 0, 0]], [51, [1, ...new Array<number>(10).fill(0)]], [44, [0, 0, 0, 0, 0, 0, 1]]] })) }]), '[fd77::2]:7148'],
  'Linux cooked': [pcapOf([{ frame: Buffer.concat([Buffer.from([0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0]), v4]) }], { linkType: 113 }), '10.0.0.5:7148'],
  'Linux cooked, with a VLAN tag': [pcapOf([{ frame: Buffer.concat([Buffer.from([0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0, 0, 7, 8, 0]), v4]) }], { linkType: 113 }), '10.0.0.5:7148'],
  'Linux cooked, version 2': [pcapOf([{ frame: Buffer.concat([Buffer.from([0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 2, 0, 0, 0, 0, 1, 0, 0]), v6]) }], { linkType: 276 }), '[fd77::2]:7148'],
  'raw IP': [pcapOf([{ frame: v4 }], { linkType: 101 }), '10.0.0.5:7148'],
  'raw IPv6': [pcapOf([{ frame: v6 }], { linkType: 229 }), '[fd77::2]:7148'],
  'BSD loopback': [pcapOf([{ frame: Buffer.concat([Buffer.from([2, 0, 0, 0]), v4]) }], { linkType: 0 }), '10.0.0.5:7148'],
  'BSD loopback of another byte order, IPv6': [pcapOf([{ frame: Buffer.concat([Buffer.from([0, 0, 0, 30]), v6]) }], { linkType: 0 }), '[fd77::2]:7148'],
  'OpenBSD loopback': [pcapOf([{ frame: Buffer.concat([Buffer.from([0, 0, 0, 2]), v4]) }], { linkType: 108 }), '10.0.0.5:7148'],
  'an IPv4 length of 0, as a device that segments gets it': [pcapOf([{ frame: ethernet(ipv4(one, { total: 0 })) }]), '10.0.0.5:7148'],
  'a UDP length of 0': [pcapOf([{ frame: ethernet(ipv6(udp(packet(1, payloadOf(1, 100)), {}, 0))) }]), '[fd77::2]:7148'],
} // biome-ignore format: a table

test.for(Object.entries(FORMS))('%s', async ([, [pcap, endpoint]]) => {
  const { heaps, summary, endpoints } = await read(pcap)
  expect(endpoints).toEqual([endpoint])
  expect(heaps.map(({ cnt, complete }) => [cnt, complete])).toEqual([[1, true]])
  expect(Buffer.from(heaps[0]!.items.get(0x3300)!.bytes)).toEqual(payloadOf(1, 100))
  expect(summary).toMatchObject({
    backend: 'pcap',
    reason: 'end',
    heaps: 1,
    packets: 1,
    malformed: 0,
    framesIgnored: 0,
    inputError: null,
    droppedByKernel: Number.NaN,
  })
})

test('frames that hold no datagram are ignored, fragments are counted, and datagrams that were cut are malformed', async () => {
  const whole = ethernet(v4)
  const { summary } = await read(
    pcapOf([
      { frame: whole },
      { frame: ethernet(Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]), 0x0806) },
      { frame: ethernet(ipv4(one, { protocol: 6 })) },
      { frame: ethernet(ipv4(one, { fragment: 0x2000 })) },
      { frame: ethernet(ipv4(one, { fragment: 185 })) },
      { frame: ethernet(ipv4(one, { fragment: 185, protocol: 1 })) },
      { frame: ethernet(ipv6(one, { extensions: [[44, [0, 0, 1, 0, 0, 0, 1]]] })) },
      { frame: whole.subarray(0, 100), original: whole.length },
      { frame: whole.subarray(0, 36), original: whole.length },
      { frame: Buffer.alloc(0), original: whole.length },
      { frame: ethernet(ipv4(udp(packet(2, payloadOf(2, 100)), {}, 2000))) },
      { frame: ethernet(ipv4(udp(packet(2, payloadOf(2, 100)), {}, 7))) },
      { frame: ethernet(ipv4(udp(Buffer.from('no SPEAD')))) },
      { frame: ethernet(ipv4(udp(Buffer.from('no SPEAD'), { toPort: 53 }))) },
    ]),
  )
  expect(summary).toMatchObject({ heaps: 1, packets: 1, malformed: 4, framesIgnored: 9, fragmentsIgnored: 3 })
})

test('what was cut of other datagrams is none of the endpoints that are asked for', async () => {
  const cut = (toPort: number) => {
    const whole = ethernet(ipv4(udp(packet(1, payloadOf(1, 100)), { toPort })))
    return { frame: whole.subarray(0, 100), original: whole.length }
  }
  const { summary } = await read(pcapOf([cut(53), { frame: frame(1) }, cut(7148), cut(53)]), { endpoints: '0.0.0.0:7148' })
  expect(summary).toMatchObject({ heaps: 1, messages: 2, malformed: 1, framesIgnored: 2 })
})

test('endpoints choose among the datagrams, by address and port, or by port alone', async () => {
  const to = (address: string, toPort: number, cnt: number) => ({
    frame: ethernet(ipv4(udp(packet(cnt, payloadOf(cnt, 10)), { toPort }), { to: address })),
  })
  const pcap = pcapOf([
    to('239.10.0.1', 7148, 1),
    to('239.10.0.2', 7148, 2),
    to('239.10.0.1', 7149, 3),
    to('239.10.0.3', 7148, 4),
    { frame: ethernet(v6) },
  ])
  const seen = async (endpoints?: string[]) => {
    const { heaps, endpoints: told, summary } = await read(pcap, endpoints && { endpoints })
    return [heaps.map(({ cnt, endpoint }) => [cnt, told[endpoint]]), summary.framesIgnored]
  }
  expect(await seen()).toEqual([
    [
      [1, '239.10.0.1:7148'],
      [2, '239.10.0.2:7148'],
      [3, '239.10.0.1:7149'],
      [4, '239.10.0.3:7148'],
      [1, '[fd77::2]:7148'],
    ],
    0,
  ])
  expect(await seen(['239.10.0.1+1:7148'])).toEqual([
    [
      [1, '239.10.0.1:7148'],
      [2, '239.10.0.2:7148'],
    ],
    3,
  ])
  expect(await seen(['239.10.0.1:7149'])).toEqual([[[3, '239.10.0.1:7149']], 4])
  expect(await seen(['0.0.0.0:7148'])).toEqual([
    [
      [1, '0.0.0.0:7148'],
      [2, '0.0.0.0:7148'],
      [4, '0.0.0.0:7148'],
    ],
    2,
  ])
  expect(await seen(['[::]:7148'])).toEqual([[[1, '[::]:7148']], 4])
})

test('a frame that was captured before its segmentation gives all packets that it holds', async () => {
  const packets = [1, 2, 3, 4].map((cnt) => packet(cnt, payloadOf(cnt, cnt === 4 ? 50 : 1400)))
  const { heaps, summary } = await read(pcapOf([{ frame: ethernet(ipv4(udp(Buffer.concat(packets)))) }]))
  expect(heaps.map(({ cnt }) => cnt)).toEqual([1, 2, 3, 4])
  expect(summary).toMatchObject({ packets: 4, messages: 1, malformed: 0 })
})

test('time stamps stand for the clock: seconds, and a heap that comes again after a pause', async () => {
  const again = (pause: number) =>
    [0, 0.001, 0.001 + pause, 0.002 + pause].map((at, i) => ({ frame: frame(1 + (i & 1)), at: 1e9 + at }))
  expect((await read(pcapOf(again(0.01)))).summary).toMatchObject({ heaps: 2, duplicates: 2, seconds: expect.closeTo(0.012, 5) })
  expect((await read(pcapOf(again(10)))).summary).toMatchObject({ heaps: 4, duplicates: 0, seconds: expect.closeTo(10.002, 5) })
  // A clock that goes back is taken for one that stands.
  expect((await read(pcapOf(frames(3).toReversed()))).summary).toMatchObject({ heaps: 3, seconds: 0 })
})

test('the end is the end of the file, the heaps asked for, stop heaps if asked for, or the time', async () => {
  const stop = await run(['send', '10.0.0.5:7148', '-n', '5', '-H', '100', '--pcap', join(folder, 'stop.pcap')])
  expect(stop.code).toBe(0)
  const twice = readFileSync(join(folder, 'stop.pcap'))
  const pcap = Buffer.concat([twice, twice.subarray(24)])
  expect((await read(pcap)).summary).toMatchObject({ reason: 'end', controlHeaps: 4 })
  expect((await read(pcap, { stops: 1 })).summary).toMatchObject({ reason: 'stop' })
  expect((await read(pcap, { heaps: 3 })).summary).toMatchObject({ reason: 'heaps', heaps: 3 })
  const receiver = await openReceiver({ pcapPath: file(pcapOf(frames(2000))), timeoutSeconds: 0.2 })
  // The receiver waits, because no consumer takes heaps.
  expect(await receiver.done).toMatchObject({ reason: 'timeout' })
  const closed = await openReceiver({ pcapPath: file(pcapOf(frames(2000))) })
  expect(await closed.close()).toMatchObject({ reason: 'closed' })
})

test('a consumer that is slow holds up the reading', async () => {
  const receiver = await openReceiver({ pcapPath: file(pcapOf(frames(5000))) })
  onTestFinished(() => void receiver.close())
  await new Promise((done) => setTimeout(done, 100))
  expect(receiver.stats().heaps).toBe(256)
  let next = 1
  for await (const { cnt } of receiver) expect(cnt).toBe(next++)
  expect(next).toBe(5001)
})

const REFUSED: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
  'an empty one': [Buffer.alloc(0), /it is empty/],
  'pcapng': [Buffer.from('0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000', 'hex'), /is a pcapng file.*editcap -F pcap FILE NEW/],
  'gzip': [Buffer.from('1f8b08000000000000030000000000000000000000000000', 'hex'), /compressed.*gunzip/],
  'zstd': [Buffer.from('28b52ffd0000000000000000000000000000000000000000', 'hex'), /compressed.*unzstd/],
  'modified pcap': [Buffer.from('34cdb2a1020004000000000000000000000004000100000000', 'hex'), /'modified'.*editcap/],
  'text': [Buffer.from('no pcap file, but longer than its header'), /it is no pcap file/],
  'a header that is cut': [pcapOf([]).subarray(0, 23), /it is no pcap file/],
  'USB': [pcapOf([], { linkType: 220 }), /link type 220; those of Ethernet \(1\)/],
} // biome-ignore format: a table
test.for(Object.entries(REFUSED))('%s is refused, with what helps', async ([, [bytes, message]]) => {
  await expect(openReceiver({ pcapPath: file(bytes) })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_INPUT',
    message: expect.stringMatching(message),
  })
})

test('what is no file is refused, and so are contradictions', async () => {
  const fifo = join(folder, 'fifo')
  execFileSync('mkfifo', [fifo])
  const good = file(pcapOf(frames(1)))
  const refused = async (options: ReceiverOptions) => openReceiver(options).catch(({ code, message }) => `${code} ${message}`)
  expect(await refused({ pcapPath: join(folder, 'nothing') })).toMatch(/^ERR_SPEADCAST_INPUT cannot read .*nothing: ENOENT/)
  expect(await refused({ pcapPath: folder })).toMatch(/^ERR_SPEADCAST_INPUT .*it must be a file, not a pipe, socket or folder$/)
  expect(await refused({ pcapPath: fifo })).toMatch(/^ERR_SPEADCAST_INPUT .*it must be a file/)
  expect(await refused({ pcapPath: 7 as never })).toMatch(/^ERR_SPEADCAST_CONFIG pcapPath is 7; it must be a text/)
  expect(await refused({ pcapPath: good, backend: 'native', endpoints: '127.0.0.1:7148' })).toMatch(
    /pcapPath is for backend 'pcap', not 'native'/,
  )
  expect(await refused({ backend: 'pcap' })).toMatch(/backend 'pcap' needs pcapPath/)
  expect(await refused({ pcapPath: good, interface: 'lo' })).toMatch(/interface is of sockets/)
  expect(await refused({ pcapPath: good, credits: true })).toMatch(/credits is of sockets/)
  expect(await refused({ pcapPath: good, endpoints: 'tcp://127.0.0.1:7148' })).toMatch(/is for backend 'tcp', not 'pcap'/)
  expect(await refused({})).toMatch(/^ERR_SPEADCAST_CONFIG endpoints is undefined; it must be a string or an array of strings$/)
  const before = readFileSync(good)
  expect(await refused({ pcapPath: good, output: good })).toMatch(/^ERR_SPEADCAST_CONFIG output .* is the capture itself/)
  expect(readFileSync(good)).toEqual(before)
})

test('a file that is cut or damaged is read up to there, and the summary says where', async () => {
  const pcap = pcapOf(frames(10))
  const record = (pcap.length - 24) / 10
  for (const cut of [1, 15, 16, 40, record - 1]) {
    const { summary } = await read(pcap.subarray(0, 24 + 5 * record + cut))
    expect(summary).toMatchObject({
      reason: 'end',
      heaps: 5,
      inputError: expect.stringMatching(`damaged at byte ${24 + 5 * record}: it ends in the middle of a frame`),
    })
  }
  const huge = Buffer.from(pcap)
  huge.writeUInt32LE(0x7fffffff, 24 + 3 * record + 8)
  expect((await read(huge)).summary).toMatchObject({
    heaps: 3,
    inputError: expect.stringMatching(/a frame of 2147483647 bytes is told there/),
  })
})

test('a frame may lie across the pieces that are read', async () => {
  const pcap = pcapOf(Array.from({ length: 200 }, (_, i) => ({ frame: frame(i + 1, 60_000 - i) })))
  expect(pcap.length).toBeGreaterThan(10 << 20)
  const { summary } = await read(pcap)
  expect(summary).toMatchObject({ heaps: 200, heapsIncomplete: 0, malformed: 0, inputError: null })
})
