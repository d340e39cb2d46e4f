import type { Socket } from 'node:net'
import { LINE_BYTES, ProtocolError } from './protocol.js'

/** Lines that came and wait for their reader; a peer that sends more without being asked has lost its way. */
const WAITING_LINES = 4

/**
 * Exchanges lines over a connection; the program asks for one at a time. The peer can make it keep a line and a few that wait, and no more.
 *
 * | state    | entered when                                   | `next` then                         |
 * |----------|------------------------------------------------|-------------------------------------|
 * | open     | it is made                                     | gives a line, or waits for one      |
 * | ended    | the peer closed, or `close` was called          | gives what waits, then undefined    |
 * | failed   | the connection or the peer's lines were bad     | rejects                             |
 */
export class LineChannel {
  /** Aborts when the connection is gone, whoever ended it. */
  readonly gone: AbortSignal
  readonly #gone = new AbortController()
  readonly #socket: Socket
  readonly #lines: string[] = []
  #state: 'open' | 'ended' | 'failed' = 'open'
  #failure: Error | undefined
  #partial = ''
  #wake: (() => void) | undefined

  constructor(socket: Socket) {
    this.#socket = socket
    this.gone = this.#gone.signal
    socket.setNoDelay(true)
    // A host that is gone says nothing: probes find out.
    socket.setKeepAlive(true, 10_000)
    // latin1: a byte is a character, so that the bound holds and no sequence is cut; the lines are ASCII.
    socket.setEncoding('latin1')
    socket.on('data', (chunk) => this.#take(String(chunk)))
    socket.on('error', (error) => this.#end('failed', error))
    socket.on('close', () => this.#end('ended'))
    socket.on('end', () => this.#end('ended'))
  }

  send(message: object): void {
    // ASCII alone: other characters as escapes.
    const line = JSON.stringify(message).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
    if (this.#state === 'open') this.#socket.write(`${line}\n`)
  }

  /** Resolves with the next line; undefined where the peer has closed. @throws ProtocolError, the connection's error */
  async next(seconds: number): Promise<string | undefined> {
    const until = performance.now() + seconds * 1000
    while (this.#lines.length === 0 && this.#state === 'open') {
      const left = until - performance.now()
      if (left <= 0) throw new ProtocolError(`nothing in ${seconds} s`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wake = undefined
    }
    if (this.#state === 'failed') throw this.#failure
    return this.#lines.shift()
  }

  /** Sends what is written and closes; a peer that does not read does not hold it up. */
  close(): void {
    const socket = this.#socket
    socket.end()
    setTimeout(() => socket.destroy(), 500).unref()
    this.#end('ended')
  }

  #take(chunk: string): void {
    if (this.#state !== 'open') return
    const [first = '', ...rest] = chunk.split('\n', WAITING_LINES + 2)
    let line = this.#partial + first
    for (const next of rest) {
      this.#lines.push(line)
      line = next
    }
    this.#partial = line
    if (this.#lines.length > WAITING_LINES) this.#fail(`more than ${WAITING_LINES} lines that nobody asked for`)
    else if ([...this.#lines, line].some(({ length }) => length > LINE_BYTES)) this.#fail(`a line of more than ${LINE_BYTES} bytes`)
    else this.#wake?.()
  }

  #fail(why: string): void {
    this.#end('failed', new ProtocolError(why))
    this.#socket.destroy()
  }

  #end(state: 'ended' | 'failed', failure?: Error): void {
    if (this.#state !== 'open') return
    this.#state = state
    this.#failure = failure
    this.#partial = ''
    this.#wake?.()
    this.#gone.abort()
  }
}
