/**
 * Sends a file of samples as heaps, at a rate, and says how far it is. A minute is the deadline: what has not left by then is withdrawn,
 * and the program ends with an error.
 *
 *     $ head -c 20000000 /dev/zero >samples.i1
 *     $ npx tsx docs/examples/send-file.ts samples.i1 127.0.0.1:7148
 *     25 %
 *     50 %
 *     75 %
 *     100 %
 *     2442 heaps, 20000000 bytes of samples.i1 sent in … s
 *     $ rm samples.i1
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { ItemGroup, openStream, sampleWriter } from 'speadcast'

const [file = 'samples.i1', to = '127.0.0.1:7148'] = process.argv.slice(2)
const deadline = AbortSignal.timeout(60_000)
const start = performance.now()

await using stream = await openStream({ to, packetSizeBytes: 8972, rate: '50MB/s' })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [8192] })

const { size } = await stat(file)
let sentBytes = 0
let told = 0
const writer = sampleWriter(stream, {
  items,
  item: 'adc_samples',
  timestamp: 'timestamp', // counts samples, from 0
  signal: deadline,
  onSettled: ({ sampleBytes, error }) => {
    if (error) throw error
    sentBytes += sampleBytes
    for (; told < 4 && sentBytes >= ((told + 1) / 4) * size; told++) console.log(`${25 * (told + 1)} %`)
  },
})
// Reading waits while all batches of the writer are under way, so memory stays constant.
for await (const chunk of createReadStream(file)) await writer.write(chunk)
const { heaps, sampleBytes } = await writer.end() // the last heap has what is left
await stream.sendEnd()
console.log(`${heaps} heaps, ${sampleBytes} bytes of ${file} sent in ${((performance.now() - start) / 1000).toFixed(1)} s`)
