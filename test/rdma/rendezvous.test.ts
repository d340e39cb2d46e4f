/** How a sender of datagrams learns its receiver's queue pair: real TCP, and what is said when nobody, or somebody else, answers. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { parseEndpoints, type ResolvedEndpoint, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { parseGid } from '#dist/src/rdma/fabric.js'
import { askRendezvous, type DatagramPeer, offerRendezvous } from '#dist/src/rdma/rendezvous.js'

const PEER: DatagramPeer = { gid: parseGid('10.0.0.2')!, lid: 3, qpn: 0x123456, qkey: 0xfedcba98, mtuBytes: 2048 }

async function endpointOn(host: string): Promise<ResolvedEndpoint> {
  const server = createServer()
  server.listen(0, host.replace(/[[\]]/g, ''))
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return (await resolveEndpoints(parseEndpoints([`${host}:${port}`])))[0]!
}

async function answering(answer: string | undefined): Promise<ResolvedEndpoint> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined)
    if (answer !== undefined) socket.end(answer)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  return (await resolveEndpoints(parseEndpoints([`127.0.0.1:${port}`])))[0]!
}

test.for(['127.0.0.1', '[::1]'])('what is offered on %s is what is asked, by as many as want', async (host) => {
  const endpoint = await endpointOn(host)
  const offer = await offerRendezvous(endpoint, Promise.resolve(PEER))
  onTestFinished(() => offer.close())
  const answers = await Promise.all([1, 2, 3].map(() => askRendezvous(endpoint, 5000)))
  expect(answers).toEqual([PEER, PEER, PEER])
})

test('who comes before the queue pair is there waits for it', async () => {
  const endpoint = await endpointOn('127.0.0.1')
  let ready: (peer: DatagramPeer) => void
  const offer = await offerRendezvous(endpoint, new Promise((resolve) => (ready = resolve)))
  onTestFinished(() => offer.close())
  const asked = askRendezvous(endpoint, 5000)
  expect(await Promise.race([asked, sleep(50, 'nothing yet')])).toBe('nothing yet')
  ready!(PEER)
  expect(await asked).toEqual(PEER)
})

test('the line is JSON of one line, for other programs to read', async () => {
  const endpoint = await endpointOn('127.0.0.1')
  const offer = await offerRendezvous(endpoint, Promise.resolve(PEER))
  onTestFinished(() => offer.close())
  const socket = connect(endpoint.port, endpoint.address).setEncoding('utf8')
  let text = ''
  for await (const chunk of socket) text += chunk
  expect(text.endsWith('\n')).toBe(true)
  expect(JSON.parse(text)).toEqual({
    speadcast: 'rdma-ud',
    version: 1,
    gid: '::ffff:a00:2',
    lid: 3,
    qpn: 0x123456,
    qkey: 0xfedcba98,
    mtuBytes: 2048,
  })
})

/** Connects from 127.0.0.FROM and says a byte every 100 ms. */
function trickle(port: number, from = 1) {
  const socket = connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${from}`, allowHalfOpen: true })
  const timer = setInterval(() => socket.write('x'), 100)
  socket.on('error', () => undefined)
  socket.resume()
  const closed = new Promise<void>((resolve) => socket.on('close', resolve)).then(() => clearInterval(timer))
  onTestFinished(() => void socket.destroy())
  return { socket, closed }
}

test('a connection that trickles is closed all the same', async () => {
  const endpoint = await endpointOn('127.0.0.1')
  const offer = await offerRendezvous(endpoint, Promise.resolve(PEER))
  onTestFinished(() => offer.close())
  await expect(trickle(endpoint.port).closed).resolves.toBeUndefined()
})

test('a connection that says more than there is to say is closed', async () => {
  const endpoint = await endpointOn('127.0.0.1')
  const offer = await offerRendezvous(endpoint, new Promise(() => undefined))
  onTestFinished(() => offer.close())
  const { socket, closed } = trickle(endpoint.port)
  socket.write('y'.repeat(1 << 20))
  await expect(closed).resolves.toBeUndefined()
})

test.for([
  ['one address', 1, 32],
  ['200 addresses', 200, 128],
] as const)('998 connections that trickle, from %s: %i, at most %i stay, and senders are answered', async ([, addresses, most]) => {
  // Two endpoints, because the descriptors are the process's.
  const endpoints = [await endpointOn('127.0.0.1'), await endpointOn('127.0.0.1')]
  for (const endpoint of endpoints) {
    const offer = await offerRendezvous(endpoint, Promise.resolve(PEER))
    onTestFinished(() => offer.close())
  }
  let open = 0
  for (let i = 0; i < 998; i++) {
    const { socket, closed } = trickle(endpoints[i % 2]!.port, 1 + (i % addresses))
    await once(socket, 'connect')
    open++
    void closed.then(() => open--)
  }
  await expect.poll(() => open).toBeLessThanOrEqual(most)
  for (const endpoint of endpoints) expect(await askRendezvous(endpoint, 5000)).toEqual(PEER)
})

test('a port that is taken is an error that says so', async () => {
  const endpoint = await answering('')
  await expect(offerRendezvous(endpoint, Promise.resolve(PEER))).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_ENDPOINT',
    message: expect.stringMatching(/cannot wait for senders on 127\.0\.0\.1:\d+ over TCP: .*EADDRINUSE/),
  })
})

test('nobody there: start the receiver first', async () => {
  const endpoint = await endpointOn('127.0.0.1')
  await expect(askRendezvous(endpoint, 5000)).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringMatching(
      /no rdma-ud receiver answers over TCP \(ECONNREFUSED\); start `speadcast recv --backend rdma-ud`/,
    ),
  })
})

test('somebody who says nothing is given up on in time', async () => {
  const endpoint = await answering(undefined)
  const started = performance.now()
  await expect(askRendezvous(endpoint, 200)).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringMatching(/answered over TCP in 200 ms/),
  })
  expect(performance.now() - started).toBeLessThan(5000)
})

const LINE = { speadcast: 'rdma-ud', version: 1, gid: '::1', lid: 0, qpn: 17, qkey: 1, mtuBytes: 4096 }
test.for([
  ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['nothing', ''],
  ['no end of it', 'x'.repeat(1 << 20)],
  ['a line cut off', JSON.stringify(LINE).slice(0, -3)],
  ['another version', `${JSON.stringify({ ...LINE, version: 2 })}\n`],
  ['a GID that is none', `${JSON.stringify({ ...LINE, gid: 'fe80::1%eth0' })}\n`],
  ['a queue pair number too large', `${JSON.stringify({ ...LINE, qpn: 2 ** 24 })}\n`],
  ['a key that is no whole number', `${JSON.stringify({ ...LINE, qkey: 1.5 })}\n`],
  ['control characters', '\u009b31m\u0007\u2028'],
  ['an MTU of nothing', `${JSON.stringify({ ...LINE, mtuBytes: 0 })}\n`],
] as const)('who answers with %s is no receiver', async ([, answer]) => {
  await expect(askRendezvous(await answering(answer), 5000)).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: expect.stringMatching(/^[ -~]*what answers over TCP is no rdma-ud receiver of this version[ -~]*$/),
  })
})
