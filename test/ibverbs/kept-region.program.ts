/** Sends batches of two regions one after the other, three of each, and releases the regions. Prints what became of each batch. */
import { ItemGroup, openStream, Region } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [to, thread, bytes] = process.argv.slice(2) as [string, 'worker' | 'inline', string]
const stream = await openStream({ to, backend: 'ibverbs', packetSizeBytes: 1400, thread, descriptors: 'none' })
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [Number(bytes)] })
const said: string[] = []

async function sendThrice(region: Region): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const batch = stream.createBatch({ items, heaps: 1, memory: { samples: { region } } })
    said.push(
      await stream.send(batch).then(
        () => 'sent',
        (error: Error) => error.message,
      ),
    )
    batch.close()
  }
}

const first = Region.allocate(Number(bytes))
await sendThrice(first)
first.release()
const second = Region.allocate(Number(bytes))
await sendThrice(second)
await stream.close()
second.release()
print(said)
