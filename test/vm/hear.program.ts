/**
 * Receives at each of ENDPOINTS on INTERFACE until it is killed: INTERFACE ENDPOINTS… Prints `PORT CNT whole` or `PORT CNT cut` for each heap, and
 * `PORT: TEXT` for what the receiver tells of its groups. Every other receiver is node:dgram's.
 */
import { openReceiver } from '#dist/src/receive/index.js'

const [device, ...endpoints] = process.argv.slice(2)
const receivers = await Promise.all(
  endpoints.map((endpoints, i) => {
    const port = endpoints.split(':').at(-1)!
    const onChange = (text: string) => console.log(`${port}: ${text}`)
    const options = { endpoints, interface: device!, stops: 0, backend: i % 2 ? 'dgram' : 'native', onChange } as const
    return openReceiver(options).then((receiver) => ({ port, receiver }))
  }),
)
console.log('ready')
for (const { port, receiver } of receivers)
  void (async () => {
    for await (const heap of receiver) console.log(`${port} ${heap.cnt} ${heap.complete ? 'whole' : 'cut'}`)
  })()
