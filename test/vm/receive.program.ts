/** Receives HEAPS heaps at each of ENDPOINTS on interface 'tagged' and verifies them: HEAPS ENDPOINTS… Prints a line for each at its end. */
import { openReceiver } from '#dist/src/receive/index.js'

const [heaps, ...endpoints] = process.argv.slice(2)
const common = {
  interface: 'tagged',
  verify: true,
  heaps: Number(heaps),
  timeoutSeconds: 100,
  receiveBufferBytes: 4 << 20,
  backend: 'dgram',
} as const
const receivers = await Promise.all(endpoints.map((each) => openReceiver({ endpoints: each, ...common })))
console.log('ready')
for (const receiver of receivers)
  void receiver.done.then(({ heaps, heapsCorrupt, packets, reason }) => {
    console.log(JSON.stringify({ heaps, heapsCorrupt, reason, bytes: packets > 0 }))
  })
