/**
 * Tells systemd how the run is doing, where it has started the command (Type=notify): that it has begun, a line of status, that it is well, and
 * that it ends.
 *
 * | state    | legal                  | next                                   |
 * |----------|------------------------|----------------------------------------|
 * | starting | ready, stopping, close | running by ready, over by close        |
 * | running  | stopping, close        | stopping by stopping, over by close    |
 * | stopping | stopping, close        | over by close                          |
 * | over     | close                  | —                                      |
 */
import type { ServiceNotifier, ServiceState } from '../../devices/index.js'
import type { Totals } from './interval.js'
import { say } from './print.js'
import { bytesPerSecond, many } from './table.js'

/** A run as the service manager is told of it. */
export interface Served {
  /** The word before the numbers: 'sent'. */
  readonly what: string
  /** `heaps` and `payloadBytes` are told. */
  totals(): Totals
  /** A number that is another whenever something has moved. */
  moved(): number
  /** Nothing is to move. */
  idle(): boolean
  /** How long the sending thread has waited for the time of packets, a wait under way included to its end. */
  waitedSeconds(): number
  /** How long nothing may move besides, though something is to. */
  readonly patienceSeconds: number
}

const STATUS_MS = 1000

export class Service {
  state: 'starting' | 'running' | 'stopping' | 'over' = 'starting'
  readonly #notifier: ServiceNotifier | undefined
  #timer: NodeJS.Timeout | undefined
  #complained = false

  /** Loads what it takes only where a service manager listens. @throws ERR_SPEADCAST_CONFIG, _NATIVE */
  static async open(command: string): Promise<Service> {
    if (!process.env.NOTIFY_SOCKET) return new Service(command, undefined)
    const { serviceNotifier } = await import('../../devices/index.js')
    return new Service(command, serviceNotifier())
  }

  private constructor(
    readonly command: string,
    notifier: ServiceNotifier | undefined,
  ) {
    this.#notifier = notifier
  }

  ready(served: Served): void {
    if (this.state !== 'starting' || !this.#notifier) return
    this.state = 'running'
    const { watchdogSeconds } = this.#notifier
    this.#tell({ ready: true, status: `${served.what} nothing yet` })
    let before = { at: performance.now(), bytes: served.totals().payloadBytes! }
    let [moved, movedAt, waited] = [served.moved(), before.at, 0]
    const everyMs = Math.max(1, Math.min(STATUS_MS, ((watchdogSeconds ?? STATUS_MS) * 1000) / 2))
    this.#timer = setInterval(() => {
      const at = performance.now()
      const { heaps, payloadBytes } = served.totals()
      const rate = bytesPerSecond(((payloadBytes! - before.bytes) / (at - before.at)) * 1000)
      before = { at, bytes: payloadBytes! }
      const now = served.moved()
      const waits = served.waitedSeconds()
      if (now !== moved || waits !== waited || served.idle()) movedAt = Math.max(movedAt, at + (waits - waited) * 1000)
      ;[moved, waited] = [now, waits]
      const still = (at - movedAt) / 1000
      // One look without a move may be chance, and the manager waits for two.
      const well = still <= 0 || still < Math.max((watchdogSeconds ?? 0) / 2, served.patienceSeconds)
      const status = `${served.what} ${many(heaps!, 'heap')}, ${rate}${well ? '' : `; nothing has moved for ${still.toFixed(0)} s`}`
      this.#tell({ status, ...(well && watchdogSeconds !== undefined && { watchdog: true }) })
    }, everyMs).unref()
  }

  stopping(): void {
    if (this.state !== 'starting' && this.state !== 'running') return
    this.state = 'stopping'
    this.#tell({ stopping: true })
  }

  close(): void {
    this.stopping()
    this.state = 'over'
    clearInterval(this.#timer)
    this.#notifier?.close()
  }

  #tell(state: ServiceState): void {
    if (this.state === 'over') return
    try {
      this.#notifier?.notify(state)
    } catch (error) {
      // The heaps go all the same.
      if (!this.#complained) say(`speadcast ${this.command}: the service manager cannot be told: ${(error as Error).message}`)
      this.#complained = true
    }
  }
}
