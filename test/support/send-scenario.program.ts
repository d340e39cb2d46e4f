/**
 * SCENARIO: sends what peers/spead2_receiver.py expects. Element k (C order) of item number i in heap number j is value(j, i, k), as in the
 * receiver. Prints { heaps, stats }.
 */
import {
  type BatchResult,
  BigEndianBigIntView,
  BigEndianView,
  ItemGroup,
  type ItemInit,
  type ItemValue,
  makeFlavour,
  type NumericView,
  openStream,
  type StreamOptions,
} from '#dist/src/index.js'
import { print } from './print.js'
import type { InteropItem, Scenario } from './spead2-receiver.js'

const scenario = JSON.parse(process.argv[2]!) as Scenario & { options: StreamOptions }
const { options, how, heaps, items, batchHeaps = heaps, groupMode = 'serial', substreams, partial } = scenario

const value = (j: number, i: number, k: number) => (j * 7 + k * 3 + i) % 50
const elements = (shape: readonly number[]) => shape.reduce((n, dim) => n * dim, 1)

/** One number as a JS value of the item's type. */
function element({ dtype, format }: InteropItem, v: number): ItemValue {
  const kind = dtype?.replace(/^[<>|=]/, '')[0]
  if (format) {
    const fields = format.map(([code]) => (code === 'b' ? (v % 8) % 2 === 1 : v % 8))
    return fields.length === 1 ? fields[0]! : fields
  }
  if (kind === 'b') return v % 2 === 1
  if (kind === 'c') return [v, v + 1]
  if (kind === 'S' || kind === 'U') return String(v)
  if (kind === 'M' || kind === 'm') return BigInt(v)
  return v
}

/** Nested arrays of the item's shape. */
function nested(item: InteropItem, j: number, i: number, shape: readonly number[] = item.shape, from = 0): ItemValue {
  if (item.format?.length === 1 && item.format[0]![0] === 'c')
    return Array.from({ length: elements(item.shape) }, (_, k) => String.fromCharCode(65 + (value(j, i, k) % 26))).join('')
  if (shape.length === 0) return element(item, value(j, i, from))
  const step = elements(shape.slice(1))
  return Array.from({ length: shape[0]! }, (_, n) => nested(item, j, i, shape.slice(1), from + n * step)) as ItemValue
}

type View = NumericView | BigInt64Array | BigUint64Array | BigEndianView | BigEndianBigIntView

/** Writes numbers into a batch's view. A big-endian one swaps them. */
function fill(view: View, item: InteropItem, j: number, i: number): void {
  const kind = item.dtype!.match(/^[<>|=]?(.)/)![1]
  for (let k = 0; k < view.length; k++) {
    let v = kind === 'c' ? value(j, i, Math.floor(k / 2)) + (k % 2) : value(j, i, k)
    if (kind === 'b') v %= 2
    if (view instanceof BigInt64Array || view instanceof BigUint64Array) view[k] = BigInt(v)
    else if (view instanceof BigEndianBigIntView) view.set(k, BigInt(v))
    else if (view instanceof BigEndianView) view.set(k, v)
    else view[k] = v
  }
}

const stream = await openStream(options)
// `index` tells the receiver which heap it looks at; alone in an ItemGroup it is an immediate.
const INDEX: ItemInit = { id: 0x1000, name: 'index', description: 'number of the heap', format: [['u', 32]] }
const initOf = (item: InteropItem, i: number) => ({ description: `item ${i}`, id: 0x2000 + i, ...item }) as ItemInit
const substreamOf = (j: number) => (substreams ? substreams[j % substreams.length]! : j % stream.endpoints.length)
const results: Promise<BatchResult>[] = []

if (how === 'batch') {
  const group = new ItemGroup().add(INDEX)
  for (const [i, item] of items.entries()) group.add(initOf(item, i))
  const createBatch = () => stream.createBatch({ items: group as ItemGroup, heaps: batchHeaps, groupMode, substreams: substreamOf })
  const batches = [createBatch(), createBatch()] as const
  for (let j = 0, b = 0; j < heaps; b++) {
    const batch = batches[b % 2]!
    await batch.free
    const count = Math.min(partial && b % 2 ? partial : batchHeaps, heaps - j)
    for (let n = 0; n < count; n++) for (const [i, item] of items.entries()) fill(batch.heap(n)[item.name] as View, item, j + n, i)
    batch.immediate('index').setRamp(j, 1)
    results.push(stream.send(batch, { heaps: count }))
    j += count
  }
} else {
  const flavour = makeFlavour(options.flavour ?? {})
  const group = new ItemGroup({ flavour }).add({ ...INDEX, value: 0 })
  for (const [i, item] of items.entries()) group.add({ ...initOf(item, i), value: nested(item, 0, i) })
  const heapOf = (j: number) => {
    group.get('index')!.value = j
    for (const [i, item] of items.entries()) group.get(item.name)!.value = nested(item, j, i)
    // Every substream's receiver needs the descriptors once. Sent singly, the first heaps carry them; where heaps take turns, those
    // behind the first would be through before it.
    return group.getHeap({ descriptors: how === 'sendHeap' && j < stream.endpoints.length ? 'all' : 'none', data: 'all' })
  }
  if (how === 'sendHeap') {
    for (let j = 0; j < heaps; j++) results.push(stream.sendHeap(heapOf(j), { substream: substreamOf(j) }))
  } else {
    const descriptors = group.getHeap({ descriptors: 'all', data: 'none' })
    await stream.sendHeaps(
      stream.endpoints.map((_, substream) => ({ heap: descriptors, substream })),
      'serial',
    )
    for (let j = 0; j < heaps; j += batchHeaps) {
      const references = Array.from({ length: Math.min(batchHeaps, heaps - j) }, (_, n) => ({
        heap: heapOf(j + n),
        substream: substreamOf(j + n),
      }))
      results.push(stream.sendHeaps(references, groupMode))
    }
  }
}
const settled = await Promise.all(results)
await stream.sendEnd()
const stats = stream.stats()
await stream.close()
print({ heaps: settled.reduce((sum, result) => sum + result.heaps, 0), stats })
