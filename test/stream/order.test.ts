// Many sends under way at once: packets, heap cnts and settlements keep the order of the calls, whatever fails in between.

import { SendError, type Stream } from 'speadcast'
import { describe, expect, test } from 'vitest'
import {
  fill,
  filledBatch,
  memoryStream,
  numberHeap,
  OUTLETS,
  openOutlet,
  parse,
  type SampleBatch,
  timestampsOf,
} from './support.js'

/** Notes which send settled, in the order in which the promises were heard. */
function listener() {
  const heard: number[] = []
  const all: Promise<unknown>[] = []
  return {
    heard,
    add(n: number, send: PromiseLike<unknown>): void {
      const note = () => void heard.push(n)
      all.push(Promise.resolve(send.then(note, note)))
    },
    done: () => Promise.all(all),
  }
}

const numbers = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

describe.for(OUTLETS)('%s', (kind) => {
  test('sixteen batches, again and again', async (ctx) => {
    // Paced, or the receiving socket's buffer would be the test.
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none', rate: '4MB/s' })
    const batches = numbers(16).map((i) => filledBatch(stream, 2 * i))
    const { heard, add, done } = listener()
    for (let n = 0; n < 400; n++) {
      const batch = batches[n % 16]!
      await batch.free
      add(n, stream.send(fill(batch, 2 * n)))
    }
    await stream.flush()
    await done()
    expect(heard).toEqual(numbers(400))
    const arrived = await packets(800)
    expect(timestampsOf(arrived)).toEqual(numbers(800))
    expect(arrived.map(({ cnt }) => cnt)).toEqual(numbers(800).map((i) => 1 + i))
  })

  test('more sends at once than the ring holds', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { rate: '2MB/s' })
    const { heard, add, done } = listener()
    const firstCnts: number[] = []
    for (let n = 0; n < 2500; n++)
      add(
        n,
        stream.sendHeap(numberHeap(n)).then(({ firstCnt }) => firstCnts.push(firstCnt)),
      )
    expect(stream.stats().inFlight).toBe(2500)
    await stream.flush()
    await done()
    expect(heard).toEqual(numbers(2500))
    expect(firstCnts).toEqual(numbers(2500).map((i) => 1 + i))
    expect(timestampsOf(await packets(2500))).toEqual(numbers(2500))
    expect(stream.stats()).toMatchObject({ inFlight: 0, heapsSent: 2500 })
  })
})

test.for([{ acceptPerPost: 1 }, { completeAfterReaps: 5 }, { acceptPerPost: 3, completeAfterReaps: 2 }])(
  'packets taken and completed in pieces: %j',
  async (memory) => {
    // Refused at once, refused later, and sent, by turns that fit no batch size.
    const failAt = (row: number) => {
      if (row % 7 === 3) return { errno: 101, how: 'skip' as const }
      if (row % 11 === 5) return { errno: 113, how: 'late' as const }
      return undefined
    }
    const stream = await memoryStream({ descriptors: 'none', memory: { ...memory, failAt } })
    const batches: SampleBatch[] = numbers(9).map((i) => filledBatch(stream, 0, { heaps: 1 + (i % 4) }))
    const { heard, add, done } = listener()
    const sent: number[] = []
    const failed: number[] = []
    let first = 0
    for (let n = 0; n < 300; n++) {
      const batch = batches[n % 9]!
      await batch.free
      const at = first
      first += batch.heaps
      const send = stream.send(fill(batch, at)).then(
        ({ heaps, firstCnt }) => {
          expect(firstCnt).toBe(1 + at)
          sent.push(...numbers(heaps).map((j) => at + j))
        },
        ({ outcome }: SendError) => {
          for (const [j, word] of outcome.heaps.entries()) (word === 'sent' ? sent : failed).push(at + j)
        },
      )
      add(n, send)
    }
    await stream.flush()
    await done()
    expect(heard).toEqual(numbers(300))
    // One packet a heap and one heap a row, so the rows' rule is the heaps'.
    const isBad = (row: number) => failAt(row) !== undefined
    expect(failed).toEqual(numbers(first).filter(isBad))
    expect(sent).toEqual(numbers(first).filter((row) => !isBad(row)))
    expect(timestampsOf(stream.packets.map(parse))).toEqual(sent)
    expect(stream.stats()).toMatchObject({ heapsSent: sent.length, heapsFailed: failed.length })
  },
)

test('the cnt of what failed is used up, and the next follows on', async () => {
  const stream = await memoryStream({ descriptors: 'none', memory: { failAt: (row: number) => (row < 2 ? 101 : undefined) } })
  await expect(stream.send(filledBatch(stream, 0))).rejects.toBeInstanceOf(SendError)
  expect(await stream.send(filledBatch(stream, 2))).toMatchObject({ firstCnt: 3 })
})

test('flush covers what was sent before it and nothing after', async () => {
  let open = 3
  const stream: Stream = await memoryStream({
    memory: { failAt: (row: number) => (row >= open ? { errno: 11, how: 'again' } : undefined), pauseNanoseconds: 1e5 },
  })
  for (let n = 0; n < 3; n++) stream.sendHeap(numberHeap(n))
  const flushed = stream.flush()
  const after = stream.sendHeap(numberHeap(3))
  await flushed
  expect(stream.stats().inFlight).toBe(1)
  open = 4
  expect(await after).toMatchObject({ firstCnt: 4 })
})
