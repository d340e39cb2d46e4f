/** createBatch refuses in words, and leaves nothing behind. */
import { describe, expect, test } from 'vitest'
import { Region } from '#dist/ffi/memory/region.js'
import { type BatchOptions, ItemGroup, type ItemInit, type Stream } from '#dist/src/index.js'
import { groupOf, memoryStream, samples, timestamp } from './support.js'

const group = (...inits: ItemInit[]): ItemGroup => inits.reduce((items: ItemGroup, init) => items.add(init), new ItemGroup())
const ADC = { id: 0x3300, name: 'adc', dtype: '<i2', shape: [4096] } as const

function refusal(stream: Stream, options: Partial<BatchOptions>): { code: string; message: string } {
  try {
    stream.createBatch({ items: group(ADC), heaps: 2, ...options })
  } catch (error) {
    return error as { code: string; message: string }
  }
  return { code: 'none', message: '' }
}

test.for([
  [{ items: group() }, 'ITEM', /the item group is empty/],
  [
    { items: group({ id: 1024, name: 'v', format: [['u', 8]], shape: [null] }) },
    'ITEM',
    /'v' has a variable shape.*use|send it with sendHeap/,
  ],
  [{ heaps: 0 }, 'CONFIG', /heaps is 0/],
  [{ heaps: 1.5 }, 'CONFIG', /heaps is 1.5/],
  [{ heaps: 2 ** 24 }, 'CONFIG', /2\^24/],
  [{ heaps: '3' as never }, 'CONFIG', /heaps is '3'/],
  [{ items: {} as never }, 'CONFIG', /must be an ItemGroup/],
  [{ groupMode: 'parallel' as never }, 'CONFIG', /'serial', 'round-robin' or 'by-substream'/],
  [{ heap: 3 } as never, 'CONFIG', /unknown option 'heap'/],
  [{ substreams: 2 }, 'SUBSTREAM', /substream is 2; the stream has 2 endpoints, 0 to 1/],
  [{ substreams: [0] }, 'SUBSTREAM', /substream is undefined/],
  [{ substreams: (j: number) => j / 2 }, 'SUBSTREAM', /substream is 0.5/],
  [{ substreams: () => -1 }, 'SUBSTREAM', /substream is -1/],
  [{ rates: [1e6, 1e6] }, 'CONFIG', /rates per heap need a stream with a rate/],
  [{ items: group({ ...ADC, value: [1, 2] }) }, 'VALUE', /adc/],
  [{ items: group({ id: 1024, name: 't', format: [['u', 8]], value: 256 }) }, 'VALUE', /256/],
] as [Partial<BatchOptions>, string, RegExp][])('%o: %s', async ([options, code, message]) => {
  const stream = await memoryStream({ to: ['10.0.0.1:7148', '10.0.0.2:7148'] })
  expect(refusal(stream, options)).toMatchObject({ code: `ERR_SPEADCAST_${code}`, message: expect.stringMatching(message) })
})

test.for([
  [[1e6], /rates has 1 entry for 2 heaps/],
  [[1e6, -2], /heap rate is -2/],
  [[Number.NaN, 0], /heap rate is NaN/],
  [[Number.POSITIVE_INFINITY, 0], /heap rate is Infinity/],
] as [number[], RegExp][])('rates %o', async ([rates, message]) => {
  const stream = await memoryStream({ rate: '1GB/s' })
  expect(refusal(stream, { rates })).toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) })
})

describe('memory of the user', () => {
  test('must hold every heap, aligned, and be of an item that has samples', async () => {
    const stream = await memoryStream()
    const items = groupOf([timestamp(), samples('adc', '<i2', [4096])])
    // Two heaps of 8192 bytes.
    const region = Region.allocate(16384, { hugePages: 'never' })
    const one = Region.allocate(8192, { hugePages: 'never' })
    const memory = (adc: object, name = 'adc') => refusal(stream, { items, memory: { [name]: adc as never } })
    expect(memory({ region }).code).toBe('none')
    expect(memory({ region, offsetBytes: 0, strideBytes: 8192 }).code).toBe('none')
    for (const [adc, message] of [
      [{ region: one }, /ends at byte 16384 of a region of 8192/],
      [{ region, offsetBytes: 2 }, /ends at byte 16386 of a region of 16384/],
      [{ region, strideBytes: 8194 }, /ends at byte 16386/],
      [{ region, strideBytes: 8190 }, /stride must be at least its 8192 bytes/],
      [{ region, strideBytes: 0 }, /stride must be at least/],
      [{ region, offsetBytes: -2 }, /offsetBytes -2/],
      [{ region, offsetBytes: 0.5 }, /offsetBytes 0.5/],
      [{ region: region.handle() }, /must be a Region/],
      [{}, /region is undefined/],
      [undefined, /region is undefined/],
      [new Uint8Array(16384), /region is undefined/],
    ] as [object, RegExp][])
      expect(memory(adc)).toMatchObject({ code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(message) })
    const three = Region.allocate(3 * 8192, { hugePages: 'never' })
    expect(memory({ region: three, offsetBytes: 1 })).toMatchObject({ message: expect.stringMatching(/multiples of 2/) })
    expect(memory({ region: three, strideBytes: 8193 })).toMatchObject({ message: expect.stringMatching(/multiples of 2/) })
    expect(memory({ region }, 'timestamp')).toMatchObject({
      code: 'ERR_SPEADCAST_MEMORY',
      message: expect.stringMatching(/sent as an immediate, which has a column instead/),
    })
    expect(memory({ region }, 'nobody').code).toBe('ERR_SPEADCAST_ITEM')
    await stream.close()
    for (const each of [region, one, three]) each.release()
  })

  test('that was given back is not sent from', async () => {
    const stream = await memoryStream()
    const region = Region.allocate(16384, { hugePages: 'never' })
    region.release()
    expect(refusal(stream, { memory: { adc: { region } } })).toMatchObject({
      code: 'ERR_SPEADCAST_MEMORY',
      message: expect.stringMatching(/released/),
    })
  })
})

test('a batch that is refused takes no memory', async () => {
  const stream = await memoryStream()
  const items = group(
    { id: 0x3301, name: 'large', dtype: '<i2', shape: [2 ** 23] },
    { id: 1024, name: 't', format: [['u', 8]], value: 256 },
  )
  const before = process.memoryUsage.rss()
  for (let i = 0; i < 20; i++) expect(refusal(stream, { items }).code).toBe('ERR_SPEADCAST_VALUE')
  // 20 × 32 MiB, if they stayed.
  expect(process.memoryUsage.rss() - before).toBeLessThan(200 << 20)
})

test('closing gives memory back: a hundred batches of 32 MiB, one after another', async () => {
  const stream = await memoryStream({ memory: { keepPackets: false } })
  const items = group({ id: 0x3301, name: 'large', dtype: '<i2', shape: [2 ** 23] })
  const before = process.memoryUsage.rss()
  for (let i = 0; i < 100; i++) {
    const batch = stream.createBatch({ items, heaps: 1, views: { large: Int16Array } })
    expect(batch.heap(0).large[i * 1000]).toBe(0)
    batch.heap(0).large.fill(i + 1)
    await stream.send(batch)
    batch.close()
    batch.close()
    expect(batch.state).toBe('closed')
    expect(() => stream.send(batch)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' }))
  }
  expect(process.memoryUsage.rss() - before).toBeLessThan(300 << 20)
})
