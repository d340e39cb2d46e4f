/** Sends a paced batch between whose heaps descriptors go, closes, and says so. Nothing else keeps the process. */
import { ItemGroup, openStream, type StreamOptions } from 'speadcast'

const stream = await openStream({
  to: '127.0.0.1:9',
  descriptors: { everySeconds: 0.002 },
  rate: 40_000,
  burstBytes: 1,
  ...(JSON.parse(process.argv[2]!) as Partial<StreamOptions>),
})
const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [100] })
for (let i = 0; i < 3; i++) {
  await stream.send(stream.createBatch({ items, heaps: 2 }))
  await stream.flush()
}
await stream.close()
console.log('closed')
