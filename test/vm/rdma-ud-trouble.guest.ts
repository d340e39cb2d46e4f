/**
 * Devices and links that go away under backend rdma-ud, on soft-RoCE: every promise settles, and heaps reported as sent have come.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BatchResult, SendError, Stream } from '#dist/src/index.js'
import type { Receiver } from '#dist/src/receive/index.js'
import {
  collect,
  eventually,
  held,
  itemsOf,
  NOTHING,
  numberOf,
  openSender,
  openTaker,
  RX1,
  samplesOf,
  sh,
} from '../support/datagrams.js'

const BYTES = 20_000
const HEAPS = 4

interface Loop {
  readonly stream: Stream
  /** Number of heap → its status. */
  readonly said: Map<number, string>
  readonly whys: Set<string>
  suspect: number
  batches: number
  stop(): Promise<void>
}

/** Sends batch after batch until stopped, and notes how sends were settled; other code of the test runs in between. */
function sendOn(stream: Stream): Loop {
  const batches = [0, 1, 2].map(() => stream.createBatch({ items: itemsOf(BYTES), heaps: HEAPS }))
  const loop = { stream, said: new Map<number, string>(), whys: new Set<string>(), suspect: 0, batches: 0, stopped: false }
  const settled: Promise<void>[] = []
  const run = async (): Promise<void> => {
    for (let b = 0; !loop.stopped; b++) {
      const batch = batches[b % 3]!
      await batch.free
      const first = b * HEAPS
      for (let j = 0; j < HEAPS; j++) batch.heap(j).adc_samples.set(samplesOf(3, first + j, BYTES))
      batch.immediate('timestamp').setRamp(first, 1)
      const note = (statuses: readonly string[]): void => statuses.forEach((status, j) => void loop.said.set(first + j, status))
      settled.push(
        stream.send(batch).then(
          ({ suspect }: BatchResult) => {
            note(Array(HEAPS).fill('sent'))
            if (suspect) loop.suspect++
          },
          (error: SendError) => {
            note(error.outcome.heaps)
            loop.whys.add(error.message.replace(/^\d+ of \d+ heaps? (?:was|were) not sent whole: |\[.*$/g, ''))
          },
        ),
      )
      loop.batches++
      await sleep(5)
    }
    await Promise.all(settled)
  }
  const running = run()
  return Object.assign(loop, {
    async stop() {
      loop.stopped = true
      await running
    },
  }) as unknown as Loop
}

const counted = ({ said }: Loop): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const status of said.values()) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

/** Asserts that every heap has a status, every `sent` one came whole, and no `failed` or `flushed` one came. */
async function compare(loop: Loop, receiver: Receiver, got: ReturnType<typeof collect>): Promise<void> {
  const sent = [...loop.said].filter(([, status]) => status === 'sent')
  await eventually('all heaps called sent have come', () => receiver.stats().heaps >= sent.length)
  // close() drops received heaps that nobody has taken.
  await sleep(500)
  await receiver.close()
  const whole = new Map((await got).filter((heap) => heap.complete).map((heap) => [numberOf(heap), heap]))
  assert.equal(loop.said.size, loop.batches * HEAPS)
  for (const [i, status] of loop.said) {
    if (status === 'sent') assert.ok(whole.has(i), `heap ${i}, called sent, has come`)
    if (status === 'failed' || status === 'flushed') assert.ok(!whole.has(i), `heap ${i}, called ${status}, has not come`)
  }
  for (const [i, heap] of whole) assert.equal(Buffer.compare(heap.items.get(0x3300)!.bytes, samplesOf(3, i, BYTES)), 0, `heap ${i}`)
}

test('the link of the sender goes away for a second and comes back: heaps fail with the reason, then go again', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, stops: 0 })
  const got = collect(receiver)
  const loop = sendOn(await openSender({ to: `${RX1}:7148`, descriptors: 'none' }))
  await eventually('some are sent', () => loop.said.size > 20)
  sh('ip link set rx0 down')
  await eventually('some fail', () => loop.whys.size > 0)
  await sleep(1000)
  sh('ip link set rx0 up')
  const failed = loop.said.size
  await eventually('some are sent again', () => [...loop.said].slice(failed).filter(([, status]) => status === 'sent').length > 20)
  await loop.stop()
  assert.match(
    [...loop.whys].join('\n'),
    /10\.98\.0\.2:7148: port 1 of rxe0 has no link \(ENETDOWN\); sending goes on when it is back/,
  )
  // One or two errors of the device come before the link is seen to be down, and the sender does not give up.
  assert.ok(Number(loop.stream.stats().states.recoveries) <= 3)
  console.log('link down and up:', counted(loop), [...loop.whys])
  await loop.stream.close().catch(() => undefined)
  await compare(loop, receiver, got)
})

test('rdma link del in mid-send: soft-RoCE waits for the stream to close, and every promise settles', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, stops: 0 })
  const got = collect(receiver)
  const loop = sendOn(await openSender({ to: `${RX1}:7148`, descriptors: 'none' }))
  await eventually('some are sent', () => loop.said.size > 20)
  const removal = spawn('rdma', ['link', 'del', 'rxe0'], { stdio: 'inherit' })
  const removed = once(removal, 'exit')
  await sleep(500)
  await loop.stop()
  console.log('rdma link del:', counted(loop), removal.exitCode === null ? 'waits' : 'done', [...loop.whys])
  await loop.stream.close().catch(() => undefined)
  assert.deepEqual(await removed, [0, null])
  await compare(loop, receiver, got)
  assert.doesNotMatch(sh('rdma link'), /rxe0/)
  await assert.rejects(openSender({ to: `${RX1}:7148` }), {
    message: /no RDMA device is behind interface rx0; there are: rxe1 \(rx1\)/,
  })
  assert.deepEqual(held(), NOTHING)
  sh('rdma link add rxe0 type rxe netdev rx0')
})

test('the interface below the device is deleted in mid-send: heaps fail with the reason, closing works', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, stops: 0 })
  const loop = sendOn(await openSender({ to: `${RX1}:7148`, descriptors: 'none' }))
  await eventually('some are sent', () => loop.said.size > 20)
  const removed = once(spawn('ip', ['link', 'del', 'rx0'], { stdio: 'inherit' }), 'exit')
  await eventually('some fail', () => loop.whys.size > 0)
  await sleep(200)
  await loop.stop()
  console.log('ip link del:', counted(loop), [...loop.whys])
  assert.equal(loop.said.size, loop.batches * HEAPS)
  assert.match([...loop.whys].join('\n'), /is gone \(ENODEV\)|no link \(ENETDOWN\)/)
  await loop.stream.close().catch(() => undefined)
  // The receiver has the device open too, and the kernel waits for both.
  await receiver.close().catch(() => undefined)
  assert.deepEqual(await removed, [0, null])
  assert.deepEqual(held(), NOTHING)
  sh('rxe up')
})
