/** Regions that batches use: they are not released under them, and files behind them that become shorter end no process. */
import { closeSync, fstatSync, ftruncateSync, readdirSync } from 'node:fs'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { checkCall, libc, nativeCallsWork } from '#dist/ffi/libc.js'
import { attachBatch, openStream, Region, type StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'
import { sharedFile } from '../support/shared-file.js'
import { groupOf, memoryStream, rawBytes, samples, taken } from './support.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'regions are mapped on Linux only'))

const BYTES = 8192
const refused = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(message) })

function memfd(bytes: number, flags = 3): number {
  const fd = checkCall('memfd_create', libc().memfd_create('speadcast-test', flags))
  onTestFinished(() => closeSync(fd))
  ftruncateSync(fd, bytes)
  return fd
}

const owners: Region[] = []
const KINDS: Record<string, () => Region> = {
  allocate: () => Region.allocate(4 * BYTES),
  'allocate, small pages': () => Region.allocate(4 * BYTES, { hugePages: 'never' }),
  'fromFd of a file': () => Region.fromFd(sharedFile(4 * BYTES)),
  'fromFd of a memfd': () => Region.fromFd(memfd(4 * BYTES)),
  fromAddress: () => {
    const owner = Region.allocate(4 * BYTES)
    owners.push(owner)
    return Region.fromAddress(owner.address, 4 * BYTES)
  },
}

describe.for(Object.entries(KINDS))('release of a region (%s)', ([, make]) => {
  test('that open batches use is refused, and names them; what they send stays theirs', async () => {
    const region = make()
    const stream = await memoryStream()
    const other = await memoryStream()
    const items = groupOf([samples('adc', '|u1', [1000])])
    const create = (from: typeof stream, heaps = 4) => from.createBatch({ items, heaps, memory: { adc: { region } } })
    const one = create(stream)
    create(other, 1)
    rawBytes(one.heap(0).adc!).fill(0x11)
    const both = /^Region\.release: the region is in use by a batch of 4 heaps \('adc'\), a batch of 1 heap \('adc'\); close/
    expect(() => region.release()).toThrow(refused(both))
    // It is not half released.
    expect(region.released).toBe(false)
    const next = Region.allocate(4 * BYTES)
    new Uint8Array(next.buffer).fill(0x22)
    const underWay = stream.send(one)
    expect(() => region.release()).toThrow(refused(both))
    await underWay
    expect(taken(stream)[0]!.at(-1)).toBe(0x11)
    const views = attachBatch(one.handle())
    one.close()
    expect(() => region.release()).toThrow(refused(/in use by a batch of 1 heap/))
    await other.close()
    region.release()
    region.release()
    expect(region.released).toBe(true)
    expect(() => create(stream)).toThrow(refused(/released/))
    views.close()
    next.release()
    for (const owner of owners.splice(0)) owner.release()
  })
})

test('an error names three batches and counts the others; a batch that could not be made holds nothing', async () => {
  const region = Region.allocate(4 * BYTES)
  const stream = await memoryStream()
  const items = groupOf([samples('adc', '|u1', [1000])])
  const batches = Array.from({ length: 5 }, () => stream.createBatch({ items, heaps: 1, memory: { adc: { region } } }))
  expect(() => region.release()).toThrow(refused(/\('adc'\), a batch of 1 heap \('adc'\) and 2 more; close/))
  for (const batch of batches) batch.close()
  expect(() => stream.createBatch({ items, heaps: 100, memory: { adc: { region } } })).toThrow(refused(/map a larger one/))
  region.release()
})

test.for(['udp', 'dgram', 'memory'] as const)('a region is free when its stream is destroyed (%s)', async (backend) => {
  const region = Region.allocate(4 * BYTES)
  const stream = await openStream({ to: '127.0.0.1:9', backend, descriptors: 'none', rate: 1000 } satisfies StreamOptions)
  const items = groupOf([samples('adc', '|u1', [1000])])
  const batch = stream.createBatch({ items, heaps: 4, memory: { adc: { region } } })
  stream.send(batch)
  expect(() => region.release()).toThrow(refused(/a batch of 4 heaps/))
  await stream.destroy()
  region.release()
})

describe('a file that becomes shorter', () => {
  const SAYS = /the file behind Region\.fromFd is shorter than the region, .*give it its size again/
  const whole = { first: 'sent', again: 'sent', created: { code: 'ERR_SPEADCAST_MEMORY' } }
  const failed = {
    short: { code: 'ERR_SPEADCAST_SEND', message: expect.stringMatching(SAYS), heaps: ['failed', 'failed', 'failed', 'failed'] },
  }
  for (const at of [0, 2 * BYTES, 4 * BYTES - 1])
    test.for([
      ['memory', 'inline'],
      ['pcap', 'inline'],
    ] as const)(`to ${at} bytes fails the send, and the stream goes on: %s, %s`, async ([backend, thread]) => {
      const { code, signal, stdout, stderr } = await runProgram('batch/shortened', backend, thread, '', at)
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
      expect(JSON.parse(stdout)).toMatchObject({ ...whole, ...failed })
    })

  test.for(['memory', 'udp', 'pcap'] as const)('debug mode refuses the send: %s', async (backend) => {
    const { code, signal, stdout } = await runProgram('batch/shortened', backend, '', 'debug', 0)
    expect({ code, signal }).toEqual({ code: 0, signal: null })
    expect(JSON.parse(stdout)).toMatchObject({
      ...whole,
      short: { code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(SAYS) },
    })
  })

  test('is none where seals can be: a memfd that allows them keeps its size, and may grow', () => {
    const fd = memfd(BYTES)
    Region.fromFd(fd).release()
    expect(() => ftruncateSync(fd, BYTES - 1)).toThrow(expect.objectContaining({ code: 'EPERM' }))
    ftruncateSync(fd, 2 * BYTES)
    expect(fstatSync(fd).size).toBe(2 * BYTES)
  })

  test('a region keeps a descriptor of its own only of files that cannot be sealed, and closes it', () => {
    const count = () => readdirSync('/proc/self/fd').length
    const [sealed, unsealable, file] = [memfd(BYTES), memfd(BYTES, 1), sharedFile(BYTES)]
    const before = count()
    const regions = [sealed, unsealable, file].map((fd) => Region.fromFd(fd))
    expect(count() - before).toBe(2)
    for (const region of regions) region.release()
    expect(count()).toBe(before)
    expect(() => Region.fromFd(file, { byteLength: BYTES + 1 })).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' }))
    expect(count()).toBe(before)
  })
})

describe('arguments that end no process', () => {
  const ODD: unknown[] = [
    ...[undefined, null, Number.NaN, -1, -0, 0, 0.5, 4097, 2 ** 31, 2 ** 48, 2 ** 53, 2 ** 60, Number.POSITIVE_INFINITY],
    ...['', '4096', 'x', 4096n, Symbol('s'), true, {}, [], [4096], () => 4096, new Date(0), new Proxy({}, {}), Object.create(null)],
    { valueOf: () => 4096 },
    {
      [Symbol.toPrimitive]: () => {
        throw new Error('mine')
      },
    },
  ]
  const CONFIG = expect.objectContaining({ code: expect.stringMatching(/^ERR_SPEADCAST_(CONFIG|MEMORY)$/) })

  test('fromAddress', () => {
    const { address } = Region.allocate(BYTES, { hugePages: 'never' })
    for (const odd of ODD) expect(() => Region.fromAddress(odd as number, 4096)).toThrow(CONFIG)
    // A length of whole bytes inside the memory would be right.
    const wrong = ODD.filter((odd) => odd !== 4097)
    for (const odd of wrong) expect(() => Region.fromAddress(address, odd as number)).toThrow(CONFIG)
    for (const [at, bytes] of [
      [8, 8],
      [4096, 10],
      [address + 1, 8],
      [address, 2 ** 40],
      [address, 2 ** 53 - 1],
      [2 ** 47 - 4096, 4096],
    ] as const)
      expect(() => Region.fromAddress(at, bytes)).toThrow(CONFIG)
  })

  test('fromFd, allocate', () => {
    const fd = sharedFile(BYTES)
    for (const odd of ODD) {
      if (odd !== undefined)
        expect(() => Region.fromFd(fd, { offset: odd === 0 || Object.is(odd, -0) ? -1 : odd } as never)).toThrow(CONFIG)
      if (odd !== undefined && odd !== 4097) expect(() => Region.fromFd(fd, { byteLength: odd } as never)).toThrow(CONFIG)
      if (odd !== 0 && !Object.is(odd, -0)) expect(() => Region.fromFd(odd as number)).toThrow(CONFIG)
      if (odd !== 4097 && odd !== 2 ** 31) expect(() => Region.allocate(odd as number)).toThrow(CONFIG)
      if (odd !== undefined) expect(() => Region.allocate(4096, { hugePages: odd } as never)).toThrow(CONFIG)
    }
    // Sparse files are longer than any view.
    ftruncateSync(fd, 2 ** 42)
    const most = process.getBuiltinModule('node:buffer').constants.MAX_LENGTH
    if (most < 2 ** 42) expect(() => Region.fromFd(fd)).toThrow(CONFIG)
  })
})

test('views of a handle that nobody had attached when another batch was lent keep their addresses', async () => {
  const make = () => Region.allocate(7 * BYTES, { hugePages: 'never' })
  const region = make()
  const stream = await memoryStream()
  const items = groupOf([samples('adc', '|u1', [1000])])
  const create = () => stream.createBatch({ items, heaps: 1, memory: { adc: { region } } })
  const [one, two] = [create(), create()]
  const handle = one.handle()
  two.handle()
  const views = attachBatch(handle)
  one.close()
  two.close()
  region.release()
  const next = make()
  expect(next.address).not.toBe(region.address)
  // Their loan is over, so that views of a later batch say nothing of this region, although they may have the same record.
  views.close()
  const later = stream.createBatch({ items, heaps: 1 })
  const others = attachBatch(later.handle())
  const again = make()
  expect(again.address).toBe(region.address)
  others.close()
  next.release()
  again.release()
})
