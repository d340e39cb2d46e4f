/**
 * A Region is memory of one kind at one address, with one registration per NIC and one ArrayBuffer per isolate.
 *
 * | state    | views           | memory                                    | leaves by                                                   |
 * |----------|-----------------|-------------------------------------------|-------------------------------------------------------------|
 * | live     | valid           | mapped, not inherited by fork             | release(), which refuses while a batch names it (hold)       |
 * | released | read stale data | pages dropped, address range still mapped | allocate() again, when no thread has it attached (loans.ts) |
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
import { INSPECT, type Inspection, inspected } from '../inspect.js'
import { koffi } from '../koffi.js'
import { nativeCallsWork } from '../libc.js'
import { NativeError } from '../native-error.js'
import { counted } from '../printable.js'
import { takeFromBlock } from './address-block.js'
import { ensureArgument, ensureBindable, ensureViewable, lengthInside, readOptions, say } from './arguments.js'
import { pagesRefused } from './budget.js'
import { SMALLEST_POOLED_BYTES, takePooled } from './huge-page-pool.js'
import type { Loan } from './loans.js'
import { dropPages, HUGE_PAGE_BYTES, mapFile, mapPages, PAGE_BYTES, type PageKind, populate, roundUp } from './mapping.js'
import { isMapped } from './maps.js'
import { bindPages, preferredNode } from './numa.js'
import { dropFile, keepFile, type RegionFile, sealAgainstShrinking } from './region-file.js'
import type { RegionHandle, RegionOptions } from './region-types.js'

export { isShort } from './region-file.js'
export type { PageKind, RegionFile, RegionHandle, RegionOptions }

const LEAST_CHECKED_BYTES = 1 << 20

const HUGE_PAGES: readonly string[] = ['auto', 'require', 'never']

/** An error names no more batches than that. */
const MOST_NAMED = 3
/** Typed arrays are aligned in memory, not only in their buffer. */
const ALIGNMENT_BYTES = 8
/** x86-64 and arm64 have no mappings of programs from here on, unless they are asked for them. */
const ADDRESSES_END = 2 ** 48

let nextId = 1
/** Ranges of released regions, to be handed out again. */
const released: {
  readonly address: number
  readonly byteLength: number
  readonly kind: PageKind
  readonly inBlock: boolean
  readonly node: number
}[] = []
/** This isolate's buffers of mapped memory, by address. */
const attached = new Map<number, ArrayBuffer>()
/** The regions that this isolate has allocated and not released. */
const live = new Set<Region>()
/** Buffers of regions without an address, by id. */
const ordinary = new Map<number, ArrayBuffer>()
/** Ranges of released regions that other threads had attached. */
let withheld: { readonly loans: readonly Loan[]; readonly giveBack: () => void }[] = []

/** V8 quotes the first function that it meets in what it cannot clone, by its text. */
const uncloneable = () =>
  'a Region is of its thread; post batch.handle(), and attachBatch there makes views of the same memory (docs/memory.md)'

/**
 * Memory at one address, which batches can send from and other processes can write into. docs/memory.md has what you may not do with it.
 *
 * Views of it are valid for the life of the process: a typed array of a released region reads what is no longer yours, and crashes nothing.
 * @example
 * const region = Region.allocate(64 << 20)
 * const batch = stream.createBatch({ items, heaps: 64, memory: { adc_samples: { region } } })
 */
export class Region implements RegionHandle {
  /** @internal Stands before `buffer`, which would be copied in silence. */
  readonly uncloneable = uncloneable
  /** Its number in the process. */
  readonly id: number
  /** All bytes of the region. Valid for the life of the process; after release() its contents are undefined. */
  readonly buffer: ArrayBuffer
  /** The NUMA node that was asked for; undefined: none was. */
  readonly numaNode: number | undefined
  /** @internal Called when the region is released, before its pages go back. */
  readonly onRelease = new Set<() => void>()
  /** @internal The file that it maps, where that may become shorter. */
  readonly file: RegionFile | undefined
  /** Undefined where the memory is another's. */
  readonly #giveBack: (() => void) | undefined
  /** Says each open batch that names it. */
  readonly #holders = new Map<object, () => string>()
  #loans: Loan[] = []
  #released = false

  private constructor(
    /** Virtual address of the first byte, for a driver that is to write there; 0 where there are no native calls. */
    readonly address: number,
    /** Bytes of the region: what was asked for, rounded up to whole pages. */
    readonly byteLength: number,
    /** The pages that it was given. */
    readonly pages: PageKind,
    /** Why huge pages could not be had; empty if they could, or were not asked for. */
    readonly hugePagesRefused: string,
    {
      giveBack,
      buffer,
      file,
      numaNode,
    }: { giveBack?: () => void; buffer?: ArrayBuffer; file?: RegionFile | undefined; numaNode?: number | undefined } = {},
  ) {
    this.id = nextId++
    this.file = file
    this.numaNode = numaNode
    this.#giveBack = giveBack
    this.buffer = buffer ?? attachRegion(this)
    live.add(this)
  }

  /**
   * Maps, populates and zeroes at least `byteLength` bytes, page aligned.
   * @throws ERR_SPEADCAST_MEMORY when memory cannot be mapped or faulted in, when a limit of the process or its cgroup would be exceeded, or
   *   when `hugePages: 'require'` cannot be met; ERR_SPEADCAST_CONFIG.
   * @example const samples = new Int16Array(Region.allocate(1 << 20).buffer)
   */
  static allocate(byteLength: number, options: RegionOptions = {}): Region {
    ensureArgument(
      Number.isSafeInteger(byteLength) && byteLength > 0,
      () => `Region.allocate: byteLength is ${say(byteLength)}; it must be a whole number above 0`,
    )
    const {
      hugePages: mode = 'auto',
      patched: inBlock = false,
      numaNode,
    } = readOptions('Region.allocate', options, ['hugePages', 'patched', 'numaNode'])
    ensureArgument(
      HUGE_PAGES.includes(mode),
      () => `Region.allocate: hugePages is ${say(mode)}; it must be 'auto', 'require' or 'never'`,
    )
    // A stream has looked before, and must not fail later where the cpuset has become smaller.
    if (numaNode !== undefined && !inBlock) ensureBindable(numaNode)
    const node = numaNode ?? preferredNode()
    giveBackWithheld()
    if (!nativeCallsWork()) return Region.#ordinary(byteLength)
    // Buffers of our own are small, and must be had when there is little left.
    const small = byteLength < (mode === 'never' ? LEAST_CHECKED_BYTES : SMALLEST_POOLED_BYTES)
    const over = small ? undefined : pagesRefused(byteLength)
    if (!over) ensureViewable('Region.allocate', byteLength)
    const pooled = mode === 'auto' && !over && byteLength >= SMALLEST_POOLED_BYTES && byteLength < HUGE_PAGE_BYTES
    const range = pooled && takePooled(byteLength, inBlock, node)
    if (range) return new Region(range.address, range.byteLength, range.pages, '', { giveBack: range.release, numaNode })
    const large = mode === 'auto' && byteLength >= HUGE_PAGE_BYTES
    const kinds: PageKind[] = mode === 'require' ? ['hugetlb'] : large ? ['hugetlb', 'thp', 'small'] : ['small']
    let refused: NativeError | undefined
    for (const kind of kinds) {
      const length = roundUp(byteLength, kind === 'small' ? PAGE_BYTES : HUGE_PAGE_BYTES)
      // Reserved huge pages are in nobody's way.
      const full = kind === 'hugetlb' ? undefined : over
      const address =
        full ?? takeReleased(length, kind, inBlock, node) ?? mapPages(length, kind, inBlock ? takeFromBlock : undefined, node)
      if (typeof address !== 'number') {
        refused ??= address
        continue
      }
      const giveBack = (): void => {
        dropPages(address, length)
        released.push({ address, byteLength: length, kind, inBlock, node })
      }
      return new Region(address, length, kind, refused?.message ?? '', { giveBack, numaNode })
    }
    throw outOfMemory(byteLength, over ?? refused!)
  }

  /**
   * Maps an open file descriptor (memfd, POSIX shm, tmpfs or hugetlbfs file) shared, so that writes by its other mappers are seen.
   * The caller may close the descriptor. A memfd that allows seals gets F_SEAL_SHRINK, so that nobody can make it shorter any more.
   * No other file may become shorter, because touching a page behind its end is SIGBUS: backends that read in this process look at
   * its size before each post, and nothing looks before your own reads. The region does not grow with its file.
   * @param fd a descriptor that is open for reading and writing
   * @param options bytes to map, and from where. Default: all of the file; `offset` is a multiple of the page size
   * @throws ERR_SPEADCAST_MEMORY; ERR_SPEADCAST_CONFIG, also when the file is shorter than asked.
   * @example const region = Region.fromFd(openSync('/dev/shm/samples', 'r+'))
   */
  static fromFd(fd: number, options: { byteLength?: number; offset?: number } = {}): Region {
    const { offset = 0, byteLength: asked } = readOptions('Region.fromFd', options, ['byteLength', 'offset'])
    ensureArgument(
      Number.isSafeInteger(offset) && offset >= 0 && offset % PAGE_BYTES === 0,
      () => `Region.fromFd: offset ${say(offset)} is not a multiple of the page size ${PAGE_BYTES}`,
    )
    const byteLength = lengthInside(fd, offset, asked)
    ensureViewable('Region.fromFd', byteLength)
    ensureNative('Region.fromFd')
    try {
      const file = sealAgainstShrinking(fd) ? undefined : keepFile(fd, offset + byteLength)
      try {
        // Again, because it may have become shorter until it was sealed.
        lengthInside(fd, offset, byteLength)
        return new Region(mapFile(fd, offset, byteLength), byteLength, 'small', '', { file })
      } catch (error) {
        if (file) dropFile(file)
        throw error
      }
    } catch (cause) {
      if (!(cause instanceof NativeError)) throw cause
      throw new SpeadcastError('ERR_SPEADCAST_MEMORY', `Region.fromFd: ${cause.message}; open the file for reading and writing`, {
        cause,
      })
    }
  }

  /**
   * Makes a region of another owner's memory (a DMA buffer mapped by a driver), who must keep it mapped for the life of the
   * process. It must be mapped for reading and writing now, and begin at a multiple of 8.
   * @throws ERR_SPEADCAST_CONFIG where it is not; ERR_SPEADCAST_MEMORY without native calls
   * @example const region = Region.fromAddress(0x7f0000000000, 1 << 20)
   */
  static fromAddress(address: number, byteLength: number): Region {
    ensureArgument(
      Number.isSafeInteger(address) && address > 0 && address < ADDRESSES_END && address % ALIGNMENT_BYTES === 0,
      () => `Region.fromAddress: address is ${say(address)}; it must be a number below 2^48, a multiple of ${ALIGNMENT_BYTES}`,
    )
    ensureArgument(
      Number.isSafeInteger(byteLength) && byteLength > 0,
      () => `Region.fromAddress: byteLength is ${say(byteLength)}; it must be a whole number above 0`,
    )
    ensureViewable('Region.fromAddress', byteLength)
    ensureNative('Region.fromAddress')
    ensureArgument(
      isMapped(address, byteLength),
      () =>
        `Region.fromAddress: not all of ${counted(byteLength, 'byte')} from address 0x${address.toString(16)} are mapped for reading and writing; /proc/self/maps has what is`,
    )
    return new Region(address, byteLength, 'small', '')
  }

  /** Whether `release` was called. */
  get released(): boolean {
    return this.#released
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Region', how, () => {
      const { byteLength, pages, hugePagesRefused, numaNode } = this
      const state = this.#released ? 'released' : 'live'
      return {
        state,
        byteLength,
        pages,
        ...(hugePagesRefused && { hugePagesRefused }),
        ...(numaNode !== undefined && { numaNode }),
      }
    })
  }

  /**
   * Returns what another thread of this process needs to find the memory; `batch.handle()` holds it.
   * @example const { address, byteLength } = region.handle()
   */
  handle(): RegionHandle {
    return { id: this.id, address: this.address, byteLength: this.byteLength, ...(this.file && { file: this.file }) }
  }

  /** @internal An open batch names it, so it cannot be released. @param say names the batch in an error */
  hold(batch: object, say: () => string): void {
    this.#holders.set(batch, say)
  }

  /** @internal The batch is closed. */
  letGo(batch: object): void {
    this.#holders.delete(batch)
  }

  /** @internal Other threads may attach it by that loan's ticket. */
  lend(loan: Loan): void {
    this.#loans = [...this.#loans.filter((other) => !other.over), loan]
  }

  /**
   * Returns the pages to the system; the address range stays mapped (see the head of this file). Idempotent.
   * @throws ERR_SPEADCAST_MEMORY while open batches name it: the next region may get its addresses, and they would send its bytes
   * @example region.release() // after the batches that use it are closed
   */
  release(): void {
    if (this.#released) return
    if (this.#holders.size > 0) {
      const batches = [...this.#holders.values()].slice(0, MOST_NAMED).map((say) => say())
      const more = this.#holders.size - batches.length
      const message = `Region.release: the region is in use by ${batches.join(', ')}${more > 0 ? ` and ${more} more` : ''}; close the batches (batch.close(), or their streams) first`
      throw new SpeadcastError('ERR_SPEADCAST_MEMORY', message)
    }
    this.#released = true
    for (const tell of this.onRelease) tell()
    this.onRelease.clear()
    live.delete(this)
    ordinary.delete(this.id)
    if (this.file) dropFile(this.file)
    const giveBack = this.#giveBack
    const loans = this.#loans.filter((loan) => !loan.over)
    if (loans.length === 0) giveBack?.()
    else if (giveBack) {
      // Other threads' views of it write into it as before, and nobody else's bytes are there. A part of a huge page cannot be
      // dropped.
      if (this.pages !== 'hugetlb') dropPages(this.address, this.byteLength)
      withheld.push({ loans, giveBack })
    }
  }

  static #ordinary(byteLength: number): Region {
    let buffer: ArrayBuffer
    try {
      buffer = new ArrayBuffer(byteLength)
    } catch (cause) {
      throw outOfMemory(byteLength, cause as Error)
    }
    const region = new Region(0, byteLength, 'small', 'no native calls here', { buffer })
    ordinary.set(region.id, region.buffer)
    return region
  }
}

function outOfMemory(byteLength: number, cause: Error): SpeadcastError {
  return new SpeadcastError('ERR_SPEADCAST_MEMORY', `cannot have ${counted(byteLength, 'byte')} of memory: ${cause.message}`, {
    cause,
  })
}

function ensureNative(call: string): void {
  if (nativeCallsWork()) return
  throw new SpeadcastError('ERR_SPEADCAST_MEMORY', `${call}: it takes native calls (Linux with koffi); use Region.allocate here`)
}

/** Gives addresses back that no thread has attached any more. */
function giveBackWithheld(): void {
  if (withheld.length === 0) return
  const done = withheld.filter(({ loans }) => loans.every((loan) => loan.over))
  withheld = withheld.filter((range) => !done.includes(range))
  for (const { giveBack } of done) giveBack()
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
function takeReleased(byteLength: number, kind: PageKind, inBlock: boolean, node: number): number | undefined {
  const i = released.findIndex((range) => range.kind === kind && range.byteLength === byteLength && range.inBlock === inBlock)
  const [range] = i < 0 ? [] : released.splice(i, 1)
  if (!range) return undefined
  const { address } = range
  // Dropped again because the last owner may have written through its views since. Hugetlb pages can be dropped since Linux 5.18.
  const dropped = dropPages(address, byteLength)
  if (range.node !== node) bindPages(address, byteLength, node)
  if (populate(address, byteLength, kind) !== 0) return undefined
  if (!dropped) new Uint8Array(attachRegion({ id: 0, address, byteLength })).fill(0)
  return address
}

/** Returns this isolate's ArrayBuffer of the region, which it makes at first use. */
export function attachRegion(handle: RegionHandle): ArrayBuffer {
  if (handle.address === 0) {
    const own = ordinary.get(handle.id)
    if (own) return own
    throw new SpeadcastError(
      'ERR_SPEADCAST_MEMORY',
      'this memory is of another thread, or was released: without native calls (Linux with koffi) threads share none',
    )
  }
  let buffer = attached.get(handle.address)
  if (buffer?.byteLength !== handle.byteLength) {
    buffer = koffi().view(BigInt(handle.address), handle.byteLength) as ArrayBuffer
    attached.set(handle.address, buffer)
  }
  return buffer
}
