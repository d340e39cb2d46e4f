/** How heaps and streams end where packets do not say it, or say it and are lost; and which of two items of one id a heap has. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'
import { BACKENDS, data, heapOf, type Pointer, packetOf, partOf, receive, SAMPLES, STOP, upTo } from './wire.js'

/** A part of a heap that does not say how long it is. */
const openPart = (cnt: number, offset: number, part: Uint8Array): Uint8Array =>
  packetOf(
    [[true, 1, cnt], [true, 3, offset], [true, 4, part.length], ...(offset === 0 ? [[false, SAMPLES, 0] as Pointer] : [])],
    part,
  )

const TWICE: [string, Pointer[]][] = [
  ['two addresses', [[false, SAMPLES, 0], [false, SAMPLES, 8]]],
  ['two addresses, the higher first', [[false, SAMPLES, 8], [false, SAMPLES, 0]]],
  ['an immediate and an address', [[true, SAMPLES, 5], [false, SAMPLES, 8]]],
  ['an address and an immediate', [[false, SAMPLES, 8], [true, SAMPLES, 5]]],
  ['two immediates', [[true, SAMPLES, 7], [true, SAMPLES, 5]]],
  ['with another item between', [[false, 0x3301, 12], [true, 0x1600, 5], [false, SAMPLES, 8], [false, SAMPLES, 0]]],
  ['the higher one of no bytes', [[false, SAMPLES, 16], [false, SAMPLES, 4]]],
] // biome-ignore format: a table

describe.each(BACKENDS)('%s', (backend) => {
  test.each([10, 14])('ten heaps that do not say how long they are, %i sent: ends with ten', async (sent) => {
    const { summary, heaps } = await receive({ backend, heaps: 10 }, async ({ send }) => {
      for (const cnt of upTo(1, sent)) await send('A', ...[0, 40].map((at) => openPart(cnt, at, new Uint8Array(40).fill(cnt))))
    })
    expect(summary).toMatchObject({ reason: 'heaps', heaps: 10, heapsIncomplete: 0 })
    expect(heaps.map(({ cnt, complete, payloadBytes }) => [cnt, complete, payloadBytes])).toEqual(
      upTo(1, 10).map((cnt) => [cnt, true, 80]),
    )
  })

  test('of heaps that do not say how long they are, four of a sender are in the making', async () => {
    const { summary } = await receive({ backend, close: true, deliver: false }, async ({ send }) => {
      for (const cnt of upTo(1, 6)) await send('A', openPart(cnt, 0, new Uint8Array(40)))
      for (const cnt of upTo(1, 6)) await send('A', openPart(cnt, 40, new Uint8Array(40)))
    })
    expect(summary).toMatchObject({ heaps: 6, duplicates: 2, packets: 10 })
  })

  test('the data in a stop heap is delivered', async () => {
    const { summary, heaps } = await receive({ backend }, async ({ send }) => {
      const items: Pointer[] = [
        [true, 6, STOP],
        [false, SAMPLES, 0],
      ]
      await send('A', data(1), partOf(2, 8, 0, new Uint8Array(4).fill(2), items), partOf(2, 8, 4, new Uint8Array(4).fill(3)))
    })
    expect(summary).toMatchObject({ reason: 'stop', heaps: 2 })
    expect([...heaps[1]!.items.get(SAMPLES)!.bytes]).toEqual([2, 2, 2, 2, 3, 3, 3, 3])
    expect(heaps[1]).toMatchObject({ control: 'stop', complete: true })
  })

  test('a stop heap that lost a packet ends the stream all the same', async () => {
    const { summary, heaps } = await receive({ backend }, async ({ send }) => {
      await send(
        'A',
        data(1),
        partOf(2, 8, 0, new Uint8Array(4).fill(2), [
          [true, 6, STOP],
          [false, SAMPLES, 0],
        ]),
      )
    })
    expect(summary).toMatchObject({ reason: 'stop', heaps: 1, heapsIncomplete: 1 })
    expect(heaps.map(({ complete }) => complete)).toEqual([true, false])
  })

  test('of two items with one id, items, hash and spead2 take the same', async (ctx) => {
    need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
    const packets = TWICE.map(([, items], i) => heapOf(i + 1, items, Uint8Array.from(upTo(0, 15))))
    const hex = packets.map((packet) => Buffer.from(packet).toString('hex'))
    const told = execFileSync(spead2Python()!, [peerScript('same_id.py'), `${SAMPLES}`, ...hex], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
      .trim()
      .split('\n')
    expect(told).toHaveLength(TWICE.length)
    const { summary, heaps } = await receive(
      { backend, hash: true, deliver: true, item: SAMPLES, close: true },
      async ({ send }) => {
        await send('A', ...packets)
      },
    )
    expect(heaps.map(({ items }, i) => [TWICE[i]![0], Buffer.from(items.get(SAMPLES)!.bytes).toString('hex')])).toEqual(
      TWICE.map(([name], i) => [name, told[i]]),
    )
    expect(summary.sha256).toBe(
      createHash('sha256')
        .update(Buffer.from(told.join(''), 'hex'))
        .digest('hex'),
    )
  })
})
