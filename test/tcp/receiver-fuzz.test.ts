/**
 * The drawn conversations over TCP: bytes that tell where packets end, and lie, come in pieces of any size by many connections. The receiver
 * ends those that it cannot follow, counts what it dropped, and receives from a decent sender all the while.
 */
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { packetBytes } from '#dist/src/receive/framing.js'
import { Conversation, Draw } from '../receive/fuzz/conversation.js'
import { packet, payloadOf, receive, until } from './receiver-support.js'

const SEED = Number(process.env.FUZZ_SEED ?? 1)
const ROUNDS = 25

/** Unlike node's once(), takes an error for what it is here: the receiver has ended the connection. */
const either = (socket: Socket, ...events: string[]) =>
  new Promise<void>((resolve) => {
    for (const event of events) socket.once(event, () => resolve())
  })

test(`${ROUNDS} conversations from seed ${SEED} on, in pieces`, { timeout: 120_000 }, async () => {
  const { receiver, dial } = await receive({
    heapMemoryBytes: 8 << 20,
    verify: true,
    deliver: false,
    timeoutSeconds: 100,
    stops: 0,
  })
  const decent = await dial()
  let good = 0
  let lost = 0
  for (let seed = SEED; seed < SEED + ROUNDS; seed++) {
    const draw = new Draw(seed)
    const bad = await dial(`127.0.0.${2 + (seed % 100)}`)
    const packets = new Conversation(seed).grow(200).packets.map(({ bytes }) => Buffer.from(bytes))
    // One in three has only packets that say where they end, so that its lies reach the heaps.
    const view = (bytes: Buffer) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const framed = packets.filter((bytes) => packetBytes(view(bytes), 0, bytes.length) === bytes.length)
    const bytes = Buffer.concat(seed % 3 === 0 ? packets : framed)
    for (let at = 0; at < bytes.length && !bad.destroyed; ) {
      const size = draw.of([1, 7, 100, 1500, 70_000])
      if (!bad.write(bytes.subarray(at, at + size))) await either(bad, 'drain', 'close')
      at += size
    }
    bad.resume()
    if (draw.chance(0.5)) bad.end()
    else bad.resetAndDestroy()
    if (!bad.closed) await either(bad, 'close')
    decent.write(packet(++good, payloadOf(good, 1000)))
    lost += seed % 3 === 0 ? 1 : 0
  }
  decent.end()
  let before = -1
  await until(() => {
    const { bytes } = receiver.stats()
    const still = bytes === before
    before = bytes
    return still
  })
  const summary = await receiver.close()
  JSON.parse(JSON.stringify(summary))
  expect(summary.connections).toBe(ROUNDS + 1)
  expect(summary.heaps).toBeGreaterThanOrEqual(good)
  expect(summary.malformed).toBeGreaterThanOrEqual(lost / 2)
  for (const [name, value] of Object.entries(summary))
    if (typeof value === 'number') expect([name, value >= 0]).toEqual([name, true])
})
