/** Tells a service manager, which is systemd, how this process is doing: sd_notify(3), sd_watchdog_enabled(3). */
import { nativeCallsWork } from '../../ffi/libc.js'
import { fitsUnixAddress, MOST_BYTES, UnixDatagrams } from '../../ffi/socket/unix-datagrams.js'
import { ensure, printable, withCode } from '../errors.js'

/** What the service manager is told; each part may be left out. */
export interface ServiceState {
  /** The service has started: what waits for it may start. */
  readonly ready?: true
  /** The service ends by itself, or because it was told to. */
  readonly stopping?: true
  /** The service is well; to be told at least each `watchdogSeconds`. */
  readonly watchdog?: true
  /** One line for `systemctl status`. */
  readonly status?: string
}

/**
 * The service manager that has started this process.
 * @example
 * const notifier = ServiceNotifier.fromEnvironment()
 * notifier?.notify({ ready: true, status: 'sending' })
 */
export class ServiceNotifier {
  readonly #socket: UnixDatagrams

  /**
   * The service manager that the environment's NOTIFY_SOCKET names; undefined where there is none.
   * @param environment default `process.env`
   * @throws ERR_SPEADCAST_CONFIG where NOTIFY_SOCKET, WATCHDOG_USEC or WATCHDOG_PID is none; ERR_SPEADCAST_NATIVE
   * @example const notifier = ServiceNotifier.fromEnvironment()
   */
  static fromEnvironment(environment: Readonly<Record<string, string | undefined>> = process.env): ServiceNotifier | undefined {
    const { NOTIFY_SOCKET: name } = environment
    if (name === undefined || name === '') return undefined
    ensure(
      /^[/@]./.test(name) && fitsUnixAddress(name),
      'ERR_SPEADCAST_CONFIG',
      () => `NOTIFY_SOCKET is '${printable(name)}'; it must be an absolute path or '@' and a name, of less than 108 bytes`,
    )
    const seconds = watchdogOf(environment)
    ensure(
      nativeCallsWork(),
      'ERR_SPEADCAST_NATIVE',
      () => 'NOTIFY_SOCKET cannot be told of anything, because that takes Linux and koffi',
    )
    try {
      return new ServiceNotifier(name, seconds)
    } catch (error) {
      throw withCode('ServiceNotifier', error)
    }
  }

  private constructor(
    name: string,
    /** How often the service manager wants to hear that the service is well; undefined where it does not. */
    readonly watchdogSeconds: number | undefined,
  ) {
    this.#socket = new UnixDatagrams(name)
  }

  /**
   * Tells the service manager. Never waits.
   * @throws ERR_SPEADCAST_NATIVE when it does not listen, or its queue is full
   * @example notifier.notify({ watchdog: true, status: '12 heaps sent' })
   */
  notify({ ready, stopping, watchdog, status }: ServiceState): void {
    const lines = [
      ...(ready ? ['READY=1'] : []),
      ...(stopping ? ['STOPPING=1'] : []),
      ...(watchdog ? ['WATCHDOG=1'] : []),
      ...(status === undefined ? [] : [`STATUS=${printable(status)}`]),
    ]
    if (lines.length === 0) return
    try {
      this.#socket.send(Buffer.from(lines.join('\n')).subarray(0, MOST_BYTES))
    } catch (error) {
      throw withCode('ServiceNotifier.notify', error)
    }
  }

  /** Closes its socket. */
  close(): void {
    this.#socket.close()
  }
}

/** Of WATCHDOG_PID another process may be meant, whose environment this one has got. */
function watchdogOf({ WATCHDOG_USEC: text, WATCHDOG_PID: pid }: Readonly<Record<string, string | undefined>>): number | undefined {
  for (const [name, value] of Object.entries({ WATCHDOG_USEC: text, WATCHDOG_PID: pid }))
    ensure(
      value === undefined || (/^\d{1,15}$/.test(value) && Number(value) > 0),
      'ERR_SPEADCAST_CONFIG',
      () => `${name} is '${printable(value!)}'; it must be a whole number from 1 up`,
    )
  if (text === undefined || (pid !== undefined && Number(pid) !== process.pid)) return undefined
  return Number(text) / 1e6
}
