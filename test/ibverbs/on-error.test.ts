/** Packets that fail in the device, or of which it says nothing, under the policies of onError: compared with what the peer saw. */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { Nic, needNic, openOn } from '../support/nic.js'
import { capture, packetsOfHeaps } from '../support/remote-stream.js'

const TO = '10.77.0.2:7148'
const HEAPS = 3
const PACKETS = 5
const BYTES = 5000
const PACKET = 1048

for (const thread of ['worker', 'inline'] as const)
  test(`each of the 15 packets of a batch fails in turn: with 'retry' all go, each once, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic()
    const wire = await capture(ns, 'b')
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, thread, onError: 'retry' })
    await stream.batch({ heaps: HEAPS, bytes: BYTES })
    for (let k = 0; k < HEAPS * PACKETS; k++) {
      await nic.command(`fail ${k + 1} GENERAL_ERR`)
      expect((await stream.send()).error, `packet ${k}`).toBeUndefined()
    }
    const { heapsSent, heapsFailed, packets, packetsRetried, states } = await stream.stats()
    await stream.close()
    const seen = await wire.stop()
    const whole = packetsOfHeaps(seen)
    expect([...whole.values()]).toEqual(Array(HEAPS * PACKETS * HEAPS).fill(PACKETS))
    // What was flushed goes again behind nothing that was submitted later.
    const places = seen.map(({ cnt, payloadOffset }) => cnt * 2 ** 16 + payloadOffset)
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect([heapsSent, heapsFailed, packets]).toEqual([45, 0, 225])
    // Packet k and those behind it.
    expect(packetsRetried).toBe((15 * 16) / 2)
    expect(states.recoveries).toBe(15)
    expect(nic.cleanReport()).toMatchObject({ errors: 15 })
    console.log(`onError, ibverbs, ${thread}: 15 packets failed in turn, ${packetsRetried} packets again, each on the wire once`)
  })

test("the queue is flushed under many sends, to two endpoints: with 'retry' all go, each once; 'skip' lets the sends go on", async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const to = [TO, '10.77.0.2:7149']
  const stream = await openOn(nic, ns, { to, packetSizeBytes: PACKET, onError: ['retry', 'skip'] })
  await stream.batch({ heaps: 2, bytes: BYTES })
  let sent = 0
  for (let round = 0; round < 5; round++) {
    await nic.command(`fail ${30 + 7 * round} GENERAL_ERR`)
    const report = await stream.burst({ heaps: 8, bytes: BYTES, batches: 4, sends: 12 })
    expect(report.failed).toEqual([])
    sent += report.sent
  }
  const stats = await stream.stats()
  await stream.close()
  const seen = await wire.stop()
  const toFirst = packetsOfHeaps(seen.filter(({ port }) => port === 7148))
  packetsOfHeaps(seen)
  expect([...toFirst.values()].filter((n) => n === PACKETS)).toHaveLength(sent * 4)
  expect(stats.heapsFailed).toBe(0)
  expect(stats.heapsSent + stats.heapsSkipped).toBe(sent * 8)
  expect(stats.heapsSkipped).toBeGreaterThan(0)
  expect(stats.packets).toBe(seen.length)
  console.log(
    `onError, ibverbs: ${sent} sends through 5 flushed queues, ${stats.packetsRetried} packets again, ${stats.heapsSkipped} heaps skipped`,
  )
})

for (const duplicates of [false, true])
  test(`packets that no completion will report, duplicates ${duplicates}: they ${duplicates ? 'go again' : 'are unknown'}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic()
    const wire = await capture(ns, 'b')
    const onError = { policy: 'retry', duplicates } as const
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, onError })
    await stream.batch({ heaps: HEAPS, bytes: BYTES })
    // Seven packets are taken, the last of which was to tell of them; then attempts are refused for a while.
    await nic.command(...Array.from({ length: 25 }, (_, i) => `refuse ${8 + i} ENOMEM`))
    const { ok, error } = await stream.send()
    await nic.command('clear')
    const next = await stream.send()
    const { heapsSent } = await stream.stats()
    await stream.close()
    const seen = (await wire.stop()).map(({ cnt, payloadOffset }) => `${cnt} ${payloadOffset}`)
    // The NIC had sent the seven.
    expect(new Set(seen).size).toBe(2 * HEAPS * PACKETS)
    expect(seen.length).toBe(2 * HEAPS * PACKETS + (duplicates ? 7 : 0))
    if (duplicates) expect(ok).toMatchObject({ heaps: HEAPS })
    else expect(error!.outcome!.heaps).toEqual(['unknown', 'unknown', 'sent'])
    expect(next.error).toBeUndefined()
    expect(heapsSent).toBe(duplicates ? 6 : 4)
  })

test.for(['retry', 'skip'] as const)('a device is removed: with %s too all fails, and the stream closes', async (onError, ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, onError })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  expect((await stream.send()).error).toBeUndefined()
  await nic.command('remove')
  const { error } = await stream.send()
  const last = await stream.send()
  expect(error!.outcome).toMatchObject({ heaps: ['failed', 'failed', 'failed'], causes: [{ errnoName: 'EIO' }] })
  expect(last.error!.outcome).toMatchObject({ heaps: ['failed', 'failed', 'failed'] })
  expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  nic.cleanReport()
})
