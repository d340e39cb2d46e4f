/**
 * Sends with backend memory and into PCAP several batches whose memory is told apart by nothing but its region. Prints the last byte of
 * each packet, and what an I/O thread is answered.
 */
import { readFileSync } from 'node:fs'
import { ItemGroup, openStream, type SpeadcastError, type StreamOptions } from 'speadcast'
import { print } from '../support/print.js'

const pcapPath = process.argv[2]!

async function send(options: Omit<StreamOptions, 'to'>): Promise<(number | undefined)[]> {
  const stream = await openStream({ to: '10.0.0.1:7148', descriptors: 'none', ...options })
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [1000] })
  const batches = [1, 2, 3].map((n) => {
    const batch = stream.createBatch<{ samples: Uint8Array }>({ items, heaps: 1 })
    batch.heap(0).samples.fill(n)
    return batch
  })
  for (const batch of [...batches, batches[0]!]) await stream.send(batch)
  await stream.close()
  return stream.packets.map(({ bytes }) => bytes.at(-1))
}

const memory = await send({ backend: 'memory' })
await send({ backend: 'pcap', pcapPath })
const file = readFileSync(pcapPath)
const pcap: (number | undefined)[] = []
for (let at = 24; at < file.length; at += 16 + file.readUInt32LE(at + 8)) pcap.push(file[at + 15 + file.readUInt32LE(at + 8)])
const thread = await send({ backend: 'pcap', pcapPath, thread: 'worker' }).catch(
  ({ code, message }: SpeadcastError) => `${code} ${message}`,
)
print({ memory, pcap, thread })
