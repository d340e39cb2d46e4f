// Our side of the verbs ABI: the engine on the ibverbs backend, as the I/O thread runs it, without the thread. Prints one JSON row
// per chain length: nanoseconds of CPU per packet from taking a batch to settling it, heap cnt and timestamp patched in every
// packet. usage: verbs-ours.mjs INTERFACE GROUP:PORT PACKETS one|two CHAIN... ; `two` puts the samples into memory of the user's,
// so that every packet has two SGEs, as the floor's
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Region } from '#dist/ffi/memory/region.js'
import { openIbverbs } from '#dist/src/backend/verbs/raw.js'
import { BatchTemplate } from '#dist/src/batch/template.js'
import { NEXT_IDLE } from '#dist/src/engine/contract.js'
import { Engine } from '#dist/src/engine/engine.js'
import * as R from '#dist/src/engine/ring.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { resolveInterface } from '#dist/src/net/interface.js'
import { makeFlavour } from '#dist/src/spead/index.js'
import { tutorialItems } from './arguments.mjs'

const HEAP_BYTES = 8192
/** Batches of memory in turn, as many as the floor has. */
const BATCHES = 4
const QUEUED = 512
const [iface, to, packetsText, sges, ...chains] = process.argv.slice(2)
const packets = Number(packetsText)

const ring = new R.Ring()
const backend = await openIbverbs(
  {
    endpoints: await resolveEndpoints(parseEndpoints([to])),
    interface: resolveInterface(iface, 4),
    sourcePort: 0,
    packetSizeBytes: 9000,
    neighbourTimeoutMs: 100,
    queueDepth: 4096,
    pollNanoseconds: 0,
    completionVector: 0,
    completionTimeoutMs: 5000,
  },
  { counters: ring.counters, wake: () => {} },
)
const failed = (message) => {
  if (message.type === 'outcome') throw new Error(JSON.stringify(message.causes))
}
const options = { rateBytesPerSecond: 0, maxInFlight: BATCHES }
const engine = new Engine(backend, ring, options, failed, () => {})
const items = tutorialItems(HEAP_BYTES)

const folder = mkdtempSync(join(tmpdir(), 'speadcast-bench-'))
function userMemory(bytes) {
  const fd = openSync(join(folder, 'samples'), 'w+')
  ftruncateSync(fd, bytes)
  const region = Region.fromFd(fd)
  closeSync(fd)
  return region
}

function submit(variant, heaps) {
  ring.push({ variant, heaps, rows: heaps, explicitCnts: false, sequence: undefined }, R.STATE_FINAL)
}
/**
 * `total` packets in batches of `length`. Returns nanoseconds of CPU of taking, posting and settling them; submitting is another
 * thread's work and not counted.
 */
function run(variants, length, total) {
  let microseconds = 0
  for (let sent = 0, k = 0; sent < total; ) {
    for (let i = 0; i < QUEUED && sent < total; i++, sent += length) submit(variants[k++ % variants.length], length)
    const before = process.cpuUsage()
    while (engine.step(0) !== NEXT_IDLE);
    if (ring.settled !== ring.submitted) throw new Error('idle before all is settled')
    const { user, system } = process.cpuUsage(before)
    microseconds += user + system
  }
  return microseconds * 1000
}

let nextVariant = 1
for (const length of chains.map(Number)) {
  const variants = Array.from({ length: BATCHES }, () => {
    const batch = new BatchTemplate({
      items,
      heaps: length,
      flavour: makeFlavour({}),
      packetSizeBytes: 9000,
      split: 'even',
      repeatPointers: false,
      groupMode: 'serial',
      substreams: new Uint16Array(length),
      memory: sges === 'two' ? { adc_samples: { region: userMemory(length * HEAP_BYTES) } } : {},
      headroomBytes: backend.caps.headroomBytes,
      mergesEqualPackets: backend.caps.mergesEqualPackets,
      inBandDescriptors: false,
    })
    engine.addVariant(nextVariant, batch.compilation(length, false).compile())
    // send() does this in the thread that submits.
    batch.immediate('timestamp').setRamp(nextVariant * length * HEAP_BYTES, HEAP_BYTES)
    batch.validate(length)
    return nextVariant++
  })
  run(variants, length, packets)
  console.log(
    JSON.stringify({ program: `ours-${sges}`, chain: length, nanosecondsPerPacket: run(variants, length, packets) / packets }),
  )
}
backend.close()
rmSync(folder, { recursive: true })
