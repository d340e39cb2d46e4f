/** `receiver.events()`: what is told of senders, drops, connections and the end, by real sockets. */
import { createSocket, type Socket } from 'node:dgram'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { openReceiver, type Receiver, type ReceiverEvent, type ReceiverMessages, type ReceiverOptions } from 'speadcast/receive'
import { describe, expect, onTestFinished, test } from 'vitest'
import { RECEIVER_EVENT_KINDS } from '#dist/src/receive/events.js'
import { page } from '../support/documents.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'
import { dial, packet, payloadOf } from '../tcp/receiver-support.js'
import { freePort } from './support.js'

const LINUX = 'the receiving thread, and what its kernel counts, are of Linux'

async function receiving(options: Partial<ReceiverOptions> = {}, scheme = '') {
  const port = await freePort()
  const receiver = await openReceiver({ endpoints: `${scheme}127.0.0.1:${port}`, timeoutSeconds: 28, stops: 0, ...options })
  onTestFinished(() => void receiver.close())
  const told: ReceiverEvent[] = []
  const reading = (async () => {
    for await (const event of receiver.events()) told.push(event)
  })()
  return { receiver, port, told, reading, endpoint: receiver.endpoints[0]! }
}

/** A UDP socket with a port of its own. @returns also a function that sends it a heap of one packet */
async function sender(port: number): Promise<{ name: string; send: (cnt: number) => Promise<void>; socket: Socket }> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.connect(port, '127.0.0.1', resolve))
  onTestFinished(() => void socket.close())
  const send = (cnt: number) => new Promise<void>((done) => socket.send(packet(cnt, payloadOf(cnt, 100)), () => done()))
  return { name: `127.0.0.1:${socket.address().port}`, send, socket }
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 2500 && !holds(); tries++) await sleep(10)
  expect(holds()).toBe(true)
}

const of = (told: readonly ReceiverEvent[], kind: ReceiverEvent['kind']) => told.filter((event) => event.kind === kind)

test('docs/receiving.md explains every kind', () => {
  const { text } = page('docs/receiving.md')
  const section = text.slice(text.indexOf('## Events'), text.indexOf('## Captures'))
  expect([...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, kind]) => kind)).toEqual([...RECEIVER_EVENT_KINDS])
})

test.for(['native', 'dgram'] as const)(
  '%s: a sender that begins, and the end, are told to all who listen',
  async (backend, ctx) => {
    need(ctx, backend === 'dgram' || process.platform === 'linux', LINUX)
    const { receiver, port, told, reading, endpoint } = await receiving({ backend, deliver: false })
    const published: ReceiverEvent[] = []
    const hear = (message: unknown): void => {
      const { receiver: from, event } = message as ReceiverMessages['speadcast:receiver:event']
      if (from === receiver) published.push(event)
    }
    subscribe('speadcast:receiver:event', hear)
    onTestFinished(() => void unsubscribe('speadcast:receiver:event', hear))
    const [one, two] = [await sender(port), await sender(port)]
    await one.send(1)
    await until(() => told.length === 1)
    await two.send(1)
    await until(() => receiver.stats().heaps === 2)
    const { reason } = await receiver.close()
    await reading
    const common = { time: expect.any(Number), endpoint, waitingHeaps: 0 }
    const begins = (name: string) => ({
      ...{ ...common, kind: 'sender', message: `${name} sends to ${endpoint}` },
      ...{ before: { sending: false }, after: { sender: name, sending: true } },
    })
    expect(told).toEqual([
      { ...begins(one.name), heaps: 1 },
      { ...begins(two.name), heaps: 2 },
      {
        ...{ kind: 'end', message: `over (${reason}); 2 heaps received, 0 incomplete`, after: { reason: 'closed' } },
        ...{ time: expect.any(Number), heaps: 2, waitingHeaps: 0 },
      },
    ])
    expect(published).toEqual(told)
    expect(await receiver.events().next()).toEqual({ done: true, value: undefined })
  },
)

test.for(['native', 'dgram'] as const)('%s: a sender that falls silent, and sends again, is told', async (backend, ctx) => {
  need(ctx, backend === 'dgram' || process.platform === 'linux', LINUX)
  const { receiver, port, told } = await receiving({ backend, deliver: false })
  const [silent, steady] = [await sender(port), await sender(port)]
  await silent.send(1)
  const timer = setInterval(() => void steady.send(receiver.stats().heaps + 1), 200)
  onTestFinished(() => clearInterval(timer))
  const lines = () => of(told, 'sender').flatMap(({ message }) => (message.startsWith(`${silent.name} `) ? [message] : []))
  await until(() => lines().length === 2)
  await silent.send(2)
  await until(() => lines().length === 3)
  expect(lines()).toEqual([
    expect.stringMatching(/ sends to /),
    expect.stringMatching(/ sends no more to .*: silent for 10 s$/),
    expect.stringMatching(/ sends again to .*, after 1\d s$/),
  ])
  expect(of(told, 'sender')).toHaveLength(4)
})

test.for(['native', 'dgram'] as const)(
  '%s: with anySource no address is told, because all senders are one',
  async (backend, ctx) => {
    need(ctx, backend === 'dgram' || process.platform === 'linux', LINUX)
    const { port, told, endpoint } = await receiving({ backend, deliver: false, anySource: true })
    const [first, second] = [await sender(port), await sender(port)]
    await first.send(1)
    await second.send(3)
    await until(() => of(told, 'sender').length > 0)
    expect(of(told, 'sender')).toMatchObject([{ message: `a sender sends to ${endpoint}`, after: { sending: true } }])
    expect(of(told, 'sender')[0]!.after).not.toHaveProperty('sender')
  },
)

test('a hundred senders at once are told by sixteen, and by the number of the others', async (ctx) => {
  need(ctx, process.platform === 'linux', LINUX)
  const { receiver, port, told, reading } = await receiving({ deliver: false })
  for (const { send } of await Promise.all(Array.from({ length: 100 }, () => sender(port)))) await send(1)
  await until(() => receiver.stats().heaps === 100)
  await receiver.close()
  await reading
  const events = of(told, 'sender')
  const left = events.reduce((sum, { after }) => sum + Number(after?.left ?? 0), 0)
  const named = events.filter(({ after }) => after?.sending === true).length
  expect(named + left).toBe(100)
  // The first packets may come before one look, the others before the next.
  expect(named).toBeLessThanOrEqual(32)
  expect(left).toBeGreaterThan(0)
})

test('drops by the kernel are told when they begin and when they are over', async (ctx) => {
  need(ctx, process.platform === 'linux', LINUX)
  const { receiver, port, told, endpoint } = await receiving({ receiveBufferBytes: 8192, gro: false })
  const { send } = await sender(port)
  // Nobody takes the heaps, so packets stay in the socket.
  for (let cnt = 1; of(told, 'drops').length === 0 && cnt < 100_000; cnt++) {
    await send(cnt)
    if (cnt % 100 === 0) await sleep(1)
  }
  const [began] = of(told, 'drops')
  expect(began).toMatchObject({
    endpoint,
    message: `${endpoint}: the socket buffer is full, and the kernel drops what comes`,
    before: { droppedByKernel: 0 },
  })
  expect(began!.after!.droppedByKernel).toBeGreaterThan(0)
  await until(() => of(told, 'drops').length === 2)
  const { droppedByKernel } = receiver.stats()
  expect(of(told, 'drops')[1]).toMatchObject({ before: { droppedByKernel: 0 }, after: { droppedByKernel } })
  expect(of(told, 'drops')[1]!.message).toMatch(
    new RegExp(` nothing any more; ${droppedByKernel} were dropped within \\d+\\.\\d s$`),
  )
})

describe('with TCP', () => {
  test('connections that are opened, closed and broken off are told', async (ctx) => {
    need(ctx, process.platform === 'linux', LINUX)
    const { port, told, endpoint } = await receiving({ deliver: false }, 'tcp://')
    const [one, two] = [await dial(port), await dial(port)]
    const names = [one, two].map((socket) => `127.0.0.1:${socket.localPort}`)
    one.write(packet(1, payloadOf(1, 100)))
    await until(() => of(told, 'connection').length === 2)
    two.write(Buffer.alloc(64, 0xff))
    await until(() => of(told, 'connection').length === 3)
    one.end()
    await until(() => of(told, 'connection').length === 4)
    expect(of(told, 'connection').map(({ message, before, after }) => [message, before, after])).toEqual([
      [`${names[0]} has connected to ${endpoint}`, { connections: 0 }, { sender: names[0], connections: 1 }],
      [`${names[1]} has connected to ${endpoint}`, { connections: 1 }, { sender: names[1], connections: 2 }],
      [
        `${names[1]} is no longer connected to ${endpoint}: what came is no SPEAD`,
        ...[{ connections: 2 }, { sender: names[1], connections: 1 }],
      ],
      [
        `${names[0]} is no longer connected to ${endpoint}: it was closed there, or is broken`,
        ...[{ connections: 1 }, { sender: names[0], connections: 0 }],
      ],
    ])
    await until(() => of(told, 'sender').length === 1)
    expect(of(told, 'sender')[0]!.message).toBe(`${names[0]} sends to ${endpoint}`)
  })
})

test('a receiving thread that dies is told, and ends the iteration', async (ctx) => {
  need(ctx, process.platform === 'linux', LINUX)
  const { stdout } = await runProgram('receive/thread-death')
  expect(JSON.parse(stdout)).toEqual({
    events: [['error', expect.stringMatching(/^failed: .*EBADF/)]],
    done: 'ERR_SPEADCAST_NATIVE',
    next: { done: true },
  })
})

test.for([
  [{ kinds: ['link'] }, "events: kinds has 'link'; give an array of 'membership', 'drops'"],
  [{ kinds: [] }, 'events: kinds is an array of 0; give an array of'],
  [{ kind: ['drops'] }, "events: unknown option 'kind'"],
  [{ signal: {} }, 'events: signal is an Object; it must be an AbortSignal'],
] as const)('%j is refused', async ([options, message]) => {
  const { receiver }: { receiver: Receiver } = await receiving({ backend: 'dgram' })
  expect(() => receiver.events(options as never)).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringContaining(message) }),
  )
})
