/**
 * Pipes a WHATWG stream of bytes, such as the body of a response, into heaps. Two batches hold all that is read ahead, one that is filled and one
 * that is sent, however fast the source is. The last heap is as long as what is left. A signal ends a second stream, which has no end.
 *
 *     $ npx tsx docs/examples/whatwg-stream.ts
 *     piped 4000000 bytes, never more than … of them ahead of the sender
 *     stopped by a signal: The operation was aborted due to timeout
 *     received … heaps, all samples right; the shortest has 2304
 */
import { ItemGroup, openStream, sampleWriter, toWritable } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [to = '127.0.0.1:7227'] = process.argv.slice(2)
const heapBytes = 8192
await using receiver = await openReceiver({ endpoints: to })
await using stream = await openStream({ to, packetSizeBytes: 8972, rate: '200Mbps' })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'u1', shape: [heapBytes] })

let given = 0
let most = 0

/** Makes samples when it is asked for some, in pieces of 10,000: sample n is n % 251. */
function source(end: number): ReadableStream<Uint8Array> {
  let at = 0
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const piece = Uint8Array.from({ length: Math.min(10_000, end - at) }, (_, k) => (at + k) % 251)
    controller.enqueue(piece)
    at += piece.length
    given += piece.length
    most = Math.max(most, given - stream.stats().heapsSent * heapBytes)
    if (at === end) controller.close()
  }
  return new ReadableStream({ pull })
}

async function check(): Promise<string> {
  let heaps = 0
  let wrong = 0
  let shortest = heapBytes
  for await (const { items } of receiver) {
    const samples = items.get(0x3300)?.bytes
    if (!samples) continue
    const first = Number(items.get(0x1600)?.value)
    heaps++
    shortest = Math.min(shortest, samples.length)
    for (const [k, sample] of samples.entries()) if (sample !== (first + k) % 251) wrong++
  }
  return `${heaps} heaps, ${wrong === 0 ? 'all' : `${wrong} not`} samples right; the shortest has ${shortest}`
}

const intoHeaps = () =>
  toWritable(sampleWriter(stream, { items, item: 'adc_samples', timestamp: 'timestamp', heapsPerBatch: 16, batches: 2 }))
const checked = check()
await source(4_000_000).pipeTo(intoHeaps())
console.log(`piped ${given} bytes, never more than ${most} of them ahead of the sender`)

const signal = AbortSignal.timeout(50)
try {
  await source(Infinity).pipeTo(intoHeaps(), { signal })
} catch (error) {
  console.log(`stopped by a signal: ${(error as Error).message}`)
}
await stream.sendEnd()
console.log(`received ${await checked}`)
