/**
 * A stream to PEER by interface NIC and a receiver on OWN, its address, whose threads all run on CPU 0. Prints as JSON what both tell of their
 * memory, and the nodes that pages of it are on.
 */
import { readFileSync } from 'node:fs'
import { ItemGroup, openStream, pinThread } from 'speadcast'
import { openReceiver } from 'speadcast/receive'
import { koffi } from '#dist/ffi/koffi.js'
import { nodeOfPage } from '#dist/ffi/memory/numa.js'

const [nic, own, peer] = process.argv.slice(2)
const PAGE_BYTES = 4096
const HEAP_BYTES = 256 << 10
const HEAPS = 4

const shared: SharedArrayBuffer[] = []
globalThis.SharedArrayBuffer = new Proxy(SharedArrayBuffer, {
  construct(target, args) {
    const made = Reflect.construct(target, args)
    shared.push(made)
    return made
  },
})

/** The nodes of all pages of a buffer. Each is written first: a page that was read alone is the zero page of node 0. */
function nodesOf(bytes: Uint8Array): number[] {
  const start = Number(koffi().address(bytes))
  const nodes = new Set<number>()
  for (let at = 0; at < bytes.length; at = Math.min(bytes.length, at + PAGE_BYTES - ((start + at) % PAGE_BYTES))) {
    if (bytes.buffer instanceof SharedArrayBuffer) Atomics.add(bytes, at, 0)
    else bytes[at]!++
    nodes.add(nodeOfPage(start + at))
  }
  return [...nodes]
}

/** Pages on each node of all mappings that prefer node 1 (numa_maps in proc(5)), in KiB. */
function bound(): { near: number; far: number } {
  const lines = readFileSync('/proc/self/numa_maps', 'latin1')
    .split('\n')
    .filter((line) => / prefer[^ ]*:1 /.test(line))
  const kibibytes = (line: string, name: string) =>
    Number(line.match(new RegExp(` ${name}=(\\d+)`))?.[1] ?? 0) * Number(line.match(/kernelpagesize_kB=(\d+)/)?.[1] ?? 4)
  const sum = (name: string) => lines.reduce((total, line) => total + kibibytes(line, name), 0)
  return { near: sum('N1'), far: sum('N0') }
}

const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', description: 'samples', dtype: 'u1', shape: [HEAP_BYTES] })

async function sent(to: string, options: { interface?: string }) {
  const from = shared.length
  await using stream = await openStream({ to, affinity: [0], ...options })
  const batch = stream.createBatch({ items, heaps: HEAPS })
  const payload = nodesOf(batch.heap(0).adc_samples as Uint8Array)
  const ring = shared.slice(from).filter(({ byteLength }) => byteLength > 16 * PAGE_BYTES)
  await stream.send(batch)
  const { numaNode, numaNodeReason } = stream.stats().states
  return { numaNode, numaNodeReason, payload, rings: ring.map((buffer) => nodesOf(new Uint8Array(buffer))), bound: bound() }
}

pinThread([0])
const near = await sent(peer!, { interface: nic! })
const before = bound()
await using receiver = await openReceiver({ endpoints: own!, affinity: [0], timeoutSeconds: 60 })
const far = await sent(own!, {})
const { numaNode, numaNodeReason } = receiver.stats()
let heaps = 0
let after = before
for await (const { items: received } of receiver) {
  if (!received.has(0x3300) || ++heaps < HEAPS) continue
  // Its memory is given back when it is closed.
  after = bound()
  break
}
console.log(
  JSON.stringify({ near, far, received: { heaps, numaNode, numaNodeReason, kibibytes: after.near - before.near, far: after.far } }),
)
