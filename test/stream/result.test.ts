import { Heap, ItemGroup, type ItemInit, openStream } from 'speadcast'
import { expect, onTestFinished, test } from 'vitest'

const TIMESTAMP: ItemInit = { id: 0x1600, name: 'timestamp', format: [['u', 48]], value: 5 }
const SAMPLES: ItemInit = { id: 0x3300, name: 'adc_samples', dtype: '<i2', shape: [1000], value: new Int16Array(1000) }
const EMPTY: ItemInit = { id: 0x3301, name: 'nothing', dtype: 'f8', shape: [0, 3], value: new Float64Array(0) }

// Every packet of a heap without addressed data carries a byte of padding; it is not the user's.
test.for([
  ['immediates alone', [TIMESTAMP], 0],
  ['an immediate and samples', [TIMESTAMP, SAMPLES], 2000],
  ['an item without elements', [EMPTY], 0],
  ['all', [TIMESTAMP, EMPTY, SAMPLES], 2000],
] as const)('payloadBytes counts the data of addressed items: %s', async ([, inits, bytes]) => {
  const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', descriptors: 'none' })
  onTestFinished(() => stream.destroy())
  const items = new ItemGroup()
  for (const init of inits) items.add(init)
  const batch = stream.createBatch<object>({ items, heaps: 3 })
  expect(await stream.send(batch)).toMatchObject({ heaps: 3, payloadBytes: 3 * bytes })
  expect(await stream.send(batch, { heaps: 2 })).toMatchObject({ heaps: 2, payloadBytes: 2 * bytes })
  const heap = items.getHeap({ descriptors: 'none', data: 'all' })
  expect(await stream.sendHeaps([{ heap }, { heap }], 'round-robin')).toMatchObject({ heaps: 2, payloadBytes: 2 * bytes })
  expect(await stream.sendHeap(new Heap())).toMatchObject({ heaps: 1, payloadBytes: 0 })
  expect(await stream.sendEnd()).toMatchObject({ heaps: 1, payloadBytes: 0 })
})
