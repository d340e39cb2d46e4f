/**
 * Backend rdma-ud and its receiver on the software NIC, both in this process, when the device fails: each heap's status agrees with
 * what arrived. test/vm tests both on a real kernel's device, when nothing fails.
 */
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { type BatchResult, ItemGroup, openStream, type SendError, type Stream, type StreamOptions } from '#dist/src/index.js'
import { openReceiver, type Receiver } from '#dist/src/receive/index.js'
import { inNamespace, needNic, nicHere, sleep } from '../support/nic.js'

const here = nicHere({ veth: { mtu: 9000 } }, { mode: 'null' }, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

beforeEach(needNic)

/** Runs `body` with this thread in the namespace, because routes and links are asked about there too. */
const inside = (body: () => Promise<void>) => inNamespace(here.ns.name.a, body)

const TO = '10.77.0.1:7148'
const HEAPS = 3
/** Five packets of 2048 bytes: SPEAD's header takes 48 of them in the first packet, and 40 in the others. */
const BYTES = 2000 + 4 * 2008
const PACKETS = 5

const receive = (): Promise<Receiver> =>
  openReceiver({
    endpoints: TO,
    backend: 'rdma-ud',
    verbsLibrary: here.nic.library,
    deliver: true,
    stops: 0,
    receiveBufferBytes: 1 << 20,
  })

const open = (options: Partial<StreamOptions> = {}): Promise<Stream> =>
  openStream({
    to: TO,
    backend: 'rdma-ud',
    interface: 'v0',
    packetSizeBytes: 2100,
    descriptors: 'none',
    thread: 'inline',
    ibverbs: { library: here.nic.library, completionTimeoutMs: 300 },
    ...options,
  })

const batchOf = (stream: Stream) =>
  stream.createBatch({
    items: new ItemGroup().add({ id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [BYTES] }),
    heaps: HEAPS,
  })

/** The status of each heap of a send. */
async function say(sent: Promise<BatchResult>): Promise<readonly string[]> {
  return sent.then(
    () => Array(HEAPS).fill('sent'),
    (error: SendError) => error.outcome?.heaps ?? [`${error.message}`],
  )
}

/** How many packets of each heap came, by its cnt; of heaps that are not whole, too. */
async function packetsOf(receiver: Receiver): Promise<Map<number, number>> {
  const seen = new Map<number, number>()
  // Unfinished heaps come at the end, and close() would drop them.
  const taking = (async () => {
    for await (const heap of receiver) seen.set(Number(heap.cnt), heap.packets)
  })()
  await receiver.done
  await taking
  return seen
}

function compare(statuses: readonly string[], firstCnt: number, seen: Map<number, number>): void {
  for (const [j, status] of statuses.entries()) {
    const packets = seen.get(firstCnt + j) ?? 0
    const what = `heap ${firstCnt + j}, ${status}, ${packets} of ${PACKETS} packets came`
    if (status === 'sent') expect(packets, what).toBe(PACKETS)
    else if (status === 'partial') expect(packets > 0 && packets < PACKETS, what).toBe(true)
    else if (status !== 'unknown') expect(packets, what).toBe(0)
  }
}

/** Runs `body` with a receiver that ends some time after the last packet, and then hands out unfinished heaps too. */
async function receiveUntilQuiet(body: () => Promise<void>): Promise<Map<number, number>> {
  const receiver = await openReceiver({
    endpoints: TO,
    backend: 'rdma-ud',
    verbsLibrary: here.nic.library,
    deliver: true,
    receiveBufferBytes: 1 << 20,
  })
  const packets = packetsOf(receiver)
  await body()
  return packets
}

test('each of the 15 packets of a batch fails in turn: the status of each heap is true', () =>
  inside(async () => {
    let recoveries = 0
    const said: (readonly string[])[] = []
    const seen = await receiveUntilQuiet(async () => {
      const stream = await open()
      const batch = batchOf(stream)
      for (let n = 1; n <= HEAPS * PACKETS; n++) {
        await here.nic.command(`fail ${n} GENERAL_ERR`)
        said.push(await say(stream.send(batch)))
        said.push(await say(stream.send(batch)))
      }
      recoveries = Number(stream.stats().states.recoveries)
      await stream.sendEnd()
      await stream.close()
    })
    expect(recoveries).toBe(HEAPS * PACKETS)
    let failed = 0
    for (const [i, statuses] of said.entries()) {
      compare(statuses, 1 + i * HEAPS, seen)
      if (i % 2 === 1) expect(statuses, 'the batch behind a failed one').toEqual(['sent', 'sent', 'sent'])
      else if (statuses.includes('failed') || statuses.includes('partial')) failed++
    }
    expect(failed).toBe(HEAPS * PACKETS)
  }))

test("each of the 15 packets of a batch fails in turn: with onError 'retry' all come, each once", () =>
  inside(async () => {
    const seen = await receiveUntilQuiet(async () => {
      const stream = await open({ onError: 'retry' })
      const batch = batchOf(stream)
      for (let n = 1; n <= HEAPS * PACKETS; n++) {
        await here.nic.command(`fail ${n} GENERAL_ERR`)
        expect(await say(stream.send(batch)), `packet ${n}`).toEqual(['sent', 'sent', 'sent'])
      }
      expect(stream.stats()).toMatchObject({ heapsFailed: 0, packetsRetried: (15 * 16) / 2 })
      await stream.sendEnd()
      await stream.close()
    })
    const packets = Array.from({ length: 15 * HEAPS }, (_, i) => seen.get(i + 1))
    expect(packets).toEqual(Array(15 * HEAPS).fill(PACKETS))
  }))

test('a device that stops is reset: unknown, then sent again', () =>
  inside(async () => {
    const said: (readonly string[])[] = []
    const seen = await receiveUntilQuiet(async () => {
      const stream = await open()
      const batch = batchOf(stream)
      said.push(await say(stream.send(batch)))
      await here.nic.command('stall 7')
      const stalled = say(stream.send(batch))
      said.push(await stalled)
      await here.nic.command('resume', 'clear')
      said.push(await say(stream.send(batch)))
      await stream.sendEnd()
      await stream.close()
    })
    expect(said[0]).toEqual(['sent', 'sent', 'sent'])
    expect(said[1]).not.toEqual(['sent', 'sent', 'sent'])
    expect(said[2]).toEqual(['sent', 'sent', 'sent'])
    for (const [i, statuses] of said.entries()) compare(statuses, 1 + i * HEAPS, seen)
  }))

test('packets that the device will not take are given up after a while, those behind them go', () =>
  inside(async () => {
    const said: (readonly string[])[] = []
    const seen = await receiveUntilQuiet(async () => {
      const stream = await open()
      const batch = batchOf(stream)
      await here.nic.command('refuse-every 4 EINVAL')
      for (let i = 0; i < 10; i++) said.push(await say(stream.send(batch)))
      await here.nic.command('clear')
      said.push(await say(stream.send(batch)))
      await stream.sendEnd()
      await stream.close()
    })
    expect(said.at(-1)).toEqual(['sent', 'sent', 'sent'])
    for (const [i, statuses] of said.entries()) compare(statuses, 1 + i * HEAPS, seen)
  }))

test('address handles and queues are given back, whatever opening ends with', () =>
  inside(async () => {
    const receiver = await receive()
    await here.nic.command('create-qp 1 ENOMEM')
    await expect(open()).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(
        /backend 'rdma-ud' cannot work here: the memory cannot be locked: ibv_create_qp failed: ENOMEM/,
      ),
    })
    await here.nic.command('clear')
    await expect(open({ packetSizeBytes: 4097 })).rejects.toMatchObject({ code: 'ERR_SPEADCAST_PACKET_SIZE' })
    await expect(open({ rdmaUd: { peers: [{ gid: 'fd77::2', qpn: 17 }], device: 'softnic9' } })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(/ENODEV.*softnic9/),
    })
    await expect(open({ to: '10.77.0.1:7149', rdmaUd: { connectTimeoutMs: 200 } })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_UNREACHABLE',
    })
    await receiver.close()
    here.nic.cleanReport()
  }))

test('a receiver that fails says so and closes: the device has stopped', () =>
  inside(async () => {
    const receiver = await receive()
    onTestFinished(() =>
      receiver.close().then(
        () => undefined,
        () => undefined,
      ),
    )
    await here.nic.command('qp-fatal')
    await expect(receiver.done).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_NATIVE',
      message: expect.stringMatching(/a receiving queue pair failed \(IBV_WC_WR_FLUSH_ERR/),
    })
  }))

test('the device is removed under sender and receiver: every promise settles, and both close', () =>
  inside(async () => {
    const receiver = await receive()
    const stream = await open()
    const batch = batchOf(stream)
    expect(await say(stream.send(batch))).toEqual(['sent', 'sent', 'sent'])
    const ended = receiver.done.catch((error) => error)
    await here.nic.command('remove')
    const after: string[] = []
    for (let i = 0; i < 3; i++) after.push(...(await say(stream.send(batch))))
    expect(after).not.toContain('sent')
    await stream.close()
    expect(await ended).toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(/softnic0 is gone or broken/),
    })
    await sleep(10)
    await here.nic.command('insert')
    const again = await open({ rdmaUd: { peers: [{ qpn: 17 }] } })
    expect(await say(again.send(batchOf(again)))).toEqual(['sent', 'sent', 'sent'])
    await again.close()
  }))
