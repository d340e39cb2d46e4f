// The receiver of TCP connections when too many come, when descriptors run out, and when those who come go at once or say nothing.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { mapReceiveMemory } from '#dist/ffi/socket/recvmmsg.js'
import { TcpListener } from '#dist/ffi/socket/tcp-intake.js'
import { openReceiver } from '#dist/src/receive/index.js'
import { ReceiveSession, SESSION_BYTES, STAT, type StatName, statWords } from '#dist/src/receive/session.js'
import { TCP_ARENA_BYTES, TcpSource } from '#dist/src/receive/tcp-source.js'
import { freePort, start } from '../receive/support.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'
import { dial, packet, payloadOf, receive, until } from './receiver-support.js'

const ended = (sockets: readonly Socket[]) => {
  for (const socket of sockets) socket.resume()
  return () => sockets.filter(({ destroyed }) => destroyed).length
}

test('a thousand connections that say nothing: 256 stay, the others are turned away, counted and told once', async () => {
  const told: string[] = []
  const { receiver, dial } = await receive({ onChange: (what) => void told.push(what) })
  const first = await dial()
  first.write(packet(1, payloadOf(1, 100)))
  const crowd: Socket[] = []
  // Fewer at once than wait with the kernel, which drops those that find no room there.
  while (crowd.length < 1000)
    crowd.push(...(await Promise.all(Array.from({ length: 50 }, (_, i) => dial(`127.0.0.${2 + (i % 20)}`)))))
  const gone = ended(crowd)
  await until(() => gone() === 1000 - 255)
  expect(receiver.stats()).toMatchObject({ connections: 256, connectionsRefused: 1000 - 255, acceptsFailed: 0 })
  expect(told).toEqual([
    expect.stringMatching(
      /^tcp:\/\/127\.0\.0\.1:\d+ turns 127\.0\.0\.\d+:\d+ away: 256 are open, and that is the most; told once, and counted$/,
    ),
  ])
  first.write(packet(2, payloadOf(2, 100)))
  await until(() => receiver.stats().heaps === 2)
  // Connections that close make room for others.
  for (const socket of crowd) socket.destroy()
  await until(() => receiver.stats().connections === 256)
  const late = await dial()
  late.write(packet(1, payloadOf(1, 100)))
  await until(() => receiver.stats().heaps === 3)
})

test('sixty-four of one address', async () => {
  const told: string[] = []
  const { receiver, dial } = await receive({ onChange: (what) => void told.push(what) })
  const gone = ended(await Promise.all(Array.from({ length: 70 }, () => dial())))
  await until(() => gone() === 6)
  const other = await dial('127.0.0.9')
  other.write(packet(1, payloadOf(1, 100)))
  await until(() => receiver.stats().heaps === 1)
  expect(receiver.stats()).toMatchObject({ connections: 65, connectionsRefused: 6 })
  expect(told).toEqual([expect.stringMatching(/away: 64 of its address are open/)])
})

test('connections that their senders reset before they are accepted end nothing', async () => {
  const { receiver, dial, port } = await receive()
  const good = await dial()
  for (let round = 0; round < 10; round++) {
    await Promise.all(
      Array.from({ length: 30 }, async () => {
        const socket = connect(port, '127.0.0.1').on('error', () => {})
        await once(socket, 'connect')
        socket.resetAndDestroy()
      }),
    )
    good.write(packet(round + 1, payloadOf(round, 100)))
  }
  await until(() => receiver.stats().heaps === 10)
  expect(receiver.stats().malformed).toBe(0)
})

/** The low half of the first pointer, which is the heap cnt's. */
const CNT_AT = 12
/** Time without a packet after which a connection gives way. */
const IDLE_MS = 60_000

test('a connection idle for a minute gives way where there are too many, and one that sends does not', async () => {
  const port = await freePort()
  const listener = new TcpListener({ family: 4, bytes: Uint8Array.of(127, 0, 0, 1), port }, 0)
  onTestFinished(() => listener.close())
  const stats = new Float64Array(statWords(1))
  const told: string[] = []
  let now = 0
  const memory = mapReceiveMemory((1 << 20) + SESSION_BYTES, TCP_ARENA_BYTES)
  const source = new TcpSource(
    { kind: 'tcp', fds: [listener.fd] },
    ['here'],
    memory,
    stats,
    { tell: (kind, _now, make) => void (kind === 'refusal' && told.push(make().message)) },
    () => now,
  )
  onTestFinished(() => source.close())
  const options = {
    endpoints: 1,
    maxHeaps: 4,
    memoryBytes: 1 << 20,
    verify: false,
    hash: false,
    item: 'x',
    deliver: false,
    anySource: false,
  }
  const never = Number.POSITIVE_INFINITY
  const session = new ReceiveSession(
    source.buffer,
    source.freeAt,
    { ...options, cntStep: 0, timeoutMs: never, heaps: never, stops: never },
    stats,
  )
  const stat = (name: StatName) => stats[STAT[name]]!
  const turns = async (done: () => boolean) => {
    await until(() => {
      source.take(0, session)
      return done()
    })
  }
  const sockets: Socket[] = []
  for (let i = 0; i < 64; i++) sockets.push(await dial(port))
  await turns(() => stat('connections') === 64)
  // Turns follow one another closely, as those of a thread do.
  for (; now < IDLE_MS - 1; now += 500) source.take(0, session)
  now = IDLE_MS - 1
  const early = ended([await dial(port)])
  await turns(() => early() === 1)
  expect(stat('connectionsRefused')).toBe(1)
  for (const socket of sockets.slice(1)) socket.write(packet(1, payloadOf(1, 10)))
  await turns(() => stat('heaps') === 63)
  // Half a packet is no sign of life, and is lost with its connection.
  sockets[0]!.write(packet(1, payloadOf(1, 10)).subarray(0, 20))
  const messages = stat('messages')
  await turns(() => stat('messages') > messages)
  now += 2
  const gone = ended([sockets[0]!])
  const late = await dial(port)
  late.write(packet(1, payloadOf(1, 10)))
  await turns(() => stat('heaps') === 64 && gone() === 1)
  expect([stat('connections'), stat('connectionsRefused'), stat('malformed')]).toEqual([65, 2, 1])
  expect(told).toHaveLength(1)
  // A consumer that held all up for an hour makes none of them idle.
  now += 3_600_000
  const another = ended([await dial(port)])
  await turns(() => another() === 1)
  expect(stat('connectionsRefused')).toBe(3)
})

test('what connections keep is charged to the memory, and where it is full they end', async () => {
  const { receiver, dial } = await receive({ heapMemoryBytes: 1 << 20 })
  const first = await dial()
  first.write(packet(1, payloadOf(1, 100)))
  await until(() => receiver.stats().heaps === 1)
  const crowd = await Promise.all(Array.from({ length: 30 }, () => dial()))
  const gone = ended(crowd)
  for (const [i, socket] of crowd.entries()) socket.write(packet(i + 1, payloadOf(i, 100_000)).subarray(0, 90_000))
  // A MiB has room for seven or eight of 128 KiB each.
  await until(() => gone() >= 22)
  expect(receiver.stats()).toMatchObject({ tablesFull: gone() })
  first.write(packet(2, payloadOf(2, 100)))
  await until(() => receiver.stats().heaps === 2)
  const { refusals } = await receiver.close()
  expect(refusals).toEqual([expect.stringContaining('--memory')])
})

test('a consumer that sleeps holds back a sender of small heaps: what waits is bounded', async () => {
  const { receiver, dial } = await receive()
  const heaps = 64_000
  const one = packet(1, payloadOf(1, 8))
  const socket = await dial()
  const sending = (async () => {
    for (let cnt = 1; cnt <= heaps; ) {
      const many = Buffer.alloc(8000 * one.length, one)
      for (let i = 0; i < 8000; i++) many.writeUInt32BE(cnt++, i * one.length + CNT_AT)
      if (!socket.write(many)) await once(socket, 'drain')
    }
  })()
  await until(() => receiver.stats().heaps > 0)
  await new Promise((done) => setTimeout(done, 500))
  // The queue, and the reads of a turn.
  expect(receiver.stats().heaps).toBeLessThan(256 + (2 << 20) / one.length)
  let next = 1
  for await (const heap of receiver) {
    if (Number(heap.cnt) !== next) break
    if (next++ === heaps) break
  }
  expect(next).toBe(heaps + 1)
  await sending
})

test('out of descriptors: those who are connected go on, the others wait, and nothing spins', async (ctx) => {
  need(ctx, process.platform === 'linux', 'needs Linux')
  const port = await freePort()
  const run = start(programArgv('tcp/receiver-crowd', `${port}`))
  const pid = run.child.pid!
  const lines = createInterface(run.child.stdout!)[Symbol.asyncIterator]()
  type Line = Record<StatName, number> & { told: string[]; cpuMicros: NodeJS.CpuUsage }
  const look = async (ask = true): Promise<Line> => {
    if (ask) run.child.stdin!.write('\n')
    return JSON.parse((await lines.next()).value!)
  }
  const untilLine = async (done: (line: Line) => boolean): Promise<Line> => {
    for (let tries = 0; tries < 500; tries++) {
      const line = await look()
      if (done(line)) return line
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error(`never: ${JSON.stringify(await look())}`)
  }
  await look(false)
  const first = await dial(port)
  first.write(packet(1, payloadOf(1, 100)))
  await untilLine(({ heaps }) => heaps === 1)
  const limit = (files: number) => execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${files}:`])
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number))
  const free = Array.from({ length: 1024 }, (_, fd) => fd).filter((fd) => !open.has(fd))
  limit(free[3]!)
  const crowd = await Promise.all(Array.from({ length: 60 }, () => dial(port)))
  for (const [i, socket] of crowd.entries()) socket.write(packet(i + 1, payloadOf(i, 1000)))
  const starved = await untilLine(({ acceptsFailed }) => acceptsFailed > 0)
  expect(starved.told).toEqual([
    expect.stringMatching(
      /^tcp:\/\/127\.0\.0\.1:\d+ cannot accept a connection, which waits: accept4 failed: EMFILE: no descriptor is left; raise the limit \(ulimit -n/,
    ),
  ])
  first.write(packet(2, payloadOf(2, 100)))
  const before = await untilLine(({ heaps, connections }) => heaps === 1 + connections)
  expect(before.connections).toBeLessThan(61)
  await new Promise((done) => setTimeout(done, 1000))
  const after = await look()
  const cpuMicros = (line: Line) => line.cpuMicros.user + line.cpuMicros.system
  // Ten tries a second; a listener that is left ready takes a second of it.
  expect(cpuMicros(after) - cpuMicros(before)).toBeLessThan(500_000)
  expect(after.acceptsFailed - before.acceptsFailed).toBeLessThan(15)
  expect(after.told).toHaveLength(1)
  limit(1024)
  const fed = await untilLine(({ heaps }) => heaps === 62)
  expect(fed).toMatchObject({ connections: 61, connectionsRefused: 0, malformed: 0 })
  run.child.stdin!.end()
  expect(await run.ended).toMatchObject({ code: 0 })
})

test('several endpoints of one receiver, IPv6, each known by its index', async () => {
  const ports = [await freePort('::1'), await freePort('::1')]
  const receiver = await openReceiver({ endpoints: ports.map((port) => `tcp://[::1]:${port}`), timeoutSeconds: 20 })
  onTestFinished(() => void receiver.close())
  for (const [i, port] of ports.entries()) {
    const socket = connect(port, '::1')
    onTestFinished(() => void socket.destroy())
    socket.write(packet(i + 1, payloadOf(i, 100)))
  }
  const seen: [number, number][] = []
  for await (const { cnt, endpoint } of receiver) if (seen.push([Number(cnt), endpoint]) === 2) break
  expect(seen.toSorted()).toEqual([
    [1, 0],
    [2, 1],
  ])
})

test('the interface option takes connections that come by it alone', async (ctx) => {
  const unavailable = netnsUnavailable()
  need(ctx, !unavailable, unavailable)
  await using ns = await makeNetns({ veth: {} })
  const recv = ns.spawn('b', programArgv('tcp/receiver-interface', 'tcp://0.0.0.0:7148', 'v1'))
  const lines = createInterface(recv.stdout!)[Symbol.asyncIterator]()
  expect((await lines.next()).value).toBe('listening')
  const code = (host: string) =>
    `const end = (what) => { console.log(what); process.exit() }; require('node:net').connect(7148, '${host}').on('connect', () => end('connected')).on('error', ({ code }) => end(code))`
  const reach = async (side: 'a' | 'b', host: string) => (await ns.exec(side, [process.execPath, '-e', code(host)])).stdout.trim()
  expect(await reach('a', ns.addresses.b.v4)).toBe('connected')
  expect(await reach('b', '127.0.0.1')).toBe('ECONNREFUSED')
})
