// A stream over TCP that connects again when a receiver goes away.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { ItemGroup, openStream, type PathChange, SendError, type Stream, type StreamOptions } from 'speadcast'
import { expect, onTestFinished, test } from 'vitest'
import { pointersOf } from '../support/cli.js'
import { optionOf, peerPort, SO_TIMESTAMPING } from '../support/plain-socket.js'
import { splitPackets } from '../support/tcp-receivers.js'

const BYTES = 8192
const SAMPLES = 0x3300
const DESCRIPTOR = 5
const THREADS = ['worker', 'inline'] as const
const QUICK = { reconnect: 'retry', reconnectDelayMs: 5, reconnectDelayMaxMs: 20 } as const

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms))

async function until(what: string, happened: () => boolean): Promise<void> {
  for (let tries = 0; !happened(); tries++) {
    if (tries === 2000) expect.fail(`it did not come to: ${what}`)
    await pause(5)
  }
}

/** A receiver that can be taken away and put back: the bytes of each connection that it ever had. */
class Receiver {
  readonly connections: { readonly socket: Socket; bytes: Buffer }[] = []
  #server: Server | undefined
  #port = 0
  /** The first connection since the last start. */
  #from = 0

  get endpoint(): string {
    return `tcp://127.0.0.1:${this.#port}`
  }

  async start(): Promise<void> {
    this.#from = this.connections.length
    this.#server = createServer({ pauseOnConnect: true }, (socket) => {
      const connection = { socket, bytes: Buffer.alloc(0) }
      this.connections.push(connection)
      socket.on('error', () => {})
      socket.on('data', (chunk) => {
        connection.bytes = Buffer.concat([connection.bytes, chunk])
      })
      socket.resume()
    }).listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Ends as a program that is killed. @param how with a reset, or with an orderly end */
  async stop(how: 'reset' | 'end' = 'reset'): Promise<void> {
    const { connections } = this
    for (const { socket } of connections) if (how === 'reset') socket.resetAndDestroy()
    for (const { socket } of connections) if (how === 'end') socket.destroy()
    await new Promise<void>((done) => (this.#server ? this.#server.close(() => done()) : done()))
    this.#server = undefined
  }

  /** Describes each packet of the newest connection since the last start: 'D' for a descriptor, else the heap's cnt and its place there. */
  heard(): string[] {
    const { packets } = splitPackets(this.connections.slice(this.#from).at(-1)?.bytes ?? Buffer.alloc(0))
    return packets.map((packet) => {
      const pointers = pointersOf(packet)
      if (pointers.some(({ id }) => id === DESCRIPTOR)) return 'D'
      return `${pointers.find(({ id }) => id === 1)!.value}@${pointers.find(({ id }) => id === 3)!.value}`
    })
  }
}

async function receiver(): Promise<Receiver> {
  const made = new Receiver()
  await made.start()
  onTestFinished(() => made.stop())
  return made
}

async function open(to: StreamOptions['to'], options: Partial<StreamOptions> = {}): Promise<Stream> {
  const stream = await openStream({ to, packetSizeBytes: 9000, tcp: QUICK, ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

const ITEMS = new ItemGroup().add({ id: SAMPLES, name: 'samples', dtype: 'u1', shape: [BYTES] })
const batchOf = (stream: Stream, heaps: number) => stream.createBatch({ items: ITEMS, heaps })

const failure = (promise: Promise<unknown>): Promise<SendError> =>
  promise.then(
    () => expect.fail('it was sent'),
    (error) => error,
  )

test.for(THREADS)(
  'a receiver that ends while nothing is sent is connected to again, and told the descriptors first (%s)',
  async (thread) => {
    const peer = await receiver()
    const stream = await open(peer.endpoint, { thread })
    const batch = batchOf(stream, 2)
    await stream.send(batch)
    await until('heaps arrive', () => peer.heard().length === 3)
    expect(peer.heard()).toEqual(['D', '2@0', '3@0'])
    for (const [how, first] of [
      ['end', 5],
      ['reset', 8],
    ] as const) {
      await peer.stop(how)
      await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
      await peer.start()
      await until('it is connected again', () => stream.stats().states.connectionsLost === 0)
      await stream.send(batch)
      await until('heaps arrive', () => peer.heard().length === 3)
      expect(peer.heard()).toEqual(['D', `${first}@0`, `${first + 1}@0`])
    }
    expect(stream.stats()).toMatchObject({
      heapsFailed: 0,
      heapsSent: 9,
      states: { reconnects: 2, connections: 1, pathChanges: 4 },
    })
    expect(peer.connections).toHaveLength(3)
  },
)

test.for(THREADS)(
  'what is under way at the loss fails, what is sent afterwards waits for the next connection (%s)',
  async (thread) => {
    const peer = await receiver()
    const stream = await open(peer.endpoint, { thread, sendBufferBytes: 65536 })
    const small = batchOf(stream, 2)
    await stream.send(small)
    await until('it is connected', () => peer.connections.length === 1)
    // From here on the receiver reads nothing, so that what is sent is begun and waits.
    peer.connections[0]!.socket.pause()
    const large = batchOf(stream, 3000)
    const queued = batchOf(stream, 4)
    const errors = [failure(stream.send(large)), failure(stream.send(queued))]
    await until('no more is taken', () => stream.stats().waits > 0)
    await pause(20)
    await peer.stop()
    const [begun, never] = await Promise.all(errors)
    expect(begun).toBeInstanceOf(SendError)
    expect(begun!.outcome.heaps.map((status) => status[0]).join('')).toMatch(/^s+p?f+$/)
    expect(begun!.outcome.causes).toEqual([
      expect.objectContaining({
        substream: 0,
        errnoName: 'ECONNRESET',
        message: expect.stringMatching(/Start it again; the stream connects again$/),
      }),
    ])
    expect(never!.outcome.heaps).toEqual(['failed', 'failed', 'failed', 'failed'])
    // The failure is known, so this one is for the next receiver.
    const waiting = stream.send(small)
    const state = await Promise.race([
      waiting.then(
        () => 'sent',
        () => 'failed',
      ),
      pause(100).then(() => 'waits'),
    ])
    expect(state).toBe('waits')
    await peer.start()
    const { firstCnt } = await waiting
    await until('heaps arrive', () => peer.heard().length >= 3)
    expect(peer.heard()).toEqual(['D', `${firstCnt}@0`, `${firstCnt + 1}@0`])
    const { heapsSent, heapsFailed } = stream.stats()
    expect(heapsFailed).toBe(begun!.outcome.failedHeaps.length + 4)
    expect(heapsSent + heapsFailed).toBe(1 + 2 + 3000 + 4 + 1 + 2)
  },
)

test.for(THREADS)('one of two receivers is away: the other gets its heaps, and both do afterwards (%s)', async (thread) => {
  const [left, right] = [await receiver(), await receiver()]
  const stream = await open([left.endpoint, right.endpoint], { thread })
  const batch = batchOf(stream, 4)
  await stream.send(batch)
  await until('all arrive', () => left.heard().length + right.heard().length === 6)
  await right.stop()
  await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
  for (let i = 0; i < 3; i++)
    expect((await failure(stream.send(batch))).outcome).toMatchObject({
      heaps: ['sent', 'failed', 'sent', 'failed'],
      causes: [{ substream: 1, errnoName: 'ECONNRESET' }],
    })
  await until('the others arrive', () => left.heard().length === 1 + 2 + 3 * 2)
  await right.start()
  await until('it is connected again', () => stream.stats().states.connectionsLost === 0)
  await until('the descriptors are due', () => right.connections.length === 2)
  await stream.send(batch)
  await until('heaps arrive', () => right.heard().length === 3)
  expect(right.heard()).toEqual(['D', expect.stringMatching(/@0$/), expect.stringMatching(/@0$/)])
  await until('the others arrive', () => left.heard().length === 1 + 2 + 3 * 2 + 2)
  expect(left.heard().filter((what) => what === 'D')).toHaveLength(1)
})

test.for(THREADS)('nobody is there for reconnectSeconds: what waits fails, and so does what follows (%s)', async (thread) => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { thread, tcp: { ...QUICK, reconnectSeconds: 0.3 } })
  const batch = batchOf(stream, 2)
  await stream.send(batch)
  await peer.stop()
  await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
  for (let i = 0; i < 2; i++) {
    const { outcome } = await failure(stream.send(batch))
    expect(outcome.heaps).toEqual(['failed', 'failed'])
    expect(outcome.causes[0]!.message).toMatch(/no attempt to connect again came through in 0\.3 s: open another stream/)
  }
  expect(stream.stats().states).toMatchObject({ connectionsLost: 1, reconnects: 0 })
  expect(stream.stats().states.lastPathChange).toMatch(
    /nobody to connect to after \d+ attempts in \d\.\d s \(ECONNREFUSED\); no more attempts/,
  )
  expect(await stream.close()).toEqual({ droppedHeaps: 0 })
})

for (const thread of THREADS)
  test.for(['destroy', 'close with a deadline', 'a signal'] as const)(
    `what waits for a connection settles by %s (${thread})`,
    async (how) => {
      const peer = await receiver()
      const stream = await open(peer.endpoint, { thread })
      const batches = [batchOf(stream, 2), batchOf(stream, 2), batchOf(stream, 2)]
      await stream.send(batches[0]!)
      await peer.stop()
      await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
      const abort = new AbortController()
      const errors = batches.map((batch) => failure(stream.send(batch, { signal: abort.signal })))
      await pause(30)
      if (how === 'a signal') {
        abort.abort(new Error('changed my mind'))
        // The first may be the sending side's already.
        expect(await errors[2]).toMatchObject({ message: 'changed my mind' })
      }
      const end = how === 'destroy' ? stream.destroy() : stream.close({ deadlineSeconds: 0.05 })
      for (const error of await Promise.all(errors)) expect(error).toBeInstanceOf(Error)
      await end
      // Nobody connects any more.
      await peer.start()
      await pause(60)
      expect(peer.connections).toHaveLength(1)
    },
  )

test('the way of a stream that is paced, with descriptors by a timer, is lost and found', async () => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { rate: '20MB/s', descriptors: { everySeconds: 0.02 } })
  const batch = batchOf(stream, 10)
  await stream.send(batch)
  await peer.stop('end')
  await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
  const waiting = stream.send(batch)
  await pause(60)
  await peer.start()
  await waiting
  await until('heaps arrive', () => peer.heard().filter((what) => what !== 'D').length >= 10)
  await until('a repeat arrives', () => peer.heard().filter((what) => what === 'D').length >= 3)
  expect(peer.heard()[0]).toBe('D')
})

test('descriptors inside the heaps go to the next receiver too', async () => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { descriptors: 'in-band' })
  const batch = batchOf(stream, 2)
  await stream.send(batch)
  await peer.stop()
  await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
  await peer.start()
  await stream.send(batch)
  await until('heaps arrive', () => peer.heard().length === 2)
  expect(peer.heard()).toEqual(['D', '4@0'])
})

test('those who listen are told of the loss and of the next connection', async () => {
  const peer = await receiver()
  const changes: PathChange[] = []
  const changed: string[][] = []
  const listener = (message: unknown) => void changed.push([...(message as { changed: string[] }).changed].sort())
  subscribe('speadcast:stream:states', listener)
  onTestFinished(() => void unsubscribe('speadcast:stream:states', listener))
  await open(peer.endpoint, { onPathChange: (change) => void changes.push(change) })
  await until('it is connected', () => peer.connections.length === 1)
  await peer.stop('end')
  await until('the loss is told', () => changes.length === 1)
  await peer.start()
  await until('the next connection is told', () => changes.length === 2)
  const { endpoint } = peer
  expect(changes[0]!.what).toMatch(new RegExp(`Z ${endpoint}: the connection is lost \\(EPIPE\\)$`))
  expect(changes[1]!.what).toMatch(new RegExp(`Z ${endpoint}: connected again after \\d+ attempts? in \\d\\.\\d s$`))
  expect(changed[0]).toEqual(['connectionsLost', 'lastPathChange', 'pathChanges'])
  expect(changed.at(-1)).toEqual(['connectionsLost', 'lastPathChange', 'pathChanges', 'reconnects'])
})

test('a receiver that takes a connection and ends at once is tried again and again, and the stream closes all the same', async () => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { tcp: { ...QUICK, reconnectDelayMs: 1 } })
  const batch = batchOf(stream, 2)
  await stream.send(batch)
  for (let i = 0; i < 10; i++) {
    const { length } = peer.connections
    peer.connections.at(-1)!.socket.resetAndDestroy()
    await until('the next connection is there', () => peer.connections.length > length)
  }
  await until('it is connected', () => stream.stats().states.connectionsLost === 0)
  await stream.send(batch)
  await stream.close()
  expect(stream.stats().states.reconnects).toBe(10)
})

/** Whether each socket of this process that is connected to the port is told of acknowledgements. */
const noticed = (port: number): boolean[] =>
  readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => peerPort(fd) === port)
    .map((fd) => optionOf(fd, ...SO_TIMESTAMPING) !== 0)

test.for(THREADS)('the next connection tells of acknowledgements, as the first one does (%s)', async (thread) => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { thread })
  const port = Number(peer.endpoint.split(':').at(-1))
  expect(noticed(port)).toEqual([true])
  await peer.stop()
  await until('the loss is seen', () => stream.stats().states.connectionsLost === 1)
  await peer.start()
  await until('it is connected again', () => stream.stats().states.connectionsLost === 0)
  expect(noticed(port)).toEqual([true])
})

test.for(THREADS)('a loop goes on to the receiver that comes next, which is told the descriptors (%s)', async (thread) => {
  const peer = await receiver()
  const stream = await open(peer.endpoint, { thread, rate: 20e6, descriptors: { firstCnt: 1e6 } })
  const loop = stream.loop([batchOf(stream, 4), batchOf(stream, 4)])
  for (let round = 0; round < 3; round++) {
    await until('heaps arrive', () => peer.heard().length > 20)
    const heard = peer.heard()
    expect(heard.filter((packet) => packet === 'D')).toHaveLength(1)
    // A heap at most was under way.
    expect(heard.indexOf('D')).toBeLessThan(16)
    const cnts = heard.filter((packet) => packet !== 'D').map((packet) => Number(packet.split('@')[0]))
    expect(cnts).toEqual(cnts.map((_, i) => cnts[0]! + i))
    await peer.stop(round % 2 === 0 ? 'reset' : 'end')
    await peer.start()
  }
  await until('heaps arrive', () => peer.heard().length > 20)
  const { settledHeaps } = loop.position
  loop.stop()
  const { heaps, failedHeaps, causes } = await loop.done
  expect(heaps + failedHeaps).toBeGreaterThanOrEqual(settledHeaps)
  expect(causes.length > 0).toBe(failedHeaps > 0)
})
