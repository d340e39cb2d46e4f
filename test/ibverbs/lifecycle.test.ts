/**
 * A stream, its thread and its process end while the queue is in any state: everything settles, and the device gets all objects
 * back.
 */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { CLI, Nic, needNic, openOn, sleep } from '../support/nic.js'
import { capture, packetsOfHeaps } from '../support/remote-stream.js'
import { startLoaded, TO } from './loaded.js'

const STATES: [state: string, faults: string[], commands: string[], afterMs: number][] = [
  ['sending', ['pace 20000'], [], 50],
  ['with a device that is silent', [], ['stall'], 50],
  ['in trouble', [], Array.from({ length: 30 }, (_, i) => `refuse ${8 + i} ENOMEM`), 300],
  ['failing at every packet', ['fail-every 7 GENERAL_ERR'], [], 50],
  ['refused by the provider', [], ['refuse-every 1 ENOMEM'], 50],
  ['with its queue pair in error', ['pace 20000'], ['qp-fatal'], 0],
  ['with the port down', ['pace 20000'], ['port down'], 20],
  ['with the device gone', ['pace 20000'], ['remove'], 50],
  ['with the device gone and mute', ['pace 20000'], ['stall', 'remove mute'], 0],
]
for (const thread of ['worker', 'inline'] as const)
  for (const end of ['close', 'destroy'] as const)
    test.for(STATES)(
      `${end} under load, ${thread}, %s: all settles, nothing is left`,
      async ([, faults, commands, afterMs], ctx) => {
        needNic(ctx)
        await using ns = await makeNetns({ veth: {} })
        const nic = new Nic({ mode: 'copy', faults })
        const running = await startLoaded(ns, nic, { thread }, end)
        await sleep(50)
        await nic.command(...commands)
        await sleep(afterMs)
        const { code, signal, stderr, told } = await running.finish()
        expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
        expect(told!.milliseconds).toBeLessThan(5000)
        expect(told!.fds).toBe(0)
        expect(
          Object.keys(told!.statuses).filter(
            (status) => !/^(sent|partial|failed|flushed|unknown|ERR_SPEADCAST_ABORTED)$/.test(status),
          ),
        ).toEqual([])
        nic.cleanReport()
      },
    )

for (const thread of ['worker', 'inline'] as const) {
  test.for([
    ['exit', 7, ''],
    ['throw', 1, 'on purpose'],
    ['end', 0, ''],
  ] as const)(
    `the process ends without close, ${thread}, by %s: at once, with its own status`,
    async ([end, status, message], ctx) => {
      needNic(ctx)
      await using ns = await makeNetns({ veth: {} })
      for (const commands of end === 'end' ? [[]] : [[], ['stall']]) {
        const nic = new Nic({ mode: 'copy', faults: ['pace 20000'] })
        const running = await startLoaded(ns, nic, { thread }, end)
        await sleep(50)
        await nic.command(...commands)
        await sleep(20)
        const from = performance.now()
        const { code, signal, stderr } = await running.finish()
        expect({ code, signal }).toEqual({ code: status, signal: null })
        expect(stderr).toContain(message)
        expect(performance.now() - from).toBeLessThan(3000)
        nic.cleanReport()
      }
    },
  )
  test(`SIGTERM to a process that does not listen for it, ${thread}: it dies of it`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    for (const commands of [[], ['stall']]) {
      const nic = new Nic({ mode: 'copy' })
      const running = await startLoaded(ns, nic, { thread }, 'close')
      await nic.command(...commands)
      await sleep(50)
      running.child.kill('SIGTERM')
      expect(await running.closed).toMatchObject({ code: null, signal: 'SIGTERM', stderr: '' })
    }
  })
}

test('SIGTERM to speadcast send: what is queued is sent, the summary is true, nothing is left', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const args = [
    'send',
    TO,
    '--backend',
    'ibverbs',
    '-n',
    '1000000',
    '-H',
    '10000',
    '--batch-heaps',
    '2',
    '--rate',
    '4MB/s',
    '--json',
  ]
  const child = ns.spawn('a', [...nic.prefix, process.execPath, CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  child.stdout!.on('data', (text) => {
    stdout += text
  })
  await sleep(2500)
  child.kill('SIGTERM')
  const code = await new Promise((resolve) => child.once('close', resolve))
  const seen = packetsOfHeaps(await wire.stop())
  const told = JSON.parse(stdout)
  expect(code).toBe(0)
  expect(told).toMatchObject({ backend: 'ibverbs', heapsFailed: 0, heapsDropped: 0, evidence: 'completed' })
  expect(told.heaps).toBeGreaterThan(10)
  expect([...seen.values()].reduce((a, b) => a + b, 0)).toBe(told.packets)
  // The wire has the heaps of the summary, a descriptor heap and a stop heap.
  expect(seen.size).toBe(told.heaps + 2)
  expect(nic.cleanReport().frames).toBe(told.packets)
})

test('two streams on one device in one process: one is closed, the other sends on', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  for (const thread of ['worker', 'inline'] as const) {
    const nic = new Nic({ mode: 'copy', faults: ['pace 20000'] })
    const running = await startLoaded(ns, nic, { thread }, 'two')
    await sleep(50)
    // Both queues fail, and both recover.
    await nic.command('qp-fatal')
    await sleep(100)
    const { code, stderr, told } = await running.finish()
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(told).toMatchObject({ fds: 0 })
    const { sentAfterwards, failed } = told!.closed as { sentAfterwards: number; failed: number }
    expect(sentAfterwards).toBeGreaterThan(3)
    expect([told!.failed, failed].every((n) => n > 0 && n <= 8)).toBe(true)
    nic.cleanReport()
  }
})

test('two streams on one device: each sends its own, one fails and closes without the other', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nics = [new Nic({ faults: ['pace 20000'] }), new Nic({ faults: ['pace 20000'] })]
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const streams = []
  for (const [i, nic] of nics.entries()) {
    const stream = await openOn(nic, ns, { to: `10.77.0.2:${7148 + i}`, packetSizeBytes: 1048 })
    await stream.batch({ heaps: 3, bytes: 5000 })
    streams.push(stream)
  }
  const running = streams.map((stream) => stream.run({ seconds: 20, gapMs: 1 }))
  await sleep(150)
  await nics[0]!.command('remove')
  await sleep(150)
  await streams[0]!.stop()
  const first = await running[0]!
  await streams[0]!.close()
  await sleep(150)
  await streams[1]!.stop()
  const second = await running[1]!
  await streams[1]!.close()
  const packets = await wire.stop()
  expect(first.failed.length).toBeGreaterThan(0)
  expect(second.failed).toEqual([])
  const seen = packetsOfHeaps(packets.filter(({ port }) => port === 7149))
  expect(seen.size).toBe(3 * second.sent)
  expect(new Set(seen.values())).toEqual(new Set([5]))
  for (const nic of nics) nic.cleanReport()
})
