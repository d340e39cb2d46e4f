/** How a stream whose rate the kernel keeps is bounded, under a clock of the test's own, on a real socket. Under fq itself: test/vm. */
import { expect, onTestFinished, test } from 'vitest'
import { OPT } from '#dist/ffi/layout.js'
import { UdpSocket } from '#dist/ffi/socket/udp-socket.js'
import { LeakyBucket } from '#dist/src/backend/leaky-bucket.js'
import { States } from '#dist/src/backend/states.js'
import { frameRate, KernelPace, type PaceOptions } from '#dist/src/backend/udp/pace.js'
import type { PacketTable } from '#dist/src/batch/table.js'
import type { FairQueue } from '#dist/src/net/fair-queue.js'
import { handTable } from '../../support/hand-table.js'
import { need } from '../../support/need.js'

const FQ: FairQueue = {
  ifindex: 7,
  interfaceName: 'eth7',
  flowLimit: 100,
  maxRateBytesPerSecond: Number.POSITIVE_INFINITY,
  linkHeaderBytes: 14,
}

const tableOf = (...udpBytes: number[]): PacketTable =>
  handTable(udpBytes.map((bytes) => ({ substream: 0, segments: [new Uint8Array(bytes)] }))).table

function paced(options: Partial<PaceOptions> = {}) {
  const socket = new UdpSocket(4)
  onTestFinished(() => socket.close())
  const world = { ms: 0, found: FQ as FairQueue | string }
  const all = { rateBytesPerSecond: 1e6, burstBytes: 10_000, countedHeaderBytes: 0, required: true, ...options }
  const states = new States()
  const pace = new KernelPace(
    socket,
    all,
    FQ,
    () => world.found,
    states,
    () => world.ms,
  )
  /** Posts messages of one packet until none may go; returns how many went. */
  const fill = (before: Float64Array): number => {
    let went = 0
    for (let n = 1; n > 0; went += n) {
      n = pace.room(before, undefined, 0, before.length - 1)
      pace.charge(before[n]!)
    }
    return went
  }
  return { socket, pace, states, world, fill }
}

test('a bucket leaks at its rate, to nothing and no further', () => {
  const bucket = new LeakyBucket(2e6, 5000)
  bucket.pour(6000)
  expect([bucket.level(0), bucket.msUntil(5000), bucket.msUntil(0)]).toEqual([6000, 0.5, 3])
  expect([bucket.level(1), bucket.level(2.5), bucket.level(4), bucket.level(10)]).toEqual([4000, 1000, 0, 0])
})

// 1472 bytes of UDP payload are 1514 of Ethernet frame over IPv4; the wire takes 24 more for preamble, FCS and gap (IEEE 802.3).
test.each([
  [0, 1472e3, 1514e3],
  [42, 1514e3, 1514e3],
  [66, 1538e3, 1514e3],
])('a rate that counts %i bytes of each packet beside its payload: %i becomes %i of frames', (counted, rate, frames) => {
  expect(frameRate({ rateBytesPerSecond: rate, countedHeaderBytes: counted }, 10 * (1472 + counted), 10, 42)).toBe(frames)
})

test('the rate of frames is that of the largest packets, whatever is compiled before and after', (ctx) => {
  need(ctx, process.platform === 'linux', 'sockets of Linux')
  const { pace, socket, states } = paced()
  const rates = [[100], [1000, 1000], [1000], [500]].map((sizes) => {
    pace.compiled(tableOf(...sizes), sizes.length)
    // The lower half of 64 bits.
    return [states.read().frameBytesPerSecond, socket.getOption(OPT.SO_MAX_PACING_RATE)]
  })
  expect(rates).toEqual([
    [1_420_000, 1_420_000],
    [1_042_000, 1_042_000],
    [1_042_000, 1_042_000],
    [1_042_000, 1_042_000],
  ])
})

test.for([
  ['0.1 s of the rate', { burstBytes: 10_000 }, 10_000, 10],
  ['three quarters of what fq takes', { rateBytesPerSecond: 1e9, burstBytes: 10_000 }, 10_000, 75],
  ['two messages at least', { rateBytesPerSecond: 20_000, burstBytes: 10_000 }, 10_000, 2],
] as const)('the socket’s buffer is for %s', ([, options, messageBytes, messages], ctx) => {
  need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'needs CAP_NET_ADMIN, for buffers beyond wmem_max')
  const { pace, socket } = paced(options)
  pace.compiled(tableOf(...new Array(100).fill(messageBytes / 10)), 10)
  expect(socket.getOption(OPT.SO_SNDBUF) / messages).toBeCloseTo(messageBytes + 768, -1)
})

test('no message takes more than half a second', (ctx) => {
  need(ctx, process.platform === 'linux', 'sockets of Linux')
  expect(paced().pace.maxMessageBytes).toBe(10_000)
  expect(paced({ rateBytesPerSecond: 3000 }).pace.maxMessageBytes).toBe(1500)
})

test('packets that fail take their time: beyond those that wait in the kernel no more go than the rate', (ctx) => {
  need(ctx, process.platform === 'linux', 'sockets of Linux')
  const { pace, world, fill } = paced()
  const before = pace.compiled(tableOf(...new Array(50).fill(1000)), 50)
  const first = fill(before)
  // 0.1 s of the rate are a hundred packets, by the kernel's charge for their memory a few more.
  expect(first).toBeGreaterThan(100)
  expect(first).toBeLessThan(200)
  let more = 0
  while (world.ms < 5000) {
    expect(pace.room(before, undefined, 0, 50)).toBe(0)
    expect(pace.waitNanoseconds).toBeGreaterThan(0)
    world.ms += pace.waitNanoseconds / 1e6
    more += fill(before)
  }
  expect(more).toBeGreaterThan(world.ms - first)
  expect(more).toBeLessThan(world.ms + 1)
})

test('without fq a burst at a time goes, at the rate, and all that waited has to leave first', (ctx) => {
  need(ctx, process.platform === 'linux', 'sockets of Linux')
  const { pace, states, world, fill } = paced()
  const before = pace.compiled(tableOf(...new Array(50).fill(1000)), 50)
  fill(before)
  world.found = 'somebody took it'
  pace.judge()
  expect(states.read()).toMatchObject({ rateMethod: 'sw', rateMethodReason: 'somebody took it' })
  world.ms += 1000
  expect(fill(before)).toBe(10)
  expect(pace.waitNanoseconds).toBe(1e6)
  world.ms += 1
  expect(fill(before)).toBe(1)
  world.ms += 1000
  expect(fill(before)).toBe(10)
  world.found = FQ
  pace.judge()
  expect(states.read()).toMatchObject({ rateMethod: 'kernel' })
  world.ms += 1000
  expect(fill(before)).toBeGreaterThan(100)
})

test('a packet that is longer than a burst goes by itself', (ctx) => {
  need(ctx, process.platform === 'linux', 'sockets of Linux')
  const { pace, world } = paced({ burstBytes: 500 })
  const before = pace.compiled(tableOf(1000, 1000), 2)
  world.found = 'gone'
  pace.judge()
  expect(pace.room(before, undefined, 0, 2)).toBe(1)
  pace.charge(1000)
  expect([pace.room(before, undefined, 1, 1), pace.waitNanoseconds]).toEqual([0, 1e6])
  world.ms = 1
  expect(pace.room(before, undefined, 1, 1)).toBe(1)
})
