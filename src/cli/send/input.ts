/** Reads raw samples from a file, over and over into one buffer, or from standard input. */
import { constants, fstatSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
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
/** A read that waits in a device would hold a thread, and with it the exit of the process, until the device has something: a terminal may never. */
const { O_RDONLY, O_NONBLOCK = 0, O_NOCTTY = 0 } = constants
const LOOK_AGAIN_MS = 2

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
      const file = await open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY).catch((cause) => unreadable(path, cause))
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
      try {
        while (!signal.aborted) {
          const bytes = await file.read(buffer, 0, CHUNK_BYTES, null).then(
            ({ bytesRead }) => bytesRead,
            (cause) => (cause.code === 'EAGAIN' ? undefined : unreadable(path, cause)),
          )
          if (bytes === 0) return
          if (bytes === undefined) await sleep(LOOK_AGAIN_MS)
          else yield buffer.subarray(0, bytes)
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
  throw new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot read ${path || "''"}: ${cause.message}`, { cause })
}
