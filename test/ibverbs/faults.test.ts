/**
 * Work requests that fail, are refused or never complete: each heap's status agrees with what the peer saw, and sending goes on.
 */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { compareWithWire, Nic, needNic, openOn, type Sent, statusesOf } from '../support/nic.js'
import { capture, packetsOfHeaps } from '../support/remote-stream.js'

const TO = '10.77.0.2:7148'
const HEAPS = 3
const PACKETS = 5
const BYTES = 5000
const PACKET = 1048

/** The statuses of a batch whose packet k fails: nothing behind that packet was sent. */
const expectedOf = (k: number) =>
  Array.from({ length: HEAPS }, (_, j) => {
    const sent = Math.min(PACKETS, Math.max(0, k - j * PACKETS))
    if (sent === PACKETS) return 'sent'
    if (sent > 0) return 'partial'
    return k >= j * PACKETS ? 'failed' : 'flushed'
  })

for (const thread of ['worker', 'inline'] as const)
  test(`each of the 15 packets of a batch fails in turn, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic()
    const wire = await capture(ns, 'b')
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, thread })
    expect(await stream.batch({ heaps: HEAPS, bytes: BYTES })).toEqual({ packetsPerHeap: PACKETS })
    const failed: Sent[] = []
    const next: Sent[] = []
    for (let k = 0; k < HEAPS * PACKETS; k++) {
      await nic.command(`fail ${k + 1} GENERAL_ERR`)
      failed.push(await stream.send())
      next.push(await stream.send())
    }
    const stats = await stream.stats()
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    for (const [k, result] of failed.entries()) {
      const statuses = statusesOf(result, HEAPS)
      expect(statuses, `packet ${k} fails`).toEqual(expectedOf(k))
      compareWithWire(statuses, 1 + 2 * k * HEAPS, seen, PACKETS)
      expect(result.error!.outcome!.causes).toMatchObject([
        {
          substream: 0,
          errnoName: 'IBV_WC_GENERAL_ERR',
          packets: 1,
          message: expect.stringMatching(/10\.77\.0\.2:7148.*IBV_WC_GENERAL_ERR, vendor code 0x88/),
        },
      ])
    }
    for (const [k, result] of next.entries()) {
      const statuses = statusesOf(result, HEAPS)
      expect(statuses, `the send after packet ${k} failed`).toEqual(Array(HEAPS).fill('sent'))
      compareWithWire(statuses, 1 + (2 * k + 1) * HEAPS, seen, PACKETS)
    }
    const report = nic.cleanReport()
    expect(report).toMatchObject({ errors: 15, cqOverruns: 0, made: { qps: expect.any(Number) } })
    expect(stats.states.recoveries).toBe(15)
    expect(stats.heapsSent + stats.heapsFailed).toBe(2 * HEAPS * PACKETS * HEAPS)
    expect(stats.packets).toBe([...seen.values()].reduce((a, b) => a + b, 0))
    console.log(
      `ibverbs faults, ${thread}: 15 packets failed in turn, ${2 * failed.length * HEAPS} heaps compared with the wire, ${stats.states.recoveries} recoveries: ${failed[0]!.error!.message}`,
    )
  })

for (const thread of ['worker', 'inline'] as const)
  test(`the first of 5000 packets fails: every packet behind it in the queue is reported, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic({ faults: ['fail 1 LOC_LEN_ERR'] })
    const wire = await capture(ns, 'b')
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, thread, ibverbs: { poll: 'event' } })
    await stream.batch({ heaps: 1000, bytes: BYTES })
    const from = performance.now()
    const { error } = await stream.send()
    // Each reap reports up to a thousand failures, and none of them waits for a wake-up.
    expect(performance.now() - from).toBeLessThan(2000)
    const { error: none } = await stream.send()
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    expect(none).toBeUndefined()
    const { heaps } = error!.outcome!
    compareWithWire(heaps, 1, seen, PACKETS)
    compareWithWire(Array(1000).fill('sent'), 1001, seen, PACKETS)
    const count = (status: string) => heaps.filter((each) => each === status).length
    // The queue took 4096 packets, up to the first one of heap 819. The packets posted after the recovery were sent.
    expect([heaps[0], count('flushed'), count('partial'), count('sent')]).toEqual(['failed', 818, 1, 180])
    expect(nic.cleanReport()).toMatchObject({ errors: 1, flushed: 4095 })
  })

const SENT = Array(HEAPS).fill('sent')

test.for(['ENOMEM', 'EINVAL'])(
  'each of the 15 packets of a batch refused once with %s: posted again, none twice',
  async (errno, ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic()
    const wire = await capture(ns, 'b')
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET })
    await stream.batch({ heaps: HEAPS, bytes: BYTES })
    for (let k = 0; k < HEAPS * PACKETS; k++) {
      await nic.command(`refuse ${k + 1} ${errno}`)
      expect((await stream.send()).error, `packet ${k}`).toBeUndefined()
    }
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    for (let cnt = 1; cnt <= 15 * HEAPS; cnt++) expect(seen.get(cnt)).toBe(PACKETS)
    expect(nic.cleanReport()).toMatchObject({ refused: 15, errors: 0, flushed: 0 })
  },
)

test.for([
  [HEAPS, BYTES],
  [250, 5000],
] as const)(
  'a provider that refuses for ever: %d heaps fail with its errno, soon, and when it relents sending goes on',
  async ([heaps, bytes], ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const nic = new Nic()
    const wire = await capture(ns, 'b')
    const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET })
    await stream.batch({ heaps, bytes })
    for (const errno of ['ENOMEM', 'EINVAL']) {
      await nic.command(`refuse-every 1 ${errno}`)
      const from = performance.now()
      const { error } = await stream.send()
      // Only the first packet is tried eight times, with pauses of up to 2 ms; those behind it are tried once.
      expect(performance.now() - from).toBeLessThan(5000)
      expect(error!.outcome).toMatchObject({
        heaps: Array(heaps).fill('failed'),
        causes: [{ errnoName: errno, packets: heaps * PACKETS, message: expect.stringMatching(/refuses/) }],
      })
      await nic.command('clear')
      expect((await stream.send()).error).toBeUndefined()
    }
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    expect([...seen.keys()].length).toBe(2 * heaps)
    for (const errno of [1, 3]) for (let j = 0; j < heaps; j++) expect(seen.get(1 + errno * heaps + j)).toBe(PACKETS)
    nic.cleanReport()
  },
)

test('refused for good behind packets that no completion will report: they are soon unknown, and sending goes on', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  // Seven packets are taken; then every attempt is refused.
  await nic.command(...Array.from({ length: 25 }, (_, i) => `refuse ${8 + i} ENOMEM`))
  const from = performance.now()
  const { error } = await stream.send()
  expect(performance.now() - from).toBeLessThan(4000)
  expect(error!.outcome!.heaps).toEqual(['unknown', 'unknown', 'failed'])
  await nic.command('clear')
  expect(statusesOf(await stream.send(), HEAPS)).toEqual(SENT)
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  expect([1, 2, 3, 4, 5, 6].map((cnt) => seen.get(cnt))).toEqual([PACKETS, 2, undefined, PACKETS, PACKETS, PACKETS])
  nic.cleanReport()
})

test('a device that stops before packets that no completion will report: the error says how long we waited for them', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  // Seven packets are taken and three of them sent; then every attempt is refused.
  await nic.command('stall 4', ...Array.from({ length: 25 }, (_, i) => `refuse ${8 + i} ENOMEM`))
  const { error } = await stream.send()
  expect(error!.outcome).toMatchObject({
    heaps: ['partial', 'failed', 'failed'],
    causes: [
      { errnoName: 'ENOMEM', packets: 8 },
      { errnoName: 'ETIMEDOUT', packets: 1, message: expect.stringMatching(/: no completion for 200 ms, /) },
    ],
  })
  await nic.command('clear')
  expect(statusesOf(await stream.send(), HEAPS)).toEqual(SENT)
  expect((await stream.stats()).states).toMatchObject({ recoveries: 1, trouble: 'no completion for 200 ms' })
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  expect([1, 2, 3, 4, 5, 6].map((cnt) => seen.get(cnt))).toEqual([3, undefined, undefined, PACKETS, PACKETS, PACKETS])
  nic.cleanReport()
})

for (const thread of ['worker', 'inline'] as const)
  for (const poll of ['adaptive', 'event', 'busy'] as const)
    test(`a device that stops: after completionTimeoutMs the rest of the batch is given up, ${thread}, ${poll}`, async (ctx) => {
      needNic(ctx)
      await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
      const nic = new Nic()
      const wire = await capture(ns, 'b')
      const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET, thread, ibverbs: { poll, completionTimeoutMs: 150 } })
      await stream.batch({ heaps: HEAPS, bytes: BYTES })
      await nic.command('stall 8')
      const { error } = await stream.send()
      expect(error!.outcome).toMatchObject({
        heaps: ['sent', 'partial', 'flushed'],
        causes: [{ errnoName: 'ETIMEDOUT', packets: 1, message: expect.stringMatching(/no completion for 150 ms/) }],
      })
      await nic.command('resume')
      expect(statusesOf(await stream.send(), HEAPS)).toEqual(SENT)
      const { states } = await stream.stats()
      expect(states).toMatchObject({ recoveries: 1, trouble: 'no completion for 150 ms' })
      await stream.close()
      const seen = packetsOfHeaps(await wire.stop())
      expect([1, 2, 3, 4, 5, 6].map((cnt) => seen.get(cnt))).toEqual([PACKETS, 2, undefined, PACKETS, PACKETS, PACKETS])
      nic.cleanReport()
    })

test('a queue that fails again and again with nothing sent between: the stream fails for good, with the history, and closes', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic({ faults: ['fail-every 1 LOC_PROT_ERR'] })
  const stream = await openOn(nic, ns, { to: TO, packetSizeBytes: PACKET })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const causes: string[] = []
  let last = ''
  for (let n = 0; n < 12; n++) {
    const { error } = await stream.send()
    expect(error!.outcome!.heaps).not.toContain('sent')
    causes.push(error!.outcome!.causes[0]!.errnoName)
    last = error!.message
  }
  // The stream gives up after eight recoveries in a row.
  expect(causes).toEqual([...Array(9).fill('IBV_WC_LOC_PROT_ERR'), 'EIO', 'EIO', 'EIO'])
  expect(last).toMatch(/open another stream.*before: .*IBV_WC_LOC_PROT_ERR.*given up/)
  await nic.command('clear')
  expect((await stream.send()).error!.outcome!.causes[0]!.errnoName).toBe('EIO')
  await stream.close()
  nic.cleanReport()
})
