/** WHAT (opened | refused): opens 1000 streams one after the other, and 1000 more. Prints what the second thousand added. Run with --expose-gc. */
import { readFileSync } from 'node:fs'
import { openStream, type SpeadcastError, type StreamOptions } from 'speadcast'
import { print } from '../support/print.js'

const [what] = process.argv.slice(2)

async function opened() {
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none' })
  await stream.sendEnd()
  await stream.close()
}

async function refused() {
  const options: StreamOptions = { to: '127.0.0.1:9', backend: 'pcap', thread: 'worker', pcapPath: '/nowhere/at/all.pcap' }
  const error = await openStream(options).catch((reason: SpeadcastError) => reason)
  if (!('code' in error && error.code === 'ERR_SPEADCAST_BACKEND')) throw error
}

let threads = 0
process.on('worker', () => threads++)

async function thousand() {
  for (let i = 0; i < 1000; i++) await (what === 'opened' ? opened() : refused())
  globalThis.gc!()
  await new Promise((resolve) => setTimeout(resolve, 20))
  globalThis.gc!()
  return { mappings: readFileSync('/proc/self/maps', 'utf8').split('\n').length, heapBytes: process.memoryUsage().heapUsed }
}

const before = await thousand()
const after = await thousand()
print({ threads, mappings: after.mappings - before.mappings, heapBytes: after.heapBytes - before.heapBytes })
