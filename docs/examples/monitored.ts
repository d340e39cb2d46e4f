/**
 * Sends heaps while it serves its metrics to Prometheus, then looks at them itself.
 *
 *     $ npx tsx docs/examples/monitored.ts
 *     serving http://127.0.0.1:…/metrics
 *     speadcast_heaps_sent_total{stream="beam",backend="…",site="karoo"} 65
 *     /readyz: 200 1 source open
 *     /readyz: 503 stream beam is not open
 */
import { ItemGroup, openStream } from 'speadcast'
import { metrics, serveMetrics } from 'speadcast/metrics'

const [to = '127.0.0.1:7148'] = process.argv.slice(2)
const stream = await openStream({ to, packetSizeBytes: 8972, rate: '1Gbps' })
const registry = metrics([], { process: true, labels: { site: 'karoo' } }).add(stream, { name: 'beam' })
// Port 0 takes any free one; Prometheus wants one that it knows, such as 9400.
const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 })
console.log(`serving ${server.url}/metrics`)

const items = new ItemGroup().add({
  id: 0x3300,
  name: 'adc_samples',
  description: 'ADC converter output',
  dtype: 'i1',
  shape: [8192],
})
await stream.send(stream.createBatch({ items, heaps: 64 }))

const text = await (await fetch(`${server.url}/metrics`)).text()
console.log(text.split('\n').find((line) => line.startsWith('speadcast_heaps_sent_total'))) // 64 and their descriptors
await ready()
await stream.close()
await ready()
await server.close()

async function ready(): Promise<void> {
  const response = await fetch(`${server.url}/readyz`)
  console.log(`/readyz: ${response.status} ${(await response.text()).trim()}`)
}
