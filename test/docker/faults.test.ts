// Containers that are killed, cut off, throttled or out of space, and how the other end takes it.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Container, IMAGE, json, Network, needDocker, needSpead2, ok, RECEIVER, SPEAD2_IMAGE, sleep } from './support.js'

const HEAP_BYTES = 32_768
const PACE = ['-H', `${HEAP_BYTES}`, '-p', '8972', '--rate', '80Mbps', '--burst', '16KiB', '--interface', 'eth0', '--json']
/** More than even a sender without a route gets through, whose failed heaps take 3 µs each. */
const FOREVER = ['-n', '100000000']

let network: Network | undefined
beforeAll(async () => {
  if (!process.env.SPEADCAST_DOCKER_UNAVAILABLE) network = await Network.make({ x: 4, mtu: 9000 })
})
afterAll(async () => network?.[Symbol.asyncDispose]())

const receiver = (...args: string[]) =>
  Container.listening([...RECEIVER, ...network!.at(11)], IMAGE, 'recv', '0.0.0.0:7148', '--verify', '--json', ...args)
const sender = (...args: string[]) => Container.start(network!.at(12), IMAGE, 'send', `${network!.v4(11)}:7148`, ...PACE, ...args)

/** Bytes that came in at the container's interface. */
const received = async (container: Container): Promise<number> =>
  JSON.parse(await container.ip('-json', '-s', 'link', 'show', 'eth0'))[0].stats64.rx.bytes

/** Waits until more has come in than now. */
async function flows(container: Container): Promise<void> {
  const before = await received(container)
  for (const deadline = Date.now() + 15_000; (await received(container)) < before + 10 * HEAP_BYTES; await sleep(100))
    if (Date.now() > deadline) throw new Error('nothing came in for 15 s')
}

test('a sender that is killed and started again: both receivers take what comes, and nothing that is wrong', async (ctx) => {
  needDocker(ctx)
  needSpead2(ctx)
  const group = '239.10.0.2:7148'
  const listen = [group, '--interface', 'eth0', '--verify', '--timeout', '40']
  await using ours = await Container.listening([...RECEIVER, ...network!.at(11)], IMAGE, 'recv', ...listen, '--json')
  await using spead2 = await Container.listening([...RECEIVER, ...network!.at(13)], SPEAD2_IMAGE, ...listen)
  const args = ['send', group, ...PACE]
  await using first = await Container.start(network!.at(12), IMAGE, ...args, ...FOREVER)
  await flows(ours)
  await ok('kill', '-s', 'KILL', first.name)
  expect((await first.ended()).code).toBe(137)
  // Receivers would take the same heap cnts for duplicates of the first life's: the second goes on behind them.
  await using second = await Container.start(network!.at(14), IMAGE, ...args, '-n', '200', '--first-cnt', '10000000')
  const sent = await second.ended()
  expect({ code: sent.code, ...json(sent) }).toMatchObject({ code: 0, heaps: 200, heapsFailed: 0 })
  for (const container of [ours, spead2]) {
    const got = json(await container.ended())
    expect(got.heapsCorrupt).toBe(0)
    // One heap at most was cut in two by the kill.
    expect(got.heapsIncomplete).toBeLessThanOrEqual(1)
    expect(got.heaps).toBeGreaterThanOrEqual(200 + 5)
  }
})

test('a receiver that is paused for five seconds: it counts what it lost, and neither end breaks', async (ctx) => {
  needDocker(ctx)
  // 4 MiB of buffer hold 0.4 s of 80 Mb/s.
  await using container = await receiver('--buffer', '1MiB', '--timeout', '60')
  await using sending = await sender(...FOREVER)
  await flows(container)
  await ok('pause', container.name)
  await sleep(5000)
  await ok('unpause', container.name)
  await flows(container)
  await ok('stop', '-t', '15', sending.name)
  const sent = json(await sending.ended())
  const got = json(await container.ended())
  // Nobody tells a sender: all was accepted.
  expect(sent).toMatchObject({ heapsFailed: 0, heapsDropped: 0, heapsSuspect: 0 })
  expect(got).toMatchObject({ heapsCorrupt: 0, reason: 'stop' })
  expect(got.droppedByKernel).toBeGreaterThan(0)
  const lost = sent.heaps - got.heaps
  expect(lost).toBeGreaterThan(10)
  expect(got.heapsMissing + got.heapsIncomplete).toBe(lost)
})

test("the sender's interface is down for three seconds: what was lost is failed or suspect, and what comes after arrives", async (ctx) => {
  needDocker(ctx)
  await using container = await receiver('--timeout', '60')
  await using sending = await sender(...FOREVER)
  await flows(container)
  await sending.ip('link', 'set', 'eth0', 'down')
  await sleep(3000)
  await sending.ip('link', 'set', 'eth0', 'up')
  await flows(container)
  await ok('stop', '-t', '15', sending.name)
  const ended = await sending.ended()
  const sent = json(ended)
  const got = json(await container.ended())
  // Heaps failed, so it ends with 1, after the stop heap.
  expect(ended.code).toBe(1)
  expect(ended.stderr).toMatch(/ENETUNREACH|ENETDOWN|unreachable/)
  expect(sent.heapsFailed).toBeGreaterThan(0)
  expect(got).toMatchObject({ heapsCorrupt: 0, reason: 'stop' })
  // Nothing that was reported as sent, and not suspect, is missing.
  expect(got.heaps).toBeGreaterThanOrEqual(sent.heaps - sent.heapsSuspect)
  expect(got.heaps).toBeLessThanOrEqual(sent.heaps)
})

test('docker stop: a sender sends what is queued, then the stop heap, and ends with 0', async (ctx) => {
  needDocker(ctx)
  await using container = await receiver('--timeout', '60')
  await using sending = await sender(...FOREVER)
  await flows(container)
  const before = performance.now()
  await ok('stop', '-t', '20', sending.name)
  const seconds = (performance.now() - before) / 1000
  const ended = await sending.ended()
  const sent = json(ended)
  expect({ code: ended.code, ...sent }).toMatchObject({ code: 0, heapsFailed: 0, heapsDropped: 0 })
  expect(seconds).toBeLessThan(5)
  expect(json(await container.ended())).toMatchObject({ reason: 'stop', heaps: sent.heaps, heapsCorrupt: 0, heapsIncomplete: 0 })
})

test('docker stop with too little time: what the deadline cut off is counted as dropped, and it ends with 1 in time', async (ctx) => {
  needDocker(ctx)
  await using container = await receiver('--timeout', '60', '--stops', '0')
  // Four batches of sixteen heaps at 1 Mb/s are 17 s.
  await using sending = await sender(...FOREVER, '--rate', '1Mbps', '--deadline', '1')
  await flows(container)
  const before = performance.now()
  await ok('stop', '-t', '20', sending.name)
  const seconds = (performance.now() - before) / 1000
  const ended = await sending.ended()
  const sent = json(ended)
  expect({ code: ended.code, heapsFailed: sent.heapsFailed }).toEqual({ code: 1, heapsFailed: 0 })
  expect(sent.heapsDropped).toBeGreaterThan(0)
  expect(seconds).toBeLessThan(5)
  await ok('stop', '-t', '10', container.name)
  const got = json(await container.ended())
  expect(got).toMatchObject({ heapsCorrupt: 0 })
  expect(got.heaps).toBe(sent.heaps)
})
