import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { POST_FATAL, POST_OK, type PostResult, type ReapResult } from '#dist/src/backend/backend.js'
import { openPcap, type PcapOptions } from '#dist/src/backend/pcap.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { COUNTER_NAMES } from '#dist/src/stats.js'
import { type HandPacket, handTable, pattern } from '../support/hand-table.js'
import { need } from '../support/need.js'

const folder = mkdtempSync(join(tmpdir(), 'speadcast-pcap-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0

const newPost = (): PostResult => ({ kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' })

async function open(to: string[], packets: readonly HandPacket[], options: Partial<PcapOptions> = {}) {
  const endpoints = await resolveEndpoints(parseEndpoints(to))
  const path = join(folder, `${files++}.pcap`)
  const backend = openPcap({ path, endpoints, ...options }, { counters: new Float64Array(COUNTER_NAMES.length), wake: () => {} })
  const { table, expected } = handTable(packets)
  for (const region of table.regions) backend.register(region)
  const posting = backend.compile(table, { maxMessageBytes: 65507 })
  return { backend, posting, expected, path, out: newPost() }
}

interface Record {
  seconds: number
  nanoseconds: number
  frame: Buffer
}

/** Reads a pcap file as draft-ietf-opsawg-pcap §4–5 describes it; throws unless it ends at the end of a record. */
function read(path: string): Record[] {
  const file = readFileSync(path)
  expect(file.readUInt32LE(0)).toBe(0xa1b23c4d)
  expect([file.readUInt16LE(4), file.readUInt16LE(6)]).toEqual([2, 4])
  expect(file.readUInt32LE(20)).toBe(1)
  const records: Record[] = []
  let at = 24
  while (at < file.length) {
    const length = file.readUInt32LE(at + 8)
    expect(file.readUInt32LE(at + 12)).toBe(length)
    expect(length).toBeLessThanOrEqual(file.readUInt32LE(16))
    expect(at + 16 + length).toBeLessThanOrEqual(file.length)
    records.push({
      seconds: file.readUInt32LE(at),
      nanoseconds: file.readUInt32LE(at + 4),
      frame: file.subarray(at + 16, at + 16 + length),
    })
    at += 16 + length
  }
  return records
}

const tcpdump = (path: string) =>
  execFileSync('tcpdump', ['-nn', '-e', '-vv', '-tt', '--nano', '-r', path], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })

/** Lengths even and odd, cut into segments at even and odd places. */
const mixed = (substreams: number, n = 24): HandPacket[] =>
  Array.from({ length: n }, (_, i) => ({
    substream: i % substreams,
    segments: [pattern(i, 8 + (i % 5)), pattern(i + 50, i * 61), pattern(i + 90, i % 4)],
  }))

test.for([
  ['IPv4', ['239.10.10.0+1:7148', '10.1.2.3:9000'], {}, 42],
  ['IPv6', ['[ff15::1:2+1]:7148', '[fd00::7]:9000'], {}, 62],
  ['IPv4, VLAN', ['239.10.10.0+1:7148', '10.1.2.3:9000'], { vlan: { id: 123, priority: 5 }, ttl: 7, dscp: 46 }, 46],
  ['IPv6, VLAN', ['[ff15::1:2+1]:7148', '[fd00::7]:9000'], { vlan: { id: 4094 }, ttl: 7, dscp: 46 }, 66],
] as [string, string[], Partial<PcapOptions>, number][])(
  '%s: tcpdump opens it and finds every checksum right',
  async ([_name, to, options, headerBytes], ctx) => {
    const { backend, posting, expected, path, out } = await open(to, mixed(3), options)
    backend.post(posting, 0, 10, out)
    expect(out).toMatchObject({ kind: POST_OK, accepted: 10 })
    // Accepted is written: the file is complete before anything is closed.
    expect(read(path).length).toBe(10)
    backend.post(posting, 10, 24, out)
    const reaped: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1), failedErrno: new Int32Array(1) }
    backend.reap(reaped)
    expect([reaped.completed, reaped.failures]).toEqual([24, 0])
    backend.close()
    backend.close()

    const records = read(path)
    expect(records.map(({ frame }) => Uint8Array.from(frame.subarray(headerBytes)))).toEqual(expected)
    need(ctx, spawnSync('tcpdump', ['--version']).status === 0, 'tcpdump is not installed')
    const text = tcpdump(path)
    expect(text.match(/udp sum ok/g)?.length).toBe(24)
    expect(text).not.toMatch(/bad (udp )?cksum|bad-len|truncated/)
  },
)

test('tcpdump names the endpoints, MACs, VLAN, TTL and DSCP that were asked for', async (ctx) => {
  need(ctx, spawnSync('tcpdump', ['--version']).status === 0, 'tcpdump is not installed')
  const source = { address: '10.9.8.7', port: 4000, mac: Uint8Array.of(2, 1, 2, 3, 4, 5) }
  const one: HandPacket[] = [0, 1].map((substream) => ({ substream, segments: [pattern(1, 100)] }))
  const v4 = await open(['239.10.10.5:7148', '10.1.2.3:9000'], one, { source, vlan: { id: 123, priority: 5 }, dscp: 46 })
  v4.backend.post(v4.posting, 0, 2, v4.out)
  v4.backend.close()
  const [first, second] = tcpdump(v4.path).split(/\n(?=\d)/)
  expect(first).toMatch(
    /02:01:02:03:04:05 > 01:00:5e:0a:0a:05, ethertype 802\.1Q.*vlan 123, p 5.*tos 0xb8, ttl 1, id 0.*flags \[DF\]/s,
  )
  expect(first).toMatch(/10\.9\.8\.7\.4000 > 239\.10\.10\.5\.7148: \[udp sum ok\] UDP, length 100/)
  expect(second).toMatch(
    /02:01:02:03:04:05 > 02:00:0a:01:02:03.*ttl 64.*10\.9\.8\.7\.4000 > 10\.1\.2\.3\.9000: \[udp sum ok\] UDP, length 100/s,
  )
  const v6 = await open(['[ff15::1:2]:7148', '[fd00::7]:9000'], one, { ttl: 9 })
  v6.backend.post(v6.posting, 0, 2, v6.out)
  v6.backend.close()
  expect(tcpdump(v6.path)).toMatch(
    /02:00:00:00:00:01 > 33:33:00:01:00:02.*hlim 9.*2001:db8::1\.50000 > ff15::1:2\.7148: \[udp sum ok\] UDP, length 100/s,
  )
})

test('time stamps are nanoseconds of the clock given, from the wall clock at open', async () => {
  let now = 5_000_000_000_000
  const before = Math.floor(Date.now() / 1000)
  const { backend, posting, path, out } = await open(['239.1.1.1:1'], mixed(1), { clock: () => now })
  const after = Date.now() / 1000
  for (let row = 0; row < 24; row++) {
    backend.post(posting, row, row + 1, out)
    now += 1_250_000_001
  }
  backend.close()
  const times = read(path).map(({ seconds, nanoseconds }) => BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds))
  for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBe(1_250_000_001n)
  expect(Number(times[0]! / 1_000_000_000n)).toBeGreaterThanOrEqual(before)
  expect(Number(times[0]! / 1_000_000_000n)).toBeLessThanOrEqual(after)
  const real = await open(['239.1.1.1:1'], mixed(1))
  real.backend.post(real.posting, 0, 24, real.out)
  real.backend.close()
  const stamps = read(real.path).map(({ seconds, nanoseconds }) => seconds + nanoseconds / 1e9)
  expect(stamps).toEqual([...stamps].sort((a, b) => a - b))
})

test('one post larger than the buffer, packets of the largest size, and their checksums', async (ctx) => {
  const packets = Array.from({ length: 40 }, (_, i) => ({
    substream: 0,
    segments: [pattern(i, 56), pattern(i + 7, 65451 - (i % 3))],
  }))
  const { backend, posting, expected, path, out } = await open(['239.1.1.1:7148'], packets)
  expect(backend.caps.maxPacketSizeBytes).toBe(65507)
  backend.post(posting, 0, 40, out)
  expect(out).toMatchObject({ kind: POST_OK, accepted: 40 })
  backend.close()
  const records = read(path)
  expect(records.length).toBe(40)
  expect(records.every(({ frame }, i) => Buffer.compare(frame.subarray(42), expected[i]!) === 0)).toBe(true)
  need(ctx, spawnSync('tcpdump', ['--version']).status === 0, 'tcpdump is not installed')
  expect(tcpdump(path).match(/udp sum ok/g)?.length).toBe(40)
})

test('a write error is fatal, says how far it came, and leaves a file that ends behind a whole packet', async (ctx) => {
  need(ctx, spawnSync('prlimit', ['--version']).status === 0, 'limiting the size of a file needs prlimit (util-linux)')
  const packets = Array.from({ length: 30 }, (_, i) => ({ substream: i % 2, segments: [pattern(i, 50_000)] }))
  const limit = (bytes: string) => execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`])
  const record = 16 + 42 + 50_000
  const { backend, posting, path, out } = await open(['239.1.1.1+1:7148'], packets)
  // setrlimit(2), RLIMIT_FSIZE: write(2) writes up to the limit, then fails with EFBIG (Node ignores SIGXFSZ).
  limit(String(24 + 25 * record + 777))
  try {
    backend.post(posting, 0, 3, out)
    expect(out).toMatchObject({ kind: POST_OK, accepted: 3 })
    // 20 records fill the buffer of 1 MiB, so the first write of this post succeeds and the second is cut off.
    backend.post(posting, 3, 30, out)
    expect(out).toMatchObject({ kind: POST_FATAL, accepted: 22, errno: ERRNO.EFBIG, substream: 1 })
    expect(statSync(path).size).toBe(24 + 25 * record)
    expect(backend.explain(out.errno)).toBe(
      `EFBIG while writing '${path}'; the file holds ${24 + 25 * record} bytes of whole packets`,
    )
    backend.post(posting, 25, 30, out)
    expect(out).toMatchObject({ kind: POST_FATAL, accepted: 0, errno: ERRNO.EFBIG, substream: 1 })
  } finally {
    limit('unlimited')
  }
  backend.post(posting, 25, 30, out)
  expect(out).toMatchObject({ kind: POST_FATAL, accepted: 0 }) // broken stays broken
  const reaped: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1), failedErrno: new Int32Array(1) }
  backend.reap(reaped)
  expect(reaped.completed).toBe(25)
  backend.close()
  expect(read(path).length).toBe(25)
})

test('a file that cannot be opened is refused with the reason', async () => {
  const refused = async (to: string[], options: Partial<PcapOptions>) =>
    open(to, mixed(1), options).catch((error: { code: string; message: string }) => `${error.code} ${error.message}`)
  expect(await refused(['239.1.1.1:1'], { path: '/no/such/folder/x.pcap' })).toMatch(
    /^ERR_SPEADCAST_BACKEND cannot create the pcap file '\/no\/such\/folder\/x\.pcap': ENOENT/,
  )
  expect(await refused(['239.1.1.1:1'], { source: { address: '::1' } })).toMatch(
    /^ERR_SPEADCAST_CONFIG source address ::1 and endpoint 239\.1\.1\.1:1 are of different families/,
  )
  expect(await refused(['239.1.1.1:1'], { source: { address: 'me' } })).toMatch(
    /^ERR_SPEADCAST_CONFIG source address 'me' is not an IP address/,
  )
  expect(await refused(['239.1.1.1:1'], { vlan: { id: 5000 } })).toMatch(/^ERR_SPEADCAST_CONFIG vlan id 5000/)
  if (process.platform === 'linux')
    expect(await refused(['239.1.1.1:1'], { path: '/dev/full' })).toMatch(/cannot write the pcap file '\/dev\/full': ENOSPC/)
})

test.for(['without a reader', 'with a reader'])('a FIFO %s, a socket and a folder are refused', async (reader, ctx) => {
  need(ctx, process.platform !== 'win32', 'needs mkfifo')
  const path = join(folder, `${reader} fifo`)
  execFileSync('mkfifo', [path])
  if (reader === 'with a reader') {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    onTestFinished(() => closeSync(fd))
  }
  const socket = join(folder, `${reader} socket`)
  const server = createServer().listen(socket)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const refused = (file: string) =>
    open(['239.1.1.1:1'], mixed(1), { path: file }).catch(({ code, message }) => `${code} ${message}`)
  for (const file of [path, socket])
    expect(await refused(file)).toBe(
      `ERR_SPEADCAST_BACKEND cannot create the pcap file '${file}': it must be a file, not a pipe or socket`,
    )
  expect(await refused(folder)).toBe(`ERR_SPEADCAST_BACKEND cannot create the pcap file '${folder}': EISDIR`)
})

test('a file that is there is replaced, however long it was', async () => {
  const path = join(folder, 'long')
  writeFileSync(path, 'z'.repeat(100_000))
  const { backend } = await open(['239.1.1.1:1'], mixed(1), { path })
  backend.close()
  expect(statSync(path).size).toBe(24)
})
