/** The prints of console.log and util.inspect of everything that a program holds: short, escaped, and never an error. */
import { inspect } from 'node:util'
import {
  attachBatch,
  Descriptor,
  Heap,
  IoThread,
  Item,
  ItemGroup,
  openStream,
  Region,
  SendError,
  type StreamOptions,
} from 'speadcast'
import { describe, expect, test } from 'vitest'
import { need } from '../support/need.js'

const MEMORY: StreamOptions = { to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none' }
const items = () =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [8192] })

const refusing = (packets: readonly number[]) => ({ failAt: (packet: number) => (packets.includes(packet) ? 1 : undefined) })

describe('a stream', () => {
  test('tells its state, and what was sent', async () => {
    const stream = await openStream({ ...MEMORY, rate: '4Gbps' })
    const print = (state: string, heapsSent: number) => `Stream {
  state: '${state}',
  backend: 'memory',
  reason: 'asked for',
  endpoints: [ '10.0.0.5:7148' ],
  flavour: { heapAddressBits: 48, bugCompat: 0 },
  rateBytesPerSecond: 500000000,
  inFlight: 0,
  heapsSent: ${heapsSent},
  heapsFailed: 0
}`
    expect(inspect(stream)).toBe(print('open', 0))
    await stream.send(stream.createBatch({ items: items(), heaps: 2 }))
    expect(inspect(stream)).toBe(print('open', 2))
    const closed = stream.close()
    expect(inspect(stream)).toBe(print('closing', 2))
    await closed
    expect(inspect(stream)).toBe(print('closed', 2))
    expect(inspect([[[stream]]], { depth: 2 })).toBe('[ [ [ [Stream] ] ] ]')
  })

  test('names a few of its many endpoints', async () => {
    await using stream = await openStream({
      ...MEMORY,
      to: Array.from({ length: 500 }, (_, i) => `10.0.${i >> 8}.${i & 255}:7148`),
    })
    expect(inspect(stream)).toContain("'10.0.0.7:7148',\n    ... 492 more items")
  })
})

test('a batch tells its state and its items', async () => {
  const stream = await openStream(MEMORY)
  const batch = stream.createBatch({ items: items(), heaps: 64 })
  const print = (state: string) => `Batch {
  state: '${state}',
  heaps: 64,
  items: [ 'adc_samples' ],
  immediates: [ 'timestamp' ],
  packetsPerHeap: 6,
  interleaved: false
}`
  expect(inspect(batch)).toBe(print('free'))
  const sent = stream.send(batch)
  expect(inspect(batch)).toBe(print('in-flight'))
  await sent
  batch.close()
  expect(inspect(batch)).toBe(print('closed'))
  await stream.destroy()
  expect(inspect(batch)).toBe(print('closed'))
})

test('an attached batch tells whether it is open', async () => {
  await using stream = await openStream(MEMORY)
  const views = attachBatch(stream.createBatch({ items: items(), heaps: 64 }).handle())
  const print = (state: string) =>
    `AttachedBatch {\n  state: '${state}',\n  heaps: 64,\n  items: [ 'adc_samples' ],\n  immediates: [ 'timestamp' ]\n}`
  expect(inspect(views)).toBe(print('open'))
  views.close()
  expect(inspect(views)).toBe(print('closed'))
})

describe('a send', () => {
  test('is a promise in its state', async () => {
    await using stream = await openStream(MEMORY)
    const batch = stream.createBatch({ items: items(), heaps: 2 })
    const promise = stream.send(batch)
    expect(inspect(promise)).toBe('SendPromise [Promise] { <pending> }')
    const result = await promise
    const print =
      "{\n  heaps: 2,\n  skippedHeaps: 0,\n  packets: 12,\n  payloadBytes: 16384,\n  firstCnt: 1,\n  evidence: 'written',\n  suspect: false\n}"
    expect(inspect(result)).toBe(print)
    expect(inspect(promise)).toBe(`SendPromise [Promise] {\n  ${print.replaceAll('\n', '\n  ')}\n}`)
  })

  test('that failed tells the fate of its heaps', async () => {
    await using stream = await openStream({ ...MEMORY, memory: refusing([6, 13]) })
    const error = await stream.send(stream.createBatch({ items: items(), heaps: 1000 })).catch((reason: unknown) => reason)
    if (!(error instanceof SendError)) throw error
    expect(inspect(error.outcome)).toBe(`BatchOutcome {
  heaps: 998 sent, 2 partial,
  failedHeaps: [ 1, 2 ],
  causes: [
    substream 0: EPERM, 2 packets: EPERM injected by failAt on substream 0, packet of 1408 bytes
  ],
  suspect: false,
  evidence: 'written'
}`)
    expect(inspect(error)).toContain('heaps: 998 sent, 2 partial,')
  })
})

test('items and groups of them tell what they describe', () => {
  const group = items()
  expect(inspect(group)).toBe(`ItemGroup {
  flavour: { heapAddressBits: 48, bugCompat: 0 },
  items: [
    Item {
      id: 0x1600,
      name: 'timestamp',
      description: 'Index of the first sample',
      format: [["u",48]],
      shape: [],
      version: 1
    },
    Item {
      id: 0x3300,
      name: 'adc_samples',
      dtype: '|i1',
      shape: [8192],
      version: 1
    }
  ]
}`)
  const item = new Item({ id: 0x1000, name: 'x', dtype: '<f4', shape: [2, 3], order: 'F', value: new Float32Array(6) })
  expect(inspect(item)).toBe(`Item {
  id: 0x1000,
  name: 'x',
  dtype: '<f4',
  shape: [2,3],
  order: 'F',
  value: a Float32Array of 24 bytes,
  version: 1
}`)
  const descriptor = new Descriptor({ id: 0x1000, name: 'x\x1b[31m', dtype: '<f4' })
  expect(inspect(descriptor)).toBe(`Descriptor { id: 0x1000, name: 'x\\x1B[31m', dtype: '<f4', shape: [] }`)
})

test('a heap tells what is in it', () => {
  const group = items()
  group.get('timestamp').value = 1
  // How long descriptors are is held against spead2 (test/spead).
  expect(inspect(group.getHeap()).replace(/\d+ bytes/g, 'N bytes')).toBe(`Heap {
  flavour: { heapAddressBits: 48, bugCompat: 0 },
  entries: [
    descriptor 'timestamp' (0x1600), N bytes,
    item 'timestamp' (0x1600), immediate,
    descriptor 'adc_samples' (0x3300), N bytes
  ]
}`)
  const raw = new Heap().addRaw({ id: 0x1234, name: 'x\x1b\u202e', bytes: new Uint8Array(1), allowImmediate: false })
  expect(inspect(raw)).toContain("entries: [ item 'x\\x1b\\u202e' (0x1234), 1 byte ]\n")
})

test('a region tells its size and its pages', (ctx) => {
  need(ctx, process.platform === 'linux', 'regions are mapped on Linux only')
  const region = Region.allocate(4096, { hugePages: 'never' })
  expect(inspect(region)).toBe("Region { state: 'live', byteLength: 4096, pages: 'small' }")
  region.release()
  expect(inspect(region)).toBe("Region { state: 'released', byteLength: 4096, pages: 'small' }")
})

test('an I/O thread tells its streams', async (ctx) => {
  need(ctx, process.platform === 'linux', 'there are no I/O threads elsewhere')
  const thread = new IoThread({ name: 'first', affinity: [0] })
  expect(inspect(thread)).toBe("IoThread { name: 'first', state: 'running', streams: 0, affinity: [ 0 ] }")
  await thread.close()
  expect(inspect(thread)).toBe("IoThread { name: 'first', state: 'ended', streams: 0, affinity: [ 0 ] }")
})

test('colours stay, and no print throws', async () => {
  await using stream = await openStream(MEMORY)
  expect(inspect(stream, { colors: true })).toContain("state: \x1b[32m'open'\x1b[39m")
  expect(inspect(Object.create(stream))).toBe('[Stream]')
  expect(inspect(Object.getPrototypeOf(stream))).not.toBe('')
})
