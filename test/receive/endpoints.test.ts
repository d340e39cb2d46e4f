/** Counters of each endpoint: what came to it, whichever way it came, and sums that are the receiver's own. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { SpeadcastError } from '#dist/src/errors.js'
import { openReceiver, type Receiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { file } from './pcap-support.js'
import { ethernet, ipv4, ipv6, pcapOf, udp } from './pcap-write.js'
import { freePort } from './support.js'
import { descriptor, partOf, SAMPLES, TIMESTAMP, tutorial } from './wire.js'

const ENDPOINTS = 3
const COUNTERS = [
  'packets',
  'bytes',
  'messages',
  'heaps',
  'controlHeaps',
  'heapsIncomplete',
  'heapsCorrupt',
  'duplicates',
  'reordered',
  'malformed',
  'packetsRefused',
  'droppedByKernel',
  'payloadBytes',
] as const

type Kind = 'heap' | 'corrupt' | 'part' | 'copy' | 'descriptor' | 'junk'
interface Act {
  readonly kind: Kind
  readonly endpoint: number
  readonly from: 'a' | 'b'
}
interface Packet extends Act {
  readonly bytes: Uint8Array
}
/** What a test expects of an endpoint. */
type Expected = Record<
  'packets' | 'bytes' | 'heaps' | 'controlHeaps' | 'heapsIncomplete' | 'heapsCorrupt' | 'duplicates' | 'malformed',
  number
>

/** The packets of some acts, and what they come to at each endpoint. A sender's heaps and their samples are numbered from 1 and 0. */
function planOf(acts: readonly Act[]): { packets: Packet[]; expected: Expected[] } {
  const packets: Packet[] = []
  const expected = Array.from({ length: ENDPOINTS }, () => ({
    packets: 0,
    bytes: 0,
    heaps: 0,
    controlHeaps: 0,
    heapsIncomplete: 0,
    heapsCorrupt: 0,
    duplicates: 0,
    malformed: 0,
  }))
  const made = new Map<string, number>()
  for (const act of acts) {
    const { kind, endpoint } = act
    const sender = `${act.from} ${endpoint}`
    const index = made.get(sender) ?? 0
    const own = expected[endpoint]!
    const put = (bytes: Uint8Array): void => {
      packets.push({ ...act, bytes })
      own.bytes += bytes.length
    }
    if (kind === 'junk') {
      put(Buffer.from('SPEAD? not at all'))
      own.malformed++
      continue
    }
    made.set(sender, index + 1)
    const whole = tutorial(index + 1, index)
    if (kind === 'corrupt') whole[whole.length - 1]! ^= 1
    if (kind === 'descriptor') put(descriptor(index + 1, 0x4000, 'other'))
    else if (kind === 'part')
      put(
        partOf(index + 1, 32, 0, new Uint8Array(16), [
          [true, TIMESTAMP, 0],
          [false, SAMPLES, 0],
        ]),
      )
    else put(whole)
    own.packets++
    if (kind === 'descriptor') own.controlHeaps++
    else if (kind === 'part') own.heapsIncomplete++
    else own.heaps++
    if (kind === 'corrupt') own.heapsCorrupt++
    if (kind === 'copy') {
      put(whole)
      own.duplicates++
    }
  }
  return { packets, expected }
}

type Way = 'native' | 'dgram' | 'tcp' | 'pcap'
const hostOf = (family: 4 | 6) => (family === 4 ? '127.0.0.1' : '::1')

/** Opens a receiver of several endpoints, lets it take all packets, and ends it. */
async function take(way: Way, family: 4 | 6, packets: readonly Packet[], options: Partial<ReceiverOptions>): Promise<Receiver> {
  const host = hostOf(family)
  const ports = way === 'pcap' ? [7148, 7149, 7150] : await Promise.all(Array.from({ length: ENDPOINTS }, () => freePort(host)))
  const endpoints = ports.map((port) => `${way === 'tcp' ? 'tcp://' : ''}${family === 6 ? `[${host}]` : host}:${port}`)
  if (way === 'pcap') {
    const frames = packets.map(({ bytes, endpoint, from }) => {
      const datagram = udp(bytes, { fromPort: from === 'a' ? 5000 : 5001, toPort: ports[endpoint]! })
      const ends = { from: host, to: host }
      return { frame: ethernet(family === 6 ? ipv6(datagram, ends) : ipv4(datagram, ends)) }
    })
    const receiver = await openReceiver({ ...options, pcapPath: file(pcapOf(frames)), endpoints })
    await receiver.done
    return receiver
  }
  const receiver = await openReceiver({ ...options, endpoints, ...(way !== 'tcp' && { backend: way }), timeoutSeconds: 20 })
  onTestFinished(() => void receiver.close())
  const close = way === 'tcp' ? await connectAndWrite(packets, ports, host) : await sendDatagrams(packets, ports, host)
  const isTaken = () => {
    const { packets: came, duplicates, malformed } = receiver.stats()
    return came + duplicates + malformed >= packets.length
  }
  for (let turn = 0; turn < 2000 && !isTaken(); turn++) await new Promise((resolve) => setTimeout(resolve, 2))
  await receiver.close()
  close()
  return receiver
}

async function sendDatagrams(packets: readonly Packet[], ports: readonly number[], host: string): Promise<() => void> {
  const type = host.includes(':') ? 'udp6' : 'udp4'
  const sockets = { a: createSocket(type), b: createSocket(type) }
  const sent = packets.map(
    ({ from, bytes, endpoint }) =>
      new Promise<void>((resolve) => sockets[from].send(bytes, ports[endpoint]!, host, () => resolve())),
  )
  await Promise.all(sent)
  return () => {
    sockets.a.close()
    sockets.b.close()
  }
}

async function connectAndWrite(packets: readonly Packet[], ports: readonly number[], host: string): Promise<() => void> {
  const sockets = new Map<string, Socket>()
  const dial = async (name: string, port: number): Promise<Socket> => {
    const socket = connect({ host, port })
    socket.on('error', () => undefined)
    sockets.set(name, socket)
    await once(socket, 'connect')
    return socket
  }
  for (const [i, { kind, from, endpoint, bytes }] of packets.entries()) {
    // Behind what is no packet no other can be found, so its connection ends.
    const name = `${from} ${endpoint} ${kind === 'junk' ? i : ''}`
    ;(sockets.get(name) ?? (await dial(name, ports[endpoint]!))).write(bytes)
  }
  return () => {
    for (const socket of sockets.values()) socket.destroy()
  }
}

const acts = fc.array(
  fc.record({
    kind: fc.constantFrom<Kind>('heap', 'heap', 'corrupt', 'part', 'copy', 'descriptor', 'junk'),
    endpoint: fc.nat(ENDPOINTS - 1),
    from: fc.constantFrom('a' as const, 'b' as const),
  }),
  { minLength: 1, maxLength: 40 },
)
const bounds = fc.constantFrom({}, { maxHeaps: 1 }, { anySource: true })

test.for([
  ['native', 4],
  ['native', 6],
  ['dgram', 4],
  ['dgram', 6],
  ['tcp', 4],
  ['tcp', 6],
  ['pcap', 4],
  ['pcap', 6],
] as const)('%s over IPv%i: what came to each endpoint, and the sums are the totals', async ([way, family], ctx) => {
  if (way === 'native' || way === 'tcp') ctx.skip(process.platform !== 'linux', 'needs Linux')
  await fc.assert(
    fc.asyncProperty(acts, bounds, async (drawn, options) => {
      // Joined, the two senders' heaps have the same heap cnts.
      const { packets, expected } = planOf('anySource' in options ? drawn.map((act) => ({ ...act, from: 'a' as const })) : drawn)
      const receiver = await take(way, family, packets, { ...options, verify: true })
      const { endpoints, ...totals } = receiver.stats({ endpoints: true })
      // What follows no packet in a connection is not read as one, so its bytes are none of a datagram's.
      const comparable = ({ bytes, ...rest }: Expected) => (way === 'tcp' ? rest : { bytes, ...rest })
      expect(endpoints.map(({ endpoint }) => endpoint)).toEqual(receiver.endpoints)
      expect(endpoints).toMatchObject(expected.map(comparable))
      for (const name of COUNTERS)
        expect([name, endpoints.reduce((sum, each) => sum + each[name], 0)]).toEqual([name, totals[name]])
      expect((await receiver.done).endpoints).toEqual(endpoints)
    }),
    { numRuns: way === 'pcap' ? 8 : 4 },
  )
})

test('the kernel’s drops are those of the socket that overflowed', async (ctx) => {
  ctx.skip(process.platform !== 'linux', 'needs Linux')
  const ports = [await freePort(), await freePort()]
  const endpoints = ports.map((port) => `127.0.0.1:${port}`)
  // Nobody takes heaps, so packets stay in the socket once 256 heaps wait.
  await using receiver = await openReceiver({ endpoints, receiveBufferBytes: 8192, backend: 'native' })
  const socket = createSocket('udp4')
  onTestFinished(() => void socket.close())
  const send = (cnt: number, port: number) =>
    new Promise<void>((resolve) => socket.send(tutorial(cnt, cnt), port, '127.0.0.1', () => resolve()))
  await send(1, ports[1]!)
  for (let cnt = 1; receiver.stats().droppedByKernel === 0 && cnt < 20_000; cnt++) await send(cnt, ports[0]!)
  const { droppedByKernel, endpoints: counted } = await receiver.close()
  expect(droppedByKernel).toBeGreaterThan(0)
  expect(counted?.map((each) => [each.endpoint, each.droppedByKernel])).toEqual([
    [endpoints[0], droppedByKernel],
    [endpoints[1], 0],
  ])
})

test('without being asked, stats() has no counters of endpoints, nor has the summary of one endpoint', async () => {
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${await freePort()}` })
  expect(receiver.stats()).not.toHaveProperty('endpoints')
  expect(receiver.stats({ endpoints: false })).not.toHaveProperty('endpoints')
  expect(receiver.stats({ endpoints: true }).endpoints).toMatchObject([{ endpoint: receiver.endpoints[0], packets: 0 }])
  expect(await receiver.close()).not.toHaveProperty('endpoints')
  for (const wrong of [{ endpoint: true }, { endpoints: 'yes' }, null, 7])
    expect(() => receiver.stats(wrong as never)).toThrow(SpeadcastError)
})
