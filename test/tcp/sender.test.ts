// A stream over TCP whose receiver is slow, goes away, or is not there.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { NativeError } from '#dist/ffi/native-error.js'
import { refused } from '#dist/src/backend/tcp/dial.js'
import { ItemGroup, openStream, SendError, type Stream, type StreamOptions } from '#dist/src/index.js'
import type { ResolvedEndpoint } from '#dist/src/net/endpoint.js'
import { CLI, pointersOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { AF_INET, PlainSocket, SOCK_STREAM } from '../support/plain-socket.js'
import { programFile } from '../support/program.js'
import { openTcpReceivers, silentReceiver, splitPackets } from '../support/tcp-receivers.js'

const BYTES = 8192
const items = () =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [BYTES] })

const THREADS = ['worker', 'inline'] as const

async function open(to: StreamOptions['to'], options: Partial<StreamOptions> = {}): Promise<Stream> {
  const stream = await openStream({ to, packetSizeBytes: 4000, descriptors: 'none', ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

function batchOf(stream: Stream, heaps: number) {
  const batch = stream.createBatch<{ samples: Uint8Array }>({ items: items(), heaps })
  for (let j = 0; j < heaps; j++)
    batch.heap(j).samples.forEach((_, i, all) => {
      all[i] = (i + j) & 0xff
    })
  batch.immediate('timestamp').setRamp(0, 1)
  return batch
}

/** A server that leaves what comes in its sockets. */
async function listen(onSocket: (socket: Socket) => void) {
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {})
    onTestFinished(() => void socket.destroy())
    onSocket(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { server, to: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** The samples of each heap, by its cnt. */
function heapsOf(stream: Buffer): Map<number, Buffer> {
  const { packets, rest } = splitPackets(stream)
  expect(rest.length).toBe(0)
  const heaps = new Map<number, Buffer>()
  for (const packet of packets) {
    const pointers = pointersOf(packet)
    const value = (id: number) => pointers.find((pointer) => pointer.id === id)!.value
    const cnt = value(1)
    if (!heaps.has(cnt)) heaps.set(cnt, Buffer.alloc(value(2)))
    packet.copy(heaps.get(cnt)!, value(3), 8 + 8 * pointers.length)
  }
  return heaps
}

test.for(THREADS)(
  'a socket of the smallest buffer and a slow reader cut packets anywhere, and every byte arrives (%s)',
  async (thread) => {
    const chunks: Buffer[] = []
    const { to } = await listen((socket) => {
      // Reads of odd sizes, with pauses, so that the window closes again and again.
      let reads = 0
      const take = () => {
        const chunk = socket.read(Math.min(socket.readableLength, 1 + ((reads * 977) % 5000))) as Buffer | null
        if (chunk) chunks.push(chunk)
        reads++
        setTimeout(take, reads % 7 === 0 ? 3 : 0)
      }
      socket.on('readable', () => {})
      take()
    })
    const stream = await open(to, { thread, sendBufferBytes: 4096 })
    const batches = [batchOf(stream, 5), batchOf(stream, 5)]
    for (let i = 0; i < 12; i++) {
      await batches[i % 2]!.free
      stream.send(batches[i % 2]!)
    }
    await stream.close()
    const { waits, heapsSent } = stream.stats()
    expect(heapsSent).toBe(60)
    expect(waits).toBeGreaterThan(0)
    const wanted = 60 * (BYTES + 3 * (8 + 8 * 6))
    for (let tries = 0; tries < 1000 && chunks.reduce((sum, { length }) => sum + length, 0) < wanted - 1000; tries++)
      await new Promise((done) => setTimeout(done, 5))
    await new Promise((done) => setTimeout(done, 100))
    const heaps = heapsOf(Buffer.concat(chunks))
    expect([...heaps.keys()]).toEqual(Array.from({ length: 60 }, (_, i) => i + 1))
    for (const [cnt, samples] of heaps) {
      const j = (cnt - 1) % 5
      expect(samples.equals(Buffer.from(Array.from({ length: BYTES }, (_, i) => (i + j) & 0xff)))).toBe(true)
    }
  },
)

test.for(THREADS)(
  'the smallest buffers and segments that there are, and a reader of one byte at a time: every byte arrives (%s)',
  async (thread) => {
    const child = spawn(process.execPath, [programFile('tcp/byte-by-byte')], { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    let told = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      told += text
    })
    await once(child.stdout, 'data')
    const socket = new PlainSocket(AF_INET, SOCK_STREAM)
    // SOL_SOCKET, SO_SNDBUF; IPPROTO_TCP, TCP_MAXSEG: the smallest that the kernel takes (tcp(7)).
    socket.setOption(1, 7, 1)
    socket.setOption(6, 2, 88)
    socket.connect(4, Number(told))
    const stream = await openStream({ socket: { fd: socket.fd }, thread, packetSizeBytes: 333, descriptors: 'none' })
    onTestFinished(() => stream.destroy())
    socket.close()
    const batch = batchOf(stream, 3)
    await stream.send(batch)
    await stream.send(batch)
    await stream.close()
    // 50 KB go through a buffer of 4.5.
    expect(stream.stats().waits).toBeGreaterThan(10)
    await once(child, 'close')
    const heaps = heapsOf(Buffer.from(told.split('\n')[1]!, 'hex'))
    expect([...heaps.keys()]).toEqual([1, 2, 3, 4, 5, 6])
    for (const [cnt, samples] of heaps) {
      const j = (cnt - 1) % 3
      expect(samples.equals(Buffer.from(Array.from({ length: BYTES }, (_, i) => (i + j) & 0xff)))).toBe(true)
    }
  },
)

/** Stands before the C library's sendmsg(2): takes a byte at a time, and now and then none, as if interrupted or without room. */
const ONE_BYTE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  static ssize_t (*real)(int, const struct msghdr *, int);
  static unsigned calls;
  if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
  calls++;
  if (calls % 5 == 0) { errno = EINTR; return -1; }
  if (calls % 97 == 0) { errno = EAGAIN; return -1; }
  if (calls % 89 == 0) { errno = ENOBUFS; return -1; }
  struct msghdr first = *message;
  while (first.msg_iovlen > 0 && first.msg_iov->iov_len == 0) { first.msg_iov++; first.msg_iovlen--; }
  struct iovec byte = { first.msg_iov->iov_base, 1 };
  first.msg_iov = &byte;
  first.msg_iovlen = 1;
  return real(fd, &first, flags);
}
`

test.for(THREADS)('the kernel takes one byte a call, and is interrupted: every byte arrives (%s)', async (thread, ctx) => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'one.c'), ONE_BYTE)
  const { status } = spawnSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'one.so'), join(folder, 'one.c'), '-ldl'])
  need(ctx, status === 0, 'needs a C compiler')
  const chunks: Buffer[] = []
  const { to } = await listen((socket) => void socket.on('data', (chunk) => chunks.push(chunk)).resume())
  const env = { ...process.env, LD_PRELOAD: join(folder, 'one.so') }
  const argv = [
    CLI,
    'send',
    to,
    '-n',
    '6',
    '-H',
    '8192',
    '-p',
    '333',
    '--thread',
    thread,
    '--descriptors',
    'none',
    '--no-stop',
    '--json',
  ]
  const child = spawn(process.execPath, argv, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let told = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    told += text
  })
  const [code] = await once(child, 'close')
  expect(code).toBe(0)
  const { posts, udpBytes, heapsSent } = JSON.parse(told).stats
  expect(heapsSent).toBe(6)
  const all = Buffer.concat(chunks)
  expect(all.length).toBe(udpBytes)
  expect(posts).toBeGreaterThan(100)
  const heaps = heapsOf(all)
  expect([...heaps.keys()]).toEqual([1, 2, 3, 4, 5, 6])
  for (const [cnt, samples] of heaps) expect(samples.equals(Buffer.alloc(8192, cnt - 1))).toBe(true)
})

test.for(THREADS)(
  'a receiver that resets the connection fails what it had not acknowledged, and what comes later (%s)',
  async (thread) => {
    let peer: Socket | undefined
    const { to } = await listen((socket) => {
      peer = socket
    })
    const stream = await open(to, { thread, sendBufferBytes: 65536 })
    const first = batchOf(stream, 2)
    expect(await stream.send(first)).toMatchObject({ heaps: 2, evidence: 'acknowledged' })
    // More than the receiver's and the sender's buffers take, so that some of it is begun and waits.
    const large = batchOf(stream, 4000)
    const sent = stream.send(large).then(
      () => undefined,
      (error) => error,
    )
    await new Promise((done) => setTimeout(done, 50))
    peer!.resetAndDestroy()
    const error = await sent
    expect(error).toBeInstanceOf(SendError)
    const { heaps, causes } = (error as SendError).outcome
    expect(causes).toEqual([
      expect.objectContaining({ substream: 0, errnoName: 'ECONNRESET', message: expect.stringContaining('closed the connection') }),
    ])
    // The receiver's kernel has acknowledged the first heaps, and no later one.
    const word = heaps.map((status) => status[0]).join('')
    expect(word).toMatch(/^s+p?f+$/)
    const started = performance.now()
    await expect(stream.send(first)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SEND', outcome: { heaps: ['failed', 'failed'] } })
    expect(performance.now() - started).toBeLessThan(5000)
    expect(stream.stats().states).toMatchObject({ connections: 1, connectionsLost: 1 })
    expect((await stream.close()).droppedHeaps).toBe(0)
  },
)

test('one of two receivers goes away: the other gets all of its heaps', async () => {
  const receivers = await openTcpReceivers(2)
  onTestFinished(() => receivers.close())
  const stream = await open(receivers.endpoints)
  const batch = batchOf(stream, 8)
  await stream.send(batch)
  receivers.sockets.find(({ localPort }) => receivers.endpoints[1]!.endsWith(`:${localPort}`))!.resetAndDestroy()
  await new Promise((done) => setTimeout(done, 50))
  const error = (await stream.send(batch).catch((error) => error)) as SendError
  expect(error.outcome.heaps).toEqual(['sent', 'failed', 'sent', 'failed', 'sent', 'failed', 'sent', 'failed'])
  expect(error.outcome.causes.map(({ substream }) => substream)).toEqual([1])
  const got = (await receivers.arrived(24 + 12)).filter(({ substream }) => substream === 0)
  expect(got).toHaveLength(24)
})

test('nobody listens: opening says so, and what to do', async () => {
  const { server, to } = await listen(() => {})
  await new Promise<void>((done) => server.close(() => done()))
  await expect(openStream({ to })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringMatching(
      /cannot connect to tcp:\/\/127\.0\.0\.1:\d+: nobody listens at that port; start the receiver first/,
    ),
  })
})

test('a receiver that resets the connection while it is opened: why that may be', () => {
  const endpoint = { text: 'tcp://127.0.0.1:7148', address: '127.0.0.1', family: 4 } as ResolvedEndpoint
  const ECONNRESET = 104
  expect(refused(endpoint, new NativeError('connect', ECONNRESET), 0)).toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringMatching(
      /^cannot connect to tcp:\/\/127\.0\.0\.1:7148: it took the connection and ended it at once; .*ECONNRESET/,
    ),
  })
})

test('a receiver that does not answer is waited for as long as connectTimeoutMs says', async () => {
  const to = await silentReceiver()
  await expect(openStream({ to: to, tcp: { connectTimeoutMs: 50 } })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringContaining('did not answer in 50 ms'),
  })
})

test.for([
  [{ to: ['tcp://127.0.0.1:7148', '127.0.0.1:7148'] }, 'ERR_SPEADCAST_ENDPOINT', /mix TCP and UDP/],
  [{ to: 'tcp://127.0.0.1:7148', backend: 'udp' }, 'ERR_SPEADCAST_CONFIG', /is for backend 'tcp', not 'udp'/],
  [{ to: 'tcp://239.1.2.3:7148' }, 'ERR_SPEADCAST_ENDPOINT', /multicast/],
  [{ to: 'tcp://127.0.0.1:7148', rateBasis: 'wire', rate: '1Gbps' }, 'ERR_SPEADCAST_CONFIG', /rateBasis/],
  [{ to: 'tcp://127.0.0.1:7148', broadcast: true }, 'ERR_SPEADCAST_CONFIG', /broadcast is of UDP/],
  [{ to: '127.0.0.1:7148', tcp: {} }, 'ERR_SPEADCAST_CONFIG', /tcp is only for backend 'tcp'/],
] as const)('%o is refused', async ([options, code, message]) => {
  await expect(openStream(options as StreamOptions)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
})
