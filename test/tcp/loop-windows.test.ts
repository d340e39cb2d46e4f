// A million heaps of a loop at the real spead2, whose windows are swapped at timestamps: none is missing, none comes twice, none is another's.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { ItemGroup, openStream, type Stream } from 'speadcast'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../receive/support.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'

const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'
const HEAPS = 1_000_000
const STEP = 8192
const WIDTH = 2 ** 48
/** Both wrap on the way. */
const FIRST = WIDTH - 300_000 * STEP
const FIRST_CNT = WIDTH - 700_000

const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [64] })

/** A window of two or three batches. */
function windowOf(stream: Stream, number: number, sizes: readonly number[]) {
  let j = 0
  return sizes.map((heaps) => {
    const batch = stream.createBatch({ items, heaps, views: { samples: Uint8Array } })
    batch.immediate('timestamp').setRamp((number === 0 ? FIRST : 0) + j * STEP, STEP)
    for (const samples of batch.item('samples')) {
      samples.fill(number)
      samples.set([j >> 8, j & 0xff], 1)
      j++
    }
    return batch
  })
}

test('a million heaps, swapped twice, near the ends of cnts and timestamps', { timeout: 120_000 }, async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const sizes = [
    [256, 256, 100],
    [300, 11],
    [512, 1],
  ]
  const windows = sizes.map((window) => window.reduce((sum, heaps) => sum + heaps))
  const port = await freePort()
  const argument = JSON.stringify({ port, step: STEP, windows })
  const peer = spawn(spead2Python()!, [peerScript('loop_windows.py'), argument], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void peer.kill('SIGKILL'))
  const lines = createInterface(peer.stdout)[Symbol.asyncIterator]()
  const told = async () => JSON.parse((await lines.next()).value ?? 'null')
  expect(await told()).toHaveProperty('ready')
  const stream = await openStream({ to: `127.0.0.1:${port}`, backend: 'tcp', firstCnt: FIRST_CNT, packetSizeBytes: 1472 })
  onTestFinished(() => stream.destroy())
  // The descriptors take the first cnt.
  const swaps = [400_001, 777_777]
  const stampOf = (heap: number) => (FIRST + heap * STEP) % WIDTH
  const loop = stream.loop(windowOf(stream, 0, sizes[0]!), { until: { heaps: HEAPS } })
  // The first timestamp lies between two heaps.
  for (const [i, heap] of swaps.entries())
    await loop.swap(windowOf(stream, i + 1, sizes[i + 1]!), { at: stampOf(heap) - (i === 0 ? 5 : 0) })
  expect(await loop.done).toMatchObject({ heaps: HEAPS, failedHeaps: 0, suspectHeaps: 0, swaps: 2 })
  await stream.sendEnd()
  await stream.close()
  expect(await told()).toEqual({
    heaps: HEAPS,
    breaks: 0,
    wrong: 0,
    runs: [0, ...swaps].map((heap, window) => [window, (FIRST_CNT + 1 + heap) % WIDTH, stampOf(heap), 0]),
  })
})
