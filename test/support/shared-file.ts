import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** An unlinked file of zeroes in tmpfs (Linux), closed when the test ends. */
export function sharedFile(bytes: number): number {
  const folder = mkdtempSync(join('/dev/shm', 'speadcast-'))
  const fd = openSync(join(folder, 'file'), 'w+')
  rmSync(folder, { recursive: true })
  onTestFinished(() => closeSync(fd))
  ftruncateSync(fd, bytes)
  return fd
}
