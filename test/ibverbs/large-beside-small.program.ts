/**
 * Two streams of one thread (WORKER or INLINE): one sends a batch of so many bytes, the other twenty small ones meanwhile. Prints 'large' or its
 * failure, and 'small', in the order in which they settled.
 */
import { ItemGroup, openStream, type SendError, type Stream, type StreamOptions } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [to, thread, bytes] = process.argv.slice(2) as [string, 'worker' | 'inline', string]
const options: StreamOptions = {
  to,
  backend: 'ibverbs',
  packetSizeBytes: 1400,
  thread,
  descriptors: 'none',
  ...(thread === 'worker' && { ioThreads: 1 }),
}
const batchOf = (stream: Stream, length: number) => {
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [length] })
  return stream.createBatch({ items, heaps: 1 })
}

const [large, small] = await Promise.all([openStream(options), openStream(options)])
const settled: string[] = []
const few = batchOf(small, 5000)
await small.send(few)
const sending = large.send(batchOf(large, Number(bytes))).then(
  () => settled.push('large'),
  (error: SendError) => settled.push(error.outcome.causes[0]!.message),
)
for (let i = 0; i < 20; i++) {
  await small.send(few)
  settled.push('small')
}
await sending
await Promise.all([large.close(), small.close()])
print(settled)
