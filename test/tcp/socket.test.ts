// Streams over a socket that exists already.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { libc } from '#dist/ffi/libc.js'
import { Scratch } from '#dist/ffi/memory/scratch.js'
import { ItemGroup, openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { pointersOf } from '../support/cli.js'
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IP_RECVERR,
  IPV6_RECVERR,
  optionOf,
  PlainSocket,
  peerPort,
  SO_TIMESTAMPING,
  SOCK_DGRAM,
  SOCK_STREAM,
  TCP_NODELAY,
} from '../support/plain-socket.js'
import { splitPackets } from '../support/tcp-receivers.js'

const BYTES = 4000
const ITEMS = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [BYTES] })
const THREADS = ['worker', 'inline'] as const

async function tcpServer(host: string) {
  const sockets: { readonly socket: Socket; bytes: Buffer; ended: boolean }[] = []
  const server = createServer((socket) => {
    const one = { socket, bytes: Buffer.alloc(0), ended: false }
    sockets.push(one)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      one.bytes = Buffer.concat([one.bytes, chunk])
    })
    socket.on('end', () => {
      one.ended = true
    })
    onTestFinished(() => void socket.destroy())
  }).listen(0, host)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { port: (server.address() as AddressInfo).port, sockets }
}

async function udpReceiver(type: 'udp4' | 'udp6') {
  const socket = createSocket(type)
  const packets: { readonly bytes: Buffer; readonly port: number }[] = []
  socket.on('message', (bytes, { port }) => packets.push({ bytes, port }))
  socket.bind(0, type === 'udp4' ? '127.0.0.1' : '::1')
  await once(socket, 'listening')
  onTestFinished(() => void socket.close())
  return { port: socket.address().port, packets }
}

async function until(what: string, happened: () => boolean): Promise<void> {
  for (let tries = 0; !happened(); tries++) {
    if (tries === 1000) expect.fail(`it did not come to: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

async function sendOne(stream: Stream, heaps = 3): Promise<void> {
  const batch = stream.createBatch<{ samples: Uint8Array }>({ items: ITEMS, heaps })
  for (let j = 0; j < heaps; j++) batch.heap(j).samples.fill(j + 1)
  expect(await stream.send(batch)).toMatchObject({ heaps })
}

/** Returns the heap's cnt and the last sample of each packet. */
const told = (packets: readonly Buffer[]) =>
  packets.map((packet) => [pointersOf(packet).find(({ id }) => id === 1)!.value, packet.at(-1)])
const TOLD = [
  [1, 1],
  [2, 2],
  [3, 3],
]
const PLAIN = { descriptors: 'none', packetSizeBytes: 5000 } as const

for (const thread of THREADS)
  test.for([4, 6] as const)(`a connected TCP socket of IPv%i, which stays the caller’s (${thread})`, async (family) => {
    const { port, sockets } = await tcpServer(family === 4 ? '127.0.0.1' : '::1')
    const mine = new PlainSocket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM)
    mine.connect(family, port)
    const to = `tcp://${family === 4 ? '127.0.0.1' : '[::1]'}:${port}`
    const stream = await openStream({ socket: { fd: mine.fd }, thread, ...PLAIN })
    onTestFinished(() => stream.destroy())
    expect(stream).toMatchObject({ backend: 'tcp', endpoints: [to] })
    expect(mine.blocks).toBe(true)
    await sendOne(stream)
    await stream.close()
    await until('the bytes arrive', () => sockets[0]!.bytes.length >= 3 * BYTES)
    expect(told(splitPackets(sockets[0]!.bytes).packets)).toEqual(TOLD)
    // The connection is still there: another stream sends by it, with the endpoint told, and the caller closes it.
    expect(sockets[0]!.ended).toBe(false)
    const again = await openStream({ socket: { fd: mine.fd }, to, thread, ...PLAIN, firstCnt: 4 })
    onTestFinished(() => again.destroy())
    mine.close()
    await sendOne(again, 1)
    await again.close()
    await until('the connection ends', () => sockets[0]!.ended)
    expect(told(splitPackets(sockets[0]!.bytes).packets)).toEqual([...TOLD, [4, 1]])
    expect(sockets).toHaveLength(1)
  })

test('a connection that a dual-stack listener accepted, and what its receiver sends back stays there to be read', async () => {
  const listener = new PlainSocket(AF_INET6, SOCK_STREAM)
  listener.bind(6, 0, new Uint8Array(16))
  listener.listen()
  const receiver = connect(listener.port, '127.0.0.1')
  onTestFinished(() => void receiver.destroy())
  await once(receiver, 'connect')
  const fd = listener.accept()
  const chunks: Buffer[] = []
  receiver.on('data', (chunk) => chunks.push(chunk))
  receiver.write('credit')
  const stream = await openStream({ socket: { fd }, ...PLAIN })
  onTestFinished(() => stream.destroy())
  expect(stream.endpoints).toEqual([`tcp://127.0.0.1:${receiver.localPort}`])
  await sendOne(stream)
  await stream.close()
  await until('the bytes arrive', () => Buffer.concat(chunks).length >= 3 * BYTES)
  expect(told(splitPackets(Buffer.concat(chunks)).packets)).toEqual(TOLD)
  const scratch = new Scratch(64)
  expect(libc().recv(fd, scratch.address, 64, 0)).toBe(6)
  expect(Buffer.from(scratch.u8.subarray(0, 6)).toString()).toBe('credit')
})

for (const thread of THREADS)
  for (const udpPath of ['sendmmsg', 'io_uring'] as const)
    test.for([
      [4, 'bound'],
      [4, 'connected'],
      [6, 'bound'],
      [6, 'connected'],
    ] as const)(`a UDP socket of IPv%i, %s (${udpPath}, ${thread})`, async ([family, how]) => {
      const { port, packets } = await udpReceiver(family === 4 ? 'udp4' : 'udp6')
      const mine = new PlainSocket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM)
      mine.bind(family)
      if (how === 'connected') mine.connect(family, port)
      const to = `${family === 4 ? '127.0.0.1' : '[::1]'}:${port}`
      const options = { socket: { fd: mine.fd }, udpPath, thread, ...PLAIN } as const
      const stream = await openStream(how === 'connected' ? options : { ...options, to })
      onTestFinished(() => stream.destroy())
      expect(stream).toMatchObject({ backend: 'udp', endpoints: [to] })
      expect(stream.stats().states.udpPath).toBe(udpPath)
      await sendOne(stream)
      await stream.close()
      await until('the packets arrive', () => packets.length === 3)
      expect(told(packets.map(({ bytes }) => bytes))).toEqual(TOLD)
      const { sourcePort } = stream.stats().states
      expect(new Set(packets.map(({ port: from }) => from))).toEqual(new Set([sourcePort]))
      expect(mine.blocks).toBe(true)
      // It is the caller's still.
      const again = await openStream(how === 'connected' ? options : { ...options, to })
      onTestFinished(() => again.destroy())
      await sendOne(again, 1)
      expect(again.stats().states.sourcePort).toBe(sourcePort)
    })

for (const thread of THREADS)
  for (const ending of ['close', 'destroy'] as const)
    test(`a socket has its options again when the stream ends (${thread}, ${ending})`, async () => {
      const { port } = await tcpServer('127.0.0.1')
      const [tcp, udp, six] = [
        new PlainSocket(AF_INET, SOCK_STREAM),
        new PlainSocket(AF_INET, SOCK_DGRAM),
        new PlainSocket(AF_INET6, SOCK_DGRAM),
      ]
      tcp.connect(4, port)
      const options = () => ({
        timestamping: optionOf(tcp.fd, ...SO_TIMESTAMPING),
        noDelay: optionOf(tcp.fd, ...TCP_NODELAY),
        errors: optionOf(udp.fd, ...IP_RECVERR),
        errors6: optionOf(six.fd, ...IPV6_RECVERR),
      })
      expect(options()).toEqual({ timestamping: 0, noDelay: 0, errors: 0, errors6: 0 })
      const streams = [
        await openStream({ socket: { fd: tcp.fd }, thread, ...PLAIN }),
        await openStream({ socket: { fd: udp.fd }, to: '127.0.0.1:9', thread, ...PLAIN }),
        await openStream({ socket: { fd: six.fd }, to: '[::1]:9', thread, ...PLAIN }),
      ]
      onTestFinished(async () => void (await Promise.all(streams.map((stream) => stream.destroy()))))
      expect(Object.values(options())).not.toContain(0)
      for (const stream of streams) {
        await sendOne(stream)
        await stream[ending]()
      }
      expect(options()).toEqual({ timestamping: 0, noDelay: 0, errors: 0, errors6: 0 })
      expect(isReady(tcp.fd)).toBe(false)
    })

for (const thread of THREADS)
  test(`a send settles when its connection breaks, though the owner of the socket has read the error (${thread})`, async () => {
    const { port, sockets } = await tcpServer('127.0.0.1')
    const mine = new PlainSocket(AF_INET, SOCK_STREAM)
    mine.connect(4, port)
    await until('it is connected', () => sockets.length === 1)
    sockets[0]!.socket.pause()
    mine.setOption(1, 7, 212992)
    const stream = await openStream({ socket: { fd: mine.fd }, thread, ...PLAIN })
    onTestFinished(() => stream.destroy())
    const batch = stream.createBatch({ items: ITEMS, heaps: 60 })
    let sent: Promise<string>
    // The receiver's kernel takes the first ones, until it has no room for what the socket has.
    for (let sends = 1; ; sends++) {
      const { waits } = stream.stats()
      sent = stream.send(batch).then(
        () => 'sent',
        ({ code }) => code,
      )
      await until('the socket has it, or is full', () => stream.stats().packets === 60 * sends || stream.stats().waits > waits)
      const state = await Promise.race([sent, new Promise((resolve) => setTimeout(() => resolve('under way'), 100))])
      if (state === 'under way') break
      expect(state).toBe('sent')
    }
    sockets[0]!.socket.resetAndDestroy()
    const scratch = new Scratch(64)
    // MSG_DONTWAIT
    libc().recv(mine.fd, scratch.address, 64, 0x40)
    expect(peerPort(mine.fd)).toBeUndefined()
    expect(await sent).toBe('ERR_SPEADCAST_SEND')
  })

test('a connection that its owner shut down for writing: heaps fail, and the remedy is one that a given socket has', async () => {
  let ended = false
  // Its own side stays open.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.resume().on('end', () => {
      ended = true
    })
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const mine = connect((server.address() as AddressInfo).port, '127.0.0.1')
  onTestFinished(() => void mine.destroy())
  await once(mine, 'connect')
  const { fd } = (mine as unknown as { _handle: { fd: number } })._handle
  const stream = await openStream({ socket: { fd }, ...PLAIN })
  onTestFinished(() => stream.destroy())
  await sendOne(stream)
  // shutdown(2)
  mine.end()
  await until('the receiver sees the end', () => ended)
  await expect(sendOne(stream)).rejects.toThrow(
    /the receiver closed the connection, or the owner of the socket shut it down for writing \(EPIPE\); what was not acknowledged may be lost; connect another socket, and open a stream over it/,
  )
  await expect(sendOne(stream)).rejects.not.toThrow(/tcp\.reconnect/)
})

test('a UDP socket that is connected to none sends to several, also from no port yet', async () => {
  const [one, two] = [await udpReceiver('udp4'), await udpReceiver('udp4')]
  const mine = new PlainSocket(AF_INET, SOCK_DGRAM)
  const stream = await openStream({ socket: { fd: mine.fd }, to: [`127.0.0.1:${one.port}`, `127.0.0.1:${two.port}`], ...PLAIN })
  onTestFinished(() => stream.destroy())
  await sendOne(stream, 4)
  await until('the packets arrive', () => one.packets.length === 2 && two.packets.length === 2)
  expect(one.packets[0]!.port).toBe(two.packets[0]!.port)
})

/** Whether there is anything that its owner would have to read, an error included (poll(2)). */
function isReady(fd: number): boolean {
  const scratch = new Scratch(16)
  scratch.view.setInt32(0, fd, true)
  scratch.view.setInt16(4, 1, true)
  const ready = libc().poll(scratch.address, 1, 0) > 0
  scratch.region.release()
  return ready
}

const refusal = (options: object): Promise<string> =>
  openStream({ to: '127.0.0.1:9', ...options } as StreamOptions).then(
    (stream) => stream.destroy().then(() => 'opened'),
    (error) => `${error.code} ${error.message}`,
  )

test('what is no socket to send by is refused, with what it is', async () => {
  const of = (fd: number, more: object = {}) => refusal({ socket: { fd }, ...more })
  const remedy = 'give a UDP socket, or a TCP socket that is connected$'
  const file = openSync('/proc/self/exe', 'r')
  onTestFinished(() => closeSync(file))
  expect(await of(file)).toMatch(new RegExp(`^ERR_SPEADCAST_CONFIG socket\\.fd is ${file}, a file \\(ENOTSOCK\\); ${remedy}`))
  const folder = openSync('/', 'r')
  onTestFinished(() => closeSync(folder))
  expect(await of(folder)).toMatch(/a directory \(ENOTSOCK\)/)
  const nothing = openSync('/dev/null', 'r')
  onTestFinished(() => closeSync(nothing))
  expect(await of(nothing)).toMatch(/character device \(ENOTSOCK\)/)
  const event = libc().eventfd(0, 0)
  onTestFinished(() => closeSync(event))
  expect(await of(event)).toMatch(/no socket \(ENOTSOCK\)/)
  const pair = openSync('/dev/null', 'r')
  closeSync(pair)
  expect(await of(pair)).toMatch(new RegExp(`socket\\.fd is ${pair}, which is not open \\(EBADF\\); ${remedy}`))
  expect(await of(new PlainSocket(AF_UNIX, SOCK_STREAM).fd)).toMatch(/a Unix domain socket; /)
  const raw = libc().socket(AF_INET, 3, 1)
  onTestFinished(() => closeSync(raw))
  expect(await of(raw)).toMatch(/a socket of type 3 and protocol 1 \(socket\(2\)\); /)
  const unconnected = new PlainSocket(AF_INET, SOCK_STREAM)
  expect(await of(unconnected.fd)).toMatch(/a TCP socket that is not connected; connect it first/)
  unconnected.bind(4)
  unconnected.listen()
  expect(await of(unconnected.fd)).toMatch(/a TCP socket that listens; give one of the connections that accept\(2\) returns$/)
})

test('options that a socket leaves no room for are refused by name', async () => {
  const { port } = await tcpServer('127.0.0.1')
  const [udp, tcp, six] = [
    new PlainSocket(AF_INET, SOCK_DGRAM),
    new PlainSocket(AF_INET, SOCK_STREAM),
    new PlainSocket(AF_INET6, SOCK_DGRAM),
  ]
  tcp.connect(4, port)
  for (const [name, value] of Object.entries({
    interface: 'lo',
    sourcePort: 5000,
    broadcast: true,
    ttl: 3,
    dscp: 3,
    multicastLoop: false,
    sendBufferBytes: 0,
  }))
    expect(await refusal({ socket: { fd: udp.fd }, [name]: value })).toBe(
      `ERR_SPEADCAST_CONFIG ${name} is of a socket that the stream makes, and socket gives it one; set it on that socket instead`,
    )
  const of = ({ fd }: PlainSocket, more: object) => refusal({ socket: { fd }, ...more })
  for (const backend of ['dgram', 'pcap', 'memory', 'ibverbs', 'rdma-ud'])
    expect(await of(udp, { backend, pcapPath: backend === 'pcap' ? '/dev/null' : undefined })).toMatch(
      new RegExp(`socket is for backends 'udp' and 'tcp', not '${backend}'$`),
    )
  expect(await of(udp, { backend: 'tcp' })).toMatch(/a UDP socket, which is for backend 'udp', not 'tcp'$/)
  expect(await of(tcp, { backend: 'udp' })).toMatch(/a TCP socket, which is for backend 'tcp', not 'udp'$/)
  expect(await of(udp, { to: 'tcp://127.0.0.1:9' })).toMatch(
    /^ERR_SPEADCAST_CONFIG tcp:\/\/127\.0\.0\.1:9 is for a TCP socket, and socket\.fd is \d+, a UDP socket; leave tcp:\/\/ out, or give a connected TCP socket$/,
  )
  expect(await of(udp, { to: undefined })).toMatch(
    /option 'to' is missing; socket\.fd is \d+, a UDP socket that is not connected: give/,
  )
  expect(await of(udp, { rateMethod: 'kernel', rate: 1e6, backend: 'udp' })).toMatch(
    /rateMethod 'kernel' sets a rate on the socket/,
  )
  expect(await of(udp, { to: '[::1]:9' })).toMatch(
    /the socket is of IPv4, and \[::1\]:9 is IPv6; give a socket of family AF_INET6$/,
  )
  expect(await of(six, {})).toMatch(/the socket is of IPv6, and 127\.0\.0\.1:9 is IPv4; give a socket of family AF_INET$/)
  const peer = `tcp://127.0.0.1:${port}`
  expect(await of(tcp, { to: 'tcp://127.0.0.1:9' })).toBe(
    `ERR_SPEADCAST_CONFIG the socket is connected to ${peer}, and to says tcp://127.0.0.1:9; leave to out`,
  )
  expect(await of(tcp, { to: [peer, peer] })).toMatch(/and to names it 2 times; leave to out$/)
  expect(await of(tcp, { to: peer, tcp: { reconnect: 'retry' } })).toMatch(
    /tcp\.reconnect is 'retry', and a stream cannot connect a socket of yours again/,
  )
  expect(await of(tcp, { to: peer, tcp: { connectTimeoutMs: 5 } })).toMatch(/tcp\.connectTimeoutMs is of connecting/)
})
