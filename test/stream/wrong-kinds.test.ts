// Every public function with values of wrong kinds: whatever it throws, or rejects with, has a code of ours.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { explainBackends, listRdmaDevices, serviceNotifier } from '#dist/src/devices/index.js'
import {
  attachBatch,
  BigEndianBigIntView,
  BigEndianView,
  batchesFor,
  createBatchRing,
  Descriptor,
  FieldView,
  Heap,
  IoThread,
  Item,
  ItemGroup,
  type Loop,
  makeFlavour,
  openStream,
  packetsOf,
  parseRate,
  pinThread,
  Region,
  type SampleWriter,
  StructView,
  sampleWriter,
  sendAll,
  toWritable,
} from '#dist/src/index.js'
import { openReceiver, valueText } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'

// A string is a file's name where files are named, so what is written has a folder of its own.
const folder = mkdtempSync(join(tmpdir(), 'speadcast-kinds-'))
const home = process.cwd()
beforeAll(() => process.chdir(folder))
afterAll(() => {
  process.chdir(home)
  rmSync(folder, { recursive: true })
})

const mine = (): never => {
  throw new Error('mine')
}
/** Throws whatever is done with it. */
const TRAPPED = new Proxy({}, Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((trap) => [trap, mine])))
const REVOKED = (() => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
})()

const ITERATED = { [Symbol.iterator]: mine }

const WRONG: readonly unknown[] = [
  ...[undefined, null, 5, -1, Number.NaN, 1.5, 7n, 'x', '', true, Symbol('s'), {}, [], [5], [null], () => 1, new Uint8Array(3)],
  ...[new Date(0), new Map(), Object.create(null), -0, 0, 2 ** 60, -(2 ** 60), Number.POSITIVE_INFINITY, 'no', 'false'],
  ...[() => 0, () => 'x', mine, new Proxy({}, {}), TRAPPED, REVOKED, new Proxy([], {}), Promise.resolve(5), /x/, new Error('x')],
  ...[{ valueOf: mine, toString: mine }, { [Symbol.toPrimitive]: mine }, ITERATED, { length: 2 ** 40 }],
  ...[{ constructor: undefined }, class {}, [Symbol('s')], ['x'], [TRAPPED], '\u001b]0;title\u0007', '\0'],
]

/** Objects of that kind of which one property cannot be read. */
const unreadable = (good: object): [string, object][] =>
  Object.keys(good).map((key) => [`unreadable ${key}`, Object.defineProperty({ ...good }, key, { get: mine, enumerable: true })])
const ITEM = { id: 0x3300, name: 's', dtype: 'i1', shape: [64] } as const
const items = () => new ItemGroup().add({ id: 0x1600, name: 't', shape: [], format: [['u', 48]] }).add(ITEM)
const stream = await openStream({ to: '127.0.0.1:7148', backend: 'memory' })
const batch = () => stream.createBatch({ items: items(), heaps: 2 })
const writer = () => sampleWriter(stream, { items: items(), item: 's', heapsPerBatch: 1, batches: 1 })
const swappedItems = new ItemGroup().add({ name: 'i2', dtype: '>i2', shape: [8] }).add({ name: 'i8', dtype: '>i8', shape: [8] })
const swappedHeap = stream.createBatch({ items: swappedItems, heaps: 1 }).heap(0)
const swapped = () => swappedHeap.i2
const swappedBigInts = () => swappedHeap.i8
type Made = new (...from: never[]) => object
const structItems = new ItemGroup().add({ name: 'v', dtype: '[("re", "<i2"), ("in", [("x", "<f4")])]', shape: [4] })
const struct = () => stream.createBatch({ items: structItems, heaps: 1 }).heap(0).v
const ITEM_READ = { id: 1, name: 'v', dtype: '<i4', shape: [2], order: 'C', format: [], immediate: false, bytes: new Uint8Array(8) }
const MADE = [5, 'x', new Uint8Array(8)]
const fixed = batch()

type Call = (...args: never[]) => unknown

/** Values whose errors are the user's, because they are called. */
const OWN: ReadonlySet<unknown> = new Set(WRONG.filter((wrong) => typeof wrong === 'function' || wrong === ITERATED))

/** Runs the call with each argument of a wrong kind, and with each field of those that are objects. */
async function uncoded(call: Call, good: readonly unknown[]): Promise<string[]> {
  const found: string[] = []
  const attempt = async (what: string, args: readonly unknown[], wrong?: unknown): Promise<void> => {
    const note = (error: unknown) => {
      const { code, name, message } = Object(error) as { code?: unknown; name?: unknown; message?: unknown }
      // A function of the user's that is called, and the user's iterator, throw errors of their own.
      if (OWN.has(wrong) && /^mine$|^Class constructor/.test(String(message))) return
      if (!(typeof code === 'string' && code.startsWith('ERR_SPEADCAST_'))) found.push(`${what}: ${name} ${message}`)
    }
    try {
      const result = call(...(args as never[]))
      if (result instanceof Promise) await Promise.race([result.catch(note), new Promise((resolve) => setTimeout(resolve, 100))])
    } catch (error) {
      note(error)
    }
  }
  await attempt('nothing', [])
  for (const [i, argument] of good.entries()) {
    for (const [w, wrong] of WRONG.entries()) await attempt(`argument ${i}, ${w}`, good.with(i, wrong), wrong)
    if (Object.getPrototypeOf(Object(argument)) !== Object.prototype) continue
    for (const [what, wrong] of unreadable(argument as object)) await attempt(`argument ${i}, ${what}`, good.with(i, wrong))
    for (const key of Object.keys(argument as object))
      for (const [w, wrong] of WRONG.entries())
        await attempt(`${key} of argument ${i}, ${w}`, good.with(i, { ...(argument as object), [key]: wrong }), wrong)
  }
  return found
}

const closing = (opened: Promise<{ close(): unknown }>) => opened.then((one) => one.close())
const written = (to: WritableStream, value: unknown): Promise<void> => {
  const sink = to.getWriter()
  sink.closed.catch(() => undefined)
  return sink.write(value)
}
const OPTIONS = {
  to: '127.0.0.1:7148',
  backend: 'memory',
  interface: 'lo',
  flavour: {},
  packetSizeBytes: 1472,
  split: 'even',
  rate: 0,
  affinity: [],
  priority: 0,
}
const RECEIVER = {
  ...{ endpoints: '127.0.0.1:7999', interface: 'lo', backend: 'dgram', receiveBufferBytes: 4096, maxHeaps: 1, heaps: 1, stops: 1 },
  ...{ heapMemoryBytes: 1 << 20, timeoutSeconds: 0.05, output: '/dev/null', item: 's', onChange: () => {} },
}

const receiver = await openReceiver({ endpoints: '127.0.0.1:7997', backend: 'dgram' })
afterAll(() => void receiver.close())

const ended = (loop: Loop): Promise<unknown> => {
  loop.stop()
  return loop.done
}
const NOTIFY = { NOTIFY_SOCKET: `@speadcast-nobody-${process.pid}`, WATCHDOG_USEC: '1000000', WATCHDOG_PID: '1' }

const CALLS: Record<string, [Call, ...unknown[]]> = {
  openStream: [(o: never) => closing(openStream(o)), OPTIONS],
  createBatch: [
    (o: never) => stream.createBatch(o),
    { items: items(), heaps: 1, groupMode: 'serial', substreams: 0, memory: {}, views: {} },
  ],
  'createBatch, views': [(s: never) => stream.createBatch({ items: items(), heaps: 1, views: { s } }), Int8Array],
  createBatchRing: [(s: never, o: never) => createBatchRing(s, o), stream, { items: items(), heaps: 1, batches: 1 }],
  batchesFor: [(s: never, p: never, m: never) => batchesFor(s, p, m), stream, 5, 5],
  send: [(b: never, o: never) => stream.send(b, o), batch(), { heaps: 1, firstHeap: 0 }],
  loop: [
    (b: never, o: never) => ended(stream.loop(b, o)),
    [batch()],
    { timestamp: 't', advance: 1, until: { heaps: 1 }, onFailure: 'stop', signal: new AbortController().signal },
  ],
  'loop, until': [(until: never) => ended(stream.loop([batch()], { until, advance: 1, timestamp: 't' })), { rounds: 1 }],
  'loop.swap': [
    (b: never, o: never) => {
      const loop = stream.loop([batch()], { timestamp: 't', advance: 1 })
      const swap = loop.swap(b, o)
      return Promise.all([swap.finally(() => loop.stop()), loop.done])
    },
    [batch()],
    { at: 1000, advance: 1 },
  ],
  sendHeap: [
    (h: never, o: never) => stream.sendHeap(h, o),
    new Heap().addStart(),
    { cnt: 1, substream: 0, rateBytesPerSecond: -1 },
  ],
  sendHeaps: [(l: never, m: never, o: never) => stream.sendHeaps(l, m, o), [{ heap: new Heap().addStart() }], 'serial', {}],
  setCntSequence: [(a: never, b: never) => stream.setCntSequence(a, b), 1, 1],
  'batch.heap': [(j: never) => fixed.heap(j), 0],
  'batch.item': [(name: never) => [...fixed.item(name)], 's'],
  'batch.immediate': [(name: never) => fixed.immediate(name), 't'],
  'ImmediateColumn.setRamp': [(a: never, b: never, o: never) => fixed.immediate('t').setRamp(a, b, o), 0, 1, { per: 'heap' }],
  attachBatch: [(handle: never, o: never) => attachBatch(handle, o), fixed.handle(), { views: { s: Int8Array } }],
  'new BigEndianView': [(t: never, n: never, b: never) => new (BigEndianView as Made)(t, n, b), ...MADE],
  'new BigEndianBigIntView': [(t: never, n: never, b: never) => new (BigEndianBigIntView as Made)(t, n, b), ...MADE],
  'BigEndianView.get': [(i: never) => swapped().get(i), 0],
  'BigEndianView.set': [(i: never, x: never) => swapped().set(i, x), 0, 1],
  'BigEndianView.set, list': [(x: never, at: never) => swapped().set(x, at), [1], 0],
  'BigEndianView.set, of a list': [(x: never) => swapped().set([x]), 1],
  'BigEndianView.fill': [(x: never, a: never, b: never) => swapped().fill(x, a, b), 1, 0, 1],
  'BigEndianView.subarray': [(a: never, b: never) => swapped().subarray(a, b), 0, 1],
  'new StructView': [(m: never, d: never, n: never, p: never) => new (StructView as Made)(m, d, n, p), ...MADE, {}],
  'new FieldView': [(m: never, t: never, l: never, n: never) => new (FieldView as Made)(m, t, l, n), ...MADE, {}],
  'StructView.field': [(name: never) => struct().field(name), 're'],
  'StructView.struct': [(name: never) => struct().struct(name), 'in'],
  'FieldView.get': [(i: never) => struct().field('re').get(i), 0],
  'FieldView.set': [(i: never, x: never) => struct().field('re').set(i, x), 0, 1],
  'FieldView.set, list': [(x: never, at: never) => struct().field('re').set(x, at), [1], 0],
  'FieldView.fill': [(x: never, a: never, b: never) => struct().field('re').fill(x, a, b), 1, 0, 1],
  valueText: [(item: never) => valueText(item), ITEM_READ],
  'BigEndianBigIntView.set': [(i: never, x: never) => swappedBigInts().set(i, x), 0, 1n],
  sampleWriter: [
    (s: never, o: never) => sampleWriter(s, o),
    stream,
    { items: items(), item: 's', timestamp: 't', firstSample: 0, heapsPerBatch: 1, batches: 1, groupMode: 'serial' },
  ],
  'writer.write': [(x: never) => writer().write(x), new Uint8Array(1)],
  'writer.end': [(o: never) => writer().end(o), { dropPartialSample: false }],
  'stream.close': [
    async (o: never) => (await openStream({ to: '127.0.0.1:9', backend: 'memory' })).close(o),
    { deadlineSeconds: 1 },
  ],
  'stream.stats': [(o: never) => stream.stats(o), { substreams: true }],
  'receiver.events': [(o: never) => receiver.events(o), { kinds: ['drops'], signal: new AbortController().signal }],
  'stream.events': [(o: never) => stream.events(o), { kinds: ['link'], signal: new AbortController().signal }],
  serviceNotifier: [(e: never) => serviceNotifier(e), NOTIFY],
  'ServiceNotifier.notify': [(s: never) => serviceNotifier(NOTIFY)!.notify(s), { ready: true, status: 'x' }],
  toWritable: [(w: never) => written(toWritable(w), new Uint8Array(1)), writer()],
  'toWritable, written': [(x: never) => written(toWritable(writer()), x), new Uint8Array(1)],
  sendAll: [(s: never, l: never, o: never) => sendAll(s, l, o), stream, [], { groupMode: 'serial', inFlight: 1 }],
  'sendAll, given': [(x: never) => sendAll(stream, [x]), { heap: new Heap().addStart() }],
  'new IoThread': [(o: never) => new IoThread(o).close(), { affinity: [0], name: 'x', priority: 0 }],
  pinThread: [(cpus: never) => pinThread(cpus), [0]],
  'Region.allocate': [(n: never, o: never) => Region.allocate(n, o), 4096, { hugePages: 'never', numaNode: 0 }],
  'Region.fromFd': [(fd: never, o: never) => Region.fromFd(fd, o), 9999, {}],
  'Region.fromFd, options': [(o: never) => Region.fromFd(0, o), { byteLength: 1, offset: 0 }],
  'Region.fromAddress': [(a: never, n: never) => Region.fromAddress(a, n), 4096, 4096],
  'new ItemGroup': [(o: never) => new ItemGroup(o), { flavour: {}, descriptorFrequency: 1 }],
  'ItemGroup.add': [(o: never) => items().add(o), { ...ITEM, description: '', order: 'C', value: new Int8Array(64) }],
  'ItemGroup.add, format': [(o: never) => items().add(o), { name: 'f', format: [['u', 8]], shape: [] }],
  'ItemGroup.has': [(name: never) => items().has(name), 'none'],
  'Item.value, in a heap': [(value: never) => new Heap().addItem(new Item({ ...ITEM, value })), new Int8Array(64)],
  'Item.value, in a batch': [
    (value: never) => stream.createBatch({ items: items().add({ ...ITEM, value }), heaps: 1 }).close(),
    new Int8Array(64),
  ],
  'ItemGroup.get': [(name: never) => items().get(name), 'none'],
  'ItemGroup.getHeap': [(o: never) => items().getHeap(o), { descriptors: 'all', data: 'all' }],
  'new Item': [(o: never) => new Item(o), ITEM],
  'new Descriptor': [(o: never) => new Descriptor(o), ITEM],
  'new Heap': [(flavour: never) => new Heap(flavour), { heapAddressBits: 48, bugCompat: 0 }],
  'Heap.addItem': [(item: never) => new Heap().addItem(item), items().get('s')],
  'Heap.addRaw': [
    (raw: never) => new Heap().addRaw(raw),
    { id: 0x4000, name: 'r', bytes: new Uint8Array(1), allowImmediate: true },
  ],
  'Heap.addDescriptor': [(d: never) => new Heap().addDescriptor(d), items().get('s')],
  makeFlavour: [(o: never) => makeFlavour(o), { heapAddressBits: 48, bugCompat: 0 }],
  packetsOf: [
    (h: never, c: never, o: never) => packetsOf(h, c, o),
    new Heap().addStart(),
    1,
    { maxPacketSizeBytes: 1472, split: 'even', repeatPointers: false, mergesEqualPackets: false },
  ],
  parseRate: [(rate: never) => parseRate(rate), 5],
  openReceiver: [(o: never) => closing(openReceiver(o)), RECEIVER],
  listRdmaDevices: [(o: never) => listRdmaDevices(o), { library: '/nonexistent.so' }],
  explainBackends: [(to: never, o: never) => explainBackends(to, o), '127.0.0.1:7148', { interface: 'lo' }],
}

test.for(Object.entries(CALLS))('%s', async ([, [call, ...good]]) => {
  expect(await uncoded(call, good)).toEqual([])
})

test('missing names of items say so', () => {
  const refused = (message: RegExp) =>
    expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM', message: expect.stringMatching(message) })
  expect(() => new ItemGroup().add({ dtype: 'i1' } as never)).toThrow(
    refused(/^name of item 0x1000 must be a string, not undefined/),
  )
  expect(() => new Descriptor({ name: 'x', dtype: 'i1' })).toThrow(refused(/^item 'x': it needs an id/))
  expect(() => items().get('nosuch' as never)).toThrow(refused(/^no item of name 'nosuch' in the group; it has 't'/))
})

test('a file’s stream of bytes, which gives ArrayBuffers on Node 20, goes into toWritable whole', async () => {
  const sent: number[] = []
  const into: SampleWriter = sampleWriter(stream, {
    items: items(),
    item: 's',
    onSettled: ({ sampleBytes }) => sent.push(sampleBytes),
  })
  const file = await open(new URL(import.meta.url))
  onTestFinished(() => file.close())
  const { size } = await file.stat()
  await file.readableWebStream().pipeTo(toWritable(into) as WritableStream)
  expect(sent.reduce((a, b) => a + b)).toBe(size)
  for (const buffer of [new ArrayBuffer(64), new SharedArrayBuffer(64)])
    await expect(written(toWritable(writer()), buffer)).resolves.toBeUndefined()
})

const BOOLEANS: readonly [string, (option: object) => unknown, readonly string[]][] = [
  [
    'openReceiver',
    (o) => closing(openReceiver({ ...RECEIVER, ...o } as never)),
    ['verify', 'hash', 'deliver', 'credits', 'gro', 'anySource'],
  ],
  [
    'openStream',
    (o) => closing(openStream({ ...OPTIONS, ...o } as never)),
    ['repeatPointers', 'multicastLoop', 'reusePort', 'broadcast', 'allowFragmentation', 'debug'],
  ],
  ['writer.end', (o) => writer().end(o), ['dropPartialSample']],
  ['addRaw', (o) => new Heap().addRaw({ id: 0x4000, bytes: new Uint8Array(1), allowImmediate: true, ...o }), ['allowImmediate']],
  ['new Item', (o) => new Item({ ...ITEM, ...o }), ['allowImmediate']],
  [
    'packetsOf',
    (o) => packetsOf(new Heap().addStart(), 1, { maxPacketSizeBytes: 1472, ...o }),
    ['repeatPointers', 'mergesEqualPackets'],
  ],
]

test.for(BOOLEANS)('%s: true and false are told from what counts as true', async ([, call, names]) => {
  for (const name of names)
    for (const wrong of ['no', 'false', 'true', '', 0, 1, null, {}, [], () => 0]) {
      const message = expect.stringMatching(new RegExp(`${name}.* (must be true or false|they must be a text, and true or false)`))
      await expect((async () => call({ [name]: wrong }))(), `${name}: ${String(wrong)}`).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_SPEADCAST_/),
        message,
      })
    }
})

test.for(['native', 'dgram'] as const)(
  'a receiver that is refused leaves no port and no descriptor behind (%s)',
  async (backend, ctx) => {
    need(ctx, process.platform === 'linux', 'counts through /proc')
    const endpoints = '127.0.0.1:7998'
    await openReceiver({ endpoints, backend }).then((receiver) => receiver.close())
    const before = readdirSync('/proc/self/fd').length
    for (const wrong of [
      { hash: () => 0 },
      { verify: 'no' },
      { item: () => 0 },
      { output: '/dev/null\0' },
      { signal: {} },
      { output: '/' },
    ])
      await expect(openReceiver({ endpoints, backend, ...wrong } as never)).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_SPEADCAST_/),
      })
    const receiver = await openReceiver({ endpoints, backend })
    await receiver.close()
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before)
  },
)

/** Exports and methods that take nothing from a user, or that the package calls itself. */
const TAKE_NOTHING = [
  ...[
    'AttachedBatch',
    'SendError',
    'LoopError',
    'SpeadcastError',
    'Receiver',
    'Region.handle',
    'Region.release',
    'Region.hold',
    'Region.letGo',
    'Region.lend',
  ],
  ...[
    'ItemGroup.items',
    'Descriptor.describesAs',
    'Descriptor.descriptionKey',
    'Descriptor.encode',
    'Heap.addStart',
    'Heap.addEnd',
    'Heap.shapeKey',
    'IoThread.close',
  ],
]

test('every exported function, class, static and method is tried', async () => {
  const [index, devices, receive] = await Promise.all([
    import('#dist/src/index.js'),
    import('#dist/src/devices/index.js'),
    import('#dist/src/receive/index.js'),
  ])
  const exported: [string, unknown][] = Object.entries({ ...index, ...devices, ...receive })
  const functions = exported.filter(([, value]) => typeof value === 'function') as [string, { prototype?: object }][]
  const methods = functions.flatMap(([name, { prototype }]) => {
    if (!['Region', 'ItemGroup', 'Item', 'Descriptor', 'Heap', 'IoThread'].includes(name) || !prototype) return []
    const own = Object.entries(Object.getOwnPropertyDescriptors(prototype))
    return own.filter(([key, { value }]) => key !== 'constructor' && typeof value === 'function').map(([key]) => `${name}.${key}`)
  })
  const tried = Object.keys(CALLS).map((name) => name.replace(/^new /, '').replace(/, .*/, ''))
  const names = [...functions.map(([name]) => name), ...methods].filter((name) => name !== 'Region')
  expect(names.filter((name) => !tried.includes(name) && !TAKE_NOTHING.includes(name))).toEqual([])
})
