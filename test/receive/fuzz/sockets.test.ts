/**
 * The drawn conversations again, over real sockets, to the receiver of the library and to `speadcast recv`: every datagram is in a
 * counter, memory stays within what the receiver promises, and it ends with a summary when it is told to.
 */
import { expect, test } from 'vitest'
import { need } from '../../support/need.js'
import { programArgv } from '../../support/program.js'
import { PacedSender } from '../paced-sender.js'
import { freePort, type Run, recvArgv, start } from '../support.js'
import { Conversation } from './conversation.js'

const SEED = Number(process.env.FUZZ_SEED ?? 1)
const PACKETS = Number(process.env.FUZZ_PACKETS ?? (process.env.CI === 'true' ? 25_000 : 4000))

/** Returns how many datagrams went. */
async function converse(port: number, seed: number): Promise<number> {
  const { packets } = new Conversation(seed).grow(PACKETS)
  await using sender = new PacedSender(port)
  for (const { sender: k, bytes } of packets) await sender.send(k, bytes)
  expect(await sender.drained()).toBe(0)
  return packets.length
}

interface Told {
  reason: string
  packets: number
  duplicates: number
  malformed: number
  heaps: number
  taken?: number
  rssBytes?: number
  cpuSeconds?: number
}

async function judge(run: Run, sent: number): Promise<Told> {
  const { code, signal, stdout, stderr } = await run.ended
  expect({ signal, stderr: stderr.includes('    at ') ? stderr : '' }).toEqual({ signal: null, stderr: '' })
  expect([0, 1]).toContain(code)
  const told = JSON.parse(stdout) as Told
  expect(told.packets + told.duplicates + told.malformed).toBe(sent)
  expect(told.heaps).toBeGreaterThan(sent / 50)
  return told
}

for (const backend of ['native', 'dgram'] as const) {
  test(`${backend}: the library’s receiver survives ${PACKETS} packets`, { timeout: 120_000 }, async (ctx) => {
    need(ctx, process.platform === 'linux', 'needs /proc/net/udp')
    const port = await freePort()
    const run = start(programArgv('receive/fuzz/receive', backend, `${port}`))
    await run.said(/listening/)
    const sent = await converse(port, SEED)
    run.child.stdin!.end()
    const told = await judge(run, sent)
    console.log(
      `${backend}: ${sent} packets, ${told.taken} heaps, ${Math.round(told.rssBytes! / 2 ** 20)} MiB, ${told.cpuSeconds} s of CPU time`,
    )
    expect(told.reason).toBe('closed')
    // 256 MiB for heaps, 64 MiB for what waits for the consumer, and Node.
    expect(told.rssBytes!).toBeLessThan(600 * 2 ** 20)
  })

  test(`${backend}: speadcast recv survives ${PACKETS} packets`, { timeout: 120_000 }, async (ctx) => {
    need(ctx, process.platform === 'linux', 'needs /proc/net/udp')
    const port = await freePort()
    const run = start(recvArgv(`127.0.0.1:${port}`, '--backend', backend, '--json', '--verify', '--stops', '0'))
    await run.said(/listening/)
    const sent = await converse(port, SEED + 1)
    run.child.kill('SIGINT')
    await judge(run, sent)
  })
}
