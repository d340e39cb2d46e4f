/**
 * Random streams of the real spead2, by its sender and by its PacketGenerator, with packets lost, repeated and out of order: our
 * receiver finds the same complete heaps with the same values as spead2's. DIFFERENTIAL_SEED gives other streams.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'
import { PacedSender } from './paced-sender.js'
import { freePort } from './support.js'

const SEED = Number(process.env.DIFFERENTIAL_SEED ?? 1)
const STREAMS = 1000
/** Streams that one receiver gets at the same time, each from a socket of its own. */
const TOGETHER = 50

interface ToldItem {
  id: number
  immediate: boolean
  bytes: string
}

interface ToldStream {
  seed: number
  packets: string[]
  heaps: { cnt: string; items: ToldItem[] }[]
}

async function* drawn(first: number): AsyncGenerator<ToldStream[]> {
  const child = spawn(spead2Python()!, [peerScript('spead2_streams.py'), `${first}`, `${STREAMS}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close')
  let some: ToldStream[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    some.push(JSON.parse(line) as ToldStream)
    if (some.length < TOGETHER) continue
    yield some
    some = []
  }
  expect((await ended)[0]).toBe(0)
  expect(some).toEqual([])
}

/** Item bytes in hexadecimal by heap cnt and id. spead2 leaves out items of no bytes, and tells immediates in full width. */
type Values = Record<string, Record<number, string>>

async function receive(streams: readonly ToldStream[], backend: 'native' | 'dgram'): Promise<Values[]> {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend, stops: streams.length, timeoutSeconds: 60 })
  const values: Values[] = streams.map(() => ({}))
  const twice: string[] = []
  const all = (async () => {
    for await (const heap of receiver) {
      if (!heap.complete || heap.control) continue
      const told = new Map(
        streams[heap.sender]!.heaps.find(({ cnt }) => cnt === `${heap.cnt}`)?.items.map((item) => [item.id, item]) ?? [],
      )
      const ours: Record<number, string> = {}
      for (const { id, immediate, bytes } of heap.items.values()) {
        if (!immediate && bytes.length === 0) continue
        const width = Buffer.from(told.get(id)?.bytes ?? '', 'base64').length
        ours[id] = Buffer.concat([Buffer.alloc(immediate ? Math.max(0, width - bytes.length) : 0), bytes]).toString('hex')
      }
      const found = values[heap.sender]!
      if (`${heap.cnt}` in found) twice.push(`heap ${heap.cnt} of seed ${streams[heap.sender]!.seed}`)
      found[`${heap.cnt}`] = ours
    }
  })()
  await using sender = new PacedSender(port)
  // Their first packets come in order, so that the receiver's number of a sender is the stream's.
  for (let at = 0, left = streams.length; left > 0; at++) {
    left = 0
    for (const [k, { packets }] of streams.entries()) {
      const packet = packets[at]
      if (packet === undefined) continue
      left++
      await sender.send(k, Buffer.from(packet, 'base64'))
      if (at === 0) await sender.sent()
    }
  }
  await all
  const { reason, droppedByKernel } = await receiver.done
  expect(reason).toBe('stop')
  expect(twice).toEqual([])
  if (backend === 'native') expect(droppedByKernel).toBe(0)
  return values
}

const expected = ({ heaps }: ToldStream): Values =>
  Object.fromEntries(
    heaps.map(({ cnt, items }) => [
      cnt,
      Object.fromEntries(items.map(({ id, bytes }) => [id, Buffer.from(bytes, 'base64').toString('hex')])),
    ]),
  )

for (const [backend, first] of [
  ['native', SEED],
  ['dgram', SEED + STREAMS],
] as const) {
  test(`${backend}: ${STREAMS} streams of spead2 from seed ${first} on, received by both`, { timeout: 300_000 }, async (ctx) => {
    need(ctx, process.platform === 'linux', 'needs /proc/net/udp')
    need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
    let heaps = 0
    for await (const streams of drawn(first)) {
      const values = await receive(streams, backend)
      for (const [k, stream] of streams.entries()) {
        expect(values[k], `seed ${stream.seed}`).toEqual(expected(stream))
        heaps += stream.heaps.length
      }
    }
    console.log(`peer spead2: ${heaps} heaps of ${STREAMS} streams compared`)
    expect(heaps).toBeGreaterThan(STREAMS * 4)
  })
}
