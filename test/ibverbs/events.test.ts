/** Everything but ordinary completions: events of queue, port and device, spurious wake-ups, completions that come one by one. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { makeNetns } from '../support/netns.js'
import { compareWithWire, Nic, needNic, openOn, sleep, statusesOf } from '../support/nic.js'
import { capture, packetsOfHeaps, type RunReport } from '../support/remote-stream.js'

const TO = '10.77.0.2:7148'
const HEAPS = 3
const PACKETS = 5
const BYTES = 5000
const PACKET = 1048
const OPTIONS: StreamOptions = { to: TO, packetSizeBytes: PACKET }

/** Compares every heap of a run with the wire. The first heap of the run has cnt `from`. */
function compareRun({ statuses, failed }: RunReport, from: number, wire: Map<number, number>): { whole: number; lost: number } {
  const count = { whole: 0, lost: 0 }
  for (const [n, firstCnt] of statuses) {
    expect(firstCnt).toBe(from + n * HEAPS)
    compareWithWire(Array(HEAPS).fill('sent'), firstCnt, wire, PACKETS)
    count.whole += HEAPS
  }
  for (const [n, { outcome, message }] of failed) {
    expect(outcome, message).toBeDefined()
    compareWithWire(outcome!.heaps, from + n * HEAPS, wire, PACKETS)
    count.lost += outcome!.failedHeaps.length
    count.whole += HEAPS - outcome!.failedHeaps.length
  }
  return count
}

test('the queue pair fails while a batch is under way, and while none is', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  await nic.command('stall 8')
  const sending = stream.send()
  await sleep(30)
  await nic.command('qp-fatal')
  const { error } = await sending
  expect(error!.outcome).toMatchObject({
    heaps: ['sent', 'partial', 'flushed'],
    causes: [{ packets: 1, errnoName: expect.stringMatching(/^IBV_EVENT_QP_FATAL$|^IBV_WC_WR_FLUSH_ERR$/) }],
  })
  await nic.command('resume')
  expect((await stream.send()).error).toBeUndefined()
  await sleep(30)
  // The stream finds the idle queue failed, and makes it ready before it posts anything.
  await nic.command('qp-fatal')
  await sleep(30)
  expect((await stream.send()).error).toBeUndefined()
  const { states } = await stream.stats()
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  expect([1, 2, 3].map((cnt) => seen.get(cnt))).toEqual([PACKETS, 2, undefined])
  for (let cnt = 4; cnt <= 9; cnt++) expect(seen.get(cnt)).toBe(PACKETS)
  expect(states.recoveries).toBe(2)
  expect(nic.cleanReport().qpFatals).toBe(2)
})

test('a queue pair that fails again and again under load: the status of every heap is true', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic({ faults: ['pace 20000'] })
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const running = stream.run({ seconds: 20 })
  for (let i = 0; i < 20; i++) {
    await sleep(50)
    await nic.command('qp-fatal')
  }
  await sleep(50)
  await stream.stop()
  const report = await running
  const { states } = await stream.stats()
  await stream.close()
  const { whole, lost } = compareRun(report, 1, packetsOfHeaps(await wire.stop()))
  console.log(
    `ibverbs, 20 failures of the queue pair: ${whole} heaps whole, ${lost} not, as the wire has them; ${states.recoveries} recoveries`,
  )
  expect(report.failed.length).toBeGreaterThan(5)
  expect(report.sent).toBeGreaterThan(100)
  expect(states.recoveries).toBeGreaterThanOrEqual(report.failed.length)
  expect(nic.cleanReport().qpFatals).toBe(20)
})

test('port down and up: batches sent while it is down are suspect, and lost', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const results = [await stream.send()]
  await nic.command('port down')
  for (let i = 0; i < 3; i++) {
    await sleep(15)
    results.push(await stream.send())
  }
  const down = (await stream.stats()).states
  await nic.command('port up')
  await sleep(30)
  for (let i = 0; i < 2; i++) {
    results.push(await stream.send())
    await sleep(15)
  }
  const up = (await stream.stats()).states
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  expect(results.map(({ ok }) => ok!.suspect)).toEqual([false, true, true, true, false, false])
  expect(results.map(({ ok }) => [0, 1, 2].map((j) => seen.get(ok!.firstCnt + j) ?? 0))).toEqual(
    [PACKETS, 0, 0, 0, PACKETS, PACKETS].map((n) => Array(HEAPS).fill(n)),
  )
  expect([down.portActive, up.portActive]).toEqual([false, true])
  expect(nic.cleanReport()).toMatchObject({ portErrors: 1, droppedPortDown: 3 * HEAPS * PACKETS })
})

test('slow batches that queue behind one another: every batch that lost a packet while the port was down is suspect', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  // A batch takes 50 ms.
  const stream = await openOn(nic, ns, { ...OPTIONS, rate: 20 * HEAPS * PACKETS * PACKET, burstBytes: PACKET })
  const names = Array.from({ length: 24 }, (_, i) => `batch ${i}`)
  for (const name of names) await stream.batch({ name, heaps: HEAPS, bytes: BYTES })
  const sending = names.map((name) => stream.send({ name }))
  await sleep(470)
  await nic.command('port down')
  await sleep(200)
  await nic.command('port up')
  const results = await Promise.all(sending)
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  const fates = results.map(({ ok }) => {
    const packets = [0, 1, 2].reduce((sum, j) => sum + (seen.get(ok!.firstCnt + j) ?? 0), 0)
    return { suspect: ok!.suspect, whole: packets === HEAPS * PACKETS }
  })
  expect(fates.filter(({ whole }) => !whole).length).toBeGreaterThan(2)
  expect(fates.filter(({ suspect, whole }) => !suspect && !whole)).toEqual([])
  expect(fates.filter(({ suspect }) => !suspect).length).toBeGreaterThan(8)
})

test('an MTU too small for the packets: suspect while it lasts, because the device drops them and says that they were sent', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const results = [await stream.send()]
  for (const mtu of [1000, 1500]) {
    ns.ip('a', `link set v0 mtu ${mtu}`)
    await sleep(50)
    results.push(await stream.send())
  }
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  expect(results.map(({ ok }) => ok!.suspect)).toEqual([false, true, false])
  for (let cnt = 1; cnt <= 9; cnt++) expect(seen.get(cnt)).toBe(cnt > 3 && cnt <= 6 ? undefined : PACKETS)
  expect(nic.cleanReport().droppedOversize).toBe(HEAPS * PACKETS)
})

test('the peer’s link down behind a neighbour that is known for good: suspect while it lasts', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { a: ['10.77.0.1/24'], b: ['10.77.0.2/24'], gsoMaxSegs: 1 } })
  const [{ address }] = JSON.parse(ns.ip('b', '-json link show v1'))
  ns.ip('a', `neigh replace 10.77.0.2 lladdr ${address} dev v0 nud permanent`)
  const nic = new Nic()
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const suspect = [(await stream.send()).ok!.suspect]
  ns.ip('b', 'link set v1 down')
  for (let i = 0; i < 3; i++) {
    await sleep(20)
    suspect.push((await stream.send()).ok!.suspect)
  }
  ns.ip('b', 'link set v1 up')
  await sleep(100)
  suspect.push((await stream.send()).ok!.suspect)
  await stream.close()
  expect(suspect).toEqual([false, true, true, true, false])
  nic.cleanReport()
})

test('a port that is down when the stream opens: suspect from the first', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic({ faults: ['port down'] })
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  expect((await stream.stats()).states.portActive).toBe(false)
  expect((await stream.send()).ok).toMatchObject({ suspect: true })
  await stream.close()
  nic.cleanReport()
})

/** CPU seconds of a process (proc_pid_stat(5): utime and stime, in hundredths). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

test('events that come while nothing is sent wait for the next batch, and the thread sleeps on', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'null' })
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  expect((await stream.send()).error).toBeUndefined()
  await nic.command('port down', 'port up', 'spurious', 'port down')
  await sleep(100)
  const before = cpuSeconds(nic.pid)
  await sleep(1000)
  const used = cpuSeconds(nic.pid) - before
  expect((await stream.send()).ok).toMatchObject({ suspect: true })
  await stream.close()
  expect(used).toBeLessThan(0.5)
  nic.cleanReport()
})

for (const thread of ['worker', 'inline'] as const)
  for (const how of ['remove', 'remove mute'] as const)
    test(`${how} under load, ${thread}: it fails for good with the history, and closes`, async (ctx) => {
      needNic(ctx)
      await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
      const nic = new Nic({ faults: ['pace 20000'] })
      const wire = await capture(ns, 'b')
      const stream = await openOn(nic, ns, { ...OPTIONS, thread })
      await stream.batch({ heaps: HEAPS, bytes: BYTES })
      const running = stream.run({ seconds: 20, gapMs: 1 })
      await sleep(200)
      await nic.command(how)
      await sleep(200)
      await stream.stop()
      const report = await running
      const last = await stream.send()
      const closed = await stream.close()
      const { whole, lost } = compareRun(report, 1, packetsOfHeaps(await wire.stop()))
      expect(last.error!.outcome).toMatchObject({
        heaps: ['failed', 'failed', 'failed'],
        causes: [{ errnoName: 'EIO', message: expect.stringMatching(/gone or broken.*before: .*IBV_EVENT_DEVICE_FATAL/) }],
      })
      expect(report.failed.length).toBeGreaterThan(1)
      expect(report.sent).toBeGreaterThan(10)
      expect(closed).toEqual({ droppedHeaps: 0 })
      console.log(
        `ibverbs, ${how}, ${thread}: ${whole} heaps whole, ${lost} not, as the wire has them: ${report.failed[0]![1].message}`,
      )
      expect(nic.cleanReport().deviceFatals).toBe(1)
    })

test('a device removed while nothing is under way, and put back: the stream stays broken, a new one works', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  expect((await stream.send()).error).toBeUndefined()
  await sleep(30)
  await nic.command('remove')
  expect(statusesOf(await stream.send(), HEAPS)).toEqual(['failed', 'failed', 'failed'])
  await expect(stream.reopen({ ...OPTIONS, backend: 'ibverbs' })).rejects.toThrow(
    /no RDMA device is behind interface v0; there are: none/,
  )
  await nic.command('insert')
  await stream.reopen({ ...OPTIONS, backend: 'ibverbs' })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

for (const thread of ['worker', 'inline'] as const)
  for (const poll of ['busy', 'adaptive', 'event'] as const)
    test(`completions that trickle in, and spurious wake-ups, ${thread}, ${poll}: all is sent, in order`, async (ctx) => {
      needNic(ctx)
      await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
      const nic = new Nic({ faults: ['spurious-every 1', 'pace 5000'] })
      const wire = await capture(ns, 'b')
      const stream = await openOn(nic, ns, { ...OPTIONS, thread, ibverbs: { poll, queueDepth: 16 } })
      await stream.batch({ heaps: HEAPS, bytes: BYTES })
      await stream.batch({ name: 'long', heaps: 40, bytes: BYTES })
      for (let i = 0; i < 10; i++) {
        const sending = stream.send()
        await nic.command('spurious')
        expect((await sending).error).toBeUndefined()
      }
      expect((await stream.send({ name: 'long' })).error).toBeUndefined()
      await nic.command('spurious', 'spurious')
      await sleep(50)
      expect((await stream.send()).error).toBeUndefined()
      await stream.close()
      const packets = await wire.stop()
      const seen = packetsOfHeaps(packets)
      for (let cnt = 1; cnt <= 11 * HEAPS + 40; cnt++) expect(seen.get(cnt)).toBe(PACKETS)
      const cnts = packets.map(({ cnt }) => cnt)
      expect(cnts).toEqual([...cnts].sort((a, b) => a - b))
      const report = nic.cleanReport()
      expect(report.maxOutstanding).toBeLessThanOrEqual(16)
      expect(report.cqOverruns).toBe(0)
      expect(report.completionEvents).toBeGreaterThanOrEqual(12)
    })
