// Finds out how a queue pair of this device behaves where the manuals are silent, below speadcast's backend. Prints one JSON line.
//
//   node scripts/acceptance/probe.mjs flush INTERFACE HOST:PORT [LIBRARY]       a work request fails in the middle of unsignalled ones
//   node scripts/acceptance/probe.mjs oversize INTERFACE HOST:PORT [LIBRARY]    a frame as large as the MTU allows, and larger ones
//   node scripts/acceptance/probe.mjs path INTERFACE HOST:PORT [LIBRARY]        the device behind the interface, and how it was found
//   node scripts/acceptance/probe.mjs hold INTERFACE HOST:PORT [LIBRARY]        has the device open until it is killed
//   node scripts/acceptance/probe.mjs memory INTERFACE HOST:PORT LIBRARY SECONDS  pins memory, and sends with relaxed ordering and without
import { readFileSync } from 'node:fs'
import { freemem, networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { attachRegion, Region } from '#dist/ffi/memory/region.js'
import { VerbsContext } from '#dist/ffi/verbs/context.js'
import { SendQueue } from '#dist/ffi/verbs/send-queue.js'
import { WorkRequestChain } from '#dist/ffi/verbs/work-requests.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { rdmaPathOf } from '#dist/src/rdma/devices.js'
import { loadLibrary } from '#dist/src/rdma/errors.js'
import { multicastMac } from './multicast-mac.mjs'

const [what, iface, to, libraryName, secondsText] = process.argv.slice(2)
const [, group, port] = /^(.*):(\d+)$/.exec(to)
const read = (file) => readFileSync(`/sys/class/net/${iface}/${file}`, 'utf8').trim()
const library = loadLibrary('ibverbs', libraryName || undefined)
const address = networkInterfaces()[iface]?.find(({ family }) => family === 'IPv4')?.address
const path = pathOf()
if (what === 'path') {
  console.log(JSON.stringify(path))
  process.exit()
}
const mtuBytes = Number(read('mtu'))
const device = listRdmaDevices(libraryName ? { library: libraryName } : {}).find(({ name }) => name === path.device)

function pathOf() {
  try {
    return rdmaPathOf(library, Number(read('ifindex')), address && Uint8Array.from(address.split('.').map(Number)))
  } catch ({ message }) {
    return { refused: message }
  }
}

const DEPTH = 128
const SLOT = 16384
/** Too long for a link to be busy, short enough to be no hang. */
const COMPLETION_MS = 2000
const FLUSHED = 5

/** Ethernet, IPv4 and UDP headers in front of `payloadBytes`; the device fills the checksums. */
function writeFrame(target, payloadBytes) {
  const bytes = Buffer.from(target.buffer, target.byteOffset, 42 + payloadBytes).fill(0)
  multicastMac(group).copy(bytes, 0)
  Buffer.from(read('address').replaceAll(':', ''), 'hex').copy(bytes, 6)
  bytes.writeUInt16BE(0x0800, 12)
  bytes.set([0x45, 0], 14)
  bytes.writeUInt16BE(28 + payloadBytes, 16)
  bytes.set([0x40, 0, 1, 17], 20)
  for (const [at, text] of [
    [26, address],
    [30, group],
  ])
    bytes.set(text.split('.').map(Number), at)
  bytes.writeUInt16BE(Number(port), 34)
  bytes.writeUInt16BE(Number(port), 36)
  bytes.writeUInt16BE(8 + payloadBytes, 38)
  return bytes.length
}

const context = VerbsContext.open(library, path.device)
const domain = context.allocateDomain()
const queue = new SendQueue(domain, { port: path.port, depth: DEPTH, sges: 1, completionVector: 0 })
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

/** Registers as much as a quarter of the free memory, up to a GiB, by kind of page. */
function registrations() {
  const bytes = Math.min(1 << 30, 2 ** Math.floor(Math.log2(freemem() / 4)))
  return ['never', 'auto'].map((hugePages) => {
    const region = Region.allocate(bytes, { hugePages })
    try {
      const from = performance.now()
      const registered = domain.register(region.address, bytes)
      const milliseconds = performance.now() - from
      registered.release()
      return { pages: region.pages, bytes, milliseconds }
    } catch ({ message }) {
      return { pages: region.pages, bytes, refused: message }
    } finally {
      region.release()
    }
  })
}

/** Posts frames of full size as fast as they complete. */
function flood(relaxedOrdering, seconds) {
  const rows = DEPTH / 2
  const own = domain.register(region.address, region.byteLength, relaxedOrdering)
  const chain = new WorkRequestChain(rows, rows, 1, DEPTH * 2, device.checksumOffload)
  let frameBytes = 0
  for (let row = 0; row < rows; row++) {
    frameBytes = writeFrame(memory.subarray(row * SLOT, (row + 1) * SLOT), mtuBytes - 28)
    chain.request(row, row, 1)
    chain.sge(row, region.address + row * SLOT, frameBytes, own.lkey)
  }
  let posted = 0
  let done = 0
  const from = performance.now()
  const end = from + seconds * 1000
  for (let now = from; now < end || (done < posted && now < end + COMPLETION_MS); now = performance.now()) {
    if (now < end && posted - done < 2) {
      if (chain.post(queue, 0, rows) < rows) break
      posted++
    }
    const n = queue.poll()
    if (n < 0) break
    done += n
  }
  const packetsPerSecond = (done * rows * 1000) / (performance.now() - from)
  chain.release()
  own.release()
  return { packetsPerSecond, frameBytes }
}

let found
if (what === 'hold') {
  console.log('holding')
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('close', resolve))
} else if (what === 'memory') {
  const seconds = Number(secondsText)
  found = {
    registrations: registrations(),
    fork: library.optional.ibv_is_fork_initialized?.(),
    strict: flood(false, seconds),
    relaxed: flood(true, seconds),
  }
} else if (what === 'flush') {
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
if (found) console.log(JSON.stringify(found))
