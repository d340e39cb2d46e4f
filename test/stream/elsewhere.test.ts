/**
 * Where there is no Linux and no koffi binary, the package still loads and sends through node:dgram. A preloaded script makes this
 * machine look like that: it changes process.platform and refuses `require('koffi')`. The ways in which macOS itself differs, only
 * macOS shows (.github/workflows/ci.yml runs the suite there).
 */
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const PRELOAD = `
const Module = require('node:module')
const load = Module._load
Module._load = function (request, ...rest) {
  if (request === 'koffi') throw new Error('no koffi binary for this platform (planted by the test)')
  return load.call(this, request, ...rest)
}
if (process.env.PLATFORM) Object.defineProperty(process, 'platform', { value: process.env.PLATFORM })
`

const PROGRAM = `
import { ItemGroup, openStream } from ${JSON.stringify(pathToFileURL('lib/index.js').href)}
const [port, backend] = process.argv.slice(2)
let stream
try {
  stream = await openStream({ to: '127.0.0.1:' + port, backend, descriptors: 'none' })
  const items = new ItemGroup().add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] }).add({ id: 0x3300, name: 'samples', dtype: 'u2', shape: [1000] })
  const batch = stream.createBatch({ items, heaps: 3 })
  for (let j = 0; j < 3; j++) batch.heap(j).samples.fill(j + 1)
  batch.immediate('timestamp').setRamp(5, 1000)
  const result = await stream.send(batch)
  console.log(JSON.stringify({ backend: stream.backend, reason: stream.reason, ...result }))
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message }))
} finally {
  await stream?.close()
}
`

/** Several batches, whose memory is told apart by nothing but its region; and what this place does not have. */
const DRY_RUN = `
import { readFileSync } from 'node:fs'
import { ItemGroup, openStream } from ${JSON.stringify(pathToFileURL('lib/index.js').href)}
const [pcapPath] = process.argv.slice(2)
async function send(options) {
  const stream = await openStream({ to: '10.0.0.1:7148', descriptors: 'none', ...options })
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [1000] })
  const batches = [1, 2, 3].map((n) => {
    const batch = stream.createBatch({ items, heaps: 1 })
    batch.heap(0).samples.fill(n)
    return batch
  })
  for (const batch of [...batches, batches[0]]) await stream.send(batch)
  await stream.close()
  return stream.packets.map(({ bytes }) => bytes.at(-1))
}
const memory = await send({ backend: 'memory' })
await send({ backend: 'pcap', pcapPath })
const file = readFileSync(pcapPath)
const pcap = []
for (let at = 24; at < file.length; at += 16 + file.readUInt32LE(at + 8)) pcap.push(file[at + 15 + file.readUInt32LE(at + 8)])
const thread = await send({ backend: 'pcap', pcapPath, thread: 'worker' }).catch(({ code, message }) => code + ' ' + message)
console.log(JSON.stringify({ memory, pcap, thread }))
`

async function run(platform: string, backend: string): Promise<{ answer: Record<string, unknown>; packets: Buffer[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-elsewhere-'))
  const socket = createSocket('udp4')
  try {
    const listening = once(socket, 'listening')
    socket.bind(0, '127.0.0.1')
    await listening
    const packets: Buffer[] = []
    socket.on('message', (message) => packets.push(message))
    writeFileSync(join(folder, 'preload.cjs'), PRELOAD)
    writeFileSync(join(folder, 'program.mjs'), PROGRAM)
    const args = ['--require', join(folder, 'preload.cjs'), join(folder, 'program.mjs'), String(socket.address().port), backend]
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { ...process.env, PLATFORM: platform },
      timeout: 20_000,
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    return { answer: JSON.parse(stdout), packets }
  } finally {
    socket.close()
    rmSync(folder, { recursive: true })
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
  ['darwin', /^ERR_SPEADCAST_BACKEND there can be no I\/O thread here: .* this is darwin; leave thread out or use 'inline'$/],
  ['linux', /^ERR_SPEADCAST_BACKEND there can be no I\/O thread here: .*planted by the test.*; leave thread out or use 'inline'$/],
] as const)(
  '%s without koffi: memory and pcap send each batch’s own samples; an I/O thread is refused',
  async ([platform, refusal]) => {
    const folder = mkdtempSync(join(tmpdir(), 'speadcast-elsewhere-'))
    try {
      writeFileSync(join(folder, 'preload.cjs'), PRELOAD)
      writeFileSync(join(folder, 'program.mjs'), DRY_RUN)
      const args = ['--require', join(folder, 'preload.cjs'), join(folder, 'program.mjs'), join(folder, 'x.pcap')]
      const env = { ...process.env, PLATFORM: platform }
      const { stdout } = await promisify(execFile)(process.execPath, args, { env, timeout: 20_000 })
      expect(JSON.parse(stdout)).toEqual({ memory: [1, 2, 3, 1], pcap: [1, 2, 3, 1], thread: expect.stringMatching(refusal) })
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)

test('without native memory a batch cannot be attached in another thread, which says so', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-elsewhere-'))
  const index = JSON.stringify(pathToFileURL('lib/index.js').href)
  try {
    writeFileSync(join(folder, 'preload.cjs'), PRELOAD)
    writeFileSync(
      join(folder, 'attach.mjs'),
      `import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
      import { attachBatch, ItemGroup, openStream } from ${index}
      if (isMainThread) {
        const stream = await openStream({ to: '127.0.0.1:9' })
        const batch = stream.createBatch({ items: new ItemGroup().add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [100] }), heaps: 1 })
        attachBatch(batch.handle()).heap(0).a.fill(5)
        const worker = new Worker(new URL(import.meta.url), { workerData: batch.handle() })
        worker.once('message', async (message) => {
          console.log(JSON.stringify({ message, here: batch.heap(0).a[99] }))
          await stream.close()
        })
      } else {
        let message = 'attached'
        try { attachBatch(workerData) } catch (error) { message = error.message }
        parentPort.postMessage(message)
      }`,
    )
    const args = ['--require', join(folder, 'preload.cjs'), join(folder, 'attach.mjs')]
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { ...process.env, PLATFORM: 'win32' },
      timeout: 20_000,
    })
    expect(JSON.parse(stdout)).toEqual({ message: expect.stringMatching(/this memory is of another thread/), here: 5 })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('without native memory closed batches are let go', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-elsewhere-'))
  try {
    writeFileSync(join(folder, 'preload.cjs'), PRELOAD)
    writeFileSync(
      join(folder, 'batches.mjs'),
      `import { ItemGroup, openStream } from ${JSON.stringify(pathToFileURL('lib/index.js').href)}
      const stream = await openStream({ to: '239.1.2.3:7148', backend: 'memory', memory: { keepPackets: false } })
      const items = new ItemGroup().add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [2 ** 24] })
      for (let i = 0; i < 40; i++) {
        const batch = stream.createBatch({ items, heaps: 1 })
        batch.heap(0).a.fill(i)
        await stream.send(batch)
        batch.close()
      }
      await new Promise(setImmediate)
      globalThis.gc()
      console.log(process.memoryUsage().arrayBuffers)`,
    )
    const args = ['--expose-gc', '--require', join(folder, 'preload.cjs'), join(folder, 'batches.mjs')]
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { ...process.env, PLATFORM: 'darwin' },
      timeout: 20_000,
    })
    // 40 × 16 MiB, if they stayed.
    expect(Number(stdout)).toBeGreaterThan(0)
    expect(Number(stdout)).toBeLessThan(100 * 2 ** 20)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
