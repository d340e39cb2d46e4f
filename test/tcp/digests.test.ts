/** A million heaps each way over TCP, ours and the real spead2's, in flavours 64-40 and 64-48: nothing is lost, changed or out of order. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { freePort } from '../receive/support.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'
import { programArgv } from '../support/program.js'

const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'
/** The heaps of one flavour; there are two flavours, so a million heaps go each way. */
const HALF = 500_000
const BYTES = 64

interface Told {
  readonly heaps: number
  readonly sha256: string
  readonly residentBytes?: number
}

/** Runs a program that prints JSON lines; the last is its result. */
function launch(argv: readonly string[]) {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const next = async () => JSON.parse((await lines.next()).value ?? 'null')
  return { next, result: next as () => Promise<Told> }
}

const ours = (options: object) => launch(programArgv('tcp/digest-send', options))
const theirs = (what: 'send' | 'receive', options: object) =>
  launch([spead2Python()!, peerScript('tcp_digest.py'), what, JSON.stringify(options)])

const FLAVOURS = [40, 48]

test.for(FLAVOURS)('half a million heaps from us to us, 64-%i', { timeout: 120_000 }, async (flavour) => {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${port}`, hash: true, item: 0x3300 })
  const sent = await ours({ port, flavour, heaps: HALF, bytes: BYTES }).result()
  const { heaps, sha256, heapsIncomplete, heapsMissing, malformed, duplicates, outputLeftOut, reason } = await receiver.done
  expect({ heaps, sha256 }).toEqual({ heaps: HALF, sha256: sent.sha256 })
  expect({ heapsIncomplete, heapsMissing, malformed, duplicates, outputLeftOut, reason }).toEqual({
    heapsIncomplete: 0,
    heapsMissing: 0,
    malformed: 0,
    duplicates: 0,
    outputLeftOut: 0,
    reason: 'stop',
  })
})

test.for(FLAVOURS)('half a million heaps from us to spead2, 64-%i', { timeout: 120_000 }, async (flavour, ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const port = await freePort()
  const peer = theirs('receive', { port })
  expect(await peer.next()).toHaveProperty('ready')
  const { residentBytes, ...sent } = await ours({ port, flavour, heaps: HALF, bytes: BYTES }).result()
  expect(await peer.result()).toEqual(sent)
  expect(residentBytes).toBeGreaterThan(0)
})

test.for(FLAVOURS)('half a million heaps from spead2 to us, 64-%i', { timeout: 120_000 }, async (flavour, ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${port}`, hash: true, item: 0x3300 })
  const sent = await theirs('send', { port, flavour, heaps: HALF, bytes: BYTES }).result()
  const { heaps, sha256, heapsIncomplete, malformed, reason } = await receiver.done
  expect({ heaps, sha256 }).toEqual(sent)
  expect({ heapsIncomplete, malformed, reason }).toEqual({ heapsIncomplete: 0, malformed: 0, reason: 'stop' })
})

test('a consumer that sleeps holds the sender back: memory stays, and every heap comes', { timeout: 120_000 }, async () => {
  const port = await freePort()
  const heaps = 200_000
  await using receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${port}` })
  const sender = ours({ port, flavour: 48, heaps, bytes: 1024 })
  let settled = false
  const sent = sender.result().finally(() => {
    settled = true
  })
  const before = process.memoryUsage.rss()
  let most = 0
  let next = 1
  for await (const { cnt, control, complete } of receiver) {
    if (control === 'stop') break
    expect([Number(cnt), complete]).toEqual([next++, true])
    // Asleep for a second in all, while the sender would be done in that time.
    if (next % 20_000 === 0) {
      await new Promise((done) => setTimeout(done, 300))
      most = Math.max(most, process.memoryUsage.rss())
      if (next < heaps / 2) expect(settled).toBe(false)
    }
  }
  expect(next).toBe(heaps + 1)
  const { residentBytes } = await sent
  // All heaps are 200 MiB, and with their objects far more.
  expect(most - before).toBeLessThan(250 << 20)
  expect(residentBytes).toBeLessThan(250 << 20)
})
