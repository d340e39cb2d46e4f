/** Reads raw samples from a file, over and over into one buffer, or from standard input. */
import { fstatSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { SpeadcastError } from '../../errors.js'

export interface Input {
  /** Undefined for pipes and devices, whose length nobody knows. */
  readonly totalBytes: number | undefined
  /** Samples may come slowly: from a pipe, a terminal or a device. */
  readonly live: boolean
  /** Yields pieces in order, each valid until the next is asked for. Ends early, without an error, when `signal` aborts. */
  chunks(signal: AbortSignal): AsyncGenerator<Uint8Array>
}

const CHUNK_BYTES = 1 << 20

/** @throws ERR_SPEADCAST_INPUT */
export async function openInput(path: string): Promise<Input> {
  if (path === '-') {
    // Node would read a directory as empty input.
    const kind = fstatSync(process.stdin.fd)
    if (kind.isDirectory()) unreadable('standard input', new Error('it is a directory'))
    return { totalBytes: undefined, live: !kind.isFile(), chunks: standardInput }
  }
  const kind = await stat(path).catch((cause) => unreadable(path, cause))
  if (kind.isDirectory()) unreadable(path, new Error('it is a directory'))
  // Reading a pipe by its name would hold a thread until somebody writes, and with it the exit of the process.
  if (kind.isFIFO() || kind.isSocket()) unreadable(path, new Error(`it is a pipe; write: --input - < ${path}`))
  return {
    totalBytes: kind.isFile() ? kind.size : undefined,
    live: !kind.isFile(),
    async *chunks(signal) {
      const file = await open(path).catch((cause) => unreadable(path, cause))
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
      try {
        while (!signal.aborted) {
          const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, null).catch((cause) => unreadable(path, cause))
          if (bytesRead === 0) return
          yield buffer.subarray(0, bytesRead)
        }
      } finally {
        await file.close()
      }
    },
  }
}

async function* standardInput(signal: AbortSignal): AsyncGenerator<Uint8Array> {
  if (signal.aborted) return
  try {
    yield* addAbortSignal(signal, process.stdin) as AsyncIterable<Buffer>
  } catch (cause) {
    if (!signal.aborted) unreadable('standard input', cause as Error)
  } finally {
    process.stdin.destroy()
  }
}

function unreadable(path: string, cause: Error): never {
  throw new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot read ${path}: ${cause.message}`, { cause })
}
