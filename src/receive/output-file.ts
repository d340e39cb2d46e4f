/** A file of the output with its digest, and the stage in which small heaps are gathered before they are written. */

import { createHash, type Hash } from 'node:crypto'
import { closeSync, ftruncateSync, writeSync } from 'node:fs'
import { counted } from '../errors.js'

/** Bytes in which small items are gathered before they are hashed and written. */
export const STAGE_BYTES = 1 << 20
/** The most heaps in the stage. Their ends are known, so that a file that takes no more can be cut behind a heap. */
const STAGE_HEAPS = 4096
/** Node takes no more at a time (2 GiB less a byte), neither to write nor to hash. */
const MOST_BYTES = 1 << 30
/** A terminal that is full for the moment gets these many pauses to make room. */
const PAUSES = 50
const PAUSE_MS = 20
const never = new Int32Array(new SharedArrayBuffer(4))

/**
 * | state  | legal         | leaves by                              |
 * |--------|---------------|----------------------------------------|
 * | open   | all           | a write that fails → failed            |
 * | failed | digest (null) | never; the file has been cut at a heap |
 */
export class OutputFile {
  /** Bytes of the whole heaps in the file. */
  bytes = 0
  /** Says what failed and where the file ends; undefined while open. */
  failure: string | undefined
  readonly #hash: Hash | undefined

  /**
   * @param fd undefined: only hash
   * @param sender its address and port where the file is one sender's
   */
  constructor(
    readonly path: string,
    readonly fd: number | undefined,
    readonly sender: string | null,
    hash: boolean,
  ) {
    this.#hash = hash ? createHash('sha256') : undefined
  }

  /** Writes `heaps` heaps of which the i-th ends `ends[i]` bytes behind `at`. Returns how many of them are in the file. */
  write(u8: Uint8Array, at: number, ends: Float64Array, heaps: number): number {
    const length = ends[heaps - 1]!
    for (let from = 0; from < length; from += MOST_BYTES)
      this.#hash?.update(u8.subarray(at + from, at + Math.min(length, from + MOST_BYTES)))
    const written = this.fd === undefined ? length : this.#put(this.fd, u8, at, length)
    let whole = heaps
    while (whole > 0 && ends[whole - 1]! > written) whole--
    const kept = whole > 0 ? ends[whole - 1]! : 0
    this.bytes += kept
    if (this.failure !== undefined) this.#cut(written - kept)
    return whole
  }

  /**
   * Returns the hexadecimal digest of what the file holds, or null if none was asked for, or the file holds less than was hashed.
   */
  digest(): string | null {
    return this.failure === undefined ? (this.#hash?.digest('hex') ?? null) : null
  }

  /** Closes it; returns what failed, because some file systems say only now that a write did (close(2)). */
  close(): string | undefined {
    try {
      if (this.fd !== undefined) closeSync(this.fd)
    } catch (error) {
      this.failure ??= `cannot close ${this.path}, which may be incomplete: ${(error as Error).message}`
    }
    return this.failure
  }

  #put(fd: number, u8: Uint8Array, at: number, length: number): number {
    let done = 0
    for (let pauses = 0; done < length; ) {
      try {
        const n = writeSync(fd, u8, at + done, Math.min(MOST_BYTES, length - done))
        if (n === 0) {
          this.failure = `cannot write ${this.path}: it takes no more bytes`
          return done
        }
        done += n
        pauses = 0
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        if (code === 'EINTR') continue
        if (code === 'EAGAIN' && pauses++ < PAUSES) {
          Atomics.wait(never, 0, 0, PAUSE_MS)
          continue
        }
        this.failure = `cannot write ${this.path}: ${message}`
        return done
      }
    }
    return done
  }

  /** Cuts off the `beyond` bytes of the heap that is not whole, and says where the file ends. */
  #cut(beyond: number): void {
    let end = `it ends behind its last whole heap, ${counted(this.bytes, 'byte')}`
    try {
      if (beyond > 0) ftruncateSync(this.fd!, this.bytes)
    } catch {
      end = `it ends ${counted(beyond, 'byte')} behind its last whole heap, which ends at byte ${this.bytes}`
    }
    this.failure += `; ${end}`
  }
}

/** Gathers small heaps of one file at a time, so that a heap in order costs a copy and no system call. */
export class OutputStage {
  readonly #u8: Uint8Array
  readonly #at: number
  readonly #ends = new Float64Array(STAGE_HEAPS)
  #file: OutputFile | undefined
  #bytes = 0
  #heaps = 0

  /** @param at where STAGE_BYTES of `u8` are that nobody else uses */
  constructor(u8: Uint8Array, at: number) {
    this.#u8 = u8
    this.#at = at
  }

  /**
   * Takes a heap's `length` (> 0) bytes for a file. Returns how many heaps, this one or earlier ones, were lost by a write that
   * failed.
   */
  put(file: OutputFile, at: number, length: number): number {
    let lost = 0
    const large = length >= STAGE_BYTES / 4
    if (file !== this.#file || large || this.#bytes + length > STAGE_BYTES || this.#heaps === STAGE_HEAPS) lost = this.flush()
    if (file.failure !== undefined) return lost + 1
    if (large) {
      this.#ends[0] = length
      return lost + 1 - file.write(this.#u8, at, this.#ends, 1)
    }
    this.#file = file
    this.#u8.copyWithin(this.#at + this.#bytes, at, at + length)
    this.#bytes += length
    this.#ends[this.#heaps++] = this.#bytes
    return lost
  }

  /** Writes what is gathered. Returns how many heaps were lost by a write that failed. */
  flush(): number {
    const heaps = this.#heaps
    if (heaps === 0 || !this.#file) return 0
    this.#heaps = 0
    this.#bytes = 0
    return heaps - this.#file.write(this.#u8, this.#at, this.#ends, heaps)
  }
}
