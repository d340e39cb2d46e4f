/** Tells a service manager, which is systemd, how this process is doing: sd_notify(3), sd_watchdog_enabled(3). */
import { nativeCallsWork } from '../../ffi/libc.js'
import { fitsUnixAddress, MOST_BYTES, UnixDatagrams } from '../../ffi/socket/unix-datagrams.js'
import { checkBoolean, checkOptions, isObject, readPlain, shown } from '../checks.js'
import { ensure, printable, withCode } from '../errors.js'

/** What the service manager is told; each part may be left out. */
export interface ServiceState {
  /** The service has started: what waits for it may start. */
  readonly ready?: boolean
  /** The service ends by itself, or because it was told to. */
  readonly stopping?: boolean
  /** The service is well; to be told at least each `watchdogSeconds`. */
  readonly watchdog?: boolean
  /** One line for `systemctl status`. */
  readonly status?: string
}

const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']
const STATE = ['ready', 'stopping', 'watchdog', 'status']

/**
 * The service manager that has started this process; made by `serviceNotifier`.
 * @example
 * const notifier = serviceNotifier()
 * notifier?.notify({ ready: true, status: 'sending' })
 */
export class ServiceNotifier {
  readonly #socket: UnixDatagrams

  /** @internal use serviceNotifier */
  constructor(
    name: string,
    /** How often the service manager wants to hear that the service is well; undefined where it does not. */
    readonly watchdogSeconds: number | undefined,
  ) {
    this.#socket = new UnixDatagrams(name)
  }

  /**
   * Tells the service manager. Never waits.
   * @throws ERR_SPEADCAST_CONFIG, _CLOSED, _NATIVE when it does not listen, or its queue is full
   * @example notifier.notify({ watchdog: true, status: '12 heaps sent' })
   */
  notify(state: ServiceState): void {
    checkOptions('notify', state, STATE)
    const { ready, stopping, watchdog, status } = state
    for (const [name, value] of Object.entries({ ready, stopping, watchdog })) checkBoolean('notify', name, value)
    ensure(
      status === undefined || typeof status === 'string',
      'ERR_SPEADCAST_CONFIG',
      () => `notify: status is ${shown(status)}; it must be a line of text`,
    )
    ensure(this.#socket.state === 'open', 'ERR_SPEADCAST_CLOSED', () => 'notify: the notifier is closed')
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

  /**
   * Closes its socket.
   * @example notifier.close()
   */
  close(): void {
    this.#socket.close()
  }
}

/**
 * The service manager that the environment's NOTIFY_SOCKET names; undefined where there is none.
 * @param environment default `process.env`
 * @throws ERR_SPEADCAST_CONFIG where NOTIFY_SOCKET, WATCHDOG_USEC or WATCHDOG_PID is none; ERR_SPEADCAST_NATIVE
 * @example const notifier = serviceNotifier()
 */
export function serviceNotifier(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ServiceNotifier | undefined {
  ensure(
    isObject(environment),
    'ERR_SPEADCAST_CONFIG',
    () => `serviceNotifier: the environment is ${shown(environment)}; give an object such as process.env`,
  )
  const variables = readPlain('serviceNotifier', environment, VARIABLES)
  const { NOTIFY_SOCKET: name } = variables
  if (name === undefined || name === '') return undefined
  ensure(
    typeof name === 'string' && /^[/@][^\0]+$/.test(name) && fitsUnixAddress(name),
    'ERR_SPEADCAST_CONFIG',
    () => `NOTIFY_SOCKET is ${shown(name)}; it must be an absolute path or '@' and a name, of less than 108 bytes`,
  )
  const seconds = watchdogOf(variables)
  ensure(
    nativeCallsWork(),
    'ERR_SPEADCAST_NATIVE',
    () => 'NOTIFY_SOCKET cannot be told of anything, because that takes Linux and koffi',
  )
  try {
    return new ServiceNotifier(name, seconds)
  } catch (error) {
    throw withCode('serviceNotifier', error)
  }
}

/** Of WATCHDOG_PID another process may be meant, whose environment this one has got. */
function watchdogOf({ WATCHDOG_USEC: text, WATCHDOG_PID: pid }: Readonly<Record<string, string | undefined>>): number | undefined {
  for (const [name, value] of Object.entries({ WATCHDOG_USEC: text, WATCHDOG_PID: pid }))
    ensure(
      value === undefined || (typeof value === 'string' && /^\d{1,15}$/.test(value) && Number(value) > 0),
      'ERR_SPEADCAST_CONFIG',
      () => `${name} is ${shown(value)}; it must be a whole number from 1 up`,
    )
  if (text === undefined || (pid !== undefined && Number(pid) !== process.pid)) return undefined
  return Number(text) / 1e6
}
