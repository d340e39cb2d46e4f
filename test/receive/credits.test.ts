/** Slots for credits, and what counts as a packet, over real sockets by both ways to receive. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { CreditGate } from '#dist/src/receive/credit-gate.js'
import { CreditLedger, decodeCredit, encodeHello } from '#dist/src/receive/credits.js'
import { openReceiver } from '#dist/src/receive/index.js'
import { STAT, statWords } from '#dist/src/receive/session.js'
import { freePort } from './support.js'

const BACKENDS = ['native', 'dgram'] as const

test.for(BACKENDS)('%s: a sender gets credits though twenty others asked before and went away', async (backend) => {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend, credits: true })
  for (let i = 0; i < 20; i++) {
    const socket = createSocket('udp4')
    socket.send(encodeHello(), port, '127.0.0.1')
    await once(socket, 'message')
    socket.close()
  }
  const gate = await CreditGate.open({ to: `127.0.0.1:${port}` })
  onTestFinished(() => gate.close())
  expect(gate.windowBytes).toBe(Math.floor(receiver.stats().receiveBufferBytes / 2))
})

test('a slot lasts for five seconds from its last HELLO', () => {
  const ledger = new CreditLedger(65536)
  const stats = new Float64Array(statWords(1))
  const got: Record<string, number[]> = {}
  const hello = (from: string, at: number) => {
    const its: number[] = []
    got[from] ??= its
    ledger.hello(from, (credit) => void got[from]!.push(decodeCredit(credit)!.udpBytes), stats, at)
  }
  const taken = (at: number) => {
    stats[STAT.bytes]! += 10_000
    ledger.announce(stats, false, at)
  }
  for (let i = 0; i < 16; i++) hello(`${i}`, 0)
  hello('late', 1000)
  taken(2000)
  hello('3', 4000)
  taken(6000)
  hello('late', 6000)
  taken(7000)
  expect(got).toMatchObject({ 0: [0, 10_000], 3: [0, 10_000, 10_000, 20_000, 30_000], late: [0, 20_000, 30_000] })
})

test.for(BACKENDS)('%s: an empty datagram is a malformed one', async (backend) => {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend })
  const socket = createSocket('udp4')
  onTestFinished(() => void socket.close())
  for (const bytes of [0, 5, 0, 0]) await new Promise((resolve) => socket.send(new Uint8Array(bytes), port, '127.0.0.1', resolve))
  await expect.poll(() => receiver.stats().messages).toBe(4)
  expect(receiver.stats()).toMatchObject({ malformed: 4, messages: 4, packets: 0, bytes: 5 })
})
