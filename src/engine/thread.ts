/**
 * The I/O thread as the main thread holds it. Starting one takes some 40 ms, most of them to load code: it can be started before it is
 * known what it shall send, and be told, or dismissed, later.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import type { WorkerInput } from './protocol.js'

export class IoThread {
  readonly worker: Worker
  /** For reports from it and control messages to it; of what opens it, see `open`. */
  readonly port: MessagePort
  /** What ended it, if it did not end by itself. */
  crash: Error | undefined
  /** Its exit code. */
  readonly exited: Promise<number>

  constructor() {
    const { port1, port2 } = new MessageChannel()
    this.port = port1
    this.worker = new Worker(new URL('./worker.js', import.meta.url), {
      name: 'speadcast I/O',
      // The process's own would be inherited, and `node --input-type=module -e …` makes a worker with a file fail.
      execArgv: [],
      // It allocates next to nothing once it sends; what it allocates until then would otherwise stay, some 7 MB.
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
      workerData: port2,
      transferList: [port2],
    })
    this.worker.on('error', (error) => {
      this.crash = error
    })
    this.exited = new Promise((resolve) => {
      this.worker.on('exit', resolve)
    })
  }

  open(input: WorkerInput): void {
    this.worker.postMessage(input)
  }

  /** Instead of open(). */
  async dismiss(): Promise<void> {
    await this.worker.terminate()
    this.port.close()
  }
}
