// Finds out how a queue pair of this device behaves where the manuals are silent, below speadcast's backend. Prints one JSON line.
//
//   node scripts/acceptance/probe.mjs flush INTERFACE HOST:PORT [LIBRARY]       a work request fails in the middle of unsignalled ones
//   node scripts/acceptance/probe.mjs oversize INTERFACE HOST:PORT [LIBRARY]    a frame as large as the MTU allows, and larger ones
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { attachRegion, Region } from '#dist/ffi/memory/region.js'
import { VerbsContext } from '#dist/ffi/verbs/context.js'
import { SendQueue } from '#dist/ffi/verbs/send-queue.js'
import { WorkRequestChain } from '#dist/ffi/verbs/work-requests.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { loadLibrary } from '#dist/src/rdma/errors.js'
import { multicastMac } from './multicast-mac.mjs'

const [what, iface, to, library] = process.argv.slice(2)
const [, group, port] = /^(.*):(\d+)$/.exec(to)
const device = listRdmaDevices({ library }).find(({ ports }) => ports.some(({ interfaces }) => interfaces.includes(iface)))
const { port: devicePort, mtuBytes } = device.ports.find(({ interfaces }) => interfaces.includes(iface))

const DEPTH = 128
const SLOT = 16384
/** Too long for a link to be busy, short enough to be no hang. */
const COMPLETION_MS = 2000
const FLUSHED = 5

/** Ethernet, IPv4 and UDP headers in front of `payloadBytes`; the device fills the checksums. */
function writeFrame(target, payloadBytes) {
  const source = networkInterfaces()[iface].find(({ family }) => family === 'IPv4').address
  const bytes = Buffer.from(target.buffer, target.byteOffset, 42 + payloadBytes).fill(0)
  multicastMac(group).copy(bytes, 0)
  Buffer.from(readFileSync(`/sys/class/net/${iface}/address`, 'utf8').trim().replaceAll(':', ''), 'hex').copy(bytes, 6)
  bytes.writeUInt16BE(0x0800, 12)
  bytes.set([0x45, 0], 14)
  bytes.writeUInt16BE(28 + payloadBytes, 16)
  bytes.set([0x40, 0, 1, 17], 20)
  for (const [at, address] of [
    [26, source],
    [30, group],
  ])
    bytes.set(address.split('.').map(Number), at)
  bytes.writeUInt16BE(Number(port), 34)
  bytes.writeUInt16BE(Number(port), 36)
  bytes.writeUInt16BE(8 + payloadBytes, 38)
  return bytes.length
}

const context = VerbsContext.open(loadLibrary('ibverbs', library), device.name)
const domain = context.allocateDomain()
const queue = new SendQueue(domain, { port: devicePort, depth: DEPTH, sges: 1, completionVector: 0 })
queue.ready()
const region = Region.allocate(DEPTH * SLOT)
const memory = new Uint8Array(attachRegion(region))
const registration = domain.register(region.address, region.byteLength)

/**
 * Posts frames of these payload sizes, only the last signalled; row `bad` names unregistered memory. Returns the completions that
 * come in time.
 */
async function post(payloads, bad = -1) {
  const chain = new WorkRequestChain(payloads.length, payloads.length, 1, DEPTH * 2, device.checksumOffload)
  for (const [row, payloadBytes] of payloads.entries()) {
    const length = writeFrame(memory.subarray(row * SLOT, (row + 1) * SLOT), payloadBytes)
    chain.request(row, row, 1)
    chain.sge(row, region.address + row * SLOT, length, row === bad ? (registration.lkey ^ 0x5a5a5a00) >>> 0 : registration.lkey)
  }
  const accepted = chain.post(queue, 0, payloads.length)
  const completions = []
  for (const deadline = Date.now() + COMPLETION_MS; ; await sleep(1)) {
    const n = queue.poll()
    for (let i = 0; i < n; i++) completions.push({ row: queue.row(i), status: queue.status(i), vendorError: queue.vendorError(i) })
    if (n < 0 || completions.some(({ row }) => row === payloads.length - 1) || Date.now() > deadline) break
  }
  // A completion behind the last one would be a surprise worth knowing.
  await sleep(50)
  const more = queue.poll()
  for (let i = 0; i < more; i++) completions.push({ row: queue.row(i), status: queue.status(i), vendorError: queue.vendorError(i) })
  chain.release()
  return { accepted, errno: chain.errno, completions }
}

let found
if (what === 'flush') {
  const wrs = 64
  const bad = 20
  const first = await post(Array(wrs).fill(1000), bad)
  const failed = first.completions.filter(({ status }) => status !== 0 && status !== FLUSHED)
  const flushed = first.completions.filter(({ status }) => status === FLUSHED)
  queue.reset()
  queue.ready()
  const after = await post(Array(wrs).fill(1000))
  found = {
    posted: wrs,
    accepted: first.accepted,
    badRow: bad,
    failed,
    succeeded: first.completions.filter(({ status }) => status === 0).length,
    flushCompletions: flushed.length,
    flushRows: flushed.map(({ row }) => row),
    afterReset: { accepted: after.accepted, completions: after.completions },
  }
} else {
  const fits = mtuBytes - 28
  found = { mtuBytes, fits, frames: [] }
  for (const payloadBytes of [fits, fits + 1, fits + 400, 1000]) {
    const { accepted, errno, completions } = await post([payloadBytes])
    found.frames.push({ payloadBytes, frameBytes: payloadBytes + 42, accepted, errno, completions })
    if (completions.some(({ status }) => status !== 0)) {
      queue.reset()
      queue.ready()
    }
  }
}
registration.release()
queue.close()
domain.release()
context.close()
console.log(JSON.stringify(found))
