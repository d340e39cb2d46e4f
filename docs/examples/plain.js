/**
 * Sends heaps from plain JavaScript on Node 20. It calls `close()` in `finally`, because Node 20 has no `await using`.
 *
 *     $ node docs/examples/plain.js
 *     64 heaps in 64 packets, 524288 bytes, accepted
 *     0 heaps dropped at the end
 */
import { ItemGroup, openStream } from 'speadcast'

const [to = '127.0.0.1:7148'] = process.argv.slice(2)
const stream = await openStream({ to, packetSizeBytes: 8972, rate: '1Gbps' })
try {
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [8192] })
  const batch = stream.createBatch({ items, heaps: 64 })
  let index = 0
  for (const samples of batch.item('adc_samples')) samples.fill(index++) // one heap's after the other's
  batch.immediate('timestamp').setRamp(0, 8192)
  const { heaps, packets, payloadBytes, evidence } = await stream.send(batch)
  console.log(`${heaps} heaps in ${packets} packets, ${payloadBytes} bytes, ${evidence}`)
  await stream.sendEnd()
} finally {
  const { droppedHeaps } = await stream.close({ deadlineSeconds: 5 })
  console.log(`${droppedHeaps} heaps dropped at the end`)
}
