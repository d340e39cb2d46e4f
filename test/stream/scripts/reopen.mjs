// node --expose-gc reopen.mjs opened|refused: opens 1000 streams one after the other, and 1000 more; prints what the second thousand added.
import { readFileSync } from 'node:fs'
import { openStream } from 'speadcast'

const [what] = process.argv.slice(2)

async function opened() {
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none' })
  await stream.sendEnd()
  await stream.close()
}

async function refused() {
  const options = { to: '127.0.0.1:9', backend: 'pcap', thread: 'worker', pcapPath: '/nowhere/at/all.pcap' }
  const error = await openStream(options).catch((reason) => reason)
  if (error.code !== 'ERR_SPEADCAST_BACKEND') throw error
}

let threads = 0
process.on('worker', () => threads++)

async function thousand() {
  for (let i = 0; i < 1000; i++) await (what === 'opened' ? opened() : refused())
  globalThis.gc()
  await new Promise((resolve) => setTimeout(resolve, 20))
  globalThis.gc()
  return { mappings: readFileSync('/proc/self/maps', 'utf8').split('\n').length, heapBytes: process.memoryUsage().heapUsed }
}

const before = await thousand()
const after = await thousand()
console.log(JSON.stringify({ threads, mappings: after.mappings - before.mappings, heapBytes: after.heapBytes - before.heapBytes }))
