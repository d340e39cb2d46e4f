// The keys inside options that are objects, walked as options.test.ts walks the options; and the table of them in docs/options.md.
import { readFileSync } from 'node:fs'
import { type BatchOptions, openStream, SendError, type StreamClockOptions, type StreamOptions } from 'speadcast'
import { expect, onTestFinished, test } from 'vitest'
import { optionNames } from '#dist/src/stream/config.js'
import { need } from '../support/need.js'
import { filledBatch, itemsOf, memoryStream, numberHeap, type Packet, parse, SAMPLES, TIMESTAMP, turn } from './support.js'

type Options = Partial<StreamOptions>

/** The packets of a batch of two heaps; without an exact layout one packet each. */
async function sent(options: Options, batch: Partial<BatchOptions> = {}): Promise<Packet[]> {
  const stream = await memoryStream({ descriptors: 'none', ...options })
  await stream.send(stream.createBatch({ items: itemsOf(), heaps: 2, ...batch }))
  return stream.packets.map(parse)
}

/** Sends heaps with the timestamps 0 and 1, of a clock of 1000 samples a second and a sample a heap unless `options` say otherwise. */
async function clocked(options: Partial<StreamClockOptions>) {
  const base = { syncTime: Date.now() / 1000, sampleRateHz: 1000, samplesPerHeap: 1, unsynchronised: 'accept' } as const
  const stream = await memoryStream({ descriptors: 'none', clock: { ...base, ...options } })
  const batch = stream.createBatch({ items: itemsOf(), heaps: 2 })
  const start = performance.now()
  // Timestamps that are due: none waits for its start here.
  if (!options.startAt) await stream.send(batch).catch(() => undefined)
  return { ms: performance.now() - start, clock: stream.clock!, skipped: stream.stats().heapsSkipped }
}

const refusedClock = (options: Partial<StreamClockOptions>, message: RegExp) =>
  expect(clocked(options)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) })

const ids = ({ pointers }: Packet) => pointers.map(({ id }) => id)
const exact = (options: object): Options => ({
  split: { payloadBytes: 50, pointers: ['heap-cnt', 'payload-offset', { item: SAMPLES }, { item: TIMESTAMP }], ...options },
})

/** The packets of a batch of two heaps with descriptors ahead. */
async function described(descriptors: NonNullable<Options['descriptors']>, to = '10.0.0.1:7148'): Promise<Packet[]> {
  const stream = await memoryStream({ descriptors, to })
  await stream.send(stream.createBatch({ items: itemsOf(), heaps: 2 }))
  return stream.packets.map(parse)
}
const cntsOf = (packets: readonly Packet[]) => packets.map(({ cnt }) => cnt)

/** Sends two heaps of a packet each, the first of which is refused so often. */
async function withErrors(onError: NonNullable<Options['onError']>, refusals: number) {
  let left = refusals
  const stream = await memoryStream({ descriptors: 'none', onError, memory: { failAt: () => (left-- > 0 ? 1 : undefined) } })
  const start = performance.now()
  await stream.send(stream.createBatch({ items: itemsOf(), heaps: 2 }))
  return { ms: performance.now() - start, stats: stream.stats() }
}
const refusedOnError = (onError: object, message: RegExp) =>
  expect(openStream({ to: '127.0.0.1:9', onError: onError as never })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringMatching(message),
  })

const refusedOnThreadDeath = (onThreadDeath: object, message: RegExp) =>
  expect(openStream({ to: '127.0.0.1:9', onThreadDeath: onThreadDeath as never })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringMatching(message),
  })

/** Sends four hundred packets. */
async function timed(options: Options) {
  const stream = await memoryStream({ descriptors: 'none', ...options })
  const start = performance.now()
  await stream.send(filledBatch(stream, 0, { heaps: 400 }))
  return { ms: performance.now() - start, ...stream.stats() }
}

/** test/ibverbs tests the effect on a device. Here each key is known and has its bounds. */
const refusedOf = async (ibverbs: object) => {
  const error = await openStream({ to: '127.0.0.1:9', backend: 'ibverbs', ibverbs }).catch(
    (error: Error & { code: string }) => error,
  )
  return error instanceof Error ? `${(error as { code?: string }).code} ${error.message}` : 'opened'
}
const outside = (key: string, value: unknown) => async () =>
  expect(await refusedOf({ [key]: value })).toMatch(new RegExp(`^ERR_SPEADCAST_CONFIG option 'ibverbs\\.${key}' is `))

const outsideUd = (rdmaUd: object, key: string) => async () => {
  const told = openStream({ to: '127.0.0.1:9', backend: 'rdma-ud', rdmaUd })
  await expect(told).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringContaining(`option 'rdmaUd.${key}' is `),
  })
}

const refusedTcp = (tcp: object, message: RegExp) =>
  expect(openStream({ to: 'tcp://127.0.0.1:9', tcp })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringMatching(message),
  })
const outsideTcp = (tcp: object, key: string) => () => refusedTcp(tcp, new RegExp(`^option 'tcp\\.${key}' is `))

const INSIDE: Readonly<Record<string, () => Promise<void>>> = {
  async 'ibverbs.library'() {
    expect(await refusedOf({ library: '/nonexistent.so' })).toMatch(
      /^ERR_SPEADCAST_BACKEND .*\/nonexistent\.so could not be loaded/,
    )
  },
  'ibverbs.queueDepth': outside('queueDepth', 1),
  'ibverbs.poll': outside('poll', 'often'),
  'ibverbs.pollMicroseconds': outside('pollMicroseconds', -1),
  'ibverbs.completionVector': outside('completionVector', 1.5),
  'ibverbs.completionTimeoutMs': outside('completionTimeoutMs', 1),
  'ibverbs.vlan': outside('vlan', 5),
  async 'ibverbs.vlan.id'() {
    expect(await refusedOf({ vlan: { id: 4095 } })).toMatch(/^ERR_SPEADCAST_CONFIG .*ibverbs\.vlan\.id.*4095/)
  },
  async 'ibverbs.vlan.priority'() {
    expect(await refusedOf({ vlan: { id: 5, priority: 8 } })).toMatch(/^ERR_SPEADCAST_CONFIG .*ibverbs\.vlan\.priority.*8/)
  },
  // test/vm tests their effect.
  'rdmaUd.device': outsideUd({ device: 5 }, 'device'),
  'rdmaUd.connectTimeoutMs': outsideUd({ connectTimeoutMs: 0 }, 'connectTimeoutMs'),
  'rdmaUd.peers': outsideUd({ peers: 5 }, 'peers'),
  'rdmaUd.peers.gid': outsideUd({ peers: [{ qpn: 17, gid: 1 }] }, 'peers.0.gid'),
  'rdmaUd.peers.qpn': outsideUd({ peers: [{ qpn: 1 }] }, 'peers.0.qpn'),
  'rdmaUd.peers.qkey': outsideUd({ peers: [{ qpn: 17, qkey: 2 ** 32 }] }, 'peers.0.qkey'),
  'rdmaUd.peers.lid': outsideUd({ peers: [{ qpn: 17, lid: 65536 }] }, 'peers.0.lid'),
  'rdmaUd.peers.mtuBytes': outsideUd({ peers: [{ qpn: 17, mtuBytes: 1 }] }, 'peers.0.mtuBytes'),
  async 'tcp.connectTimeoutMs'() {
    const told = openStream({ to: 'tcp://127.0.0.1:9', tcp: { connectTimeoutMs: 0 } })
    await expect(told).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_CONFIG',
      message: expect.stringContaining("'tcp.connectTimeoutMs' is 0"),
    })
  },
  // test/tcp/reconnect.test.ts tests their effects.
  'tcp.reconnect': outsideTcp({ reconnect: 'often' }, 'reconnect'),
  async 'tcp.reconnectDelayMs'() {
    await outsideTcp({ reconnectDelayMs: 0 }, 'reconnectDelayMs')()
    await refusedTcp({ reconnectDelayMs: 50 }, /^tcp\.reconnectDelayMs is of connecting again; give tcp\.reconnect 'retry' too$/)
  },
  async 'tcp.reconnectDelayMaxMs'() {
    await outsideTcp({ reconnectDelayMaxMs: 1e9 }, 'reconnectDelayMaxMs')()
    await refusedTcp(
      { reconnect: 'retry', reconnectDelayMaxMs: 99 },
      /^tcp\.reconnectDelayMaxMs is 99, below tcp\.reconnectDelayMs \(100\)/,
    )
  },
  async 'tcp.reconnectSeconds'() {
    for (const reconnectSeconds of [0, -1, Number.NaN, '5']) await outsideTcp({ reconnectSeconds }, 'reconnectSeconds')()
    await refusedTcp({ reconnectSeconds: 5 }, /give tcp\.reconnect 'retry' too/)
  },
  async 'onError.policy'() {
    const { stats } = await withErrors({ policy: 'skip' }, 1)
    expect(stats).toMatchObject({ heapsSkipped: 1, heapsSent: 1 })
    await refusedOnError({}, /'onError\.policy' is missing/)
  },
  async 'onError.firstBackoffSeconds'() {
    const { ms } = await withErrors({ policy: 'retry', firstBackoffSeconds: 0.03 }, 1)
    expect(ms).toBeGreaterThan(29)
    await refusedOnError(
      { policy: 'retry', firstBackoffSeconds: 0 },
      /'onError\.firstBackoffSeconds' is 0; must be from 0\.00001 to 3600/,
    )
    await refusedOnError({ policy: 'fail', firstBackoffSeconds: 1 }, /^onError\.firstBackoffSeconds is of posting again/)
  },
  async 'onError.mostBackoffSeconds'() {
    await withErrors({ policy: 'retry', firstBackoffSeconds: 0.001, mostBackoffSeconds: 0.001 }, 30)
    await refusedOnError(
      { policy: 'retry', firstBackoffSeconds: 0.5 },
      /^onError\.mostBackoffSeconds is 0\.25, below onError\.firstBackoffSeconds \(0\.5\)/,
    )
  },
  async 'onError.forSeconds'() {
    await expect(withErrors({ policy: 'retry', forSeconds: 0.02 }, 1e9)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SEND' })
    await refusedOnError({ policy: 'retry', forSeconds: -1 }, /'onError\.forSeconds' is -1; must be from 0 up/)
  },
  // test/ibverbs/on-error.test.ts tests its effect.
  async 'onError.duplicates'() {
    await refusedOnError({ policy: 'retry', duplicates: 1 }, /'onError\.duplicates' is 1; must be true or false/)
  },
  // test/engine/thread-restart.test.ts has their effects.
  async 'onThreadDeath.policy'() {
    await refusedOnThreadDeath({ most: 3 }, /'onThreadDeath\.policy' is missing/)
  },
  async 'onThreadDeath.most'() {
    await refusedOnThreadDeath({ policy: 'restart', most: 0 }, /'onThreadDeath\.most' is 0; must be/)
    await refusedOnThreadDeath({ policy: 'fail', most: 3 }, /^onThreadDeath\.most is of 'restart'/)
  },
  async 'onThreadDeath.withinSeconds'() {
    await refusedOnThreadDeath({ policy: 'restart', withinSeconds: 0 }, /'onThreadDeath\.withinSeconds' is 0; must be from 0\.001/)
  },
  async 'onError.atEnd'() {
    const { stats } = await withErrors({ policy: 'retry', forSeconds: 0.02, atEnd: 'skip' }, 1e9)
    expect(stats).toMatchObject({ heapsSkipped: 2, heapsSent: 0, heapsFailed: 0 })
    await refusedOnError({ policy: 'retry', atEnd: 'retry' }, /'onError\.atEnd' is "retry"; must be 'fail' or 'skip'/)
  },
  // test/tcp/socket.test.ts tests its effect.
  async 'socket.fd'() {
    for (const fd of [-1, 2 ** 31, 1.5, '3'])
      await expect(openStream({ to: '127.0.0.1:9', socket: { fd: fd as number } })).rejects.toMatchObject({
        code: 'ERR_SPEADCAST_CONFIG',
        message: expect.stringContaining("'socket.fd' is"),
      })
  },
  async 'flavour.heapAddressBits'() {
    // SPEAD, packet header: magic, version, bytes of item id, bytes of heap address.
    expect((await sent({ flavour: { heapAddressBits: 40 } }))[0]!.bytes.subarray(0, 4)).toEqual(Uint8Array.of(0x53, 4, 3, 5))
  },
  async 'flavour.bugCompat'() {
    const described = async (bugCompat: number) => {
      const stream = await memoryStream({ flavour: { bugCompat } })
      const items = itemsOf().add({ id: 0x3301, name: 'wide', dtype: '<i2', shape: [4] })
      await stream.send(stream.createBatch({ items, heaps: 1 }))
      return parse(stream.packets[0]!)
        .data.toString('latin1')
        .match(/'descr': '([<>])i2'/)![1]
    }
    // 4 swaps the byte order that is told (spead2, BUG_COMPAT_SWAP_ENDIAN).
    expect([await described(0), await described(4)]).toEqual(['<', '>'])
  },
  async 'split.payloadBytes'() {
    expect((await sent(exact({ payloadBytes: 64 }), { heaps: 1 })).map(({ data }) => data.length)).toEqual([64, 36])
  },
  async 'split.pointers'() {
    const pointers = ['payload-offset', { item: TIMESTAMP }, 'padding', 'heap-cnt', { item: SAMPLES }] as const
    expect(ids((await sent(exact({ pointers })))[0]!)).toEqual([3, TIMESTAMP, 0, 1, SAMPLES])
  },
  async 'split.pointers.item'() {
    const pointers = ['heap-cnt', 'payload-offset', { item: TIMESTAMP }]
    await expect(sent(exact({ pointers }))).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SPLIT', message: /0x3300/ })
  },
  async 'split.pointers.addressAsImmediate'() {
    const immediate = async (addressAsImmediate: boolean) => {
      const pointers = ['heap-cnt', 'payload-offset', { item: TIMESTAMP }, { item: SAMPLES, addressAsImmediate }]
      return (await sent(exact({ pointers })))[0]!.pointers[3]!.immediate
    }
    expect([await immediate(false), await immediate(true)]).toEqual([false, true])
  },
  async 'split.repeat'() {
    const pointers = async (repeat: boolean) =>
      (await sent(exact({ repeat }), { heaps: 1 })).map((packet) => packet.pointers.length)
    expect(await pointers(true)).toEqual([4, 4])
    expect(await pointers(false)).toEqual([4, 2])
  },
  // test/stream/descriptor-timer.test.ts tests their effects further.
  async 'descriptors.everySeconds'() {
    const open = async (descriptors: NonNullable<Options['descriptors']>) => {
      const stream = await memoryStream({ descriptors })
      await stream.send(stream.createBatch({ items: itemsOf(), heaps: 1 }))
      return () => stream.packets.map(parse).map((packet) => packet.descriptors)
    }
    const often = await open({ everySeconds: 0.001 })
    for (let waited = 0; often().length < 4 && waited < 10_000; waited += 2) await turn(2)
    // On a slow machine some are due before the data.
    expect(often()[0]).toBe(2)
    expect(often().filter((n) => n !== 2)).toEqual([0])
    expect(often().length).toBeGreaterThanOrEqual(4)
    for (const once of [{ everySeconds: 3600 }, {}, { everySeconds: 1e9 }]) {
      const heaps = await open(once)
      await turn(40)
      expect(heaps()).toEqual([2, 0])
    }
  },
  async 'descriptors.firstCnt'() {
    expect(cntsOf(await described({ firstCnt: 500 }))).toEqual([500, 1, 2])
    await expect(described({ firstCnt: 2 ** 48 })).rejects.toMatchObject({ code: 'ERR_SPEADCAST_HEAP_CNT' })
  },
  async 'descriptors.cntStep'() {
    const packets = await described({ firstCnt: 2 ** 48 - 2, cntStep: 3 }, '10.0.0.1+2:7148')
    // Modulo 2^48, the width.
    expect(cntsOf(packets)).toEqual([2 ** 48 - 2, 1, 4, 1, 2])
    await expect(described({ cntStep: 3 })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_CONFIG',
      message: expect.stringMatching(/give descriptors\.firstCnt too/),
    })
  },
  async 'descriptors.stagger'() {
    await expect(described({ stagger: true })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_CONFIG',
      message: expect.stringMatching(/give descriptors\.everySeconds too/),
    })
  },
  async 'clock.syncTime'() {
    // Timestamp 0 is due 0.2 s from now.
    const { ms } = await clocked({ syncTime: Date.now() / 1000 + 0.2 })
    expect(ms).toBeGreaterThan(150)
    await refusedClock({ syncTime: 'never' }, /clock\.syncTime is 'never'/)
  },
  async 'clock.syncTime.tai'() {
    expect((await clocked({ syncTime: { tai: 1_790_000_000 } })).clock.nextTimestamp({ after: { tai: 1_790_000_010 } })).toBe(
      10_000,
    )
    await refusedClock({ syncTime: { tai: -1 } }, /clock\.syncTime is -1/)
  },
  async 'clock.sampleRateHz'() {
    const { clock } = await clocked({ sampleRateHz: 8e4, syncTime: 1_790_000_000 })
    expect(clock.nextTimestamp({ after: 1_790_000_010 })).toBe(800_000)
    await refusedClock({ sampleRateHz: 0 }, /clock\.sampleRateHz' is 0/)
  },
  async 'clock.samplesPerHeap'() {
    const { clock } = await clocked({ samplesPerHeap: 999, syncTime: 1_790_000_000 })
    expect(clock.nextTimestamp({ after: 1_790_000_010 })).toBe(10_989)
    await refusedClock({ samplesPerHeap: 1.5 }, /clock\.samplesPerHeap' is 1\.5/)
  },
  async 'clock.item'() {
    await expect(clocked({ item: 'time' })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_ITEM',
      message: expect.stringMatching(/no 'time'/),
    })
  },
  async 'clock.startAt'() {
    const startAt = Math.ceil(Date.now() / 1000) + 100
    const { clock } = await clocked({ startAt, syncTime: startAt - 500 })
    expect(clock.nextTimestamp()).toBe(500_000)
    await refusedClock({ startAt: startAt - 200 }, /clock\.startAt passed .* ago/)
  },
  async 'clock.startAt.tai'() {
    const { clock } = await clocked({})
    const startAt = { tai: Math.ceil(Date.now() / 1000) + clock.taiOffsetSeconds + 100 }
    expect((await clocked({ startAt, syncTime: { tai: startAt.tai - 500 } })).clock.nextTimestamp()).toBe(500_000)
  },
  async 'clock.late'() {
    const syncTime = Date.now() / 1000 - 60
    expect((await clocked({ syncTime, late: 'slip' })).skipped).toBe(0)
    expect((await clocked({ syncTime, late: 'skip' })).skipped).toBe(2)
  },
  async 'clock.lateToleranceSeconds'() {
    const syncTime = Date.now() / 1000 - 60
    expect((await clocked({ syncTime, late: 'skip', lateToleranceSeconds: 3600 })).skipped).toBe(0)
    expect((await clocked({ syncTime, late: 'skip', lateToleranceSeconds: 30 })).skipped).toBe(2)
  },
  async 'clock.unsynchronised'() {
    await refusedClock(
      { unsynchronised: 'perhaps' as 'warn' },
      /clock\.unsynchronised' is "perhaps"; must be 'refuse', 'warn' or 'accept'/,
    )
  },
  async 'memory.keepPackets'() {
    expect(await sent({ memory: { keepPackets: true } })).toHaveLength(2)
    expect(await sent({ memory: { keepPackets: false } })).toEqual([])
  },
  async 'memory.acceptPerPost'() {
    expect((await timed({ memory: { acceptPerPost: 10 } })).posts).toBe(40)
    expect((await timed({ memory: {} })).posts).toBe(1)
  },
  async 'memory.pauseNanoseconds'() {
    // 79 pauses of 2 ms, the most the engine takes.
    const { ms, waits } = await timed({ memory: { acceptPerPost: 5, pauseNanoseconds: 2e6 } })
    expect(waits).toBe(79)
    expect(ms).toBeGreaterThan(150)
  },
  async 'memory.completeAfterReaps'() {
    const stream = await memoryStream({ memory: { completeAfterReaps: 2 ** 31 } })
    const send = stream.sendHeap(numberHeap(1)).catch((error) => error)
    await turn()
    expect(stream.packets).toHaveLength(1)
    await stream.destroy()
    expect(((await send) as SendError).outcome.heaps).toEqual(['unknown'])
  },
  async 'memory.failAt'() {
    const memory = { failAt: (row: number) => (row === 1 ? 101 : undefined) }
    await expect(sent({ memory })).rejects.toMatchObject({ outcome: { heaps: ['sent', 'failed'] } })
    await expect(sent({ memory })).rejects.toBeInstanceOf(SendError)
  },
}

/** Every key inside an option, at any depth. */
const keysInside = (within: readonly string[]): string[] =>
  optionNames(...within).flatMap((name) => [[...within, name].join('.'), ...keysInside([...within, name])])

test('every key inside an option has a row, and every row is a key', () => {
  const keys = optionNames().flatMap((name) => keysInside([name]))
  expect(keys.length).toBeGreaterThan(10)
  expect(Object.keys(INSIDE).sort()).toEqual(keys.sort())
})

test.for(Object.entries(INSIDE))('%s', ([, row]) => row())

test('docs/options.md has every option, and none that is none', () => {
  const options = readFileSync(new URL('../../docs/options.md', import.meta.url), 'utf8')
  const table = options.split('\n## Options of `openStream`\n\n')[1]!.split('\n\n')[0]!
  const names = table.split('\n').flatMap((line) => [...line.split('|')[1]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
  expect(names.toSorted()).toEqual(optionNames().toSorted())
})

test('what docs/options.md calls the default is the default', async (ctx) => {
  need(ctx, process.platform === 'linux', 'defaults of Linux')
  const told = {
    packetSizeBytes: 1472,
    split: 'even',
    repeatPointers: false,
    firstCnt: 1,
    cntStep: 1,
    descriptors: 'first',
    rate: 0,
    burstBytes: 65536,
    burstRateRatio: 1.05,
    catchUpSeconds: 0.05,
    rateBasis: 'udp',
    flavour: { heapAddressBits: 48 },
  } as const
  const packets = async (options: Options) => {
    const stream = await memoryStream(options)
    await stream.send(filledBatch(stream, 0, { items: itemsOf(4000) }))
    return stream.packets.map(({ bytes }) => Buffer.from(bytes).toString('hex'))
  }
  expect(await packets({})).toEqual(await packets(told))
  const udpStream = async (options: Options) => {
    const stream = await openStream({ to: '127.0.0.1:7148', ...options })
    onTestFinished(() => stream.destroy())
    return stream
  }
  const stream = await udpStream({})
  const { thread, ...same } = { thread: 'worker', backend: 'auto', multicastLoop: true, sourcePort: 0, sendBufferBytes: 1 << 20, allowFragmentation: false, segmentation: 'auto', neighbourTimeoutMs: 1000, debug: false } as const // biome-ignore format: a list
  const other = await udpStream({ thread, ...same })
  const { sourcePort: _, ...states } = stream.stats().states
  expect(other.stats().states).toMatchObject(states)
})
