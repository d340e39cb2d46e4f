// send-scenario.mjs SCENARIO: sends what peers/spead2_receiver.py expects. { options, how, heaps, items, batchHeaps, groupMode, substreams, partial }.
// Element k (C order) of item number i in heap number j is value(j, i, k), as in the receiver.
import { ItemGroup, makeFlavour, openStream } from '#dist/src/index.js'

const { options, how, heaps, items, batchHeaps = heaps, groupMode = 'serial', substreams, partial } = JSON.parse(process.argv[2])

const value = (j, i, k) => (j * 7 + k * 3 + i) % 50
const elements = (shape) => shape.reduce((n, dim) => n * dim, 1)

/** One number as a JS value of the item's type. */
function element({ dtype, format }, v) {
  const kind = dtype?.replace(/^[<>|=]/, '')[0]
  if (format?.length > 1) return format.map(([code]) => (code === 'b' ? (v % 8) % 2 === 1 : v % 8))
  if (format?.[0][0] === 'b') return (v % 8) % 2 === 1
  if (format) return v % 8
  if (kind === 'b') return v % 2 === 1
  if (kind === 'c') return [v, v + 1]
  if (kind === 'S' || kind === 'U') return String(v)
  if (kind === 'M' || kind === 'm') return BigInt(v)
  return v
}

/** Nested arrays of the item's shape. */
function nested(item, j, i, shape = item.shape, from = 0) {
  if (item.format?.length === 1 && item.format[0][0] === 'c')
    return Array.from({ length: elements(item.shape) }, (_, k) => String.fromCharCode(65 + (value(j, i, k) % 26))).join('')
  if (shape.length === 0) return element(item, value(j, i, from))
  const step = elements(shape.slice(1))
  return Array.from({ length: shape[0] }, (_, n) => nested(item, j, i, shape.slice(1), from + n * step))
}

const SETTERS = { i1: 'Int8', u1: 'Uint8', i2: 'Int16', u2: 'Uint16', i4: 'Int32', u4: 'Uint32', f4: 'Float32', f8: 'Float64' }

/** Writes into a batch's view: numbers where the memory is native, bytes where the byte order is the other one. */
function fill(view, item, j, i) {
  const [, order, type] = item.dtype.match(/^([<>|=]?)(.*)$/)
  if (order !== '>') {
    const complex = type[0] === 'c' ? 2 : 1
    for (let k = 0; k < view.length; k++) {
      let v = value(j, i, Math.floor(k / complex)) + (complex === 2 ? k % 2 : 0)
      if (type[0] === 'b') v %= 2
      view[k] = view instanceof BigInt64Array || view instanceof BigUint64Array ? BigInt(v) : v
    }
    return
  }
  const bytes = Number(type.slice(1))
  const data = new DataView(view.buffer, view.byteOffset, view.byteLength)
  for (let k = 0; k < view.byteLength / bytes; k++) {
    if (bytes === 8 && type[0] !== 'f') data.setBigInt64(k * 8, BigInt(value(j, i, k)))
    else data[`set${SETTERS[type]}`](k * bytes, value(j, i, k))
  }
}

const stream = await openStream(options)
// `index` tells the receiver which heap it looks at; alone in an ItemGroup it is an immediate.
const INDEX = { id: 0x1000, name: 'index', description: 'number of the heap', format: [['u', 32]] }
const withIds = items.map((item, i) => ({ description: `item ${i}`, id: 0x2000 + i, ...item }))
const substreamOf = (j) => (substreams ? substreams[j % substreams.length] : j % stream.endpoints.length)
const results = []

if (how === 'batch') {
  const group = new ItemGroup().add(INDEX)
  for (const item of withIds) group.add(item)
  const batches = [0, 1].map(() => stream.createBatch({ items: group, heaps: batchHeaps, groupMode, substreams: substreamOf }))
  for (let j = 0, b = 0; j < heaps; b++) {
    const batch = batches[b % 2]
    await batch.free
    const count = Math.min(partial && b % 2 ? partial : batchHeaps, heaps - j)
    for (let n = 0; n < count; n++) for (const [i, item] of withIds.entries()) fill(batch.heap(n)[item.name], item, j + n, i)
    batch.immediate('index').setRamp(j, 1)
    results.push(stream.send(batch, { heaps: count }))
    j += count
  }
} else {
  const flavour = makeFlavour(options.flavour ?? {})
  const group = new ItemGroup({ flavour }).add({ ...INDEX, value: 0 })
  for (const [i, item] of withIds.entries()) group.add({ ...item, value: nested(item, 0, i) })
  const heapOf = (j) => {
    group.get('index').value = j
    for (const [i, item] of withIds.entries()) group.get(item.name).value = nested(item, j, i)
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
console.log(JSON.stringify({ heaps: settled.reduce((sum, result) => sum + result.heaps, 0), stats }))
