/** What the types let through and what they refuse, line by line. Compiled by every TypeScript that README names (types.test.ts), never run. */
import {
  type AttachedBatch,
  attachBatch,
  type Batch,
  BigEndianBigIntView,
  BigEndianView,
  createBatchRing,
  type DtypeText,
  type FieldView,
  type FormatField,
  Item,
  ItemGroup,
  openStream,
  parseRate,
  Region,
  type Stream,
  type StreamOptions,
  StructView,
  sampleWriter,
} from 'speadcast'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
/** `same<A>()(value)` compiles where the value is an A and nothing else. */
const same =
  <A>() =>
  <B>(_value: B, ..._exactly: Same<A, B> extends true ? [] : ['another type']): void => {}

export async function known() {
  const stream = await openStream({ to: '127.0.0.1:7148' })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [8192] })
    .add({ name: 'wide', dtype: '<i8', shape: [4] })
    .add({ name: 'unsigned_wide', dtype: 'uint64' })
    .add({ name: 'swapped', dtype: '>i2', shape: [64] })
    .add({ name: 'swapped_wide', dtype: '>u8', shape: [64] })
    .add({ name: 'visibilities', dtype: 'complex64', shape: [4, 2] })
    .add({ name: 'half', dtype: '<f2', shape: [8] })
    .add({ name: 'time', dtype: '>M8[ns]' })
    .add({ name: 'text', dtype: 'S16' })
    .add({ name: 'packed', format: [['u', 10]], shape: [1024] })
    .add({ name: 'short', dtype: '<i2' })
    .add({ name: 'kept', dtype: '<i2', allowImmediate: false })
    .add({ name: 'three', dtype: 'u1', shape: [3, 1] })
    .add({ name: 'seven', dtype: 'u1', shape: [7] })
    .add({ name: 'letter', dtype: 'U1' })
  const batch = stream.createBatch({ items, heaps: 64 })
  const heap = batch.heap(0)
  same<Int8Array>()(heap.adc_samples)
  same<BigInt64Array>()(heap.wide)
  same<BigUint64Array>()(heap.unsigned_wide)
  same<BigEndianView>()(heap.swapped)
  same<BigEndianBigIntView>()(heap.swapped_wide)
  same<Float32Array>()(heap.visibilities)
  same<Uint16Array>()(heap.half)
  same<BigEndianBigIntView>()(heap.time)
  same<Uint8Array>()(heap.text)
  same<Uint8Array>()(heap.packed)
  same<Int16Array>()(heap.kept)
  same<Uint8Array>()(heap.seven)
  for (const view of batch.item('adc_samples')) same<Int8Array>()(view)
  for (const name of ['timestamp', 'short', 'three', 'letter'] as const) batch.immediate(name).setRamp(0, 8192)
  batch.immediate('timestamp').setRamp([0, 1, 2], 8192, { per: 'substream' })
  // @ts-expect-error misspelt
  heap.adc_sample
  // @ts-expect-error an immediate has no view
  heap.timestamp
  // @ts-expect-error nor has a short one
  heap.short
  // @ts-expect-error misspelt
  batch.item('adc_sample')
  // @ts-expect-error an immediate has no view
  batch.item('timestamp')
  // @ts-expect-error misspelt
  batch.immediate('timestmp')
  // @ts-expect-error no immediate
  batch.immediate('adc_samples')
  // @ts-expect-error not in SPEAD-64-48
  batch.immediate('seven')
  // @ts-expect-error a store by index would not swap
  heap.swapped[0] = 1
  // @ts-expect-error a bigint is wanted
  heap.swapped_wide.fill(1000)
  // @ts-expect-error a view is written into, not replaced
  heap.adc_samples = new Int8Array(8192)
  // @ts-expect-error no such way to count
  batch.immediate('timestamp').setRamp(0, 1, { per: 'endpoint' })
  // @ts-expect-error misspelt
  items.get('adc_sample')
  items.get('adc_samples').value = new Int8Array(8192)
  items.get(0x3300).value = null
  await stream.send(batch)
  const batches: Batch<{ adc_samples: Int8Array }>[] = [batch]
  // @ts-expect-error another view
  const others: Batch<{ adc_samples: Int16Array }>[] = [batch]
  void [batches, others]

  const ring = createBatchRing(stream, { items, heaps: 4 })
  same<Int8Array>()(ring[0]!.heap(0).adc_samples)
  // @ts-expect-error misspelt
  ring[0]!.heap(0).adc_sample
  sampleWriter(stream, { items, item: 'adc_samples', timestamp: 'timestamp' })
  // @ts-expect-error misspelt
  sampleWriter(stream, { items, item: 'adc_sample', timestamp: 'timestamp' })
  // @ts-expect-error no immediate
  sampleWriter(stream, { items, item: 'adc_samples', timestamp: 'wide' })
  const region = Region.allocate(8192)
  stream.createBatch({ items, heaps: 1, memory: { adc_samples: { region } } })
  // @ts-expect-error misspelt
  stream.createBatch({ items, heaps: 1, memory: { adc_sample: { region } } })
  // @ts-expect-error misspelt
  stream.createBatch({ items, heap: 1 })

  const handle = batch.handle()
  const attached = attachBatch(handle)
  same<Int8Array>()(attached.heap(0).adc_samples)
  attached.immediate('timestamp')
  // @ts-expect-error misspelt
  attached.heap(0).adc_sample
  const kept: AttachedBatch<{ adc_samples: Int8Array }> = attached
  void kept
}

/** Programs as people write them: batches of several kinds in a list, helpers of any group, groups in loops. */
export async function ordinary(stream: Stream<48>, big: boolean, count: number) {
  const samples = new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [64] }).add({ name: 'timestamp', format: [['u', 48]] })
  const counts = new ItemGroup().add({ name: 'y', dtype: '<i8', shape: [64] }).add({ name: 'z', dtype: '>i2', shape: [64] })
  const several = [stream.createBatch({ items: samples, heaps: 1 }), stream.createBatch({ items: counts, heaps: 1 })]
  for (const batch of several) await stream.send(batch)
  const any: Batch<object>[] = several
  await Promise.all(any.map((batch) => stream.send(batch)))
  const sendAllOf = <T extends object>(batches: readonly Batch<T>[]) => batches.map((batch) => stream.send(batch))
  sendAllOf(any)
  // @ts-expect-error no batch
  stream.send(samples.getHeap())

  const batchOf = <G>(items: ItemGroup<G>) => stream.createBatch({ items, heaps: 1 })
  same<Int8Array>()(batchOf(samples).heap(0).x)
  batchOf(samples).immediate('timestamp')
  const timed = <G>(items: ItemGroup<G>) => items.add({ name: 'time', format: [['u', 48]] })
  batchOf(timed(counts)).immediate('time')
  same<BigEndianView>()(batchOf(timed(counts)).heap(0).z)

  let beams: ItemGroup = new ItemGroup()
  for (let i = 0; i < count; i++) beams = beams.add({ name: `beam_${i}`, dtype: 'i1', shape: [64] })
  for (let i = 0; i < count; i++) beams.add({ name: `time_${i}`, format: [['u', 48]] })
  batchOf(beams).heap(0).beam_1!.fill(1)
  const ofBeam = batchOf(new ItemGroup().add({ name: `beam_${count}`, dtype: 'i1', shape: [64] }))
  ofBeam.heap(0)[`beam_${count}`]!.fill(1)

  const either = batchOf(
    new ItemGroup()
      .add({ name: 'x', dtype: big ? '<f8' : 'i1' })
      .add({ name: 'gain', dtype: '<u4', allowImmediate: big })
      .add({ name: 'flag', dtype: big ? '<u2' : 'u1' }),
  )
  either.heap(0).x.fill(1)
  either.immediate('x')
  same<Uint32Array>()(either.heap(0).gain)
  either.immediate('gain')
  either.immediate('flag')
  // @ts-expect-error an immediate in either case
  either.heap(0).flag
}

export async function replaced(stream: Stream<48>) {
  const items = new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [64] }).add({ name: 'x', dtype: '<f4', shape: [64] })
  same<Float32Array>()(stream.createBatch({ items, heaps: 1 }).heap(0).x)
}

/** By hand: a type argument must be what the items say, and where they say nothing, `views` are checked when the program runs. */
export async function byHand(stream: Stream) {
  const items = new ItemGroup()
    .add({ name: 'timestamp', format: [['u', 48]] })
    .add({ name: 'x', dtype: '>i2', shape: [64] })
    .add({ name: 'y', dtype: 'i1', shape: [64] })
  const batch = stream.createBatch<{ y: Int8Array }>({ items, heaps: 1 })
  same<Int8Array>()(batch.heap(0).y)
  batch.immediate('timestamp')
  // @ts-expect-error an Int16Array would send the other byte order
  stream.createBatch<{ x: Int16Array }>({ items, heaps: 1 })
  // @ts-expect-error a Float32Array over i1 would turn 1.5 into 1
  stream.createBatch<{ y: Float32Array }>({ items, heaps: 1 })
  // @ts-expect-error no such item
  stream.createBatch<{ z: Int8Array }>({ items, heaps: 1 })
  // @ts-expect-error another view
  stream.createBatch({ items, heaps: 1, views: { y: Float32Array } })
  // @ts-expect-error no such item
  stream.createBatch({ items, heaps: 1, views: { z: Int8Array } })
  same<BigEndianView>()(stream.createBatch({ items, heaps: 1, views: { x: BigEndianView } }).heap(0).x)
}

export async function unknown(stream: Stream, plain: ItemGroup, name: string, item: Item) {
  const unchained = new ItemGroup()
  unchained.add({ name: 'x', dtype: '<i2', shape: [64] })
  for (const items of [plain, unchained, new ItemGroup().add({ name, dtype: 'i1' }), new ItemGroup().add(item)]) {
    const batch = stream.createBatch({ items, heaps: 1 })
    batch.heap(0).x!.fill(1)
    batch.immediate('t').fill(1)
    // @ts-expect-error nothing says that it is one
    stream.createBatch<{ x: Int16Array }>({ items, heaps: 1 })
    const typed = stream.createBatch({
      items,
      heaps: 1,
      views: { x: Int16Array, wide: BigInt64Array, swapped: BigEndianBigIntView },
    })
    same<Int16Array>()(typed.heap(0).x)
    same<BigInt64Array>()(typed.heap(0).wide)
    same<BigEndianBigIntView>()(typed.heap(0).swapped)
    // @ts-expect-error misspelt
    typed.heap(0).y
    // @ts-expect-error no class of a view
    stream.createBatch({ items, heaps: 1, views: { x: Date } })
    same<Int16Array>()(createBatchRing(stream, { items, heaps: 1, views: { x: Int16Array } })[0]!.heap(0).x)
    sampleWriter(stream, { items, item: 'x', timestamp: 't' })
  }
  const wider: ItemGroup = new ItemGroup().add({ name: 'x', dtype: 'i1' })
  stream
    .createBatch({ items: plain.add({ name: 'y', dtype: 'i1' }), heaps: 1 })
    .heap(0)
    .x!.fill(1)
  void wider
  // biome-ignore lint/suspicious/noExplicitAny: as workerData is
  const workerData: any = undefined
  attachBatch(workerData).heap(0).x!.fill(1)
  same<Int16Array>()(attachBatch(workerData, { views: { x: Int16Array } }).heap(0).x)
  // @ts-expect-error nothing says that it is one
  attachBatch<{ x: Int16Array }>(workerData)
}

/** Whether an item is an immediate depends on the flavour, and on shapes that only the running program knows. */
export async function flavours(anyStream: Stream, options: StreamOptions, samples: number) {
  const items = new ItemGroup()
    .add({ name: 'timestamp', format: [['u', 48]] })
    .add({ name: 'flag', dtype: '?' })
    .add({ name: 'x', dtype: 'i1', shape: [samples] })
  const narrow = await openStream({ to: '127.0.0.1:7148', flavour: { heapAddressBits: 40 } })
  const batch = narrow.createBatch({ items, heaps: 1 })
  same<Uint8Array>()(batch.heap(0).timestamp)
  // @ts-expect-error 48 bits are too many for SPEAD-64-40
  batch.immediate('timestamp')
  for (const stream of [anyStream, await openStream(options)]) {
    const either = stream.createBatch({ items, heaps: 1 })
    same<Uint8Array>()(either.heap(0).timestamp)
    either.immediate('timestamp')
    either.immediate('flag')
    // @ts-expect-error an immediate in every flavour
    either.heap(0).flag
    same<Int8Array>()(either.heap(0).x)
    either.immediate('x')
  }
  const wider: Stream = narrow
  void wider
}

export async function words(rate: string, dtype: string, code: string) {
  // @ts-expect-error no dtype
  new ItemGroup().add({ name: 'x', dtype: 'int99' })
  // @ts-expect-error no dtype
  new Item({ id: 0x1000, name: 'x', dtype: '<i3' })
  // @ts-expect-error not known to be one
  new ItemGroup().add({ name: 'x', dtype })
  new ItemGroup().add({ name: 'x', dtype: dtype as DtypeText })
  // @ts-expect-error misspelt
  new ItemGroup().add({ name: 'x', dtype: 'i1', shap: [64] })
  // @ts-expect-error no such code
  new ItemGroup().add({ name: 'x', format: [['q', 48]] })
  // @ts-expect-error no such float
  new ItemGroup().add({ name: 'x', format: [['f', 16]] })
  // @ts-expect-error a list of fields
  new ItemGroup().add({ name: 'x', format: ['u', 48] })
  new ItemGroup().add({ name: 'x', format: [[code, 48] as FormatField] })
  const all = [
    '|b1',
    '=u2',
    '>c16',
    '<U3',
    'a5',
    'V7',
    '>m8[25us]',
    'datetime64[D]',
    'longdouble',
    'clongdouble',
    '<g',
    '>q',
  ] as const
  for (const each of all) new ItemGroup().add({ name: 'x', dtype: each })

  // @ts-expect-error no unit
  await openStream({ to: '127.0.0.1:7148', rate: '10' })
  // @ts-expect-error no such unit
  await openStream({ to: '127.0.0.1:7148', rate: '10Gb' })
  // @ts-expect-error bits or bytes?
  await openStream({ to: '127.0.0.1:7148', rate: '10GBps' })
  // @ts-expect-error neither
  await openStream({ to: '127.0.0.1:7148', rate: '10Gi' })
  // @ts-expect-error twice a second
  await openStream({ to: '127.0.0.1:7148', rate: '10Gbps/s' })
  // @ts-expect-error not known to be one
  await openStream({ to: '127.0.0.1:7148', rate })
  await openStream({ to: '127.0.0.1:7148', rate: parseRate(rate) })
  const rates = [
    ...(['10Gbps', '1.25 GB/s', '100MiB/s', '1e3 kbps', '0', '890 Mb/s', '10G', '10g', '10 gbps', '10GBPS', '1Gbit/s'] as const),
    ...(['50%', '12.5 %', '1TiB/s', '8Mibit/s', '1GB/S', '1Gbit'] as const),
  ]
  for (const each of rates) await openStream({ to: '127.0.0.1:7148', rate: each })
  // @ts-expect-error misspelt
  await openStream({ to: '127.0.0.1:7148', ratee: '10Gbps' })
  await openStream({
    to: '127.0.0.1:7148',
    backend: 'memory',
    memory: { keepPackets: false, failAt: (row) => (row === 2 ? 1 : undefined) },
  })
  // @ts-expect-error misspelt
  await openStream({ to: '127.0.0.1:7148', backend: 'memory', memory: { keepPacket: false } })
  // @ts-expect-error no errno
  await openStream({ to: '127.0.0.1:7148', backend: 'memory', memory: { failAt: () => 'EPERM' } })
}

/** Views of structured items know what their fields hold, where the text of the dtype does. */
export async function structured(text: string) {
  const stream = await openStream({ to: '127.0.0.1:7148' })
  const items = new ItemGroup()
    .add({ name: 'voltage', dtype: '[("re","<i2"),("im", "<i2")]', shape: [64] })
    .add({ name: 'pulse', dtype: "[('at', '<u8'), ('label', 'S8'), ('x', '<f4', (3,)), ('n', [('a', 'u1')])]", shape: [8] })
    .add({ name: 'other', dtype: text as `[${string}]`, shape: [8] })
  const { voltage, pulse, other } = stream.createBatch({ items, heaps: 1 }).heap(0)
  same<FieldView<number>>()(voltage.field('re'))
  same<FieldView<number>>()(voltage.field('im'))
  same<FieldView<bigint>>()(pulse.field('at'))
  same<FieldView<Uint8Array>>()(pulse.field('label'))
  same<FieldView<number>>()(pulse.field('x'))
  pulse.struct('n').field('a').fill(1)
  other.field('x').set(Float32Array.of(1, 2))
  // @ts-expect-error a bigint
  pulse.field('at').set(0, 1)
  voltage.bytes satisfies Uint8Array
  // @ts-expect-error no typed array
  voltage.subarray(0)
  stream
    .createBatch({ items: new ItemGroup(), heaps: 1, views: { voltage: StructView } })
    .heap(0)
    .voltage.field('re')
    .get(0)
}
