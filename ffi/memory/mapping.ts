/**
 * mmap(2) and madvise(2) as regions need them: populated, of the pages asked for, side by side if asked for, not inherited by fork. What
 * somebody has been given is never unmapped.
 */
import { checkCall, errno, isMapFailed, libc } from '../libc.js'
import { ERRNO, errnoName, NativeError } from '../native-error.js'

// asm-generic/mman-common.h, asm-generic/mman.h; the same on x86-64 and arm64.
const PROT_NONE = 0
const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_PRIVATE = 2
const MAP_FIXED = 0x10
const MAP_ANONYMOUS = 0x20
const MAP_NORESERVE = 0x4000
const MAP_HUGETLB = 0x40000
const MAP_FIXED_NOREPLACE = 0x100000
const MAP_HUGE_2MB = 21 << 26
const MREMAP_MAYMOVE = 1
const MREMAP_FIXED = 2
const MADV_DONTNEED = 4
const MADV_DONTFORK = 10
const MADV_HUGEPAGE = 14
const MADV_POPULATE_WRITE = 23

const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS
const RESERVED = ANONYMOUS | MAP_NORESERVE

export const PAGE_BYTES = 4096
export const HUGE_PAGE_BYTES = 2 << 20

/** What a mapping's pages are: `hugetlb` reserved 2 MiB pages, `thp` transparent ones asked for, `small` ordinary ones. */
export type PageKind = 'hugetlb' | 'thp' | 'small'

export function roundUp(n: number, to: number): number {
  return Math.ceil(n / to) * to
}

/** A reserved range for a mapping, aligned for huge pages if it is to be of such; undefined: wherever mmap(2) puts it. */
export type Place = (byteLength: number, huge: boolean) => number | undefined

/**
 * Zeroed and faulted in, at its place if it has one; huge pages start at a multiple of their size. `byteLength` must be a multiple of the page
 * size of `kind`.
 */
export function mapPages(byteLength: number, kind: PageKind, place?: Place): number | NativeError {
  const address =
    kind === 'hugetlb' ? mapAnonymous(0, byteLength, MAP_HUGETLB | MAP_HUGE_2MB) : map(byteLength, kind === 'thp', place)
  if (isMapFailed(address))
    return new NativeError('mmap', errno(), `${byteLength} bytes${kind === 'hugetlb' ? ', MAP_HUGETLB' : ''}`)
  libc().madvise(address, byteLength, MADV_DONTFORK)
  const failed = populate(address, byteLength, kind)
  // Mostly there are no reserved pages, and that must not cost a place: they are moved to one once they are there.
  if (failed === 0) return kind === 'hugetlb' && place ? moved(address, byteLength, place) : address
  // Nothing has seen the range, but one rule (never unmap) is simpler than two: it stays as an inaccessible reservation.
  dropMapping(address, byteLength)
  return new NativeError('madvise', failed, `MADV_POPULATE_WRITE of ${byteLength} bytes: ${errnoName(failed)}`)
}

function map(byteLength: number, huge: boolean, place?: Place): number {
  const address = mapPlaced(byteLength, huge, place) ?? (huge ? mapAligned(byteLength) : mapAnonymous(0, byteLength))
  if (huge && !isMapFailed(address)) libc().madvise(address, byteLength, MADV_HUGEPAGE)
  return address
}

function mapPlaced(byteLength: number, huge: boolean, place?: Place): number | undefined {
  const placed = place?.(byteLength, huge)
  if (placed === undefined) return undefined
  if (!isMapFailed(mapAnonymous(placed, byteLength, MAP_FIXED))) return placed
  reserveAgain(placed, byteLength)
  return undefined
}

function mapAnonymous(address: number, byteLength: number, flags = 0): number {
  return libc().mmap(address, byteLength, PROT_READ_WRITE, ANONYMOUS | flags, -1, 0)
}

/** Before Linux 6.7 a mapping starts at any page, and a transparent huge page only at a multiple of its size. */
function mapAligned(byteLength: number): number {
  const reserved = reserve(byteLength + HUGE_PAGE_BYTES)
  return isMapFailed(reserved) ? reserved : mapAnonymous(roundUp(reserved, HUGE_PAGE_BYTES), byteLength, MAP_FIXED)
}

/** Linux moves reserved huge pages since 5.16; before, they stay where they are. */
function moved(address: number, byteLength: number, place: Place): number {
  const to = place(byteLength, true)
  if (to === undefined) return address
  if (!isMapFailed(libc().mremap(address, byteLength, byteLength, MREMAP_MAYMOVE | MREMAP_FIXED, to))) return to
  reserveAgain(to, byteLength)
  return address
}

/** Addresses that no mapping comes to unless it is told to, inaccessible; MAP_FAILED if there are none. */
export function reserve(byteLength: number): number {
  return libc().mmap(0, byteLength, PROT_NONE, RESERVED, -1, 0)
}

/** Nothing could be mapped over the range, and the attempt may have undone its reservation. */
function reserveAgain(address: number, byteLength: number): void {
  libc().mmap(address, byteLength, PROT_NONE, RESERVED | MAP_FIXED_NOREPLACE, -1, 0)
}

/** Bytes `offset` … `offset + byteLength − 1` of an open file, shared with its other mappers. @throws NativeError */
export function mapFile(fd: number, offset: number, byteLength: number): number {
  const address = libc().mmap(0, byteLength, PROT_READ_WRITE, MAP_SHARED, fd, offset)
  if (isMapFailed(address)) throw new NativeError('mmap', errno(), `fd ${fd}, ${byteLength} bytes, PROT_READ|PROT_WRITE`)
  checkCall('madvise', libc().madvise(address, roundUp(byteLength, PAGE_BYTES), MADV_DONTFORK), 'MADV_DONTFORK')
  return address
}

/** Lets go of what is mapped there; the range stays reserved, and touching it is SIGSEGV. */
export function dropMapping(address: number, byteLength: number): void {
  libc().mmap(address, byteLength, PROT_NONE, RESERVED | MAP_FIXED, -1, 0)
}

/** Gives the pages back to the system; the range stays mapped and reads as zeroes. False for hugetlb pages before Linux 5.18. */
export function dropPages(address: number, byteLength: number): boolean {
  return libc().madvise(address, byteLength, MADV_DONTNEED) === 0
}

/**
 * Faults all pages in; 0 or an errno. Kernels before 5.14 answer EINVAL: other pages then fault on first touch without risk, hugetlb
 * ones might be SIGBUS and are refused.
 */
export function populate(address: number, byteLength: number, kind: PageKind): number {
  if (libc().madvise(address, byteLength, MADV_POPULATE_WRITE) === 0) return 0
  const e = errno()
  return e === ERRNO.EINVAL && kind !== 'hugetlb' ? 0 : e
}
