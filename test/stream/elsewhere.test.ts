/**
 * Where there is no Linux and no koffi binary, the package still loads and sends through node:dgram. A preloaded script makes this
 * machine look like that: it changes process.platform and refuses `require('koffi')`. The ways in which macOS itself differs, only
 * macOS shows (.github/workflows/ci.yml runs the suite there).
 */
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../support/cli.js'
import { programFile } from '../support/program.js'

/** Runs a program to its end as if this machine were of another platform, and without koffi. */
async function runElsewhere(
  platform: string,
  name: string,
  args: readonly string[],
  flags: readonly string[] = [],
): Promise<string> {
  const preload = pathToFileURL(programFile('support/no-koffi')).href
  const argv = [...flags, '--import', preload, programFile(name), ...args]
  const env = { ...process.env, PLATFORM: platform }
  return (await promisify(execFile)(process.execPath, argv, { env, timeout: 20_000 })).stdout
}

async function run(platform: string, backend: string): Promise<{ answer: Record<string, unknown>; packets: Buffer[] }> {
  const socket = createSocket('udp4')
  try {
    const listening = once(socket, 'listening')
    socket.bind(0, '127.0.0.1')
    await listening
    const packets: Buffer[] = []
    socket.on('message', (message) => packets.push(message))
    const stdout = await runElsewhere(platform, 'stream/elsewhere-send', [String(socket.address().port), backend])
    await new Promise((resolve) => setTimeout(resolve, 50))
    return { answer: JSON.parse(stdout), packets }
  } finally {
    socket.close()
  }
}

test('macOS: auto takes dgram, says why, and the samples arrive', async () => {
  const { answer, packets } = await run('darwin', 'auto')
  expect(answer).toMatchObject({ backend: 'dgram', heaps: 3, evidence: 'accepted' })
  expect(answer.reason).toMatch(/Linux only, this is darwin/)
  const samples = packets.map((packet) => [...new Set(packet.subarray(56).filter((_, i) => i % 2 === 0))])
  // 2000 bytes a heap at ≤ 1472 a packet: two packets each, every low byte the heap's fill value (headers are 56 and 40 bytes).
  expect(packets).toHaveLength(6)
  expect(samples[0]).toContain(1)
  expect(samples[5]).toContain(3)
})

test('Linux without koffi: auto takes dgram and quotes the failure, udp is refused with the remedy', async () => {
  const auto = await run('linux', 'auto')
  expect(auto.answer).toMatchObject({ backend: 'dgram', heaps: 3 })
  expect(auto.answer.reason).toMatch(/planted by the test/)
  expect(auto.packets).toHaveLength(6)
  const { answer } = await run('linux', 'udp')
  expect(answer.code).toBe('ERR_SPEADCAST_BACKEND')
  expect(answer.message).toMatch(/use backend 'dgram' or 'auto'/)
})

test.for([
  ['darwin', /^backend 'tcp' cannot work here: it needs Linux, this is darwin; send by UDP, to HOST:PORT$/],
  ['win32', /^backend 'tcp' cannot work here: it needs Linux, this is win32; send by UDP, to HOST:PORT$/],
  ['linux', /^backend 'tcp' cannot work here: koffi could not be loaded .*planted by the test/],
] as const)('%s without koffi: TCP is refused, and why', async ([platform, message]) => {
  const { answer } = await run(platform, 'tcp')
  expect(answer).toMatchObject({ code: 'ERR_SPEADCAST_BACKEND', message: expect.stringMatching(message) })
})

test.for([
  ['darwin', /^ERR_SPEADCAST_BACKEND there can be no I\/O thread here: .* this is darwin; leave thread out or use 'inline'$/],
  ['linux', /^ERR_SPEADCAST_BACKEND there can be no I\/O thread here: .*planted by the test.*; leave thread out or use 'inline'$/],
] as const)(
  '%s without koffi: memory and pcap send each batch’s own samples; an I/O thread is refused',
  async ([platform, refusal]) => {
    const stdout = await runElsewhere(platform, 'stream/elsewhere-dry-run', [join(temporaryFolder(), 'x.pcap')])
    expect(JSON.parse(stdout)).toEqual({ memory: [1, 2, 3, 1], pcap: [1, 2, 3, 1], thread: expect.stringMatching(refusal) })
  },
)

test('without native memory a batch cannot be attached in another thread, which says so', async () => {
  const stdout = await runElsewhere('win32', 'stream/elsewhere-attach', [])
  expect(JSON.parse(stdout)).toEqual({ message: expect.stringMatching(/this memory is of another thread/), here: 5 })
})

test('without native memory closed batches are let go', async () => {
  const stdout = await runElsewhere('darwin', 'stream/elsewhere-batches', [], ['--expose-gc'])
  // 40 × 16 MiB, if they stayed.
  expect(Number(stdout)).toBeGreaterThan(0)
  expect(Number(stdout)).toBeLessThan(100 * 2 ** 20)
})
