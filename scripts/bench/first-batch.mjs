// A newcomer's program, for `--measure startup` and `--measure rss`: it sends one batch of one heap and ends, or, with --batches N,
// sends N batches of 64 × 8 KiB in turn until it is told to stop.
import { parseArgs } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { thread: { type: 'string' }, batches: { type: 'string' } },
})
const stream = await openStream({ to: positionals[0], ...(values.thread && { thread: values.thread }) })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [8192] })

if (values.batches === undefined) {
  const batch = stream.createBatch({ items, heaps: 1 })
  batch.heap(0).adc_samples.fill(1)
  batch.immediate('timestamp')[0] = 0
  stream.send(batch)
  await stream.close()
} else {
  const batches = Array.from({ length: Number(values.batches) }, () => stream.createBatch({ items, heaps: 64 }))
  let running = true
  process.once('SIGTERM', () => {
    running = false
  })
  for (let b = 0; running; b++) {
    const batch = batches[b % batches.length]
    await batch.free
    for (let j = 0; j < 64; j++) batch.heap(j).adc_samples.fill(b)
    batch.immediate('timestamp').setRamp(b * 64 * 8192, 8192)
    stream.send(batch)
  }
  await stream.close()
}
