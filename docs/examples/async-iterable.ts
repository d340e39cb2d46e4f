/**
 * Sends heaps of any length from an async iterable: pulses, as a detector finds them, each with the samples around it. At most four of them
 * are under way, and the detector is asked for the next one when one has been sent. A signal ends a second search, which has no end.
 *
 *     $ npx tsx docs/examples/async-iterable.ts
 *     sent 300 pulses, never more than … at once
 *     stopped by a signal: enough pulses
 *     received … pulses, all as they were found
 */
import { setImmediate } from 'node:timers/promises'
import { type Heap, ItemGroup, openStream, sendAll } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [to = '127.0.0.1:7226'] = process.argv.slice(2)
await using receiver = await openReceiver({ endpoints: to })
await using stream = await openStream({ to, rate: '20Mbps' })
// A shape that varies takes a format, whose numbers are big-endian.
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'pulse', description: 'Samples around a pulse', format: [['i', 16]], shape: [null] })

/** The i-th pulse, of 10 to 1009 samples. */
const pulseOf = (i: number): Int16Array =>
  Int16Array.from({ length: 10 + ((i * 77) % 1000) }, (_, k) => 1000 * Math.exp(-((k - 5) ** 2) / 9) + (i % 100))

let most = 0
async function* pulses(first: number, end: number): AsyncGenerator<Heap> {
  for (let i = first; i < end; i++) {
    await setImmediate() // a detector would look at samples here
    items.get('timestamp').value = i * 4096
    items.get('pulse').value = pulseOf(i)
    most = Math.max(most, stream.stats().inFlight + 1)
    yield items.getHeap()
  }
}

async function check(): Promise<string> {
  let [heaps, right] = [0, 0]
  for await (const heap of receiver) {
    const bytes = heap.items.get(0x3300)?.bytes
    if (!bytes) continue
    const sent = pulseOf(Number(heap.items.get(0x1600)?.value) / 4096)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    heaps++
    if (bytes.length === 2 * sent.length && sent.every((sample, k) => sample === view.getInt16(2 * k))) right++
  }
  return `${heaps} pulses, ${right === heaps ? 'all' : right} as they were found`
}

const checked = check()
const { heaps } = await sendAll(stream, pulses(0, 300), { inFlight: 4 })
console.log(`sent ${heaps} pulses, never more than ${most} at once`)

const enough = new AbortController()
setTimeout(() => enough.abort(new Error('enough pulses')), 50)
try {
  await sendAll(stream, pulses(300, Infinity), { inFlight: 4, signal: enough.signal })
} catch (error) {
  console.log(`stopped by a signal: ${(error as Error).message}`)
}
await stream.sendEnd()
console.log(`received ${await checked}`)
