/**
 * Feeds drawn conversations to a receiving session, without sockets: no packet may make it throw, none may be lost to the counters,
 * and what it keeps stays within its buffer. FUZZ_SEED and FUZZ_ROUNDS give another start and another length. The packets that make
 * it fail are written to `.cache/fuzz/`, as few as do; a file that has found a fault belongs into `corpus/`, whose files run first.
 */
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { ReceiveSession, type SessionOptions, STAT, statWords } from '#dist/src/receive/session.js'
import { Conversation, Draw, type FuzzPacket, SENDERS } from './conversation.js'

const FIRST_SEED = Number(process.env.FUZZ_SEED ?? 1)
const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 150)
const PACKETS_A_ROUND = 400
const FREE_AT = 1 << 17
const NOWHERE = openSync('/dev/null', 'w')

function optionsOf(draw: Draw): SessionOptions {
  return {
    endpoints: draw.of([1, 2]),
    maxHeaps: draw.of([1, 4, 64, 1024]),
    timeoutMs: Number.POSITIVE_INFINITY,
    heaps: Number.POSITIVE_INFINITY,
    stops: Number.POSITIVE_INFINITY,
    verify: draw.chance(0.5),
    hash: draw.chance(0.5),
    ...(draw.chance(0.3) && { outputFd: NOWHERE }),
    item: draw.of([0x3300, 'adc_samples', 'a', 0x1600, 'nothing']),
    deliver: draw.chance(0.5),
    memoryBytes: draw.of([1 << 16, 1 << 20, 8 << 20]),
    anySource: draw.chance(0.2),
    cntStep: draw.of([0, 0, 1, 7]),
    order: draw.of(['cnt', 'arrival']),
  }
}

/** Returns how many heaps came out. @throws whatever the session throws, or if a packet is missing in the counters */
function run(seed: number, packets: readonly FuzzPacket[]): number {
  const draw = new Draw(seed ^ 0x5bd1e995)
  const buffer = new ArrayBuffer(FREE_AT + draw.of([2 << 20, 8 << 20]))
  const u8 = new Uint8Array(buffer)
  const options = optionsOf(draw)
  const stats = new Float64Array(statWords(options.endpoints))
  const session = new ReceiveSession(buffer, FREE_AT, options, stats)
  let delivered = 0
  session.start(0)
  let now = 0
  // Anybody may send from any port, so some senders have thousands.
  const ports = draw.of([1, 1, 1, 3000])
  for (const { sender, bytes } of packets) {
    // Datagrams lie at any offset after those that came with them.
    const at = draw.below(FREE_AT - bytes.length)
    u8.set(bytes, at)
    const endpoint = sender & 1 & (options.endpoints - 1)
    session.message(endpoint)
    session.packet(at, bytes.length, sender + SENDERS * draw.below(ports), endpoint)
    delivered += session.outbox.splice(0).length
    session.arrived(now)
    const quiet = draw.chance(0.05)
    session.ended(now, quiet)
    now += quiet ? draw.of([1, 150, 3000]) : 0.01
    session.look(now)
  }
  const summary = session.finish('closed')
  delivered += session.outbox.splice(0).length
  JSON.parse(JSON.stringify(summary))
  const counted = stats[STAT.packets!]! + stats[STAT.duplicates!]! + stats[STAT.malformed!]!
  if (counted !== packets.length) throw new Error(`${packets.length} packets came and ${counted} were counted`)
  for (const [name, at] of Object.entries(STAT)) if (!(stats[at]! >= 0)) throw new Error(`${name} is ${stats[at]}`)
  return delivered + stats[STAT.heaps!]!
}

/** A file of packets that found a fault. */
interface Found {
  readonly about: string
  /** Draws the session's options. */
  readonly seed: number
  /** Sender and bytes in hexadecimal. */
  readonly packets: [number, string][]
}

const errorOf = (seed: number, packets: readonly FuzzPacket[]): Error | undefined => {
  try {
    run(seed, packets)
    return undefined
  } catch (error) {
    return error as Error
  }
}

/** Leaves out halves, quarters and so on of the packets, as long as the session still fails. */
function shrunk(seed: number, packets: readonly FuzzPacket[]): readonly FuzzPacket[] {
  let left = packets
  for (let size = left.length >> 1; size > 0; size >>= 1)
    for (let at = 0; at < left.length; ) {
      const fewer = [...left.slice(0, at), ...left.slice(at + size)]
      if (errorOf(seed, fewer)) left = fewer
      else at += size
    }
  return left
}

function keep(seed: number, packets: readonly FuzzPacket[], about: string): string {
  const directory = fileURLToPath(new URL('../../../.cache/fuzz', import.meta.url))
  mkdirSync(directory, { recursive: true })
  const file = `${directory}/${seed}.json`
  const found: Found = { about, seed, packets: packets.map(({ sender, bytes }) => [sender, bytes.toString('hex')]) }
  writeFileSync(file, `${JSON.stringify(found, null, 1)}\n`)
  return file
}

const CORPUS = new URL('corpus/', import.meta.url)
for (const name of readdirSync(CORPUS)) {
  const { about, seed, packets } = JSON.parse(readFileSync(new URL(name, CORPUS), 'utf8')) as Found
  test(`${name}: ${about}`, () => {
    const bytes = packets.map(([sender, hex]) => ({ sender, bytes: Buffer.from(hex, 'hex') }))
    expect(errorOf(seed, bytes)).toBeUndefined()
  })
}

test(`${ROUNDS} conversations of ${PACKETS_A_ROUND} packets from seed ${FIRST_SEED} on`, { timeout: 300_000 }, () => {
  let packets = 0
  let heaps = 0
  for (let seed = FIRST_SEED; seed < FIRST_SEED + ROUNDS; seed++) {
    const conversation = new Conversation(seed).grow(PACKETS_A_ROUND)
    packets += conversation.packets.length
    try {
      heaps += run(seed, conversation.packets)
    } catch (error) {
      const { message } = error as Error
      const few = shrunk(seed, conversation.packets)
      throw new Error(`seed ${seed}, ${few.length} packets in ${keep(seed, few, message)}: ${message}`, { cause: error })
    }
  }
  console.log(`${packets} packets, ${heaps} heaps`)
  expect(heaps).toBeGreaterThan(packets / 20)
})
