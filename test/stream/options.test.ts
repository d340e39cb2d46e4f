/** Every option of openStream, walked as the table that the schema itself is: its change shows in bytes, in stats or in an error. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Heap, IoThread, ItemGroup, openStream, type Stream, type StreamOptions, type StreamStats } from 'speadcast'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { optionNames } from '#dist/src/stream/config.js'
import { freePort, pointersOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { programArgv } from '../support/program.js'

const DESCRIPTOR = 5

/** Packets of two heaps of 4000 bytes and a timestamp, sent `sends` times. */
async function sent(
  options: Partial<StreamOptions>,
  sends = 1,
): Promise<{ stream: Stream; packets: Uint8Array[]; stats: StreamStats }> {
  const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', ...options })
  onTestFinished(() => stream.destroy())
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 40]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [4000] })
  const batch = stream.createBatch({ items, heaps: 2 })
  for (let n = 0; n < sends; n++) {
    await batch.free
    await stream.send(batch)
  }
  return { stream, packets: stream.packets.map(({ bytes }) => bytes), stats: stream.stats() }
}

const REFUSED = { descriptors: 'none' } as const
const lengths = (packets: readonly Uint8Array[]) => packets.map(({ length }) => length)
const ids = (packet: Uint8Array) => pointersOf(packet).map(({ id }) => id)
const cnts = (packets: readonly Uint8Array[]) => [...new Set(packets.map((packet) => pointersOf(packet)[0]!.value))]
const told = (options: Partial<StreamOptions>): Promise<string> =>
  openStream({ to: '127.0.0.1:9', ...options }).then(
    (stream) => stream.destroy().then(() => 'no error'),
    (error: Error & { code: string }) => `${error.code} ${error.message}`,
  )

/** Ethernet frames of the pcap backend. */
async function frames(options: Partial<StreamOptions>): Promise<Buffer[]> {
  const pcapPath = join(temporaryFolder(), 'x.pcap')
  const { stream } = await sent({ backend: 'pcap', pcapPath, ...options })
  await stream.close()
  const file = readFileSync(pcapPath)
  const all: Buffer[] = []
  for (let at = 24; at < file.length; at += 16 + file.readUInt32LE(at + 8))
    all.push(file.subarray(at + 16, at + 16 + file.readUInt32LE(at + 8)))
  return all
}

async function namespaces(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('tcpdump', ['--version']).status === 0, 'needs tcpdump')
  return makeNetns({ veth: { mtu: 1500 } })
}

/** Opens a stream in namespace a: its states, or the error. */
const openedIn = (ns: Netns, options: StreamOptions): Promise<{ states?: Record<string, unknown>; error?: string }> =>
  ns.program('a', 'stream/opened', options)

/** The packets that a socket in namespace a, joined to the group there, hears of three heaps sent from the same namespace. */
const heardBySelf = (ns: Netns, options: Partial<StreamOptions>): Promise<number> =>
  ns.program('a', 'stream/heard-by-self', options)

/** The IP and UDP headers of one packet as tcpdump in namespace b describes them. */
async function onTheWire(ns: Netns, options: StreamOptions): Promise<string> {
  const dump = ns.spawn('b', ['tcpdump', '-i', 'v1', '-nn', '-v', '-l', '-c', '1', 'udp port 7148'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  await new Promise<void>((resolve) =>
    dump.stderr!.on('data', (text: Buffer) => {
      if (text.includes('listening')) resolve()
    }),
  )
  const seen = waitForOutput(dump, /[\s\S]*UDP, length.*\n/)
  await ns.exec('a', programArgv('stream/one-heap', options))
  return (await seen)[0]
}

const threads = (): number => readdirSync('/proc/self/task').length

const WALK: Record<keyof StreamOptions, (ctx: TestContext) => Promise<void>> = {
  async to() {
    const destination = (frame: Buffer) => `${frame.subarray(30, 34).join('.')}:${frame.readUInt16BE(36)}`
    expect(new Set((await frames({ to: '10.1.2.3:4000' })).map(destination))).toEqual(new Set(['10.1.2.3:4000']))
    expect(new Set((await frames({ to: ['10.1.2.3+1:4001'] })).map(destination))).toEqual(
      new Set(['10.1.2.3:4001', '10.1.2.4:4001']),
    )
  },
  async interface() {
    const source = (frame: Buffer | undefined) => frame!.subarray(26, 30).join('.')
    expect(source((await frames({}))[0])).toBe('192.0.2.1')
    expect(source((await frames({ interface: 'lo' }))[0])).toBe('127.0.0.1')
    expect(await told({ interface: 'no-such' })).toMatch(/^ERR_SPEADCAST_INTERFACE/)
  },
  async backend() {
    expect((await sent({ backend: 'memory' })).stats).toMatchObject({ backend: 'memory', evidence: 'written' })
    expect((await sent({ backend: 'dgram', to: '127.0.0.1:9' })).stats).toMatchObject({ backend: 'dgram', evidence: 'accepted' })
  },
  async thread(ctx) {
    need(ctx, existsSync('/proc/self/task'), 'counts threads in /proc')
    const grown = async (options: Partial<StreamOptions>) => {
      const before = threads()
      const { stream } = await sent({ backend: 'pcap', pcapPath: '/dev/null', ...options })
      const more = threads() - before
      await stream.close()
      return more
    }
    expect(await grown({ thread: 'inline' })).toBe(0)
    // Streams that say the same affinity share threads; nobody has said this one yet.
    expect(await grown({ thread: 'worker', affinity: [0] })).toBeGreaterThan(0)
    const thread = new IoThread({ name: 'walk' })
    onTestFinished(() => thread.close())
    expect(await grown({ thread })).toBe(0)
    const names = readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim())
    expect(names).toContain('walk')
  },
  async ioThreads(ctx) {
    need(ctx, existsSync('/proc/self/task'), 'counts threads in /proc')
    const grown = async (ioThreads: number) => {
      const before = threads()
      const options = { backend: 'pcap', pcapPath: '/dev/null', thread: 'worker', affinity: [0, 1], ioThreads } as const
      const streams = [await sent(options), await sent(options), await sent(options)]
      const more = threads() - before
      await Promise.all(streams.map(({ stream }) => stream.close()))
      return more
    }
    expect(await grown(1)).toBe(1)
    expect(await grown(3)).toBe(2)
    expect(await told({ thread: 'inline', ioThreads: 2 })).toMatch(/^ERR_SPEADCAST_CONFIG ioThreads is for shared I\/O threads/)
  },
  async ibverbs() {
    const ibverbs = { library: '/nonexistent/libibverbs.so.1' }
    expect(await told({ backend: 'ibverbs', ibverbs })).toMatch(/^ERR_SPEADCAST_BACKEND .*\/nonexistent\/libibverbs\.so\.1/)
    expect(await told({ backend: 'udp', ibverbs })).toMatch(
      /^ERR_SPEADCAST_CONFIG ibverbs is only for backends 'ibverbs' and 'rdma-ud', not 'udp'/,
    )
    expect((await sent({ backend: 'auto', to: '127.0.0.1:9', ibverbs })).stream.reason).toMatch(/\/nonexistent\/libibverbs\.so\.1/)
  },
  async onPathChange() {
    // test/kernel/host-changes.test.ts has its effect, which takes a host that changes.
    const changes: object[] = []
    await sent({ onPathChange: (change) => void changes.push(change) })
    expect(changes).toEqual([])
    expect(await told({ onPathChange: 5 as never })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'onPathChange' is 5; must be a function of the change/,
    )
  },
  async rdmaUd() {
    expect(await told({ backend: 'udp', rdmaUd: {} })).toMatch(
      /^ERR_SPEADCAST_CONFIG rdmaUd is only for backend 'rdma-ud', not 'udp'/,
    )
    const peers = [{ qpn: 17 }, { qpn: 18 }]
    expect(await told({ backend: 'rdma-ud', rdmaUd: { peers } })).toMatch(
      /^ERR_SPEADCAST_CONFIG rdmaUd\.peers names 2 queue pairs for 1 endpoint;/,
    )
    expect(await told({ backend: 'rdma-ud', sourcePort: 5 })).toMatch(/^ERR_SPEADCAST_CONFIG sourcePort is of UDP/)
    expect(await told({ backend: 'rdma-ud', allowFragmentation: true })).toMatch(/^ERR_SPEADCAST_CONFIG .*never fragments/)
    expect(await told({ backend: 'rdma-ud', ibverbs: { vlan: { id: 5 } } })).toMatch(
      /^ERR_SPEADCAST_CONFIG ibverbs\.vlan tags frames/,
    )
    const ibverbs = { library: '/nonexistent/libibverbs.so.1' }
    expect(await told({ backend: 'rdma-ud', ibverbs })).toMatch(
      /^ERR_SPEADCAST_BACKEND backend 'rdma-ud' cannot work here: \/nonexistent\/libibverbs\.so\.1/,
    )
  },
  async tcp() {
    expect(await told({ backend: 'udp', tcp: {} })).toMatch(/^ERR_SPEADCAST_CONFIG tcp is only for backend 'tcp', not 'udp'/)
    // test/tcp tests its effect.
  },
  async socket() {
    expect(await told({ socket: 5 as never })).toMatch(/^ERR_SPEADCAST_CONFIG option 'socket' is 5; must be \{ fd \}/)
    // test/tcp/socket.test.ts tests its effect.
  },
  async rateMethod() {
    expect(await told({ backend: 'udp', rateMethod: 'hw' })).toMatch(/^ERR_SPEADCAST_CONFIG .*needs backend 'ibverbs'/)
    const kernel = { backend: 'udp', rateMethod: 'kernel', rate: 1e6 } as const
    for (const backend of ['auto', 'ibverbs', 'rdma-ud', 'dgram', 'memory'] as const)
      expect(await told({ ...kernel, backend })).toMatch(/^ERR_SPEADCAST_CONFIG rateMethod 'kernel' .*needs backend 'udp'/)
    expect(await told({ ...kernel, rate: 0 })).toMatch(/^ERR_SPEADCAST_CONFIG rateMethod 'kernel' needs a rate/)
    expect(await told({ ...kernel, udpPath: 'io_uring' })).toMatch(/^ERR_SPEADCAST_CONFIG .*udpPath 'io_uring' lends/)
    expect((await sent({ backend: 'memory', rate: 1e9 })).stats.states).toMatchObject({ rateMethod: 'sw' })
  },
  async affinity() {
    expect(await told({ affinity: [1023] })).toMatch(/^ERR_SPEADCAST_CONFIG affinity: none of CPUs 1023 may be used here/)
    expect(await told({ affinity: [0], thread: 'inline' })).toMatch(/^ERR_SPEADCAST_CONFIG affinity is for the I\/O thread/)
  },
  // test/stream/placement.test.ts tests its effect.
  async priority() {
    expect(await told({ priority: 'rr:0' })).toMatch(/^ERR_SPEADCAST_CONFIG option 'priority' is "rr:0"; must be a nice value/)
    expect(await told({ priority: 5, thread: 'inline' })).toMatch(/^ERR_SPEADCAST_CONFIG priority is for the I\/O thread/)
    expect(await told({ priority: 5, thread: new IoThread() })).toMatch(
      /^ERR_SPEADCAST_CONFIG priority is for a shared I\/O thread/,
    )
  },
  async flavour() {
    const { packets } = await sent({ flavour: { heapAddressBits: 40 } })
    // Bytes of item id with flag, and of heap address (SPEAD §2).
    expect([...packets[0]!.subarray(2, 4)]).toEqual([3, 5])
    expect([...(await sent({})).packets[0]!.subarray(2, 4)]).toEqual([2, 6])
  },
  async packetSizeBytes() {
    const small = lengths((await sent({ packetSizeBytes: 500 })).packets)
    const large = lengths((await sent({ packetSizeBytes: 9000 })).packets)
    expect(Math.max(...small)).toBeLessThanOrEqual(500)
    expect(large.filter((length) => length > 4000)).toHaveLength(2)
  },
  async split() {
    const heap = (packets: readonly Uint8Array[]) => lengths(packets).slice(1, 4)
    expect(heap((await sent({ split: 'greedy' })).packets)).toEqual([1472, 1472, 40 + 4000 - 1416 - 1432])
    // 4016 bytes of payload and item pointers are no multiple of 3: a third of them and 40 is 1378.7, the next multiple of 8 1384.
    expect(heap((await sent({})).packets)).toEqual([1384, 1384, 40 + 4016 - 2 * 1344])
    const exact = { payloadBytes: 1000, pointers: ['heap-cnt', 'payload-offset', { item: 0x1600 }, { item: 0x3300 }] } as const
    expect(lengths((await sent({ split: exact, descriptors: 'none' })).packets)).toEqual(Array(8).fill(8 + 4 * 8 + 1000))
  },
  async repeatPointers() {
    const second = async (options: Partial<StreamOptions>) => ids((await sent({ descriptors: 'none', ...options })).packets[1]!)
    expect(await second({})).toEqual([1, 2, 3, 4])
    expect(await second({ repeatPointers: true })).toEqual([1, 2, 3, 4, 0x1600, 0x3300])
    // Heaps by name too.
    const byName = async (options: Partial<StreamOptions>) => {
      const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', ...options })
      const items = new ItemGroup().add({
        id: 0x3300,
        name: 'adc_samples',
        dtype: 'u1',
        shape: [4000],
        value: new Uint8Array(4000),
      })
      await stream.sendHeap(items.getHeap({ descriptors: 'none' }))
      await stream.close()
      return ids(stream.packets[1]!.bytes)
    }
    expect(await byName({})).toEqual([1, 2, 3, 4])
    expect(await byName({ repeatPointers: true })).toEqual([1, 2, 3, 4, 0x3300])
  },
  async firstCnt() {
    expect(cnts((await sent({ firstCnt: 0xfffffffffffen, descriptors: 'none' }, 2)).packets)).toEqual([
      2 ** 48 - 2,
      2 ** 48 - 1,
      0,
      1,
    ])
  },
  async cntStep() {
    expect(cnts((await sent({ cntStep: 7, descriptors: 'none' }, 2)).packets)).toEqual([1, 8, 15, 22])
  },
  async descriptors() {
    const where = async (descriptors: StreamOptions['descriptors']) => {
      const { packets } = await sent({ descriptors: descriptors!, packetSizeBytes: 9000, rate: '1MB/s', burstBytes: 1 }, 2)
      return packets
        .map((packet) => (ids(packet).includes(DESCRIPTOR) ? 'D' : '') + (ids(packet).includes(0x3300) ? 'd' : ''))
        .join(' ')
    }
    expect(await where('first')).toBe('D d d d d')
    expect(await where('in-band')).toBe('Dd d d d')
    expect(await where('none')).toBe('d d d d')
    // A busy machine may hold the timer up for longer than the batch takes, but not for ever.
    const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', descriptors: { everySeconds: 0.002 } })
    const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [64] })
    await stream.send(stream.createBatch({ items, heaps: 4 }))
    const told = () => stream.packets.map(({ bytes }) => (ids(bytes).includes(DESCRIPTOR) ? 'D' : 'd')).join('')
    while (!/dD+$/.test(told())) await new Promise((resolve) => setTimeout(resolve, 1))
    await stream.close()
    expect(told()).toMatch(/^D(D*d){4}D+$/)
  },
  async rate() {
    expect((await sent({ rate: '10MB/s', burstBytes: 1000 })).stats.pacedNanoseconds).toBeGreaterThan(0)
    expect((await sent({})).stats.pacedNanoseconds).toBe(0)
  },
  async rateBasis() {
    expect(await told({ rateBasis: 'ip' as 'udp' })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'rateBasis' is "ip"; must be 'udp' or 'wire'/,
    )
    const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', rate: '10kB/s', burstBytes: 1, rateBasis: 'wire' })
    const started = performance.now()
    await stream.sendHeaps(Array(10).fill({ heap: new Heap() }), 'serial')
    const { udpBytes, wireBytes } = stream.stats()
    await stream.close()
    // An empty heap has 49 bytes, and 66 are around each packet: IEEE 802.3, RFC 791, RFC 768.
    expect([udpBytes, wireBytes]).toEqual([490, 490 + 660])
    // A lower bound, which a slow machine only moves away from: by UDP payload nine packets take 47 ms at the burst rate.
    expect(performance.now() - started).toBeGreaterThan((9 * (49 + 66)) / 10 / 1.05)
  },
  async clock() {
    const clock = {
      syncTime: Math.floor(Date.now() / 1000),
      sampleRateHz: 4000,
      samplesPerHeap: 400,
      unsynchronised: 'accept',
    } as const
    expect((await sent({})).stream.clock).toBeUndefined()
    // Timestamps of the batch are 0, which was due a moment ago.
    const { stats } = await sent({ clock })
    expect(stats.timeErrorNanoseconds).toBeGreaterThan(0)
    expect(stats.states).toMatchObject({ rateMethod: 'sw' })
    expect(await told({ clock, rate: 1e6 })).toMatch(/^ERR_SPEADCAST_CONFIG rate and clock are given/)
  },
  async onError() {
    expect(await told({ onError: 'stop' as never })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'onError' is "stop"; must be 'fail', 'skip', 'retry', \{ policy, … \}, or a list/,
    )
    const refusing = (refusals: number) => ({ failAt: () => (refusals-- > 0 ? 1 : undefined) })
    const stats = async (onError: NonNullable<StreamOptions['onError']>) =>
      (await sent({ ...REFUSED, onError, memory: refusing(3) })).stats
    expect(await stats('skip')).toMatchObject({ heapsSent: 1, heapsFailed: 0, heapsSkipped: 1, packetsFailed: 3 })
    expect(await stats(['retry'])).toMatchObject({ heapsSent: 2, heapsFailed: 0, heapsRetried: 1, packetsRetried: 1 })
    await expect(stats('fail')).rejects.toMatchObject({ code: 'ERR_SPEADCAST_SEND' })
  },
  async onThreadDeath() {
    // test/engine/thread-restart.test.ts has its effect.
    expect(await told({ onThreadDeath: 'go on' as never })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'onThreadDeath' is "go on"; must be 'fail', 'restart' or \{ policy, most, withinSeconds \}/,
    )
    expect(await told({ onThreadDeath: 'restart', backend: 'memory' })).toMatch(
      /^ERR_SPEADCAST_CONFIG onThreadDeath 'restart' is for an I\/O thread, and this stream sends from the event loop/,
    )
    expect(await told({ onThreadDeath: 'restart', backend: 'pcap', pcapPath: '/nowhere/x.pcap' })).toMatch(
      /^ERR_SPEADCAST_CONFIG onThreadDeath 'restart' would begin the file of backend 'pcap' anew/,
    )
    expect(await told({ onThreadDeath: 'restart', backend: 'udp', socket: { fd: 3 } })).toMatch(
      /^ERR_SPEADCAST_CONFIG onThreadDeath 'restart' opens another socket/,
    )
    expect((await sent({ onThreadDeath: 'fail' })).stats.threadRestarts).toBe(0)
  },
  async lagBoundSeconds() {
    // test/stream/events.test.ts has its effect.
    expect(await told({ lagBoundSeconds: 0 })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'lagBoundSeconds' is 0; must be from 0\.000001 to 3600/,
    )
    expect(await told({ lagBoundSeconds: '1' as never })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'lagBoundSeconds' is "1"; must be a number/,
    )
    const { stream } = await sent({ rate: '10MB/s', lagBoundSeconds: 3600 })
    expect(stream.stats().greatestLagNanoseconds).toBeLessThan(3600e9)
  },
  async catchUpSeconds() {
    expect(await told({ catchUpSeconds: -1 })).toMatch(
      /^ERR_SPEADCAST_CONFIG option 'catchUpSeconds' is -1; must be from 0 to 3600/,
    )
    const gaps = async (catchUpSeconds: number) => {
      const stream = await openStream({
        to: '10.0.0.1:7148',
        backend: 'memory',
        rate: '10MB/s',
        catchUpSeconds,
        descriptors: 'none',
      })
      const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [952] })
      const batch = stream.createBatch({ items, heaps: 1 })
      await stream.send(batch)
      await new Promise((resolve) => setTimeout(resolve, 20))
      await stream.send(batch)
      await stream.close()
      const { gapsMadeUp, gapsGivenUp } = stream.stats()
      return { gapsMadeUp, gapsGivenUp }
    }
    expect(await gaps(0)).toEqual({ gapsMadeUp: 0, gapsGivenUp: 1 })
    expect(await gaps(3600)).toEqual({ gapsMadeUp: 1, gapsGivenUp: 0 })
  },
  async burstBytes() {
    const posts = async (burstBytes: number) => (await sent({ rate: '100MB/s', burstBytes, descriptors: 'none' })).stats.posts
    expect(await posts(1)).toBe(6)
    expect(await posts(1e6)).toBe(1)
  },
  async burstRateRatio() {
    expect(await told({ burstRateRatio: 0.99 })).toMatch(/^ERR_SPEADCAST_CONFIG option 'burstRateRatio' is 0\.99/)
    /** Nanoseconds that the limiter held back 600 ms of packets, of which nothing went out for 300 ms. */
    const held = async (burstRateRatio: number): Promise<number> => {
      const options = { rate: '100kB/s', burstBytes: 2000, burstRateRatio, descriptors: 'none' } as const
      const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', ...options })
      const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [952] })
      const sending = stream.send(stream.createBatch({ items, heaps: 60 }))
      await new Promise((resolve) => setTimeout(resolve, 100))
      for (const end = performance.now() + 300; performance.now() < end; );
      await sending
      await stream.close()
      return stream.stats().pacedNanoseconds
    }
    // A stream that may not go faster catches up on nothing, and waits as long as if it had not been stopped.
    expect((await held(1)) - (await held(1000))).toBeGreaterThan(100e6)
  },
  async ttl(ctx) {
    expect((await frames({ ttl: 5 }))[0]![22]).toBe(5)
    expect((await frames({}))[0]![22]).toBe(64)
    await using ns = await namespaces(ctx)
    expect(await onTheWire(ns, { to: '10.77.0.2:7148', ttl: 7 })).toMatch(/ttl 7,/)
    expect(await onTheWire(ns, { to: '[fd77::2]:7148', packetSizeBytes: 1452, ttl: 8 })).toMatch(/hlim 8,/)
    expect(await onTheWire(ns, { to: '239.1.2.3:7148', interface: 'v0', ttl: 9 })).toMatch(/ttl 9,/)
    expect(await onTheWire(ns, { to: '239.1.2.3:7148', interface: 'v0' })).toMatch(/ttl 1,/)
    expect(await onTheWire(ns, { to: '[ff15::3]:7148', packetSizeBytes: 1452, interface: 'v0', ttl: 10 })).toMatch(/hlim 10,/)
    expect(await onTheWire(ns, { to: '239.1.2.3:7148', interface: 'v0', ttl: 11, backend: 'dgram' })).toMatch(/ttl 11,/)
    expect(await onTheWire(ns, { to: '10.77.0.2:7148', ttl: 12, backend: 'dgram' })).toMatch(/ttl 12,/)
    const isUnicast = /^ERR_SPEADCAST_CONFIG ttl is 0, .*; 127\.0\.0\.1:9 is unicast and needs at least 1$/
    for (const backend of ['udp', 'dgram'] as const) {
      expect(await told({ ttl: 0, backend })).toMatch(isUnicast)
      expect(await heardBySelf(ns, { ttl: 0, backend })).toBe(3)
    }
  },
  async multicastLoop(ctx) {
    await using ns = await namespaces(ctx)
    for (const backend of ['udp', 'dgram'] as const) {
      expect(await heardBySelf(ns, { backend })).toBe(3)
      expect(await heardBySelf(ns, { backend, multicastLoop: false })).toBe(0)
    }
  },
  async dscp(ctx) {
    expect((await frames({ dscp: 46 }))[0]![15]).toBe(46 << 2)
    expect(await told({ backend: 'dgram', dscp: 46 })).toMatch(/^ERR_SPEADCAST_CONFIG backend 'dgram' cannot set dscp/)
    await using ns = await namespaces(ctx)
    expect(await onTheWire(ns, { to: '10.77.0.2:7148', dscp: 46 })).toMatch(/tos 0xb8,/)
    expect(await onTheWire(ns, { to: '[fd77::2]:7148', packetSizeBytes: 1452, dscp: 46 })).toMatch(/class 0xb8,/)
  },
  async reusePort() {
    expect(await told({ reusePort: true })).toMatch(/^ERR_SPEADCAST_CONFIG reusePort shares a source port; give sourcePort too/)
    for (const backend of ['udp', 'dgram'] as const) {
      const { stats } = await sent({ to: '127.0.0.1:9', backend, sourcePort: await freePort(), reusePort: true })
      const sourcePort = stats.states.sourcePort as number
      expect(await told({ backend, sourcePort })).toMatch(/^ERR_SPEADCAST_BACKEND .*another socket has source port .*set reusePort/)
      expect(await told({ backend, sourcePort, reusePort: true })).toBe('no error')
    }
  },
  async broadcast() {
    expect(await told({ to: '[::1]:9', broadcast: true })).toMatch(/^ERR_SPEADCAST_CONFIG broadcast is set, and \[::1\]:9 is IPv6/)
    expect(await told({ backend: 'rdma-ud', broadcast: true })).toMatch(/^ERR_SPEADCAST_CONFIG broadcast is of IPv4/)
    const to = '127.255.255.255:9'
    expect(await told({ to, backend: 'udp' })).toMatch(/^ERR_SPEADCAST_BACKEND .*it is a broadcast address; set broadcast, or/)
    for (const backend of ['udp', 'dgram'] as const)
      expect((await sent({ to, backend, broadcast: true })).stats).toMatchObject({ heapsFailed: 0, heapsSent: 3 })
  },
  async sourcePort() {
    expect((await frames({ sourcePort: 4321 }))[0]!.readUInt16BE(34)).toBe(4321)
    for (const backend of ['udp', 'dgram'] as const) {
      const any = (await sent({ to: '127.0.0.1:9', backend })).stats.states.sourcePort as number
      const { stream, stats } = await sent({ to: '127.0.0.1:9', backend, sourcePort: any + 1 < 65536 ? any + 1 : any - 1 })
      expect(Math.abs((stats.states.sourcePort as number) - any)).toBe(1)
      await stream.close()
    }
  },
  async sendBufferBytes(ctx) {
    const granted = async (sendBufferBytes: number) =>
      (await sent({ to: '127.0.0.1:9', backend: 'udp', sendBufferBytes })).stats.states.sendBufferBytes
    expect(await granted(20_000)).toBe(20_000)
    expect(await granted(50_000)).toBe(50_000)
    need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'becoming another user needs Linux and root')
    need(ctx, !spawnSync('setpriv', ['--version']).error, 'becoming another user needs setpriv (util-linux)')
    // A process that may not exceed net.core.wmem_max is told the size that was granted, and the limit to raise.
    const most = Number(readFileSync('/proc/sys/net/core/wmem_max', 'utf8'))
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all']
    const argv = programArgv('stream/opened', { to: '127.0.0.1:9', sendBufferBytes: most + 1000 })
    const { stdout } = spawnSync('setpriv', [...nobody, ...argv], { encoding: 'utf8' })
    expect(JSON.parse(stdout).states).toMatchObject({
      sendBufferBytes: most,
      sendBufferClipped: `asked for ${most + 1000}; raise it with sysctl net.core.wmem_max=${most + 1000}`,
    })
  },
  async allowFragmentation(ctx) {
    await using ns = await namespaces(ctx)
    const options = { to: '10.77.0.2:7148', packetSizeBytes: 9000 }
    expect((await openedIn(ns, options)).error).toMatch(/^ERR_SPEADCAST_PACKET_SIZE .*allow fragmentation/)
    expect(await openedIn(ns, { ...options, allowFragmentation: true })).toMatchObject({ states: { interface: 'v0' } })
  },
  async segmentation() {
    const messages = async (options: Partial<StreamOptions>) => {
      const { stats } = await sent({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none', ...options })
      return [stats.states.segmentationReason, stats.packets, stats.segmentedMessages, stats.plainMessages]
    }
    expect(await messages({ segmentation: 'off' })).toEqual(['switched off', 6, 0, 6])
    // Heaps of four equal packets, which one message holds, instead of three.
    expect(await messages({})).toEqual([expect.stringMatching(/^up to \d+ segments a message$/), 8, 1, 0])
    const byName = async (options: Partial<StreamOptions>) => {
      const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', ...options })
      await stream.sendHeap(new Heap().addRaw({ id: 0x3300, bytes: new Uint8Array(4008), allowImmediate: false }))
      await stream.close()
      return stream.stats().packets
    }
    expect([await byName({ segmentation: 'off' }), await byName({})]).toEqual([3, 4])
  },
  async udpPath(ctx) {
    const path = async (options: Partial<StreamOptions>) => {
      const { stats, stream } = await sent({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none', ...options })
      await stream.close()
      expect(stats.packets).toBe(8)
      return [stats.states.udpPath, stats.states.udpPathReason]
    }
    expect(await path({ udpPath: 'sendmmsg' })).toEqual(['sendmmsg', 'asked for'])
    expect(await path({})).toEqual(['sendmmsg', 'io_uring: loopback copies all the same'])
    const [used, reason] = await path({ udpPath: 'io_uring' })
    const refused = /^io_uring: /.test(`${reason}`)
    expect(used).toBe(refused ? 'sendmmsg' : 'io_uring')
    need(ctx, !refused, `no io_uring here: ${reason}`)
  },
  async neighbourTimeoutMs(ctx) {
    await using ns = await namespaces(ctx)
    // Nobody has this address. Asked for no time at all, it is given up on at once: either way the stream opens and says so.
    const options = { to: '10.77.0.99:7148' }
    for (const neighbourTimeoutMs of [0, 300]) {
      const { states } = await openedIn(ns, { ...options, neighbourTimeoutMs })
      expect(states).toMatchObject({ substreamsWithoutNeighbour: 1 })
    }
    // One that comes up while it is waited for.
    ns.ip('b', 'address del 10.77.0.2/24 dev v1')
    const waiting = openedIn(ns, { to: '10.77.0.2:7148', neighbourTimeoutMs: 10_000 })
    await new Promise((resolve) => setTimeout(resolve, 1000))
    ns.ip('b', 'address add 10.77.0.2/24 dev v1')
    expect((await waiting).states).toMatchObject({ substreamsWithoutNeighbour: 0 })
    expect(await told({ neighbourTimeoutMs: 60_001 })).toMatch(/^ERR_SPEADCAST_CONFIG option 'neighbourTimeoutMs' is 60001/)
  },
  async maxQueuedBytes() {
    const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', maxQueuedBytes: 1 })
    onTestFinished(() => stream.destroy())
    const taken = stream.sendEnd()
    expect(stream.stats().queuedBytes).toBeGreaterThan(0)
    await expect(stream.sendHeap(new Heap().addStart())).rejects.toMatchObject({ code: 'ERR_SPEADCAST_QUEUE_FULL' })
    expect(await taken).toMatchObject({ heaps: 1 })
    expect(await told({ maxQueuedBytes: 0 })).toMatch(/^ERR_SPEADCAST_CONFIG option 'maxQueuedBytes' is 0/)
  },
  async queueFull() {
    const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', maxQueuedBytes: 1, queueFull: 'wait' })
    onTestFinished(() => stream.destroy())
    const both = [stream.sendEnd(), stream.sendHeap(new Heap().addStart())]
    expect(await Promise.all(both)).toMatchObject([{ heaps: 1 }, { heaps: 1 }])
    expect(await told({ queueFull: 'wait' })).toMatch(/^ERR_SPEADCAST_CONFIG queueFull .* maxQueuedBytes, which is not given/)
  },
  async pcapPath() {
    const pcapPath = join(temporaryFolder(), 'here.pcap')
    const { stats } = await sent({ backend: 'pcap', pcapPath })
    expect(stats.states.path).toBe(pcapPath)
    expect(readFileSync(pcapPath).length).toBeGreaterThan(8000)
    expect(await told({ pcapPath })).toMatch(/^ERR_SPEADCAST_CONFIG pcapPath is only for backend 'pcap', not 'auto'/)
  },
  async memory() {
    expect((await sent({ memory: { keepPackets: false } })).packets).toEqual([])
    const { posts, packets } = (await sent({ memory: { acceptPerPost: 1 } })).stats
    expect(posts).toBe(packets)
  },
  async debug() {
    const codes: string[] = []
    const listen = (warning: Error & { code?: string }) => void codes.push(warning.code ?? '')
    process.on('warning', listen)
    onTestFinished(() => void process.off('warning', listen))
    for (const debug of [false, true]) {
      const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', debug })
      const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [100] })
      const batch = stream.createBatch<{ adc_samples: Uint8Array }>({ items, heaps: 1 })
      const sending = stream.send(batch)
      batch.heap(0).adc_samples.fill(1)
      await sending
      await stream.close()
      await new Promise(setImmediate)
      expect(codes).toEqual(debug ? ['SPEADCAST_OVERWRITE'] : [])
    }
  },
}

test('the walk leaves no option of openStream out', () => {
  const known = optionNames()
  expect(Object.keys(WALK).sort()).toEqual(known.sort())
  console.log(`options: ${known.length} walked`)
})

test.for(Object.entries(WALK))('%s', async ([, walk], ctx) => {
  await walk(ctx)
})
