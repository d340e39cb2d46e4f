/** Sends three heaps to PORT with BACKEND. Prints the backend and the result, or the error. */
import { ItemGroup, openStream, type SpeadcastError, type StreamOptions } from 'speadcast'
import { print } from '../support/print.js'

const [port, backend] = process.argv.slice(2) as [string, NonNullable<StreamOptions['backend']>]
try {
  await using stream = await openStream({ to: `127.0.0.1:${port}`, backend, descriptors: 'none' })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'samples', dtype: 'u2', shape: [1000] })
  const batch = stream.createBatch({ items, heaps: 3 })
  for (let j = 0; j < 3; j++) batch.heap(j).samples.fill(j + 1)
  batch.immediate('timestamp').setRamp(5, 1000)
  const result = await stream.send(batch)
  print({ backend: stream.backend, reason: stream.reason, ...result })
} catch (error) {
  const { code, message } = error as SpeadcastError
  print({ code, message })
}
