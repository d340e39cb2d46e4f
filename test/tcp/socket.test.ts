// Streams over a socket that exists already.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { libc } from '#dist/ffi/libc.js'
import { encodeSocketAddress } from '#dist/ffi/socket/inet-socket.js'
import { ItemGroup, openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { pointersOf } from '../support/cli.js'
import { splitPackets } from '../support/tcp-receivers.js'

const BYTES = 4000
const ITEMS = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [BYTES] })
const THREADS = ['worker', 'inline'] as const
const [AF_UNIX, AF_INET, AF_INET6, STREAM, DGRAM] = [1, 2, 10, 1, 2]

const LOOPBACK = { 4: Uint8Array.of(127, 0, 0, 1), 6: Uint8Array.of(...new Array(15).fill(0), 1) } as const

/** The C library's calls on one descriptor, as another program would make them. */
class Plain {
  readonly memory = Buffer.alloc(64)
  readonly #address: number
  readonly #free: () => void
  fd: number

  constructor(domain: number, type: number) {
    const c = libc()
    this.#address = c.mmap(0, 4096, 3, 0x22, -1, 0)
    this.#free = () => c.munmap(this.#address, 4096)
    this.fd = c.socket(domain, type, 0)
    expect(this.fd).toBeGreaterThan(0)
    onTestFinished(() => this.close())
  }

  async #call(name: 'bind' | 'connect', family: 4 | 6, port: number): Promise<void> {
    const { Region } = await import('#dist/ffi/memory/region.js')
    const { attachRegion } = await import('#dist/ffi/memory/region.js')
    const region = Region.allocate(4096)
    const bytes = encodeSocketAddress({ family, bytes: LOOPBACK[family], port })
    new Uint8Array(attachRegion(region)).set(bytes)
    expect(libc()[name](this.fd, region.address, bytes.length)).toBe(0)
    region.release()
  }

  bind = (family: 4 | 6, port = 0) => this.#call('bind', family, port)
  connect = (family: 4 | 6, port: number) => this.#call('connect', family, port)
  listen = () => expect(libc().listen(this.fd, 5)).toBe(0)

  /** The flags of the open file: 0o4000 is O_NONBLOCK (fcntl(2)). */
  get blocks(): boolean {
    return (libc().fcntl(this.fd, 3, 0) & 0o4000) === 0
  }

  close(): void {
    if (this.fd < 0) return
    libc().close(this.fd)
    this.fd = -1
    this.#free()
  }
}

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

/** What each packet begins and ends with: the heap's cnt, and the last of its samples. */
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
    const mine = new Plain(family === 4 ? AF_INET : AF_INET6, STREAM)
    await mine.connect(family, port)
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
  const listener = new Plain(AF_INET6, STREAM)
  const { Region, attachRegion } = await import('#dist/ffi/memory/region.js')
  const region = Region.allocate(4096)
  const bytes = encodeSocketAddress({ family: 6, bytes: new Uint8Array(16), port: 0 })
  const memory = Buffer.from(attachRegion(region))
  memory.set(bytes)
  const c = libc()
  expect(c.bind(listener.fd, region.address, bytes.length)).toBe(0)
  listener.listen()
  memory.writeInt32LE(28, 64)
  c.getsockname(listener.fd, region.address, region.address + 64)
  const { connect } = await import('node:net')
  const receiver = connect(memory.readUInt16BE(2), '127.0.0.1')
  onTestFinished(() => void receiver.destroy())
  await once(receiver, 'connect')
  const fd = c.accept4(listener.fd, 0, 0, 0)
  onTestFinished(() => void c.close(fd))
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
  expect(c.recv(fd, region.address, 64, 0x40)).toBe(6)
  expect(memory.subarray(0, 6).toString()).toBe('credit')
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
      const mine = new Plain(family === 4 ? AF_INET : AF_INET6, DGRAM)
      await mine.bind(family)
      if (how === 'connected') await mine.connect(family, port)
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

test('a UDP socket that is connected to none sends to several, also from no port yet', async () => {
  const [one, two] = [await udpReceiver('udp4'), await udpReceiver('udp4')]
  const mine = new Plain(AF_INET, DGRAM)
  const stream = await openStream({ socket: { fd: mine.fd }, to: [`127.0.0.1:${one.port}`, `127.0.0.1:${two.port}`], ...PLAIN })
  onTestFinished(() => stream.destroy())
  await sendOne(stream, 4)
  await until('the packets arrive', () => one.packets.length === 2 && two.packets.length === 2)
  expect(one.packets[0]!.port).toBe(two.packets[0]!.port)
})

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
  expect(await of(new Plain(AF_UNIX, STREAM).fd)).toMatch(/a Unix domain socket; /)
  const raw = libc().socket(AF_INET, 3, 1)
  onTestFinished(() => closeSync(raw))
  expect(await of(raw)).toMatch(/a socket of type 3 and protocol 1 \(socket\(2\)\); /)
  const unconnected = new Plain(AF_INET, STREAM)
  expect(await of(unconnected.fd)).toMatch(/a TCP socket that is not connected; connect it first/)
  await unconnected.bind(4)
  unconnected.listen()
  expect(await of(unconnected.fd)).toMatch(/a TCP socket that listens; give one of the connections that accept\(2\) returns$/)
})

test('options that a socket leaves no room for are refused by name', async () => {
  const { port } = await tcpServer('127.0.0.1')
  const [udp, tcp, six] = [new Plain(AF_INET, DGRAM), new Plain(AF_INET, STREAM), new Plain(AF_INET6, DGRAM)]
  await tcp.connect(4, port)
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
  const of = ({ fd }: Plain, more: object) => refusal({ socket: { fd }, ...more })
  for (const backend of ['dgram', 'pcap', 'memory', 'ibverbs', 'rdma-ud'])
    expect(await of(udp, { backend, pcapPath: backend === 'pcap' ? '/dev/null' : undefined })).toMatch(
      new RegExp(`socket is for backends 'udp' and 'tcp', not '${backend}'$`),
    )
  expect(await of(udp, { backend: 'tcp' })).toMatch(/a UDP socket, which is for backend 'udp', not 'tcp'$/)
  expect(await of(tcp, { backend: 'udp' })).toMatch(/a TCP socket, which is for backend 'tcp', not 'udp'$/)
  expect(await of(udp, { to: 'tcp://127.0.0.1:9' })).toMatch(
    /^ERR_SPEADCAST_CONFIG tcp:\/\/127\.0\.0\.1:9 is for backend 'tcp', not 'udp'/,
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
