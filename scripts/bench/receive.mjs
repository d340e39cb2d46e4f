// Measures what the receiver's session takes per packet, decoding and assembling, without a socket: node scripts/bench/receive.mjs.
// Packets stand in memory as recvmmsg leaves them, 64 messages of 64 KiB; only their heap cnts are written anew. CPU time, the
// lower quartile of 15 rounds, because other work slows some of them.
import { ReceiveSession, STAT, statWords } from '../../dist/src/receive/session.js'

const MESSAGES = 64
const MESSAGE_BYTES = 65536
const FREE_AT = MESSAGES * MESSAGE_BYTES
const ROUNDS = 15
const PACKETS = 400_000

const OPTIONS = {
  endpoints: 1,
  maxHeaps: 1024,
  memoryBytes: 64 << 20,
  timeoutMs: Infinity,
  heaps: Infinity,
  stops: Infinity,
  verify: false,
  hash: false,
  item: 0x3300,
  deliver: false,
  anySource: false,
  cntStep: 0,
}

/** Writes a packet of item 0x3300 and an immediate 0x1600; returns its length. */
function put(view, at, cnt, heapLength, offset, length) {
  const words = [
    [0x80010000, cnt],
    [0x80020000, heapLength],
    [0x80030000, offset],
    [0x80040000, length],
    [0x96000000, cnt],
    [0x33000000, 0],
  ]
  view.setUint32(at, 0x53040206)
  view.setUint32(at + 4, words.length)
  for (const [i, [high, low]] of words.entries()) {
    view.setUint32(at + 8 + 8 * i, high)
    view.setUint32(at + 12 + 8 * i, low)
  }
  return 8 + 8 * words.length + length
}

/** @param senders that take turns @param perHeap packets of a heap @param bytes of payload of a packet */
function measure({ senders, perHeap, bytes, ...options }) {
  const buffer = new ArrayBuffer(FREE_AT + (64 << 20))
  const view = new DataView(buffer)
  const stats = new Float64Array(statWords(1))
  const session = new ReceiveSession(buffer, FREE_AT, { ...OPTIONS, ...options }, stats)
  session.start(0)
  const messages = Math.floor(MESSAGES / (senders * perHeap)) * senders * perHeap
  let length = 0
  for (let i = 0; i < messages; i++) {
    const part = Math.floor(i / senders) % perHeap
    length = put(view, i * MESSAGE_BYTES, 0, perHeap * bytes, part * bytes, bytes)
  }
  const times = []
  let heap = 0
  for (let round = 0; round < ROUNDS; round++) {
    const from = process.cpuUsage()
    let packets = 0
    while (packets < PACKETS) {
      session.arrived(packets / 1e6)
      for (let i = 0; i < messages; i++) {
        const cnt = heap + Math.floor(i / (senders * perHeap))
        view.setUint32(i * MESSAGE_BYTES + 12, cnt)
        session.packet(i * MESSAGE_BYTES, length, i % senders, 0)
      }
      heap += messages / (senders * perHeap)
      packets += messages
    }
    const { user, system } = process.cpuUsage(from)
    times.push(((user + system) * 1000) / packets)
  }
  const wanted = heap * senders
  if (stats[STAT.heaps] !== wanted) throw new Error(`${stats[STAT.heaps]} of ${wanted} heaps`)
  return times.sort((a, b) => a - b)[ROUNDS >> 2]
}

const CASES = {
  'one packet a heap': { senders: 1, perHeap: 1, bytes: 1024 },
  'one packet a heap, four senders in turn': { senders: 4, perHeap: 1, bytes: 1024 },
  'eight packets a heap': { senders: 1, perHeap: 8, bytes: 1024 },
  'eight packets a heap, four senders in turn': { senders: 4, perHeap: 8, bytes: 1024 },
}
for (const [name, shape] of Object.entries(CASES)) console.log(`${measure(shape).toFixed(1).padStart(7)} ns a packet: ${name}`)
