/** The output's order, with several senders, runs and endpoints; packets by hand. */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { AssembledHeap } from '#dist/src/receive/assembled-heap.js'
import { Output, type OutputOptions } from '#dist/src/receive/output.js'
import { STAGE_BYTES } from '#dist/src/receive/output-file.js'
import { HeapStorage } from '#dist/src/receive/storage.js'

const PACKET_BYTES = 4096

function makeOutput(options: Partial<OutputOptions> = {}, storageBytes = 1 << 20) {
  const buffer = new ArrayBuffer(PACKET_BYTES + STAGE_BYTES + storageBytes)
  const u8 = new Uint8Array(buffer)
  const storage = new HeapStorage(PACKET_BYTES + STAGE_BYTES, buffer.byteLength)
  const output = new Output(buffer, PACKET_BYTES, storage, {
    order: 'cnt',
    path: '',
    hash: true,
    windowHeaps: 1024,
    windowBytes: storageBytes / 2,
    firstHeaps: 16,
    endpoints: 1,
    ...options,
  })
  const heap = new AssembledHeap()
  return {
    output,
    /** A heap of one packet. */
    add(sender: number, cnt: number, text: string | undefined, endpoint = 0) {
      heap.endpoint = endpoint
      if (text !== undefined) u8.set(Buffer.from(text))
      output.add(sender, cnt, 0, text?.length ?? -1, heap)
    },
  }
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

test('two senders of equal cnts in turn: nothing is too late', () => {
  const { output, add } = makeOutput()
  let wanted = ''
  for (let cnt = 1; cnt <= 1000; cnt++) for (const sender of [7, 9]) add(sender, cnt, `${sender}:${cnt} `)
  // Until a sender's sixteenth heap nobody knows which is the first.
  for (const sender of [7, 9]) for (let cnt = 1; cnt <= 16; cnt++) wanted += `${sender}:${cnt} `
  for (let cnt = 17; cnt <= 1000; cnt++) for (const sender of [7, 9]) wanted += `${sender}:${cnt} `
  expect([output.finish(), output.late, output.bytes]).toEqual([sha256(wanted), 0, wanted.length])
})

test("order 'arrival' writes at once, in the order of completion", () => {
  const { output, add } = makeOutput({ order: 'arrival' })
  for (const [sender, cnt] of [
    [1, 5],
    [2, 5],
    [1, 4],
    [1, 6],
    [2, 1],
  ] as const)
    add(sender, cnt, `${sender}${cnt}`)
  expect([output.finish(), output.late]).toEqual([sha256('1525141621'), 0])
})

test('a step of 4, and of senders that share the cnts between them: in order after the first heaps, without waiting', () => {
  const { output, add } = makeOutput()
  const wanted: Record<number, string> = { 0: '', 1: '' }
  for (let i = 0; i < 40; i++) for (const sender of [0, 1]) add(sender, 1 + sender + 2 * i, `${sender}-${i} `)
  for (const sender of [0, 1]) for (let i = 0; i < 16; i++) wanted[sender] += `${sender}-${i} `
  let rest = ''
  for (let i = 16; i < 40; i++) for (const sender of [0, 1]) rest += `${sender}-${i} `
  expect(output.finish()).toBe(sha256(wanted[0]! + wanted[1]! + rest))
})

test.each([[[1, 2, 3, 4, 5]], [Array.from({ length: 100 }, (_, i) => i + 1)]])(
  'two runs with a stop between: both are whole, %#',
  (cnts) => {
    const { output, add } = makeOutput()
    let wanted = ''
    for (const run of [1, 2]) {
      for (const cnt of cnts) {
        add(0, cnt, `${run}:${cnt} `)
        wanted += `${run}:${cnt} `
      }
      add(0, cnts.length + 1, undefined)
      output.forget(0)
    }
    expect([output.finish(), output.late]).toEqual([sha256(wanted), 0])
  },
)

test('a second run that begins lower than the first stands behind it', () => {
  const { output, add } = makeOutput()
  for (let cnt = 50; cnt < 60; cnt++) add(0, cnt, `a${cnt} `)
  output.forget(0)
  for (let cnt = 1; cnt < 10; cnt++) add(0, cnt, `b${cnt} `)
  const a = Array.from({ length: 10 }, (_, i) => `a${i + 50} `).join('')
  const b = Array.from({ length: 9 }, (_, i) => `b${i + 1} `).join('')
  expect([output.finish(), output.late]).toEqual([sha256(a + b), 0])
})

test('endpoints that are read in turn, each with its stop: the heaps of both runs are in order', () => {
  const { output, add } = makeOutput({ endpoints: 3, firstHeaps: 1024 })
  let wanted = ''
  for (const run of [1, 2]) {
    for (let cnt = 1; cnt <= 30; cnt++) wanted += `${run}:${cnt} `
    for (const endpoint of [0, 1, 2]) {
      for (let cnt = 1 + endpoint; cnt <= 30; cnt += 3) add(0, cnt, `${run}:${cnt} `, endpoint)
      add(0, 31 + endpoint, undefined, endpoint)
      output.forget(0, endpoint)
    }
  }
  expect([output.finish(), output.late]).toEqual([sha256(wanted), 0])
})

test('endpoints: a run that ends at all of them is written at once', () => {
  const { output, add } = makeOutput({ endpoints: 2, firstHeaps: 1024 })
  for (const text of ['a', 'b']) {
    for (const cnt of [3, 1, 2]) add(0, cnt, `${text}${cnt} `, cnt % 2)
    output.forget(0)
  }
  expect([output.finish(), output.late]).toEqual([sha256('a1 a2 a3 b1 b2 b3 '), 0])
})

test('time: a heap waits for those before it, and longer while one of them is coming', () => {
  let coming = true
  const { output, add } = makeOutput({ receivingBelow: () => coming })
  output.tick(0)
  for (let cnt = 1; cnt <= 20; cnt++) if (cnt !== 18) add(0, cnt, `${cnt} `)
  output.tick(5000)
  add(0, 18, '18 ')
  expect(output.late).toBe(0)
  add(0, 22, '22 ')
  output.tick(5500)
  coming = false
  output.tick(5600)
  add(0, 21, '21 ')
  expect(output.late).toBe(0)
  add(0, 24, '24 ')
  output.tick(7100)
  add(0, 23, '23 ')
  expect(output.late).toBe(1)
  const wanted = [...Array.from({ length: 22 }, (_, i) => i + 1), 24].map((cnt) => `${cnt} `).join('')
  expect(output.finish()).toBe(sha256(wanted))
})

test('the window is one for all senders: 100,000 of them, a heap each, of which few wait and none is lost', () => {
  const { output, add } = makeOutput()
  for (let sender = 0; sender < 100_000; sender++) add(sender, 5, 'x'.repeat(100))
  // 128 slots of 4096 bytes are half of the storage.
  expect(output.bytes).toBe(10_000_000 - 12_800)
  output.finish()
  expect([output.late, output.bytes]).toEqual([0, 10_000_000])
})

test('storage that is full lets the oldest of any sender go', () => {
  const { output, add } = makeOutput({ windowBytes: Number.POSITIVE_INFINITY }, 64 << 10)
  for (let sender = 0; sender < 3; sender++) for (let cnt = 30; cnt > 0; cnt--) add(sender, cnt * 5, 'y'.repeat(3000))
  output.finish()
  expect(output.bytes + output.late * 3000).toBe(3 * 30 * 3000)
  expect(output.bytes).toBeGreaterThan(0)
})
