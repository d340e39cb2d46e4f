/** The memory of receivers that run on the event loop. */
import { addressesRefused } from '../../ffi/memory/budget.js'
import { SpeadcastError } from '../errors.js'

/**
 * Untouched pages of a large ArrayBuffer cost nothing on systems that allocate lazily (Linux, macOS), and yet take addresses.
 * @throws NativeError, ERR_SPEADCAST_MEMORY
 */
export function plainMemory(byteLength: number): ArrayBuffer {
  const refused = addressesRefused(byteLength)
  if (refused) throw refused
  try {
    return new ArrayBuffer(byteLength)
  } catch (cause) {
    const message = `this process gets no ${byteLength} bytes in one piece for heaps; lower heapMemoryBytes, or raise the limit of its memory`
    throw new SpeadcastError('ERR_SPEADCAST_MEMORY', message, { cause })
  }
}
