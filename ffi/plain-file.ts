/**
 * Opens files for writing where a write cannot wait for ever. Without koffi, because node:dgram's receiver works without it too.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs'

/**
 * Opens or creates a regular file, or a character device such as /dev/null. A FIFO would hold the thread until somebody
 * reads, and no signal but SIGKILL would reach the process meanwhile. O_NONBLOCK keeps the opening itself from waiting (fifo(7)).
 * @throws Error that says why not
 */
export function openPlainFile(path: string, content: 'keep' | 'truncate'): number {
  let fd: number
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | (constants.O_NONBLOCK ?? 0), 0o644)
  } catch (cause) {
    // open(2): ENXIO is a FIFO that nobody reads, or a socket.
    if ((cause as NodeJS.ErrnoException).code === 'ENXIO') throw new Error(NO_FILE, { cause })
    throw cause
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile() && !stat.isCharacterDevice()) throw new Error(NO_FILE)
    if (stat.isFile() && content === 'truncate') ftruncateSync(fd)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

const NO_FILE = 'it must be a file, not a pipe or socket'
