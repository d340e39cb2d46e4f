// Either side of a TCP connection is killed and started again: real processes, spead2's receiver and the commands.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { ItemGroup, openStream, SendError, type Stream } from 'speadcast'
import { openReceiver } from 'speadcast/receive'
import { expect, onTestFinished, test } from 'vitest'
import { start } from '../support/cli.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'

const BYTES = 10_000
const HEAPS = 8
const SPEC = { name: 'adc', dtype: '|i1', shape: [BYTES] }

type Told = { readonly heap?: [number, number, number, number, string[]]; readonly done?: { ended: boolean; incomplete: number } }

/** The real spead2, until it is killed or its stream ends: the heaps that it said it got. */
class Spead2 {
  readonly child: ChildProcess
  readonly ended: Promise<unknown>
  #text = ''

  constructor(port: number) {
    const request = { tcp: true, endpoints: [['127.0.0.1', port, null]], items: [SPEC], seconds: 25 }
    this.child = spawn(spead2Python()!, ['-u', peerScript('spead2_receiver.py'), JSON.stringify(request)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      this.#text += chunk
    })
    this.ended = once(this.child, 'close')
    onTestFinished(() => void this.child.kill('SIGKILL'))
  }

  get lines(): Told[] {
    // A process that is killed may leave half a line.
    return this.#text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Told)
  }

  get heaps() {
    return this.lines.flatMap(({ heap }) => (heap ? [{ cnt: heap[1], wrong: heap[4] }] : []))
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.ended
  }
}

/** A TCP port that nobody has. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}

async function until(what: string, happened: () => boolean): Promise<void> {
  for (let tries = 0; !happened(); tries++) {
    if (tries === 4000) expect.fail(`it did not come to: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

/** Sends batches of eight heaps one after the other, and keeps what became of each heap, by its cnt. */
class Sender {
  readonly sent: number[] = []
  readonly failed: number[] = []
  readonly errors: unknown[] = []
  readonly #batches
  #heaps = 0
  #cnt = 2 ** 20

  constructor(readonly stream: Stream) {
    const items = new ItemGroup()
      .add({ id: 0x1000, name: 'index', format: [['u', 48]] })
      .add({ id: 0x3300, name: 'adc', dtype: '|i1', shape: [BYTES] })
    this.#batches = [1, 2, 3].map(() => stream.createBatch<{ adc: Int8Array }>({ items, heaps: HEAPS }))
  }

  /** Sends until `enough`, and waits for all that was sent. */
  async run(enough: () => boolean): Promise<void> {
    for (let i = 0; !enough(); i++) {
      const batch = this.#batches[i % 3]!
      await batch.free
      const first = this.#heaps
      this.#heaps += HEAPS
      batch.immediate('index').setRamp(first, 1)
      for (let j = 0; j < HEAPS; j++) {
        const { adc } = batch.heap(j)
        for (let k = 0; k < BYTES; k++) adc[k] = ((first + j) * 7 + k * 3) % 50
      }
      const cnts = Array.from({ length: HEAPS }, () => this.#cnt++)
      batch.cnts.set(cnts)
      this.stream.send(batch).then(
        () => this.sent.push(...cnts),
        (error) => {
          this.errors.push(error)
          for (const [j, cnt] of cnts.entries())
            (error instanceof SendError && error.outcome.heaps[j] === 'sent' ? this.sent : this.failed).push(cnt)
        },
      )
    }
    await Promise.all(this.#batches.map(({ free }) => free))
    await new Promise(setImmediate)
  }
}

/** Bytes that the receiver's kernel may hold of a connection, at most (tcp(7), tcp_rmem). */
const mostHeld = () => Number(readFileSync('/proc/sys/net/ipv4/tcp_rmem', 'utf8').trim().split(/\s+/)[2])

test.for(['worker', 'inline'] as const)(
  'spead2’s receiver is killed and started again: no heap is told as sent that its kernel did not have, none arrives twice (%s)',
  async (thread, ctx) => {
    need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
    const port = await freePort()
    const first = new Spead2(port)
    await until('spead2 listens', () => first.lines.length > 0)
    const tcp = { reconnect: 'retry', reconnectDelayMs: 10, reconnectDelayMaxMs: 50 } as const
    const stream = await openStream({ to: `tcp://127.0.0.1:${port}`, thread, packetSizeBytes: 1472, rate: '100Mbps', tcp })
    onTestFinished(() => stream.destroy())
    const sender = new Sender(stream)
    let second: Spead2 | undefined
    const restarting = (async () => {
      await until('heaps arrive', () => first.heaps.length > 40)
      await first.kill()
      second = new Spead2(port)
    })()
    await sender.run(() => (second?.heaps.length ?? 0) > 40)
    await restarting
    await stream.sendEnd()
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
    await second!.ended
    expect(second!.lines.at(-1)!.done).toMatchObject({ ended: true, incomplete: 0 })
    const [before, after] = [first.heaps, second!.heaps]
    expect([...before, ...after].flatMap(({ wrong }) => wrong)).toEqual([])
    const got = [...before, ...after].map(({ cnt }) => cnt)
    expect(new Set(got).size).toBe(got.length)
    // The loss failed something, and everything else was sent.
    expect(sender.failed.length).toBeGreaterThan(0)
    for (const error of sender.errors)
      expect(error).toMatchObject({ outcome: { causes: [{ errnoName: expect.stringMatching(/^(ECONNRESET|EPIPE)$/) }] } })
    // The receiver that was ended in order has all that was sent to it, and nothing that failed.
    const told = new Set(sender.sent)
    const from = after[0]!.cnt
    expect(after.map(({ cnt }) => cnt)).toEqual(sender.sent.filter((cnt) => cnt >= from).sort((a, b) => a - b))
    expect(sender.failed.every((cnt) => cnt < from)).toBe(true)
    // The one that was killed: what it told of was sent, or had not been acknowledged yet; what it did not, its kernel held.
    const unheard = sender.sent.filter((cnt) => cnt < from && !got.includes(cnt))
    expect(unheard.length * BYTES).toBeLessThanOrEqual(mostHeld() + 256 * BYTES)
    for (const { cnt } of before) expect(told.has(cnt) || sender.failed.includes(cnt)).toBe(true)
    const { heapsSent, heapsFailed, states, substreams, packets, udpBytes, packetsFailed } = stream.stats({ substreams: true })
    expect(substreams).toMatchObject([{ heapsSent, heapsFailed, packets, udpBytes, packetsFailed }])
    expect(Object.values(substreams[0]!.failedByCause).reduce((sum, n) => sum + n, 0)).toBe(packetsFailed)
    // A process that is being killed may take a connection still.
    const { reconnects = 0 } = states
    expect(reconnects).toBeGreaterThanOrEqual(1)
    // Each connection is told the descriptors at most once, and the last the stop heap.
    const more = heapsSent + heapsFailed - sender.sent.length - sender.failed.length
    expect(more).toBeGreaterThanOrEqual(3)
    expect(more).toBeLessThanOrEqual(1 + reconnects + 1)
    expect(heapsSent).toBeGreaterThanOrEqual(sender.sent.length + 3)
  },
)

test('`speadcast recv` is killed and started again, and has every heap of its second life', async () => {
  const port = await freePort()
  const listening = async () => {
    const running = start(['recv', `tcp://127.0.0.1:${port}`, '--json', '--item', 'adc', '--stops', '1'])
    await running.saw(/./)
    return running
  }
  const first = await listening()
  const tcp = { reconnect: 'retry', reconnectDelayMs: 10, reconnectDelayMaxMs: 50 } as const
  const stream = await openStream({ to: `tcp://127.0.0.1:${port}`, packetSizeBytes: 9000, rate: '100Mbps', tcp })
  onTestFinished(() => stream.destroy())
  const sender = new Sender(stream)
  let second: Awaited<ReturnType<typeof listening>> | undefined
  let since = 0
  const restarting = (async () => {
    await until('heaps are sent', () => sender.sent.length > 40)
    first.child.kill('SIGKILL')
    await first.done
    second = await listening()
    await until('it is connected again', () => stream.stats().states.connectionsLost === 0)
    since = sender.sent.length
  })()
  await sender.run(() => since > 0 && sender.sent.length > since + 40)
  await restarting
  await stream.sendEnd()
  await stream.close()
  const { stdout, code } = await second!.done
  expect(code).toBe(0)
  const lastFailed = Math.max(...sender.failed)
  expect(JSON.parse(stdout)).toMatchObject({ heaps: sender.sent.filter((cnt) => cnt > lastFailed).length, malformed: 0 })
})

test('our sender is killed: our receiver goes on and takes the next, spead2 ends behind the last whole heap', async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
  const [ours, theirs] = [await freePort(), await freePort()]
  const receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${ours}`, timeoutSeconds: 60 })
  onTestFinished(() => void receiver.close())
  const all = (async () => {
    const heaps: { readonly complete: boolean; readonly same: boolean }[] = []
    for await (const { complete, items } of receiver) {
      const samples = items.get(0x3300)?.bytes
      if (samples) heaps.push({ complete, same: samples.every((byte) => byte === samples[0]) })
    }
    return heaps
  })()
  const spead2 = new Spead2(theirs)
  await until('spead2 listens', () => spead2.lines.length > 0)
  // Heaps of 1 MiB, so that the end comes in the middle of one.
  const send = (port: number, ...more: string[]) =>
    start(['send', `tcp://127.0.0.1:${port}`, '-H', '1MiB', '-p', '60000', '--rate', '200Mbps', ...more])
  const killed = [send(ours, '-n', '100000'), send(theirs, '-n', '100000')]
  await until('heaps arrive', () => receiver.stats().heaps > 5 && spead2.heaps.length > 5)
  for (const { child } of killed) child.kill('SIGKILL')
  await Promise.all([...killed.map(({ done }) => done), spead2.ended])
  // Its items are others than those that the peer looks for; each heap that it tells of is whole.
  expect(spead2.lines.at(-1)!.done).toMatchObject({ ended: true })
  const { heaps: before } = receiver.stats()
  expect((await send(ours, '-n', '20').done).code).toBe(0)
  const heaps = await all
  expect(heaps.filter(({ complete }) => complete).length).toBeGreaterThanOrEqual(before - 1 + 20)
  expect(heaps.filter(({ complete, same }) => complete && !same)).toEqual([])
  expect(receiver.stats()).toMatchObject({ malformed: 0 })
})
