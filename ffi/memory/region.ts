/**
 * A Region is memory of one kind at one address, with one registration per NIC and one ArrayBuffer per isolate.
 *
 * | state    | views           | memory                                    | leaves by        |
 * |----------|-----------------|-------------------------------------------|------------------|
 * | live     | valid           | mapped, not inherited by fork             | release()        |
 * | released | read stale data | pages dropped, address range still mapped | allocate() again |
 *
 * Prohibited: munmap at any time. A typed array over an unmapped range is a SIGSEGV in plain JavaScript, and Node 20 cannot detach external
 * buffers (docs/ground-rules.md, "Memory and koffi"). So a released range is kept and handed out again.
 *
 * Huge pages are asked for and *faulted in* before allocate() returns. Under a container's hugetlb limit mmap succeeds and the first touch
 * is SIGBUS, but MADV_POPULATE_WRITE returns an errno (madvise(2), Linux 5.14).
 *
 * docs/memory.md, "What you may not do", has the list for users.
 *
 * Off Linux, and without a koffi binary, a region is an ordinary ArrayBuffer without an address. Only the dgram backend runs there, in one
 * isolate.
 */

import { SpeadcastError } from '../errors.js'
import { koffi } from '../koffi.js'
import { nativeCallsWork } from '../libc.js'
import type { NativeError } from '../native-error.js'
import { takeFromBlock } from './address-block.js'
import { pagesRefused } from './budget.js'
import { SMALLEST_POOLED_BYTES, takePooled } from './huge-page-pool.js'
import { dropPages, HUGE_PAGE_BYTES, mapFile, mapPages, PAGE_BYTES, type PageKind, populate, roundUp } from './mapping.js'

export type { PageKind }

/** Describes memory so that another isolate of this process can attach it. Plain data: it survives postMessage. */
export interface RegionHandle {
  readonly id: number
  /** Virtual address of the first byte. Only ffi/ may compute with it. */
  readonly address: number
  readonly byteLength: number
}

export interface RegionOptions {
  /**
   * `auto` (default) tries reserved huge pages, then transparent, then small ones; regions from 64 KiB to 2 MiB share a huge page.
   * `require` takes reserved ones of its own or throws.
   */
  readonly hugePages?: 'auto' | 'require' | 'never'
  /** Default false. @internal Headers in it will be patched, so it lies in a block beside others of that kind (address-block.ts). */
  readonly patched?: boolean
}

const LEAST_CHECKED_BYTES = 1 << 20

const HUGE_PAGES: readonly string[] = ['auto', 'require', 'never']

let nextId = 1
/** Ranges of released regions, to be handed out again. */
const released: { readonly address: number; readonly byteLength: number; readonly kind: PageKind; readonly inBlock: boolean }[] = []
/** This isolate's buffers of mapped memory, by address. */
const attached = new Map<number, ArrayBuffer>()
/** The regions that this isolate has allocated and not released. */
const live = new Set<Region>()
/** Buffers of regions without an address, by id. */
const ordinary = new Map<number, ArrayBuffer>()

export class Region implements RegionHandle {
  readonly id: number
  /** All bytes of the region. Valid for the life of the process; after release() its contents are undefined. */
  readonly buffer: ArrayBuffer
  /** @internal Called when the region is released, before its pages go back. */
  readonly onRelease = new Set<() => void>()
  #released = false

  private constructor(
    readonly address: number,
    readonly byteLength: number,
    readonly pages: PageKind,
    /** Why huge pages could not be had; empty if they could, or were not asked for. */
    readonly hugePagesRefused: string,
    private readonly giveBack: () => void = () => {},
    buffer?: ArrayBuffer,
  ) {
    this.id = nextId++
    this.buffer = buffer ?? attachRegion(this)
    live.add(this)
  }

  /**
   * Maps, populates and zeroes at least `byteLength` bytes, page aligned.
   * @throws ERR_SPEADCAST_MEMORY when memory cannot be mapped or faulted in, when a limit of the process or its cgroup would be exceeded, or
   *   when `hugePages: 'require'` cannot be met; ERR_SPEADCAST_CONFIG.
   */
  static allocate(byteLength: number, options: RegionOptions = {}): Region {
    ensureArgument(
      Number.isSafeInteger(byteLength) && byteLength > 0,
      () => `Region.allocate: byteLength is ${say(byteLength)}; it must be a whole number above 0`,
    )
    ensureArgument(typeof options === 'object' && options !== null, () => 'Region.allocate: the options must be an object')
    const mode = options.hugePages ?? 'auto'
    ensureArgument(
      HUGE_PAGES.includes(mode),
      () => `Region.allocate: hugePages is ${say(mode)}; it must be 'auto', 'require' or 'never'`,
    )
    if (!nativeCallsWork()) return Region.#ordinary(byteLength)
    const inBlock = options.patched ?? false
    // Buffers of our own are small, and must be had when there is little left.
    const small = byteLength < (mode === 'never' ? LEAST_CHECKED_BYTES : SMALLEST_POOLED_BYTES)
    const over = small ? undefined : pagesRefused(byteLength)
    const pooled = mode === 'auto' && !over && byteLength >= SMALLEST_POOLED_BYTES && byteLength < HUGE_PAGE_BYTES
    const range = pooled && takePooled(byteLength, inBlock)
    if (range) return new Region(range.address, range.byteLength, range.pages, '', range.release)
    const large = mode === 'auto' && byteLength >= HUGE_PAGE_BYTES
    const kinds: PageKind[] = mode === 'require' ? ['hugetlb'] : large ? ['hugetlb', 'thp', 'small'] : ['small']
    let refused: NativeError | undefined
    for (const kind of kinds) {
      const length = roundUp(byteLength, kind === 'small' ? PAGE_BYTES : HUGE_PAGE_BYTES)
      // Reserved huge pages are in nobody's way.
      const full = kind === 'hugetlb' ? undefined : over
      const address = full ?? takeReleased(length, kind, inBlock) ?? mapPages(length, kind, inBlock ? takeFromBlock : undefined)
      if (typeof address !== 'number') {
        refused ??= address
        continue
      }
      const release = (): void => {
        dropPages(address, length)
        released.push({ address, byteLength: length, kind, inBlock })
      }
      return new Region(address, length, kind, refused?.message ?? '', release)
    }
    throw outOfMemory(byteLength, over ?? refused!)
  }

  /**
   * Maps an open file descriptor (memfd, POSIX shm, tmpfs or hugetlbfs file) shared, so that writes by its other mappers are seen.
   * The descriptor is not kept: the caller may close it. The file must not become shorter, because touching a page behind its end is
   * SIGBUS; the region does not grow with it. @throws ERR_SPEADCAST_MEMORY; ERR_SPEADCAST_CONFIG, also when the file is shorter than asked.
   */
  static fromFd(fd: number, options: { byteLength?: number; offset?: number } = {}): Region {
    ensureArgument(typeof options === 'object' && options !== null, () => 'Region.fromFd: the options must be an object')
    const offset = options.offset ?? 0
    ensureArgument(
      Number.isSafeInteger(offset) && offset >= 0 && offset % PAGE_BYTES === 0,
      () => `Region.fromFd: offset ${say(offset)} is not a multiple of the page size ${PAGE_BYTES}`,
    )
    const size = sizeOf(fd)
    const byteLength = options.byteLength ?? size - offset
    // Behind the end of the file the mapping exists, but touching it is SIGBUS.
    ensureArgument(
      Number.isSafeInteger(byteLength) && byteLength > 0 && offset + byteLength <= size,
      () => `Region.fromFd: bytes from ${offset}, ${say(byteLength)} of them, are not all inside the file of ${size} bytes`,
    )
    try {
      return new Region(mapFile(fd, offset, byteLength), byteLength, 'small', '')
    } catch (cause) {
      throw new SpeadcastError(
        'ERR_SPEADCAST_MEMORY',
        `Region.fromFd: ${(cause as Error).message}; open the file for reading and writing`,
        { cause },
      )
    }
  }

  /** Makes a region of another owner's memory (a DMA buffer mapped by a driver), who must keep it mapped for the life of the process. */
  static fromAddress(address: number, byteLength: number): Region {
    const good = Number.isSafeInteger(address) && address > 0 && Number.isSafeInteger(byteLength) && byteLength > 0
    ensureArgument(good, () => `Region.fromAddress: ${say(address)}, ${say(byteLength)} must be an address and a length above 0`)
    return new Region(address, byteLength, 'small', '')
  }

  get released(): boolean {
    return this.#released
  }

  handle(): RegionHandle {
    return { id: this.id, address: this.address, byteLength: this.byteLength }
  }

  /**
   * Returns the pages to the system; the address range stays mapped (see the head of this file). Close the batches that name the region first:
   * the next region may get its addresses, and they would send its bytes. Idempotent.
   */
  release(): void {
    if (this.#released) return
    this.#released = true
    for (const tell of this.onRelease) tell()
    this.onRelease.clear()
    live.delete(this)
    ordinary.delete(this.id)
    this.giveBack()
  }

  static #ordinary(byteLength: number): Region {
    let buffer: ArrayBuffer
    try {
      buffer = new ArrayBuffer(byteLength)
    } catch (cause) {
      throw outOfMemory(byteLength, cause as Error)
    }
    const region = new Region(0, byteLength, 'small', 'no native calls here', undefined, buffer)
    ordinary.set(region.id, region.buffer)
    return region
  }
}

/** Not every object can be made a text. */
function say(value: unknown): string {
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

function ensureArgument(good: boolean, message: () => string): void {
  if (!good) throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message())
}

function outOfMemory(byteLength: number, cause: Error): SpeadcastError {
  return new SpeadcastError('ERR_SPEADCAST_MEMORY', `cannot have ${byteLength} bytes of memory: ${cause.message}`, { cause })
}

/** @throws ERR_SPEADCAST_CONFIG where it is no descriptor of an open file */
function sizeOf(fd: number): number {
  // Node 20 aborts on some values that are no numbers.
  ensureArgument(
    Number.isInteger(fd) && fd >= 0 && fd < 2 ** 31,
    () => `Region.fromFd: fd is ${say(fd)}; it must be a descriptor, a whole number from 0 up`,
  )
  try {
    return process.getBuiltinModule('node:fs').fstatSync(fd).size
  } catch (cause) {
    const message = `Region.fromFd: ${say(fd)} is no descriptor of an open file: ${(cause as Error).message}`
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
  }
}

/**
 * Releases all regions that this isolate has allocated. A thread calls it at its end, when no device and no call uses its memory, because
 * nothing else would release them. Regions that other threads allocated are theirs.
 */
export function releaseAll(): void {
  for (const region of live) region.release()
}

/** Runs `call`; releases the region if it throws. */
export function orRelease<T>(region: Region, call: () => T): T {
  try {
    return call()
  } catch (error) {
    region.release()
    throw error
  }
}

/** Takes a released range of that very length and kind, zeroed; undefined if there is none. */
function takeReleased(byteLength: number, kind: PageKind, inBlock: boolean): number | undefined {
  const i = released.findIndex((range) => range.kind === kind && range.byteLength === byteLength && range.inBlock === inBlock)
  const [range] = i < 0 ? [] : released.splice(i, 1)
  if (!range) return undefined
  const { address } = range
  // Dropped again because the last owner may have written through its views since. Hugetlb pages can be dropped since Linux 5.18.
  const dropped = dropPages(address, byteLength)
  if (populate(address, byteLength, kind) !== 0) return undefined
  if (!dropped) new Uint8Array(attachRegion({ id: 0, address, byteLength })).fill(0)
  return address
}

/** Returns this isolate's ArrayBuffer of the region, which it makes at first use. */
export function attachRegion(handle: RegionHandle): ArrayBuffer {
  if (handle.address === 0) {
    const own = ordinary.get(handle.id)
    if (own) return own
    throw new Error('this memory is of another thread, or was released: without native calls (Linux with koffi) threads share none')
  }
  let buffer = attached.get(handle.address)
  if (buffer?.byteLength !== handle.byteLength) {
    buffer = koffi().view(BigInt(handle.address), handle.byteLength) as ArrayBuffer
    attached.set(handle.address, buffer)
  }
  return buffer
}
