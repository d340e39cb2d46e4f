// The observation clock between two network namespaces: what senders say of their times beside what a capture says, and two of them in step.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { pointersOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { peerScript, spead2Python } from '../support/peer.js'

const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url))
const RATE = 4096e3
const SAMPLES = 4096
const PORT = 7148

interface Summary {
  readonly heaps: number
  readonly clock: {
    readonly timeErrorSeconds: { readonly p50: number; readonly p99: number; readonly greatest: number }
    readonly heapsSkipped: number
    readonly clockSteps: number
  }
}

interface Captured {
  /** Seconds since 1970 UTC, since the synchronisation. */
  readonly at: number
  readonly cnt: number
  readonly timestamp: number
}

async function network(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const ns = await makeNetns({ veth: { mtu: 9000 } })
  onTestFinished(() => ns[Symbol.asyncDispose]())
  return ns
}

/** Captures what arrives in namespace b, stamped by the kernel; packets of the heaps are returned by `read`. */
async function capture(ns: Netns, sync: number): Promise<{ read(heaps: number): Promise<Captured[]> }> {
  const file = join(temporaryFolder(), 'arrived.pcap')
  const command = `exec tcpdump -i v1 -U -B 65536 -w ${file} --time-stamp-precision=nano udp port ${PORT} 2>&1`
  const tcpdump = ns.spawn('b', ['sh', '-c', command], { stdio: ['ignore', 'pipe', 'ignore'] })
  await waitForOutput(tcpdump, /listening on/)
  return {
    async read(heaps) {
      // On a busy host tcpdump is behind. Its header, the frame's and UDP's, the SPEAD header and six item pointers stand before the samples.
      const bytesOfHeap = 16 + 14 + 20 + 8 + 8 + 6 * 8 + SAMPLES
      for (let tries = 0; tries < 100 && statSync(file).size < 24 + heaps * bytesOfHeap; tries++)
        await new Promise((resolve) => setTimeout(resolve, 100))
      tcpdump.kill('SIGINT')
      await once(tcpdump, 'close')
      const bytes = readFileSync(file)
      expect(bytes.readUInt32LE(0)).toBe(0xa1b23c4d) // nanoseconds (pcap-savefile(5))
      const captured: Captured[] = []
      for (let at = 24; at < bytes.length; at += 16 + bytes.readUInt32LE(at + 8)) {
        const frame = bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8))
        const packet = frame.subarray(14 + (frame[14]! & 15) * 4 + 8)
        const pointers = pointersOf(packet)
        const value = (id: number) => pointers.find((pointer) => pointer.id === id)?.value
        const timestamp = value(0x1600)
        if (timestamp === undefined) continue
        captured.push({ at: bytes.readUInt32LE(at) - sync + bytes.readUInt32LE(at + 4) / 1e9, cnt: value(1)!, timestamp })
      }
      return captured
    },
  }
}

const sender = (ns: Netns, sync: number, heaps: number, ...args: readonly string[]) =>
  ns.exec(
    'a',
    [
      ...[
        'node',
        CLI,
        'send',
        `${ns.addresses.b.v4}:${PORT}`,
        '-n',
        `${heaps}`,
        '-H',
        `${SAMPLES}`,
        '-p',
        '8972',
        '--json',
        '--segmentation',
        'off',
      ],
      ...['--descriptors', 'none', '--no-stop', '--clock', `${sync}`, '--sample-rate', `${RATE}`, '--unsynchronised', 'accept'],
      ...args,
    ],
    { timeoutMs: 60_000 },
  )

/** Errors of the captured packets in seconds, without their signs, in rising order. */
const errorsOf = (captured: readonly Captured[]): number[] =>
  captured.map(({ at, timestamp }) => Math.abs(at - timestamp / RATE)).toSorted((a, b) => a - b)

const show = (what: string, { p50, p99, greatest }: Summary['clock']['timeErrorSeconds'], errors: readonly number[]): void => {
  const ms = (seconds: number) => (seconds * 1000).toFixed(3)
  const at = (share: number) => errors[Math.min(errors.length - 1, Math.floor(share * errors.length))]!
  console.log(
    `${what}: told p50 ${ms(p50)}, p99 ${ms(p99)}, greatest ${ms(greatest)} ms; captured ${ms(at(0.5))}, ${ms(at(0.99))}, ${ms(errors.at(-1)!)} ms`,
  )
}

/**
 * What was told is what the wire had: to the time that a packet takes from the socket to the capture, in which another may have the CPU. Of a
 * thread that lost its CPU while it sent, the latest time is told.
 */
function agrees({ p50, greatest }: Summary['clock']['timeErrorSeconds'], errors: readonly number[]): void {
  expect(Math.abs(errors[Math.floor(errors.length / 2)]! - p50)).toBeLessThan(0.002 + p50 / 5)
  expect(errors.at(-1)!).toBeLessThan(greatest + 0.05)
}

const now = (): number => Date.now() / 1000

test('the time errors that are told are those of the wire', async (ctx) => {
  const ns = await network(ctx)
  const sync = Math.floor(now()) - 1000
  const wire = await capture(ns, sync)
  const { stdout } = await sender(ns, sync, 2000)
  const { heaps, clock } = JSON.parse(stdout) as Summary
  const captured = await wire.read(2000)
  expect([heaps, captured.length, clock.heapsSkipped, clock.clockSteps]).toEqual([2000, 2000, 0, 0])
  const errors = errorsOf(captured)
  show('as it is', clock.timeErrorSeconds, errors)
  agrees(clock.timeErrorSeconds, errors)
})

test('also where others have the CPUs; what is too late is left out then, and receivers see which', async (ctx) => {
  const ns = await network(ctx)
  const sync = Math.floor(now()) - 1000
  const wire = await capture(ns, sync)
  const hogs = Array.from({ length: 4 }, (): ChildProcess => spawn(process.execPath, ['-e', 'for(;;);']))
  try {
    const { stdout } = await sender(ns, sync, 2000, '--late', 'skip', '--late-tolerance', '5')
    const { heaps, clock } = JSON.parse(stdout) as Summary
    for (const hog of hogs) hog.kill('SIGKILL')
    const captured = await wire.read(heaps)
    expect(heaps + clock.heapsSkipped).toBe(2000)
    expect(captured).toHaveLength(heaps)
    const first = captured[0]!
    // Heap cnts are in step with timestamps, whatever is missing.
    for (const { cnt, timestamp } of captured) expect(timestamp - first.timestamp).toBe((cnt - first.cnt) * SAMPLES)
    const errors = errorsOf(captured)
    show(`beside four endless loops, ${clock.heapsSkipped} heaps left out`, clock.timeErrorSeconds, errors)
    agrees(clock.timeErrorSeconds, errors)
  } finally {
    for (const hog of hogs) hog.kill('SIGKILL')
  }
})

test('two senders with the same start and interleaved cnts are one stream for spead2, and begin together', async (ctx) => {
  const ns = await network(ctx)
  const python = spead2Python()
  need(ctx, python, 'needs the venv with spead2')
  const each = 1000
  const sync = Math.floor(now()) - 1000
  const receiver = ns.spawn(
    'b',
    [python!, '-u', peerScript('spead2_timestamps.py'), ns.addresses.b.v4, `${PORT}`, `${2 * each}`, '40'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let text = ''
  receiver.stdout!.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await waitForOutput(receiver, /ready/)
  const wire = await capture(ns, sync)
  const startAt = Math.ceil(now()) + 6
  const start = ['--start-at', `${startAt}`, '--cnt-step', '2']
  const senders = await Promise.all([1, 2].map((first) => sender(ns, sync, each, ...start, '--first-cnt', `${first}`)))
  const summaries = senders.map(({ stdout }) => JSON.parse(stdout) as Summary)
  expect(summaries.map(({ heaps }) => heaps)).toEqual([each, each])
  if (receiver.exitCode === null) await once(receiver, 'close')
  const received = JSON.parse(text.trim().split('\n').at(-1)!) as [cnt: number, timestamp: number][]
  const first = Math.ceil(((startAt - sync) * RATE) / SAMPLES) * SAMPLES
  expect(received.toSorted(([a], [b]) => a - b)).toEqual(
    Array.from({ length: 2 * each }, (_, i) => [1 + i, first + Math.floor(i / 2) * SAMPLES]),
  )
  const captured = await wire.read(2 * each)
  const begins = [1, 2].map((cnt) => captured.find((packet) => packet.cnt === cnt)!.at)
  console.log(`two senders began ${((begins[1]! - begins[0]!) * 1e6).toFixed(0)} µs apart`)
  const greatest = Math.max(...summaries.map(({ clock }) => clock.timeErrorSeconds.greatest))
  for (const at of begins) expect(Math.abs(at - first / RATE)).toBeLessThan(greatest + 0.05)
})
