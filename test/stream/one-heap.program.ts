/** Sends an empty heap with OPTIONS. */
import { Heap, openStream } from 'speadcast'

const stream = await openStream(JSON.parse(process.argv[2]!))
await stream.sendHeap(new Heap())
await stream.close()
