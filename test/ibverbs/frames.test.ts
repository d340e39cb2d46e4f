/**
 * The frames that ibverbs makes, as the software NIC records them (pcap mode). tcpdump and tshark find them valid, their addresses
 * are right, and their UDP payloads are those that the udp backend puts on the wire for the same heaps.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { GroupMode, ItemInit, StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns } from '../support/netns.js'
import { Nic, type NicOptions, needNic } from '../support/nic.js'
import { type CapturedPacket, capture, RemoteStream } from '../support/remote-stream.js'

interface Case {
  what: string
  options: StreamOptions
  heaps: number
  bytes: number
  groupMode?: GroupMode
  items?: ItemInit[]
  /** Fields that tshark must see in every frame. */
  fields: Record<string, string>
}

const V4 = '10.77.0.2:7148'
const V6 = '[fd77::2]:7148'
/** RFC 1112 §6.4 and RFC 2464 §7; null stands for the peer's own MAC. */
const CASES: Case[] = [
  {
    what: 'IPv4',
    options: { to: V4 },
    heaps: 3,
    bytes: 7001,
    fields: { 'ip.ttl': '64', 'ip.dst': '10.77.0.2', 'ip.flags.df': '1' },
  },
  {
    what: 'IPv4, greedy, odd sizes, ttl and dscp',
    options: { to: V4, split: 'greedy', packetSizeBytes: 333, ttl: 7, dscp: 46 },
    heaps: 3,
    bytes: 2345,
    fields: { 'ip.ttl': '7', 'ip.dsfield.dscp': '46' },
  },
  {
    what: 'IPv6',
    options: { to: V6, packetSizeBytes: 1452 },
    heaps: 3,
    bytes: 7001,
    fields: { 'ipv6.hlim': '64', 'ipv6.dst': 'fd77::2' },
  },
  {
    what: 'IPv6, jumbo',
    options: { to: V6, packetSizeBytes: 8952, dscp: 10 },
    heaps: 2,
    bytes: 100_001,
    fields: { 'ipv6.tclass.dscp': '10' },
  },
  {
    what: 'IPv4 multicast',
    options: { to: '239.200.1.2:7148', interface: 'v0' },
    heaps: 4,
    bytes: 3000,
    fields: { 'ip.ttl': '1', 'eth.dst': '01:00:5e:48:01:02' },
  },
  {
    what: 'IPv6 multicast',
    options: { to: '[ff15::1:2:3]:7148', interface: 'v0', packetSizeBytes: 1452, ttl: 3 },
    heaps: 4,
    bytes: 3000,
    fields: { 'ipv6.hlim': '3', 'eth.dst': '33:33:00:02:00:03' },
  },
  {
    what: 'round-robin to two ports, interleaved items and an immediate',
    options: { to: [V4, '10.77.0.2:7149'], split: 'greedy', packetSizeBytes: 400 },
    heaps: 4,
    bytes: 0,
    groupMode: 'round-robin',
    items: [
      { id: 0x1600, name: 'timestamp', description: '', format: [['u', 48]] },
      { id: 0x1700, name: 'flags', description: '', dtype: 'u1', shape: [13] },
      { id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [1001] },
    ],
    fields: { 'ip.dst': '10.77.0.2' },
  },
  {
    what: 'by substream to two ports, a packet a heap',
    options: { to: [V4, '10.77.0.2:7149'] },
    heaps: 5,
    bytes: 200,
    groupMode: 'by-substream',
    fields: { 'ip.dst': '10.77.0.2' },
  },
]

const TAGGED: Case[] = CASES.map((one) => ({
  ...one,
  what: `${one.what}, tagged`,
  options: { ...one.options, ibverbs: { vlan: { id: 77, priority: 5 } } },
  fields: { ...one.fields, 'vlan.id': '77', 'vlan.priority': '5' },
}))

/** The records of a nanosecond pcap, read by pcap-savefile(5). */
function recordsOf(pcap: Buffer): Buffer[] {
  const records: Buffer[] = []
  for (let at = 24; at < pcap.length; at += 16 + pcap.readUInt32LE(at + 8))
    records.push(pcap.subarray(at + 16, at + 16 + pcap.readUInt32LE(at + 8)))
  return records
}

/**
 * The UDP payload of an Ethernet frame with at most one tag, IPv4 or IPv6 without options (IEEE 802.1Q, RFC 791, RFC 8200, RFC
 * 768).
 */
function payloadOf(frame: Buffer): { port: number; sha1: string; bytes: number } {
  const ip = frame.readUInt16BE(12) === 0x8100 ? 18 : 14
  const udp = ip + (frame.readUInt16BE(ip - 2) === 0x86dd ? 40 : (frame[ip]! & 15) * 4)
  const payload = frame.subarray(udp + 8, udp + frame.readUInt16BE(udp + 4))
  return { port: frame.readUInt16BE(udp + 2), sha1: createHash('sha1').update(payload).digest('hex'), bytes: payload.length }
}

function tshark(file: string, ...args: string[]): string[] {
  const check = ['ip.check_checksum:TRUE', 'udp.check_checksum:TRUE']
  const { stdout, stderr, status } = spawnSync('tshark', ['-n', '-r', file, ...check.flatMap((one) => ['-o', one]), ...args], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

const CHECKSUM_BAD = 'ip.checksum.status == "Bad" || udp.checksum.status == "Bad"'

function send(stream: RemoteStream, { heaps, bytes, groupMode, items }: Case) {
  const batch = stream.batch({ heaps, bytes, ...(groupMode && { groupMode }), ...(items && { items }) })
  return batch.then(async () => [await stream.send(), await stream.send(heaps > 2 ? { heaps: 2 } : {})])
}

const DEVICES: [string, NicOptions['faults'] & object, Case[]][] = [
  ['checksums by the device', [], CASES],
  ['checksums by the device, tagged', [], TAGGED],
  ['a device with one segment and no checksums', ['limit checksum 0', 'limit max_sge 1'], [...CASES, ...TAGGED]],
]

test.for(DEVICES)('%s: valid frames, with the udp backend’s payloads', { timeout: 60_000 }, async ([what, faults, cases], ctx) => {
  needNic(ctx)
  need(ctx, spawnSync('tshark', ['-v']).status === 0, 'needs tshark')
  need(ctx, spawnSync('tcpdump', ['--version']).status === 0, 'needs tcpdump')
  await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
  const mac = (where: 'a' | 'b') => JSON.parse(ns.ip(where, `-json link show v${where === 'a' ? 0 : 1}`))[0].address as string
  const nic = new Nic({ mode: 'pcap', faults })
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const stream = await RemoteStream.open(ns, { to: V4, backend: 'udp' }, nic.prefix)
  const counts: number[] = []
  for (const one of cases) {
    for (const backend of ['udp', 'ibverbs'] as const) {
      const { ibverbs, ...plain } = one.options
      // Without segmentation udp cuts heaps into as few packets as ibverbs does.
      const own = backend === 'udp' ? ({ ...plain, segmentation: 'off' } as const) : one.options
      await stream.reopen({ ...own, backend, sourcePort: 40_000 })
      expect(
        (await send(stream, one)).map(({ error }) => error),
        one.what,
      ).toEqual([undefined, undefined])
      if (backend === 'ibverbs') counts.push((await stream.stats()).packets)
    }
  }
  await stream.close()
  const udp = await wire.stop()
  const frames = recordsOf(readFileSync(nic.pcap))
  const expected = udp.map(({ port, sha1, bytes }: CapturedPacket) => ({ port, sha1, bytes }))
  expect(frames.length).toBe(counts.reduce((a, b) => a + b, 0))
  expect(frames.map(payloadOf)).toEqual(expected)

  const names = [
    'eth.src',
    'eth.dst',
    'udp.srcport',
    'frame.len',
    'udp.checksum.status',
    ...new Set(cases.flatMap(({ fields }) => Object.keys(fields))),
  ]
  const unique = [...new Set(names)]
  const rows = tshark(nic.pcap, '-T', 'fields', ...unique.flatMap((name) => ['-e', name])).map((line) => line.split('\t'))
  expect(rows.length).toBe(frames.length)
  let at = 0
  const unsummed = ({ options }: Case) => faults.includes('limit checksum 0') && !String(options.to).includes('[')
  for (const [i, one] of cases.entries()) {
    for (const row of rows.slice(at, at + counts[i]!)) {
      const seen = Object.fromEntries(unique.map((name, k) => [name, row[k]]))
      // 3 is "not present", 1 is "good": over IPv4 a checksum of zero says that there is none (RFC 768).
      const want = {
        'eth.src': mac('a'),
        'eth.dst': mac('b'),
        'udp.srcport': '40000',
        'udp.checksum.status': unsummed(one) ? '3' : '1',
        ...one.fields,
      }
      expect(seen, one.what).toMatchObject(want)
    }
    at += counts[i]!
  }
  expect(tshark(nic.pcap, '-Y', `_ws.malformed || ${CHECKSUM_BAD} || _ws.expert.severity >= "Warning"`)).toEqual([])
  const dump = spawnSync('tcpdump', ['-nvvr', nic.pcap], { encoding: 'utf8' }).stdout
  expect(dump.match(/bad|truncated|\[\|/g)).toBeNull()
  expect(dump.match(/udp sum ok|no cksum/g)).toHaveLength(frames.length)
  nic.cleanReport()

  // Both programs would have noticed an error: one bit of one payload is flipped.
  const broken = readFileSync(nic.pcap)
  broken[24 + 16 + 200]! ^= 1
  const file = join(nic.folder, 'broken.pcap')
  writeFileSync(file, broken)
  if (!unsummed(cases[0]!)) expect(tshark(file, '-Y', CHECKSUM_BAD)).toHaveLength(1)
  console.log(`ibverbs frames, ${what}: ${frames.length} valid to tshark and tcpdump, their payloads those of the udp backend`)
})
