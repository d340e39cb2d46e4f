/**
 * Receives until its standard input ends, taking every heap; then prints the summary, with its memory and its CPU time.
 *
 *     node receive.program.js BACKEND PORT
 */
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'

const [backend, port] = process.argv.slice(2)
const receiver = await openReceiver({
  endpoints: `127.0.0.1:${port}`,
  backend: backend as NonNullable<ReceiverOptions['backend']>,
  stops: 0,
  verify: true,
  hash: true,
  deliver: true,
})
process.stdin.on('end', () => void receiver.close()).resume()
process.stderr.write('listening\n')
let taken = 0
for await (const heap of receiver) {
  taken++
  // A consumer touches all that it is given.
  for (const { bytes, name, shape } of heap.items.values()) if (bytes.length < 0 || name === '' || shape?.length === -1) break
}
const summary = await receiver.done
const { rss } = process.memoryUsage()
const { user, system } = process.cpuUsage()
process.stdout.write(JSON.stringify({ ...summary, taken, rssBytes: rss, cpuSeconds: (user + system) / 1e6 }))
