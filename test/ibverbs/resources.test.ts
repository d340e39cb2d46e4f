/** Devices and processes that lack something: memory to pin, rights, segments, queue, checksums, pacing. */
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { makeNetns, type Netns, waitForOutput } from '../support/netns.js'
import { CLI, Nic, needNic, openOn } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import { capture, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'
import { NOTHING_LEAKED } from '../support/softnic.js'

const V4 = '10.77.0.2:7148'
const V6 = '[fd77::2]:7148'
const PACKET = 1048
const OPTIONS: StreamOptions = { to: V4, packetSizeBytes: PACKET }

test('memory that cannot be pinned fails its batch, with the remedy; others go on, and nothing stays pinned', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic()
  const wire = await capture(ns, 'b')
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ name: 'good', heaps: 3, bytes: 5000 })
  expect((await stream.send({ name: 'good' })).error).toBeUndefined()
  await nic.command('reg-mr 1 ENOMEM')
  await stream.batch({ name: 'bad', heaps: 3, bytes: 5000 })
  for (let i = 0; i < 2; i++) {
    const { error } = await stream.send({ name: 'bad' })
    expect(error!.outcome).toMatchObject({
      heaps: ['failed', 'failed', 'failed'],
      causes: [
        {
          errnoName: 'ENOMEM',
          packets: 15,
          message: expect.stringMatching(/cannot be locked.*ibv_reg_mr.*ulimit -l.*LimitMEMLOCK=.*--ulimit memlock/),
        },
      ],
    })
    expect((await stream.send({ name: 'good' })).error).toBeUndefined()
  }
  await stream.batch({ name: 'another', heaps: 3, bytes: 5000 })
  expect((await stream.send({ name: 'another' })).error).toBeUndefined()
  await stream.close()
  const seen = packetsOfHeaps(await wire.stop())
  const sent = [1, 2, 3, 7, 8, 9, 13, 14, 15, 16, 17, 18]
  expect([...seen.entries()].sort(([a], [b]) => a - b)).toEqual(sent.map((cnt) => [cnt, 5]))
  nic.cleanReport()
})

test('a batch refused half-way leaves the memory that it had pinned to others', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  // With one SGE every packet is copied into memory of the backend's own, which is pinned too.
  const nic = new Nic({ mode: 'null', faults: ['limit max_sge 1', `limit memlock_bytes ${3 << 20}`] })
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ name: 'twice 2 MiB', heaps: 2, bytes: 1 << 20 })
  expect((await stream.send({ name: 'twice 2 MiB' })).error).toMatchObject({ message: expect.stringMatching(/RLIMIT_MEMLOCK/) })
  await stream.batch({ name: 'twice 1.2 MiB', heaps: 2, bytes: 600 << 10 })
  expect((await stream.send({ name: 'twice 1.2 MiB' })).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

test('lockable memory of an ordinary user: the limit is the process’s own', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'null' })
  const limited = ['prlimit', `--memlock=${1 << 20}`, 'setpriv', '--bounding-set', '-ipc_lock', ...nic.prefix]
  const stream = await RemoteStream.open(ns, { backend: 'ibverbs', ...OPTIONS }, limited)
  await stream.batch({ name: 'small', heaps: 1, bytes: 300_000 })
  await stream.batch({ name: 'large', heaps: 1, bytes: 3_000_000 })
  expect((await stream.send({ name: 'large' })).error).toMatchObject({ message: expect.stringMatching(/RLIMIT_MEMLOCK/) })
  expect((await stream.send({ name: 'small' })).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

test.for([
  ['a device that refuses', ['create-qp-every 1 EPERM'], []],
  ['a process without CAP_NET_RAW', [], ['setpriv', '--bounding-set', '-net_raw']],
] as const)('no raw packets, %s: ibverbs says what helps, auto takes udp and says why', async ([, faults, under], ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const nic = new Nic({ mode: 'null', faults })
  const remedy =
    /raw packet queue pairs need CAP_NET_RAW: ibv_create_qp failed: EPERM \(softnic0\); .*setpriv --ambient-caps.*AmbientCapabilities=CAP_NET_RAW.*--cap-add=NET_RAW/
  await expect(RemoteStream.open(ns, { ...OPTIONS, backend: 'ibverbs' }, [...under, ...nic.prefix])).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_BACKEND',
    message: expect.stringMatching(remedy),
  })
  const other = new Nic({ mode: 'null', faults })
  const stream = await RemoteStream.open(ns, { ...OPTIONS, backend: 'auto' }, [...under, ...other.prefix])
  const { backend, reason } = await stream.stats()
  await stream.close()
  expect(backend).toBe('udp')
  expect(reason).toMatch(remedy)
  for (const { made, leaked } of [nic.report(), other.report()]) {
    expect(made.contexts).toBeGreaterThan(0)
    expect(leaked).toEqual(NOTHING_LEAKED)
  }
})

test('auto takes udp as well where the device fails only when the stream is opened, or must not be used', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { mtu: 1500 } })
  const wire = await capture(ns, 'b')
  for (const [faults, options, why] of [
    // The first queue pair is made to find out whether it works.
    [
      ['create-qp 2 ENOMEM'],
      { ...OPTIONS, rate: '1Gbps' },
      /^sendmmsg .*; ibverbs: .*cannot be locked: ibv_create_qp failed: ENOMEM \(softnic0\); raise RLIMIT_MEMLOCK/,
    ],
    [
      [],
      { ...OPTIONS, packetSizeBytes: 3000, allowFragmentation: true },
      /; ibverbs: it never fragments, and allowFragmentation is set$/,
    ],
    [[], { ...OPTIONS, to: '239.1.2.3:7148', interface: 'v0', ttl: 0 }, /; ibverbs: ttl 0 keeps packets on this host/],
  ] as const) {
    const nic = new Nic({ mode: 'null', faults })
    const stream = await openOn(nic, ns, { ...options, backend: 'auto' })
    await stream.batch({ heaps: 2, bytes: 5000 })
    expect((await stream.send()).error).toBeUndefined()
    const { backend, reason } = await stream.stats()
    expect({ backend, reason }).toEqual({ backend: 'udp', reason: expect.stringMatching(why) })
    await stream.close()
  }
  expect((await wire.stop()).length).toBeGreaterThanOrEqual(10)
})

test('a device without raw packet queue pairs, as soft-RoCE: said so', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'null', faults: ['create-qp-every 1 EOPNOTSUPP'] })
  await expect(openOn(nic, ns, OPTIONS)).rejects.toThrow(
    /the device has no raw packet queue pairs: ibv_create_qp failed: EOPNOTSUPP \(softnic0\), errno 95; soft-RoCE .*use backend 'udp'/,
  )
  expect(nic.report().leaked).toEqual(NOTHING_LEAKED)
})

/** `recv --verify` in namespace b, by the kernel's UDP, which drops packets with a wrong checksum. */
async function startReceiver(ns: Netns, endpoint: string, heaps: number) {
  const args = [process.execPath, CLI, 'recv', endpoint, '--verify', '--json', '--heaps', `${heaps}`, '--timeout', '10']
  const child = ns.spawn('b', ['sh', '-c', '"$0" "$@" 2>&1', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout!.on('data', (piece) => {
    text += piece
  })
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await waitForOutput(child, /listening on/)
  return async () => {
    await closed
    return JSON.parse(text.trim().split('\n').at(-1)!) as Record<string, number>
  }
}

const LIMITS: [what: string, faults: string[], packetBytes: number, check: (report: ReturnType<Nic['cleanReport']>) => void][] = [
  ['nothing', [], PACKET, () => {}],
  ['one segment a packet', ['limit max_sge 1'], PACKET, () => {}],
  [
    'a queue of 64, and a thousand packets a batch',
    ['limit max_qp_wr 64'],
    600,
    ({ maxOutstanding }) => expect(maxOutstanding).toBeLessThanOrEqual(64),
  ],
  [
    'a queue of 64 with one segment a packet',
    ['limit max_qp_wr 64', 'limit max_sge 1'],
    600,
    ({ maxOutstanding }) => expect(maxOutstanding).toBe(64),
  ],
  ['a completion queue of 20', ['limit max_cqe 20'], 600, ({ maxOutstanding }) => expect(maxOutstanding).toBeLessThanOrEqual(20)],
  ['no checksums', ['limit checksum 0'], PACKET, () => {}],
  ['no checksums, one segment, small packets of odd sizes', ['limit checksum 0', 'limit max_sge 1'], 95, () => {}],
]
for (const to of [V4, V6])
  test.for(LIMITS)(
    `to ${to}, limited to %s: every heap arrives at the kernel’s receiver`,
    async ([, faults, packetBytes, check], ctx) => {
      needNic(ctx)
      await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
      const nic = new Nic({ faults })
      const heaps = 40
      const received = await startReceiver(ns, to, heaps)
      const args = ['-n', `${heaps}`, '-H', '30001', '-p', `${packetBytes}`, '--batch-heaps', '20', '--rate', '200Mbps', '--json']
      const { stdout } = await ns.exec('a', [...nic.prefix, process.execPath, CLI, 'send', to, '--backend', 'ibverbs', ...args])
      const sent = JSON.parse(stdout)
      expect(sent).toMatchObject({ backend: 'ibverbs', evidence: 'completed', heaps, heapsFailed: 0, heapsSuspect: 0 })
      expect(await received()).toMatchObject({ heaps, heapsIncomplete: 0, heapsCorrupt: 0, payloadBytes: heaps * 30001 })
      const checksums = !faults.includes('limit checksum 0') ? 'device' : to === V6 ? 'software' : 'none for UDP over IPv4'
      expect(sent.stats.checksums).toBe(checksums)
      const report = nic.cleanReport()
      expect(report).toMatchObject({ cqOverruns: 0, refused: 0, errors: 0, droppedOversize: 0, droppedByKernel: 0 })
      check(report)
    },
  )

/** The device counts Ethernet frames without preamble and FCS, and the stream's rate counts `counted` bytes of each frame. */
const kbpsOf = (bytesPerSecond: number, udpBytes: number, headerBytes: number, counted = udpBytes) =>
  Math.round((bytesPerSecond * 8 * (udpBytes + headerBytes)) / counted / 1000)
/** Preamble, FCS and gap (IEEE 802.3). */
const AROUND = 8 + 4 + 12

test.for([
  ['IPv4', V4, {}, 42, 1400],
  ['IPv6', V6, {}, 62, 1400],
  ['IPv4 with a VLAN tag', V4, { ibverbs: { vlan: { id: 7 } } }, 46, 1400],
  ['IPv4, at a rate of the wire', V4, { rateBasis: 'wire' }, 42, 1400 + 42 + AROUND],
] as const)(
  'hardware pacing over %s: the device is given the rate of frames, and again after a recovery',
  async ([, to, options, headers, counted], ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    for (const burst of [0, 1]) {
      const nic = new Nic({ mode: 'copy', faults: [`limit pacing_burst ${burst}`] })
      const stream = await openOn(nic, ns, { to, packetSizeBytes: 1400, rate: 20e6, rateMethod: 'hw', ...options })
      await stream.batch({ heaps: 4, bytes: 100_000 })
      const from = performance.now()
      for (let i = 0; i < 5; i++) expect((await stream.send()).error).toBeUndefined()
      const seconds = (performance.now() - from) / 1000
      const stats = await stream.stats()
      // Only the NIC paces.
      expect(stats.states.rateMethod).toBe('hw')
      await expect(stream.batch({ name: 'own', heaps: 1, bytes: 8, rates: [1e6] })).rejects.toMatchObject({
        code: 'ERR_SPEADCAST_CONFIG',
        message: expect.stringMatching(/the device keeps the rate of this stream: rates per heap need rateMethod 'sw'/),
      })
      expect(stats.pacedNanoseconds).toBe(0)
      expect(stats.wireBytes).toBe(stats.udpBytes + stats.packets * (headers + AROUND))
      expect(stats.udpBytes / seconds).toBeLessThan(20e6 * 1.1)
      await nic.command('fail 3 GENERAL_ERR')
      expect((await stream.send()).error).toBeDefined()
      expect((await stream.send()).error).toBeUndefined()
      await stream.close()
      const kbps = kbpsOf(20e6, 1400, headers, counted)
      const { rateLimitsKbps, burstsBytes } = nic.cleanReport()
      expect(rateLimitsKbps).toEqual([kbps, kbps])
      // 64 KiB are the stream's default; not all devices take a size.
      expect(burstsBytes).toEqual(Array(2).fill(burst === 1 ? 65536 : 0))
    }
  },
)

test('hardware pacing with bursts of less than a frame: of one frame', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'copy', faults: ['limit pacing_burst 1'] })
  const stream = await openOn(nic, ns, { to: V4, packetSizeBytes: 1400, rate: 20e6, rateMethod: 'hw', burstBytes: 1 })
  await stream.batch({ heaps: 1, bytes: 5000 })
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  expect(nic.cleanReport().burstsBytes).toEqual([1400 + 42])
})

test.for([
  ['a part of the queue takes longer than completionTimeoutMs', 2e6, 1400, 600, 150],
  ['a packet takes longer', 125_000, 9000 - 28, 6, 20],
] as const)(
  'hardware pacing so slow that %s: the queue is not called dead',
  async ([, rate, packetSizeBytes, packets, completionTimeoutMs], ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: { mtu: 9000 } })
    const nic = new Nic({ mode: 'copy' })
    const stream = await openOn(nic, ns, { to: V4, packetSizeBytes, rate, rateMethod: 'hw', ibverbs: { completionTimeoutMs } })
    await stream.batch({ heaps: 1, bytes: packets * (packetSizeBytes - 80) })
    expect((await stream.send()).error).toBeUndefined()
    const { states } = await stream.stats()
    expect(states).toMatchObject({ recoveries: 0 })
    expect(states).not.toHaveProperty('trouble')
    await stream.close()
    expect(nic.cleanReport().frames).toBeGreaterThan(packets * 0.9)
  },
)

test('a device that paces and stops is found out all the same', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'copy' })
  const options = { to: V4, packetSizeBytes: 1400, rate: 2e6, rateMethod: 'hw', ibverbs: { completionTimeoutMs: 150 } } as const
  const stream = await openOn(nic, ns, options)
  await stream.batch({ heaps: 3, bytes: 5000 })
  await nic.command('stall')
  expect((await stream.send()).error!.outcome).toMatchObject({
    heaps: ['failed', 'flushed', 'flushed'],
    causes: [{ errnoName: 'ETIMEDOUT' }],
  })
  await nic.command('resume')
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

test('hardware pacing that the device has not, or not so slow or fast: a clear error', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const options = { ...OPTIONS, rate: '1Gbps', rateMethod: 'hw' } as const
  for (const [fault, message] of [
    ['limit pacing 0', /rateMethod 'hw': device softnic0 has no hardware rate limit; use rateMethod 'sw'/],
    [
      'limit rate_max_kbps 900000',
      /device softnic0 can keep 1000 to 900000 kb\/s, and the rate is 1040076 kb\/s of frames; use rateMethod 'sw'/,
    ],
    ['limit rate_min_kbps 2000000', /can keep 2000000 to /],
  ] as const) {
    const nic = new Nic({ mode: 'null', faults: [fault] })
    await expect(openOn(nic, ns, options)).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(message),
    })
    expect(nic.report().leaked).toEqual(NOTHING_LEAKED)
  }
})

test.for(['ibverbs', 'rdma-ud'])(
  'too few descriptors to open %s with, one more each time: nothing stays open',
  async (backend, ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    const nic = new Nic({ mode: 'null' })
    ns.ip('a', 'neigh add 10.77.0.2 lladdr 02:00:00:00:00:09 dev v0')
    const { stdout } = await ns.exec('a', programArgv('ibverbs/descriptors', backend), { env: nic.environment })
    const got = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { tries: number; left: number[]; refusals: string[] }
    console.log(JSON.stringify(got))
    expect(got.tries).toBeGreaterThan(3)
    expect(got.left).toEqual([0])
    // The software NIC itself has no device or GIDs to tell of without a socket.
    expect(got.refusals.filter((refusal) => /EMFILE/.test(refusal)).length).toBeGreaterThan(1)
    for (const refusal of got.refusals) expect(refusal).not.toMatch(/no route|no RDMA device|nobody answers/)
    nic.cleanReport()
  },
)
