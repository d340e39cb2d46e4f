/** Opens streams one after the other, sends a heap with each, and prints the last error, if any, and the warnings. */
import { Heap, openStream, type Stream, type StreamOptions } from 'speadcast'
import { print } from '../support/print.js'

const warnings: string[] = []
process.on('warning', (warning) => warnings.push(`${(warning as NodeJS.ErrnoException).code} ${warning.message}`))
const streams: Stream[] = []
let failure: { code?: string; message: string } | undefined
try {
  for (const options of JSON.parse(process.argv[2]!) as StreamOptions[]) streams.push(await openStream(options))
  for (const stream of streams) await stream.sendHeap(new Heap())
  for (const stream of streams) await stream.close()
} catch (error) {
  failure = error as typeof failure
}
for (const stream of streams) await stream.destroy()
// Warnings come by the event loop.
await new Promise(setImmediate)
print({ ...(failure && { error: `${failure.code} ${failure.message}` }), warnings })
