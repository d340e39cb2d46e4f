/**
 * An I/O thread as the main thread holds it. Starting one takes some 40 ms, most of them to load code, so it can be started before it has
 * anything to send. It serves any number of streams (worker.ts) and waits in its event loop while it has none.
 *
 * | state    | leaves by                                                            |
 * |----------|----------------------------------------------------------------------|
 * | running  | end() → ending; its death → ended, and every stream of it dies        |
 * | ending   | the last stream is closed → ended                                     |
 * | ended    | never; `exited` has resolved and the eventfd is closed                |
 *
 * The thread does not keep the process alive while nobody retains it.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { refuseCopy } from '../../ffi/copied.js'
import { expectLoad, forgetLoad } from '../../ffi/load-at-exit.js'
import { ensureRoomForThread } from '../../ffi/memory/budget.js'
import { cpusForThreads } from '../../ffi/placement.js'
import { EventFd } from '../../ffi/wait.js'
import { debug } from '../debug.js'
import { ThreadRefused } from '../errors.js'
import { contentionWord } from './contention.js'
import {
  type OpenStream,
  T_ANNOUNCED,
  T_BEAT,
  THREAD_WORDS,
  type ThreadInput,
  type ThreadMessage,
  type ThreadSetup,
} from './protocol.js'

/** A thread in which nothing moves for so long sits in a native call that does not return. */
const STUCK_MS = 2000

export class IoThreadHandle {
  /** The error that ended it, if it did not end by itself. */
  crash: Error | undefined
  /** Its exit code. A stream puts a callback into `dependents` instead, because a promise that may never resolve would hold it for ever. */
  readonly exited: Promise<number>
  /** For a person. */
  readonly label: string
  /** Called when the thread has ended, with its exit code. */
  readonly dependents = new Set<(code: number) => void>()
  readonly #worker: Worker
  readonly #port: MessagePort
  readonly #words = new Int32Array(new SharedArrayBuffer(THREAD_WORDS * 4))
  #wake: EventFd | undefined
  #streams = 0
  #retained = 0
  /** 'died': it ended and was not told to. */
  state: 'running' | 'ending' | 'ended' | 'died' = 'running'

  /** @throws ThreadRefused; ERR_SPEADCAST_BUNDLED */
  constructor(readonly setup: ThreadSetup = { name: 'speadcast I/O', affinity: [], priority: undefined }) {
    refuseCopy(import.meta.url, 'the file that the I/O thread starts from')
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    const load = expectLoad()
    try {
      ensureRoomForThread()
      this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
        name: setup.name,
        // The process's own would be inherited, and `node --input-type=module -e …` makes a worker with a file fail.
        execArgv: [],
        // It allocates next to nothing once it sends. With the default size some 7 MB of what it allocates until then would stay.
        resourceLimits: { maxYoungGenerationSizeMb: 4 },
        workerData: {
          port: port2,
          words: this.#words,
          load,
          contention: contentionWord,
          setup,
          inherited: cpusForThreads(),
        } satisfies ThreadInput,
        transferList: [port2],
      })
    } catch (cause) {
      forgetLoad(load)
      port1.close()
      throw new ThreadRefused('an I/O thread', cause, "send from this one (thread: 'inline', --thread inline)")
    }
    // Its id is −1 when it has ended.
    const label = `I/O thread ${this.#worker.threadId} '${setup.name}'`
    this.label = label
    debug(() => `${label} starts`)
    this.#worker.on('error', (error) => {
      this.crash = error
    })
    this.exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.state = this.state === 'ending' ? 'ended' : 'died'
        debug(() => `${label} ended with code ${code}${this.crash ? `: ${this.crash.stack}` : ''}`)
        forgetLoad(load)
        this.#wake?.close()
        this.#port.close()
        for (const dependent of [...this.dependents]) dependent(code)
        resolve(code)
      })
    })
    this.#worker.unref()
    this.#port.unref()
  }

  /** How many streams are open in it, or being opened. */
  get streams(): number {
    return this.#streams
  }

  /** One stream more, until leave(). */
  join(): void {
    this.#streams++
  }

  /** A stream is closed, or never came to be. Without streams the thread sleeps in its event loop and needs no eventfd. */
  leave(): void {
    if (--this.#streams > 0) return
    this.#wake?.close()
    this.#wake = undefined
  }

  /** Wakes it from its sleep. */
  signal(): void {
    this.#wake?.signal()
  }

  open(input: Omit<OpenStream, 'type' | 'eventFd'>): void {
    this.#wake ??= new EventFd()
    this.#tell({ type: 'open', eventFd: this.#wake.fd, ...input }, [input.port])
  }

  /** The thread ends when its last stream is closed; nothing is opened in it any more. */
  end(): void {
    if (this.state === 'died') this.state = 'ended'
    if (this.state !== 'running') return
    this.state = 'ending'
    this.#tell({ type: 'end' })
  }

  #tell(message: ThreadMessage, transfer: MessagePort[] = []): void {
    this.#port.postMessage(message, transfer)
    Atomics.add(this.#words, T_ANNOUNCED, 1)
    this.signal()
  }

  /** Keeps the process alive until release(). */
  retain(): void {
    if (this.#retained++ === 0) this.#worker.ref()
  }

  release(): void {
    if (--this.#retained === 0) this.#worker.unref()
  }

  /**
   * Ends the thread from outside if nothing has moved in it for 2 s at a stretch, until `done` resolves: it sits in a native call that never
   * returns, and the process may at least go on.
   */
  async awaitUnlessStuck(done: Promise<void>): Promise<void> {
    let beat = Atomics.load(this.#words, T_BEAT)
    const timer = setInterval(() => {
      const now = Atomics.load(this.#words, T_BEAT)
      if (now === beat) void this.#worker.terminate()
      beat = now
    }, STUCK_MS)
    await done
    clearInterval(timer)
  }
}
