/** A process with an open receiver of ENDPOINT that does DEED. */
import { openReceiver } from '#dist/src/receive/index.js'

export type Deed = keyof typeof DEEDS

const [endpoint, deed] = process.argv.slice(2) as [string, Deed]
const receiver = await openReceiver({ endpoints: endpoint })

const DEEDS = {
  exit: () => process.exit(7),
  async exitWhileWaiting() {
    setTimeout(() => process.exit(8), 100)
    for await (const heap of receiver) console.log(heap)
  },
  throw: () =>
    void setTimeout(() => {
      throw new Error('on purpose')
    }, 50),
  close: () => receiver.close(),
  dispose: () => receiver[Symbol.asyncDispose](),
  stay: () =>
    void setTimeout(() => {
      console.log('still open')
      process.exit(3)
    }, 300).unref(),
}

await DEEDS[deed]()
