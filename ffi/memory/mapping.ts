/**
 * mmap(2) and madvise(2) as regions need them: populated, of the pages asked for, side by side if asked for, not inherited by fork. A range
 * that was handed out is never unmapped.
 */
import { checkCall, errno, isMapFailed, libc } from '../libc.js'
import { ERRNO, errnoName, NativeError } from '../native-error.js'
import { addressesRefused } from './budget.js'
import { ANY_NODE, bindPages } from './numa.js'

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

/** Smaller mappings are not worth the 60 µs of a look at the limits. */
const LEAST_CHECKED_BYTES = 128 << 10

const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS
const RESERVED = ANONYMOUS | MAP_NORESERVE

export const PAGE_BYTES = 4096
export const HUGE_PAGE_BYTES = 2 << 20

/** The pages of a mapping: `hugetlb` are reserved 2 MiB pages, `thp` transparent ones asked for, `small` ordinary ones. */
export type PageKind = 'hugetlb' | 'thp' | 'small'

export function roundUp(n: number, to: number): number {
  return Math.ceil(n / to) * to
}

/** Gives the address of a reserved range, aligned for huge pages if asked for; undefined: mmap(2) may put the mapping anywhere. */
export type TakeAddresses = (byteLength: number, huge: boolean) => number | undefined

/**
 * Maps zeroed pages and faults them in, at addresses of `take` if it gives any; huge pages start at a multiple of their size. `byteLength`
 * must be a multiple of the page size of `kind`.
 * @param node the NUMA node that they come from first
 */
export function mapPages(byteLength: number, kind: PageKind, take?: TakeAddresses, node = ANY_NODE): number | NativeError {
  const refused = byteLength < LEAST_CHECKED_BYTES ? undefined : addressesRefused(byteLength)
  if (refused) return refused
  const address =
    kind === 'hugetlb' ? mapAnonymous(0, byteLength, MAP_HUGETLB | MAP_HUGE_2MB) : map(byteLength, kind === 'thp', take)
  if (isMapFailed(address))
    return new NativeError('mmap', errno(), `${byteLength} bytes${kind === 'hugetlb' ? ', MAP_HUGETLB' : ''}`)
  libc().madvise(address, byteLength, MADV_DONTFORK)
  if (node !== ANY_NODE) bindPages(address, byteLength, node)
  const failed = populate(address, byteLength, kind)
  // Mostly there are no reserved pages, and finding that out must not use addresses up: pages that are there are moved to them.
  if (failed === 0) return kind === 'hugetlb' && take ? moved(address, byteLength, take) : address
  // Nobody has seen the range, but one rule (never unmap) is simpler than two: it stays as an inaccessible reservation.
  dropMapping(address, byteLength)
  return new NativeError('madvise', failed, `MADV_POPULATE_WRITE of ${byteLength} bytes: ${errnoName(failed)}`)
}

function map(byteLength: number, huge: boolean, take?: TakeAddresses): number {
  const address = mapAtTaken(byteLength, huge, take) ?? (huge ? mapAligned(byteLength) : mapAnonymous(0, byteLength))
  if (huge && !isMapFailed(address)) libc().madvise(address, byteLength, MADV_HUGEPAGE)
  return address
}

function mapAtTaken(byteLength: number, huge: boolean, take?: TakeAddresses): number | undefined {
  const address = take?.(byteLength, huge)
  if (address === undefined) return undefined
  if (!isMapFailed(mapAnonymous(address, byteLength, MAP_FIXED))) return address
  reserveAgain(address, byteLength)
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

/** Moves reserved huge pages to taken addresses, which Linux can since 5.16; before, they stay where they are. */
function moved(address: number, byteLength: number, take: TakeAddresses): number {
  const to = take(byteLength, true)
  if (to === undefined) return address
  if (!isMapFailed(libc().mremap(address, byteLength, byteLength, MREMAP_MAYMOVE | MREMAP_FIXED, to))) return to
  reserveAgain(to, byteLength)
  return address
}

/** Reserves addresses: they are inaccessible, and no mapping comes there unless it is told to. Returns MAP_FAILED if there are none. */
export function reserve(byteLength: number): number {
  return libc().mmap(0, byteLength, PROT_NONE, RESERVED, -1, 0)
}

/** Repeats a reservation that a failed mapping may have undone. */
function reserveAgain(address: number, byteLength: number): void {
  libc().mmap(address, byteLength, PROT_NONE, RESERVED | MAP_FIXED_NOREPLACE, -1, 0)
}

/** Maps bytes `offset` … `offset + byteLength − 1` of an open file, shared with its other mappers. @throws NativeError */
export function mapFile(fd: number, offset: number, byteLength: number): number {
  const address = libc().mmap(0, byteLength, PROT_READ_WRITE, MAP_SHARED, fd, offset)
  if (isMapFailed(address)) throw new NativeError('mmap', errno(), `fd ${fd}, ${byteLength} bytes, PROT_READ|PROT_WRITE`)
  checkCall('madvise', libc().madvise(address, roundUp(byteLength, PAGE_BYTES), MADV_DONTFORK), 'MADV_DONTFORK')
  return address
}

/** Unmaps the range and reserves it at once: touching it is SIGSEGV. */
export function dropMapping(address: number, byteLength: number): void {
  libc().mmap(address, byteLength, PROT_NONE, RESERVED | MAP_FIXED, -1, 0)
}

/** Gives the pages back to the system; the range stays mapped and reads as zeroes. False for hugetlb pages before Linux 5.18. */
export function dropPages(address: number, byteLength: number): boolean {
  return libc().madvise(address, byteLength, MADV_DONTNEED) === 0
}

/**
 * Faults all pages in; returns 0 or an errno. Kernels before 5.14 answer EINVAL. Ordinary pages then fault in on first touch without risk;
 * hugetlb pages are refused, because their first touch might be SIGBUS.
 */
export function populate(address: number, byteLength: number, kind: PageKind): number {
  if (libc().madvise(address, byteLength, MADV_POPULATE_WRITE) === 0) return 0
  const e = errno()
  return e === ERRNO.EINVAL && kind !== 'hugetlb' ? 0 : e
}
