/**
 * A stream's tie to the I/O thread that sends for it: the place in the thread, the port, and the descriptors that the thread has opened. Once it is
 * cut, nothing comes of it any more.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import { closeDescriptors } from '../../ffi/wait.js'
import type { Lease } from './pool.js'
import type { ControlMessage, OpenStream, Report } from './protocol.js'
import type { IoThreadHandle } from './thread.js'

interface LinkListener {
  report(report: Report): void
  /** Reports were read in a turn of the event loop. */
  reported(): void
  /** The thread has ended, and its last reports were read. */
  ended(code: number, crash: Error | undefined): void
}

export class ThreadLink {
  /** Those that the thread has opened for the stream. */
  fds: readonly number[] = []
  readonly #lease: Lease
  readonly #port: MessagePort
  readonly #listener: LinkListener

  /** @param first what the thread is to know before anything else. @throws where no descriptor is left, for one; the lease is released then */
  constructor(
    lease: Lease,
    input: Omit<OpenStream, 'type' | 'eventFd' | 'port'>,
    first: readonly ControlMessage[],
    listener: LinkListener,
  ) {
    this.#lease = lease
    this.#listener = listener
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    // 'message' listeners before unref, which otherwise refs again.
    port1.on('message', (report: Report) => {
      listener.report(report)
      listener.reported()
    })
    port1.unref()
    try {
      for (const message of first) port1.postMessage(message)
      this.thread.open({ port: port2, ...input })
    } catch (error) {
      port1.close()
      lease.release()
      throw error
    }
    this.thread.dependents.add(this.#ended)
  }

  get thread(): IoThreadHandle {
    return this.#lease.thread
  }

  post(message: ControlMessage): void {
    this.#port.postMessage(message)
  }

  /** Reads what has come. */
  drain(): void {
    for (let item = receiveMessageOnPort(this.#port); item; item = receiveMessageOnPort(this.#port))
      this.#listener.report(item.message as Report)
  }

  /** For a thread that has ended without closing them. */
  closeDescriptors(): void {
    closeDescriptors(this.fds)
    this.fds = []
  }

  cut(): void {
    this.#port.close()
    this.thread.dependents.delete(this.#ended)
    this.#lease.release()
  }

  readonly #ended = (code: number): void => {
    this.drain()
    this.#listener.ended(code, this.thread.crash)
  }
}
