/** Senders are told apart, and so are their runs: what is data, what is a copy, and what never came. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { Sequence } from '#dist/src/receive/sequence.js'
import { BACKENDS, control, data, descriptor, heapOf, partOf, receive, SAMPLES, START, STOP, tutorial, upTo } from './wire.js'

const scratch = mkdtempSync(join(tmpdir(), 'speadcast-senders-'))
afterAll(() => rmSync(scratch, { recursive: true }))

describe.each(BACKENDS)('%s', (backend) => {
  const output = join(scratch, backend)
  const written = () => [...readFileSync(output)]

  test('two senders with the same heap cnts in turn: every heap of both', async () => {
    const { summary } = await receive({ backend, output, close: true }, async ({ send }) => {
      for (const cnt of upTo(1, 8)) {
        await send('A', data(cnt))
        await send('B', data(cnt, Uint8Array.of(100 + cnt)))
      }
    })
    expect(summary).toMatchObject({ heaps: 16, duplicates: 0, heapsMissing: 0, outputBytes: 16, outputLeftOut: 0 })
    const all = written()
    expect(all.filter((byte) => byte < 100)).toEqual(upTo(1, 8))
    expect(all.filter((byte) => byte > 100)).toEqual(upTo(101, 108))
  })

  test('four engines with equal cnts lose no byte, and a descriptor heap of another socket takes no place', async () => {
    const { summary } = await receive({ backend, output, close: true }, async ({ send }) => {
      await send('E', descriptor(1, SAMPLES, 'adc_samples', '|u1', '(100,)'))
      for (const cnt of upTo(1, 100)) for (const from of 'ABCD') await send(from, data(cnt, new Uint8Array(100).fill(cnt)))
    })
    expect(summary).toMatchObject({ heaps: 400, outputBytes: 40_000, outputLeftOut: 0, heapsMissing: 0 })
  })

  test.each([
    [true, 10],
    [false, 0],
  ])('packets of one heap from two ports, anySource %s: %i heaps', async (anySource, heaps) => {
    const { summary } = await receive({ backend, anySource, deliver: false, close: true }, async ({ send }) => {
      for (const cnt of upTo(1, 10)) {
        await send('A', partOf(cnt, 8, 0, new Uint8Array(4), [[false, SAMPLES, 0]]))
        await send('B', partOf(cnt, 8, 4, new Uint8Array(4)))
      }
    })
    expect(summary).toMatchObject({ heaps, heapsIncomplete: heaps > 0 ? 0 : 20 })
  })

  test('two recordings in turn, each with its stop heap', async () => {
    const run = upTo(1, 8).map((cnt) => data(cnt))
    const { summary } = await receive({ backend, output, stops: 2 }, async ({ send }) => {
      for (let turn = 0; turn < 2; turn++) await send('A', ...run, control(9, STOP))
    })
    expect(summary).toMatchObject({ reason: 'stop', heaps: 16, duplicates: 0, heapsMissing: 0, controlHeaps: 2 })
    expect(written()).toEqual([...upTo(1, 8), ...upTo(1, 8)])
  })

  test('a start heap with the same cnt twice: 16 heaps; a copy of the stop heap is a copy', async () => {
    const { summary } = await receive({ backend, output, stops: 2, close: true }, async ({ send }) => {
      for (let turn = 0; turn < 2; turn++) await send('A', control(1, START), ...upTo(2, 9).map((cnt) => data(cnt)))
      await send('A', control(10, STOP), control(10, STOP))
    })
    expect(summary).toMatchObject({ reason: 'closed', heaps: 16, duplicates: 1, controlHeaps: 3, outputBytes: 16 })
  })

  test('a sender that starts anew after a pause, without a start heap: 64 of 64', async () => {
    const run = upTo(1, 32).map((cnt) => data(cnt))
    const { summary } = await receive({ backend, output, close: true }, async ({ send, pause }) => {
      await send('A', ...run)
      await pause(400)
      await send('A', ...run)
    })
    expect(summary).toMatchObject({ heaps: 64, duplicates: 0, outputBytes: 64, heapsMissing: 0 })
  })

  test('a heap left unfinished before the pause is no part of the heap with its cnt after it', async () => {
    const halves = (byte: number) => [0, 4].map((at) => partOf(7, 8, at, new Uint8Array(4).fill(byte), [[false, SAMPLES, 0]]))
    const { summary, heaps } = await receive({ backend, close: true }, async ({ send, pause }) => {
      await send('A', halves(1)[0]!)
      await pause(400)
      await send('A', ...halves(2))
    })
    expect(summary).toMatchObject({ heaps: 1, heapsIncomplete: 1 })
    expect([...heaps.find(({ complete }) => complete)!.items.get(SAMPLES)!.bytes]).toEqual(new Array(8).fill(2))
  })

  test('a copy of a heap, hundreds of heaps later, is a copy', async () => {
    const { summary } = await receive({ backend, output, close: true }, async ({ send }) => {
      await send('A', ...upTo(1, 900).map((cnt) => data(cnt)))
      await send('A', data(5), data(600), data(901))
    })
    expect(summary).toMatchObject({ heaps: 901, duplicates: 2, outputBytes: 901, outputLeftOut: 0 })
  })

  test.each<[string, (number | bigint)[], number, number | null]>([
    ['a stop heap of all ones', [...upTo(5000, 5007), 2n ** 48n - 1n], 0, 1],
    ['a stop heap that follows a gap', [...upTo(0, 9), 20], 10, 1],
    ['a gap', [1, 2, 3, 6, 7], 2, 1],
    ['a step', [0, 4096, 8192, 16384, 20480], 1, 4096],
    ['a lost end of steps', [0, 10, 20, 50], 2, 10],
  ])('%s', async (_name, cnts, heapsMissing, cntStep) => {
    const isStop = cnts.length > 8 || cnts.at(-1) === 50
    const { summary } = await receive({ backend, deliver: false, close: true }, async ({ send }) => {
      for (const [i, cnt] of cnts.entries()) await send('A', isStop && i === cnts.length - 1 ? control(cnt, STOP) : data(cnt))
    })
    expect(summary).toMatchObject({ heapsMissing, cntStep, heaps: cnts.length - Number(isStop) })
  })

  test.each<[string, number[], number[], number, number]>([
    ['among the data', [...upTo(1, 5), 7, 8, 9], [6, 10, 11], 12, 0],
    ['among the data, of which one is lost', [1, 2, 3, 4, 7, 8, 9], [6, 10, 11], 12, 1],
    ['with the places of other endpoints', [0, 21, 42, 84, 105, 126], [56], 147, 0],
    ['more than are remembered', upTo(1, 300).filter((cnt) => cnt % 3 !== 2), upTo(1, 300).filter((cnt) => cnt % 3 === 2), 301, 0],
    ['numbered for themselves', [5000, 5001, 5003, 5004, 5005, 5006, 5007], [1, 9, 17, 300_000], 5008, 1],
    ['behind one heap of long steps', [2000], [1000, 3000], 4000, 0],
    ['between heaps that they make look like steps of two', [1, 3, 4, 5, 6], [2], 7, 0],
  ])('descriptors repeated %s are no missing heaps', async (_name, cnts, descriptors, stop, heapsMissing) => {
    const all = [...cnts, ...descriptors].sort((a, b) => a - b)
    const { summary } = await receive({ backend, deliver: false }, async ({ send }) => {
      const packets = all.map((cnt) =>
        descriptors.includes(cnt) ? descriptor(cnt, SAMPLES, 'adc_samples', '|u1', '(1,)') : data(cnt),
      )
      await send('A', ...packets, control(stop, STOP))
    })
    expect(summary).toMatchObject({ heapsMissing, heaps: cnts.length, controlHeaps: descriptors.length + 1, reason: 'stop' })
  })

  test.each([0, 150])('descriptors with heap cnts that data have too, every %i ms, cost no data', async (ms) => {
    const { summary } = await receive({ backend, close: true, verify: true }, async ({ send, pause }) => {
      for (const index of upTo(0, 7)) {
        await send('A', descriptor(index + 2, SAMPLES, 'adc_samples', '|u1', '(16,)'))
        await pause(ms)
        await send('A', tutorial(index + 1, index), tutorial(index + 1, index))
      }
    })
    expect(summary).toMatchObject({ heaps: 8, duplicates: 8, heapsCorrupt: 0, verifyMissing: 0, heapsMissing: 0 })
  })

  test.each([32n, 16n, 8n])('channel << %i | n is no sequence: nothing missing, all written', async (bits) => {
    const orders: [string, number[][]][] = [
      ['in turn', upTo(0, 199).flatMap((n) => upTo(0, 7).map((channel) => [channel, n]))],
      ['one after the other', upTo(0, 7).flatMap((channel) => upTo(0, 199).map((n) => [channel, n]))],
    ]
    for (const [order, cnts] of bits === 8n ? orders.slice(0, 1) : orders) {
      const { summary } = await receive({ backend, output, close: true }, async ({ send }) => {
        await send('A', ...cnts.map(([channel, n]) => data((BigInt(channel!) << bits) | BigInt(n!))))
        await send('A', control(1, STOP))
      })
      expect({ order, ...summary }).toMatchObject({ order, heaps: 1600, heapsMissing: 0, outputBytes: 1600, outputLeftOut: 0 })
    }
  })

  test('the option cntStep says what is missing where the cnts do not', async () => {
    const { summary } = await receive({ backend, deliver: false, cntStep: 5, close: true }, async ({ send }) => {
      await send('A', data(0), data(20), data(40))
    })
    expect(summary).toMatchObject({ heapsMissing: 6, cntStep: 5 })
  })

  test('an id that gets another name, and a name that gets another id', async () => {
    const item = (cnt: number, id: number) => heapOf(cnt, [[false, id, 0]], Uint8Array.of(cnt))
    const { summary } = await receive({ backend, output, item: 'a', close: true }, async ({ send }) => {
      await send('A', descriptor(1, 0x1000, 'a'), item(2, 0x1000))
      await send('A', descriptor(3, 0x1000, 'b'), item(4, 0x1000))
      await send('A', descriptor(5, 0x2000, 'a'), item(6, 0x2000))
    })
    expect(summary).toMatchObject({ heaps: 3, outputBytes: 2, outputLeftOut: 1 })
    expect(written()).toEqual([2, 6])
  })

  test('each sender names its ids; one that describes nothing goes by what another told', async () => {
    const item = (cnt: number, id: number) => heapOf(cnt, [[false, id, 0]], Uint8Array.of(cnt))
    await receive({ backend, output, item: 'a', close: true }, async ({ send }) => {
      await send('A', descriptor(1, 0x1000, 'a'))
      await send('B', descriptor(1, 0x1000, 'b'), descriptor(2, 0x2000, 'a'))
      await send('A', item(10, 0x1000), item(11, 0x2000))
      await send('B', item(20, 0x1000), item(21, 0x2000))
      await send('C', item(30, 0x2000))
    })
    expect(written().sort()).toEqual([10, 21, 30])
  })

  test('an id that two senders describe otherwise says nothing of a third: its immediates keep their width', async () => {
    const value = heapOf(9, [[true, 0x1000, 0x01020304]])
    const { heaps } = await receive({ backend, deliver: true, close: true }, async ({ send }) => {
      await send('A', descriptor(1, 0x1000, 'a', '|u1', '()'))
      await send('C', value)
      await send('B', descriptor(1, 0x1000, 'a', '<u2', '()'))
      await send('D', value)
      await send('A', value)
    })
    const items = heaps.flatMap((heap) => heap.items.get(0x1000) ?? [])
    expect(items.map(({ name, bytes }) => [name, [...bytes]])).toEqual([
      ['a', [4]],
      [null, [0, 0, 1, 2, 3, 4]],
      ['a', [4]],
    ])
  })
})

test.each([
  [1, 19, 20],
  [4, 0, 8],
  [4, 0, 9],
  [4, 3, 21],
])('one heap: dealt out among %i endpoints, %i are missing before stop heap %i', (endpoints, missing, stop) => {
  const sequence = new Sequence(0, endpoints)
  sequence.note(endpoints > 1 ? 5 : 0)
  sequence.noteStop(stop)
  expect(sequence.missing).toBe(missing)
})
