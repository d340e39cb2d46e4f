/** Checks of what a user gives to a region, and the words in which errors say it. */
import { SpeadcastError } from '../errors.js'
import { nativeCallsWork } from '../libc.js'
import { counted } from '../printable.js'
import { bindingRefused, MOST_NODES } from './numa.js'
import { sizeOf } from './region-file.js'

/** Says what was given. Not every object can be made a text, and a proxy may throw. */
export function say(value: unknown): string {
  if (typeof value === 'function') return 'a function'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

export function ensureArgument(good: boolean, message: () => string): asserts good {
  if (!good) throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message())
}

/** More bytes abort the process: koffi and V8 cannot make the view. */
export function ensureViewable(call: string, byteLength: number): void {
  const most = process.getBuiltinModule('node:buffer').constants.MAX_LENGTH
  ensureArgument(
    byteLength <= most,
    () => `${call}: byteLength is ${byteLength}; a region has at most ${most} bytes on this Node.js`,
  )
}

/** @throws ERR_SPEADCAST_CONFIG where it is no node's number; ERR_SPEADCAST_MEMORY where pages cannot be asked of it */
export function ensureBindable(node: number): void {
  ensureArgument(
    Number.isInteger(node) && node >= 0 && node < MOST_NODES,
    () => `Region.allocate: numaNode is ${say(node)}; it must be a whole number from 0 to ${MOST_NODES - 1}`,
  )
  const refused = nativeCallsWork() ? bindingRefused(node) : 'it takes native calls (Linux with koffi); leave it out here'
  if (refused) throw new SpeadcastError('ERR_SPEADCAST_MEMORY', `Region.allocate: numaNode is ${node}: ${refused}`)
}

/** Reads the named options, once. @throws ERR_SPEADCAST_CONFIG where there is no object, or one of them cannot be read */
export function readOptions<T extends object>(call: string, options: T, names: readonly (keyof T & string)[]): Partial<T> {
  ensureArgument(typeof options === 'object' && options !== null, () => `${call}: the options are ${say(options)}; give an object`)
  try {
    return Object.fromEntries(names.map((name) => [name, options[name]])) as Partial<T>
  } catch (cause) {
    const message = `${call}: the options cannot be read, because an accessor or a proxy throws; give a plain object`
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
  }
}

/**
 * Returns how many bytes of the file are asked for, by default all from `offset` on. Behind the end of the file the mapping would
 * exist, but touching it is SIGBUS.
 * @throws ERR_SPEADCAST_CONFIG where it is no descriptor of an open file, or the file is shorter
 */
export function lengthInside(fd: number, offset: number, asked: number | undefined): number {
  // Node 20 aborts on some values that are no numbers.
  ensureArgument(
    Number.isInteger(fd) && fd >= 0 && fd < 2 ** 31,
    () => `Region.fromFd: fd is ${say(fd)}; it must be a descriptor, a whole number from 0 up`,
  )
  let size: number
  try {
    size = sizeOf(fd)
  } catch (cause) {
    const message = `Region.fromFd: ${say(fd)} is no descriptor of an open file: ${(cause as Error).message}`
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
  }
  const byteLength = asked === undefined ? size - offset : asked
  ensureArgument(
    Number.isSafeInteger(byteLength) && byteLength > 0 && offset + byteLength <= size,
    () =>
      `Region.fromFd: bytes from ${offset}, ${say(byteLength)} of them, are not all inside the file of ${counted(size, 'byte')}`,
  )
  return byteLength
}
