/**
 * A Region is one memory mapping, one registration with a NIC, and one ArrayBuffer per isolate.
 *
 * | state    | views           | memory                                    | leaves by        |
 * |----------|-----------------|-------------------------------------------|------------------|
 * | live     | valid           | mapped, not inherited by fork             | release()        |
 * | released | read stale data | pages dropped, address range still mapped | allocate() again |
 *
 * Prohibited: munmap at any time. A typed array over an unmapped range is a SIGSEGV in plain JavaScript and Node 20 cannot
 * detach external buffers (idioms.md 7), so a released range goes to a pool and is handed out again.
 * Huge pages are asked for and *faulted in* before allocate() returns: under a container's hugetlb limit mmap succeeds and
 * the first touch is SIGBUS, where MADV_POPULATE_WRITE returns an errno (madvise(2), Linux 5.14).
 * Off Linux, and without a koffi binary, a region is an ordinary ArrayBuffer without an address: only the dgram backend runs there, in one isolate.
 */
import { fstatSync } from 'node:fs'
import { koffi } from './koffi.js'
import { check, errno, isMapFailed, libc, nativeCallsWork } from './libc.js'
import { ERRNO, errnoName, NativeError } from './native-error.js'

// asm-generic/mman-common.h, asm-generic/mman.h; the same on x86-64 and arm64.
const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_PRIVATE = 2
const MAP_ANONYMOUS = 0x20
const MAP_FIXED = 0x10
const MAP_NORESERVE = 0x4000
const MAP_HUGETLB = 0x40000
const MAP_HUGE_2MB = 21 << 26
const MADV_DONTNEED = 4
const MADV_DONTFORK = 10
const MADV_HUGEPAGE = 14
const MADV_POPULATE_WRITE = 23

const PAGE = 4096
export const HUGE_PAGE_BYTES = 2 << 20

/** What a Region's pages really are: `hugetlb` reserved 2 MiB pages, `thp` transparent ones asked for, `small` ordinary ones. */
export type PageKind = 'hugetlb' | 'thp' | 'small'

/** Enough to attach the same memory in another isolate of this process. Plain data: it survives postMessage. */
export interface RegionHandle {
  readonly id: number
  /** First byte's virtual address. Only ffi/ may compute with it. */
  readonly address: number
  readonly byteLength: number
}

export interface RegionOptions {
  /** `auto` (default) tries hugetlb for regions of at least 2 MiB, then transparent, then small pages. */
  readonly hugePages?: 'auto' | 'require' | 'never'
}

let nextId = 1
const pool: { address: number; byteLength: number; pages: PageKind; buffer: ArrayBuffer }[] = []
const attached = new Map<number, ArrayBuffer>()
const ordinary = new Map<number, ArrayBuffer>()

function roundUp(n: number, to: number): number {
  return Math.ceil(n / to) * to
}

export class Region implements RegionHandle {
  readonly id: number
  /** All bytes of the region. Valid for the life of the process; after release() its contents are undefined. */
  readonly buffer: ArrayBuffer
  #released = false

  private constructor(
    readonly address: number,
    readonly byteLength: number,
    readonly pages: PageKind,
    /** Why huge pages were wanted and not had; empty if they were or were not asked for. */
    readonly hugePagesRefused: string,
    private readonly recyclable: boolean,
    buffer?: ArrayBuffer,
  ) {
    this.id = nextId++
    this.buffer = buffer ?? attachRegion(this)
  }

  /**
   * Maps, populates and zeroes at least `byteLength` bytes, page aligned.
   * @throws NativeError when memory cannot be mapped or faulted in, or when `hugePages: 'require'` cannot be met.
   */
  static allocate(byteLength: number, options: RegionOptions = {}): Region {
    if (!(Number.isSafeInteger(byteLength) && byteLength > 0)) throw new RangeError(`region of ${byteLength} bytes`)
    if (!nativeCallsWork()) return Region.#ordinary(byteLength)
    const mode = options.hugePages ?? 'auto'
    let refused = ''
    if (mode === 'require' || (mode === 'auto' && byteLength >= HUGE_PAGE_BYTES)) {
      const length = roundUp(byteLength, HUGE_PAGE_BYTES)
      const recycled = Region.#recycle(length, 'hugetlb')
      if (recycled) return recycled
      const mapped = tryMap(length, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, true)
      if (typeof mapped === 'number') return new Region(mapped, length, 'hugetlb', '', true)
      refused = mapped.message
      if (mode === 'require') throw mapped
    }
    const thp = mode === 'auto' && byteLength >= HUGE_PAGE_BYTES
    const length = roundUp(byteLength, thp ? HUGE_PAGE_BYTES : PAGE)
    const kind: PageKind = thp ? 'thp' : 'small'
    const recycled = Region.#recycle(length, kind, refused)
    if (recycled) return recycled
    const mapped = tryMap(length, MAP_PRIVATE | MAP_ANONYMOUS, false, thp)
    if (typeof mapped !== 'number') throw mapped
    return new Region(mapped, length, kind, refused, true)
  }

  /**
   * Maps an open file descriptor (memfd, POSIX shm, tmpfs or hugetlbfs file) shared, so that writes by its other mappers are seen.
   * The descriptor is not kept: the caller may close it. @throws NativeError; RangeError when the file is shorter than asked.
   */
  static fromFd(fd: number, options: { byteLength?: number; offset?: number } = {}): Region {
    const offset = options.offset ?? 0
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % PAGE === 0))
      throw new RangeError(`offset ${offset} is not a multiple of the page size ${PAGE}`)
    const size = fstatSync(fd).size
    const byteLength = options.byteLength ?? size - offset
    // Beyond the end of the file the mapping exists but touching it is SIGBUS.
    if (!(Number.isSafeInteger(byteLength) && byteLength > 0 && offset + byteLength <= size))
      throw new RangeError(`bytes ${offset}..${offset + byteLength} are not all inside the file of ${size} bytes`)
    const address = libc().mmap(0, byteLength, PROT_READ_WRITE, MAP_SHARED, fd, offset)
    if (isMapFailed(address)) throw new NativeError('mmap', errno(), `fd ${fd}, ${byteLength} bytes, PROT_READ|PROT_WRITE`)
    check('madvise', libc().madvise(address, roundUp(byteLength, PAGE), MADV_DONTFORK), 'MADV_DONTFORK')
    return new Region(address, byteLength, 'small', '', false)
  }

  /** Another owner's memory (a DMA buffer mapped by a driver). The owner must keep it mapped for the life of the process. */
  static fromAddress(address: number, byteLength: number): Region {
    return new Region(address, byteLength, 'small', '', false)
  }

  handle(): RegionHandle {
    return { id: this.id, address: this.address, byteLength: this.byteLength }
  }

  /** Returns the pages to the system; the address range stays mapped (see the head of this file). Idempotent. */
  release(): void {
    if (this.#released) return
    this.#released = true
    ordinary.delete(this.id)
    if (!this.recyclable) return
    libc().madvise(this.address, this.byteLength, MADV_DONTNEED)
    pool.push({ address: this.address, byteLength: this.byteLength, pages: this.pages, buffer: this.buffer })
  }

  static #ordinary(byteLength: number): Region {
    const region = new Region(0, byteLength, 'small', 'no native calls here', false, new ArrayBuffer(byteLength))
    ordinary.set(region.id, region.buffer)
    return region
  }

  static #recycle(byteLength: number, pages: PageKind, refused = ''): Region | undefined {
    const i = pool.findIndex((range) => range.pages === pages && range.byteLength === byteLength)
    if (i < 0) return undefined
    const [range] = pool.splice(i, 1)
    // Again, for late writes through views of the last owner; hugetlb pages can be dropped since Linux 5.18.
    const dropped = libc().madvise(range!.address, byteLength, MADV_DONTNEED) === 0
    if (populate(range!.address, byteLength, pages === 'hugetlb') !== 0) return undefined
    if (!dropped) new Uint8Array(range!.buffer).fill(0)
    return new Region(range!.address, byteLength, pages, refused, true, range!.buffer)
  }
}

/** The same memory seen from another isolate: one ArrayBuffer per region per isolate, made at first use. */
export function attachRegion(handle: RegionHandle): ArrayBuffer {
  if (handle.address === 0) return ordinary.get(handle.id)!
  let buffer = attached.get(handle.address)
  if (!buffer || buffer.byteLength < handle.byteLength) {
    buffer = koffi().view(BigInt(handle.address), handle.byteLength) as ArrayBuffer
    attached.set(handle.address, buffer)
  }
  return buffer
}

function tryMap(length: number, flags: number, huge: boolean, thp = false): number | NativeError {
  const address = libc().mmap(0, length, PROT_READ_WRITE, flags, -1, 0)
  if (isMapFailed(address)) return new NativeError('mmap', errno(), `${length} bytes${huge ? ', MAP_HUGETLB' : ''}`)
  if (thp) libc().madvise(address, length, MADV_HUGEPAGE)
  libc().madvise(address, length, MADV_DONTFORK)
  const failed = populate(address, length, huge)
  if (failed !== 0) {
    // Nothing has seen the range, but one rule (never unmap) is simpler than two: it stays as an inaccessible reservation.
    libc().mmap(address, length, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
    return new NativeError('madvise', failed, `MADV_POPULATE_WRITE of ${length} bytes: ${errnoName(failed)}`)
  }
  return address
}

/**
 * Faults all pages in; 0 or an errno. Kernels before 5.14 answer EINVAL: small pages then fault on first touch without risk, huge
 * ones might be SIGBUS and are refused.
 */
function populate(address: number, length: number, huge: boolean): number {
  if (libc().madvise(address, length, MADV_POPULATE_WRITE) === 0) return 0
  const e = errno()
  return e === ERRNO.EINVAL && !huge ? 0 : e
}
