/** Prints 'ready', and when a stop heap has come to each of v1's and w1's port 7148, the digest of the heaps of each. */
import { createHash } from 'node:crypto'
import { openReceiver } from 'speadcast/receive'
import { print } from '../support/print.js'

const receivers = await Promise.all(['10.77.0.2:7148', '10.78.0.2:7148'].map((endpoints) => openReceiver({ endpoints })))
print('ready')
const told = await Promise.all(
  receivers.map(async (receiver) => {
    const hash = createHash('sha256')
    let heaps = 0
    for await (const heap of receiver) {
      const bytes = heap.items.get(0x4300)?.bytes
      if (!bytes) continue
      heaps++
      hash.update(`${heap.cnt} `).update(bytes)
    }
    await receiver.close()
    return { heaps, digest: hash.digest('hex') }
  }),
)
print(told)
