/** Mapped memory as the rest relies on it: zeroed, of the pages it says, never inherited, never gone from under a view. */
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { Region, type RegionHandle } from '#dist/ffi/memory/region.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'
import { allocate, bytesOf, isAll, KIB, MIB } from '../support/regions.js'
import { sharedFile } from '../support/shared-file.js'
import { type Mapping, mappings } from '../support/smaps.js'
import type { Place } from './patched-regions.program.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'regions are mapped on Linux only'))

/** Below a page, below and at what shares a huge page, about and above a huge page, several of them. */
const SIZES = [1, 100, 4095, 4096, 65535, 65536, 100_000, 512 * KIB, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB]

/** Those that hold any of the region. */
const mappingsOf = ({ address, byteLength }: RegionHandle): Mapping[] =>
  mappings().filter(({ from, end }) => from < address + byteLength && end > address)

const memoryOf = (field: 'VmSize' | 'VmRSS'): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))![1]) * KIB

describe('allocate', () => {
  test.for(SIZES.flatMap((bytes) => (['auto', 'never'] as const).map((hugePages) => ({ bytes, hugePages }))))(
    '$bytes bytes, huge pages $hugePages: at least as many, page aligned, zeroed, writable to the last',
    ({ bytes, hugePages }) => {
      const region = allocate(bytes, { hugePages })
      expect(region.byteLength).toBeGreaterThanOrEqual(bytes)
      expect(region.address % 4096).toBe(0)
      expect(region.buffer.byteLength).toBe(region.byteLength)
      const view = bytesOf(region)
      expect(isAll(view, 0)).toBe(true)
      view.fill(0xa5)
      expect(isAll(view, 0xa5)).toBe(true)
      expect(region.handle()).toEqual({ id: region.id, address: region.address, byteLength: region.byteLength })
    },
  )

  test.for([0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('%d bytes are refused', (bytes) => {
    expect(() => Region.allocate(bytes)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' }))
  })

  test('more than there is throws with the call and errno, and what comes next works', () => {
    for (const hugePages of ['auto', 'never', 'require'] as const)
      expect(() => Region.allocate(2 ** 46, { hugePages })).toThrow(
        expect.objectContaining({
          code: 'ERR_SPEADCAST_MEMORY',
          cause: expect.objectContaining({ name: 'NativeError', call: 'mmap', errnoName: 'ENOMEM' }),
        }),
      )
    expect(isAll(bytesOf(allocate(3 * MIB)), 0)).toBe(true)
  })

  test('regions do not overlap, and none sees what another is written', () => {
    const regions = [...SIZES, ...SIZES, ...SIZES].map((bytes) => allocate(bytes))
    for (const [i, region] of regions.entries()) bytesOf(region).fill(i + 1)
    for (const [i, region] of regions.entries()) expect(isAll(bytesOf(region), i + 1)).toBe(true)
    const ranges = regions.map(({ address, byteLength }) => [address, address + byteLength]).sort(([a], [b]) => a! - b!)
    for (let i = 1; i < ranges.length; i++) expect(ranges[i]![0]).toBeGreaterThanOrEqual(ranges[i - 1]![1]!)
    expect(new Set(regions.map(({ id }) => id)).size).toBe(regions.length)
  })
})

describe('pages are what the region says they are', () => {
  const thp = (): string => readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8')

  test.for([512 * KIB, 2 * MIB, 64 * MIB])('auto, %i bytes', (bytes, ctx) => {
    const region = allocate(bytes)
    const mappings = mappingsOf(region)
    expect(mappings.length).toBeGreaterThan(0)
    if (region.pages === 'hugetlb') for (const mapping of mappings) expect(mapping.kib('KernelPageSize')).toBe(2048)
    else for (const mapping of mappings) expect(mapping.kib('KernelPageSize')).toBe(4)
    if (region.pages !== 'thp') {
      // Reserved ones are all there; ordinary ones were either not worth asking for or refused, and then it says why.
      if (region.pages === 'small' && bytes >= 2 * MIB) expect(region.hugePagesRefused).toMatch(/E[A-Z]+/)
      return
    }
    for (const mapping of mappings) expect(mapping.flags).toContain('hg')
    need(ctx, !thp().includes('[never]'), 'transparent huge pages are switched off here')
    const huge = mappings.reduce((sum, mapping) => sum + mapping.kib('AnonHugePages'), 0) * KIB
    expect(huge).toBeGreaterThanOrEqual(2 * MIB)
    // All of it, unless memory is in pieces.
    expect(huge).toBeGreaterThanOrEqual(0.5 * Math.min(bytes, region.byteLength))
  })

  test('populated: all of it is resident before anybody touches it', () => {
    for (const bytes of [64 * KIB, 32 * MIB])
      for (const hugePages of ['auto', 'never'] as const) {
        const region = Region.allocate(bytes, { hugePages })
        const mappings = mappingsOf(region)
        // Rss has no hugetlb pages in it.
        const resident = mappings.reduce((sum, mapping) => sum + mapping.kib('Rss') + mapping.kib('Private_Hugetlb'), 0) * KIB
        expect(resident).toBeGreaterThanOrEqual(bytes)
        region.release()
      }
  })

  test('never: small pages, whatever the size, and no complaint', () => {
    const region = allocate(8 * MIB, { hugePages: 'never' })
    expect(region).toMatchObject({ pages: 'small', hugePagesRefused: '' })
    for (const mapping of mappingsOf(region)) expect(mapping.kib('KernelPageSize')).toBe(4)
  })

  test('require: reserved huge pages or an errno, never a signal', async () => {
    const freePages = () => Number(/^HugePages_Free: +(\d+)$/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1])
    const free = freePages()
    const overcommit = Number(readFileSync('/proc/sys/vm/nr_overcommit_hugepages', 'utf8'))
    // Other tests reserve up to 208 pages meanwhile, and free them.
    const tooMany = (free + overcommit + 1000) * 2 * MIB
    const { code, signal, stdout } = await runProgram('ffi/huge-pages-required', 1, tooMany, 1)
    expect({ code, signal }).toEqual({ code: 0, signal: null })
    const refused = { name: 'NativeError', call: expect.stringMatching(/^(mmap|madvise)$/), errnoName: 'ENOMEM' }
    const had = { pages: 'hugetlb', byteLength: 2 * MIB }
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(answers).toEqual([expect.anything(), refused, expect.anything()])
    const could = overcommit > 0 || freePages() !== free ? [had, refused] : [free > 0 ? had : refused]
    for (const one of [answers[0], answers[2]]) expect(could).toContainEqual(one)
  })

  test('not inherited by fork', () => {
    const fd = sharedFile(3 * MIB)
    const regions = [...SIZES.flatMap((bytes) => [allocate(bytes), allocate(bytes, { hugePages: 'never' })]), Region.fromFd(fd)]
    for (const region of regions) {
      const mappings = mappingsOf(region)
      expect(mappings.length).toBeGreaterThan(0)
      // "dc": do not copy area on fork.
      for (const { flags } of mappings) expect(flags).toContain('dc')
    }
  })
})

describe('regions of up to 8 MiB in which headers are patched lie side by side', () => {
  const BLOCK = 32 * MIB
  const placesOf = async (small: number): Promise<Place[]> =>
    JSON.parse((await runProgram('ffi/patched-regions', BLOCK, small)).stdout)

  test('in one block of 32 MiB until it is full, and then in another', async () => {
    const places = await placesOf(5)
    for (const { block, last } of places) expect(last).toBe(block)
    const blocks = places.map(({ block }) => block)
    // 14 MiB in huge pages, two of 8 MiB, then there is no room for a third.
    expect(new Set(blocks.slice(0, 8)).size).toBe(1)
    expect(new Set(blocks.slice(8)).size).toBe(1)
    expect(blocks[8]).not.toBe(blocks[0])
  })

  test('in reserved huge pages too', async (ctx) => {
    const PAGES = '/proc/sys/vm/nr_hugepages'
    const had = readFileSync(PAGES, 'utf8')
    need(ctx, process.getuid!() === 0, 'only root reserves huge pages')
    onTestFinished(() => writeFileSync(PAGES, had))
    let places: Place[] = []
    // The pages are the machine's, and whatever other tests run meanwhile may take them first. They keep what they took, so more are left then.
    for (const more of [8, 72, 136, 200]) {
      writeFileSync(PAGES, String(Number(had) + more))
      need(ctx, Number(readFileSync(PAGES, 'utf8')) >= Number(had) + 8, 'memory is in too many pieces for huge pages')
      places = await placesOf(0)
      if (!places.some(({ pages }) => pages === 'thp')) break
    }
    expect(places.map(({ pages }) => pages)).toEqual(['small', 'small', 'hugetlb', 'hugetlb', 'hugetlb', 'hugetlb'])
    expect(new Set(places.map(({ block }) => block)).size).toBe(1)
  })
})

describe('release', () => {
  test.for(SIZES)('%i bytes: handed out again and again, zeroed, whatever was written, also too late', (bytes) => {
    const cycle = (round: number): void => {
      const region = Region.allocate(bytes)
      const view = bytesOf(region)
      expect(isAll(view, 0), `round ${round}`).toBe(true)
      view.fill(0xff)
      region.release()
      region.release()
      // Its owner is told not to, and does it all the same.
      view.fill(0xee)
    }
    for (let round = 0; round < 20; round++) cycle(round)
    const before = memoryOf('VmSize')
    for (let round = 20; round < 120; round++) cycle(round)
    // A hundred new mappings would be a hundred times its size.
    expect(memoryOf('VmSize') - before).toBeLessThan(Math.max(4 * MIB, 10 * bytes))
  })

  test('memory stays bounded where one region is taken before the last is given back', () => {
    for (const bytes of [5000, 100_000, 700 * KIB, 1.5 * MIB, 3 * MIB]) {
      let last = Region.allocate(bytes)
      const step = (): void => {
        const next = Region.allocate(bytes)
        last.release()
        last = next
      }
      for (let i = 0; i < 50; i++) step()
      const before = memoryOf('VmSize')
      for (let i = 0; i < 200; i++) step()
      expect(memoryOf('VmSize') - before, `${bytes} bytes`).toBeLessThan(Math.max(4 * MIB, 10 * bytes))
      last.release()
    }
  })

  test('gives the pages back to the system', () => {
    const region = Region.allocate(256 * MIB)
    const held = memoryOf('VmRSS')
    region.release()
    expect(region.pages === 'hugetlb' || held - memoryOf('VmRSS') > 200 * MIB).toBe(true)
    expect(region.released).toBe(true)
  })

  test('of one leaves its neighbours alone', () => {
    for (const bytes of SIZES) {
      const regions = Array.from({ length: 9 }, () => allocate(bytes))
      for (const [i, region] of regions.entries()) bytesOf(region).fill(i + 1)
      for (const i of [0, 4, 8]) regions[i]!.release()
      const fresh = [0, 4, 8].map(() => allocate(bytes))
      for (const region of fresh) {
        expect(isAll(bytesOf(region), 0)).toBe(true)
        bytesOf(region).fill(0x77)
      }
      for (const i of [1, 2, 3, 5, 6, 7]) expect(isAll(bytesOf(regions[i]!), i + 1), `${bytes} bytes, neighbour ${i}`).toBe(true)
    }
  })

  test('by chance: a thousand regions come and go, each keeps its bytes and begins with zeroes', () => {
    let state = 0x2545f491
    const random = (n: number): number => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) % n
    }
    const live: { region: Region; value: number }[] = []
    const before = memoryOf('VmSize')
    for (let i = 0; i < 1000; i++) {
      if (live.length < 12 && random(5) < 3) {
        const bytes = 1 + random([4096, 70 * KIB, 700 * KIB, 2 * MIB, 5 * MIB][random(5)]!)
        const hugePages = random(4) === 0 ? 'never' : 'auto'
        const region = Region.allocate(bytes, { hugePages })
        expect(isAll(bytesOf(region), 0), `operation ${i}, ${bytes} bytes`).toBe(true)
        const value = 1 + random(200)
        bytesOf(region).fill(value)
        live.push({ region, value })
      } else if (live.length > 0) {
        const [{ region, value }] = live.splice(random(live.length), 1) as [{ region: Region; value: number }]
        expect(isAll(bytesOf(region), value), `operation ${i}`).toBe(true)
        region.release()
        if (random(2) === 0) bytesOf(region).fill(0xcc)
      }
    }
    for (const { region, value } of live) {
      expect(isAll(bytesOf(region), value)).toBe(true)
      region.release()
    }
    // 12 regions of at most 5 MiB live at a time; ranges of released ones are kept for their kind and length.
    expect(memoryOf('VmSize') - before).toBeLessThan(1500 * MIB)
  })

  test('views of released memory crash nobody', async () => {
    const { code, signal, stdout } = await runProgram('ffi/released-views', ...SIZES)
    expect({ code, signal, stdout }).toEqual({ code: 0, signal: null, stdout: 'true\n' })
  })
})
