/**
 * The file behind a region. Touching a page of a mapping that is behind the end of its file is SIGBUS (mmap(2)), which no
 * JavaScript can catch, so a file that becomes shorter ends the process with the next load or store.
 *
 * | file                                     | can it become shorter                                | done about it                      |
 * |------------------------------------------|------------------------------------------------------|------------------------------------|
 * | a memfd that allows seals (memfd_create(2)) | not once it has F_SEAL_SHRINK                     | sealed here, if it is not already   |
 * | any other                                 | at any time, by whoever may write it                 | its size is looked at before reads   |
 *
 * The second look costs an fstat(2), some 2 µs, and leaves a moment in which the file may still change.
 */
import { checkCall, libc } from '../libc.js'

// linux/fcntl.h, asm-generic/fcntl.h
const F_DUPFD_CLOEXEC = 1030
const F_ADD_SEALS = 1033
const F_GET_SEALS = 1034
const F_SEAL_SHRINK = 2

/** Descriptors below this are left to programs that count on them. */
const LEAST_FD = 3

export interface RegionFile {
  /** A descriptor of our own, valid in all threads until the region is released. */
  readonly fd: number
  /** The file must have at least that many bytes. */
  readonly endBytes: number
}

export function sizeOf(fd: number): number {
  return process.getBuiltinModule('node:fs').fstatSync(fd).size
}

/** Whether the file cannot become shorter any more. Seals it if that can be done. */
export function sealAgainstShrinking(fd: number): boolean {
  const { fcntl } = libc()
  fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
  const seals = fcntl(fd, F_GET_SEALS, 0)
  return seals >= 0 && (seals & F_SEAL_SHRINK) !== 0
}

/** @throws NativeError */
export function keepFile(fd: number, endBytes: number): RegionFile {
  return { fd: checkCall('fcntl', libc().fcntl(fd, F_DUPFD_CLOEXEC, LEAST_FD), 'F_DUPFD_CLOEXEC'), endBytes }
}

export function dropFile({ fd }: RegionFile): void {
  libc().close(fd)
}

/** Whether bytes of a region are behind the end of its file now: reading them would end the process. */
export function isShort({ fd, endBytes }: RegionFile): boolean {
  return sizeOf(fd) < endBytes
}
