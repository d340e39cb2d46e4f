/**
 * The interface that packets leave by, and whether the queue is at its device.
 *
 * | state      | packets                           | leaves by                                                           |
 * |------------|-----------------------------------|---------------------------------------------------------------------|
 * | there      | leave by the device               | a route by another interface, or another port of the bond           |
 * |            |                                   | → displaced or deviceless                                           |
 * | displaced  | wait                              | `moved` → there; `stays` → deviceless; the way back → there         |
 * | deviceless | are refused, because there is     | a look, after a change or some time → there or displaced            |
 * |            | nowhere to move to                |                                                                     |
 */
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { BackendRefused, lackOf, SpeadcastError } from '../../errors.js'
import type { Path } from '../../net/route.js'
import { type RdmaPath, sendsBy } from '../../rdma/devices.js'

/**
 * The device behind a path's interface.
 * @throws BackendRefused where it may not be used, SpeadcastError where there is none, NativeError
 */
export type FindDevice = (path: Path) => RdmaPath

export class WayOut {
  state: 'there' | 'displaced' | 'deviceless' = 'there'
  /** The path of packets that leave by the device, or that should. */
  home: Path
  /** Where the queue is. */
  rdma: RdmaPath
  /** Why the state is not `there`; else empty. */
  reason = ''
  /** The errno that refuses packets while there is no device; else 0. */
  errno = 0
  /** The obstacle to using a device may pass untold. */
  passing = false
  /** Index of the interface whose device the queue is at. */
  #at: number
  readonly find: FindDevice

  constructor(home: Path, rdma: RdmaPath, find: FindDevice) {
    this.home = home
    this.rdma = rdma
    this.#at = home.ifindex
    this.find = find
  }

  /** The interface that a queue of several paths is for: the one of all of them, or else the one where it is. */
  choose(paths: readonly Path[]): Path | undefined {
    const [first] = paths
    return paths.every(({ ifindex }) => ifindex === first!.ifindex) ? first : paths.find(({ ifindex }) => ifindex === this.#at)
  }

  /** Packets go by this path. True if the state is another one now, or the interface. */
  turnTo(path: Path): boolean {
    const same = path.ifindex === this.home.ifindex
    this.home = path
    return same && this.state !== 'deviceless' ? false : this.#judge(`packets go by ${path.interfaceName} now`, same)
  }

  /** Frames may leave by a port that the bond does not send by any more. True if they do. @throws NativeError */
  lookAtBond(): boolean {
    const { bond } = this.rdma
    if (!bond || this.state !== 'there' || sendsBy(bond)) return false
    return this.#judge('the bond sends by another port', true)
  }

  #judge(reason: string, same: boolean): boolean {
    const before = this.state
    try {
      const { device, port, bond } = this.find(this.home)
      const there = device === this.rdma.device && port === this.rdma.port && bond?.port === this.rdma.bond?.port
      if (there && this.home.ifindex === this.#at) this.#set('there')
      else this.#set('displaced', reason)
    } catch (error) {
      this.stays(error)
    }
    return !same || this.state !== before
  }

  /** The queue has moved to a device of the interface. */
  moved(rdma: RdmaPath): void {
    this.rdma = rdma
    this.#at = this.home.ifindex
    this.#set('there')
  }

  /** There is no device to move to, or none that can be used, as an error of `find` or of opening the device tells. */
  stays(error: unknown): void {
    const lack = lackOf(error)
    if (!(error instanceof NativeError) && !(error instanceof SpeadcastError)) throw error
    const why = error instanceof BackendRefused ? error.why : error.message
    const none = error instanceof SpeadcastError && !lack && !(error instanceof BackendRefused)
    const words = none ? 'behind which there is no RDMA device' : `whose RDMA device cannot be used (${why})`
    this.#set('deviceless', `packets go by ${this.home.interfaceName} now, ${words}`, lack?.errno ?? ERRNO.ENETUNREACH)
    this.passing = none || lack !== undefined
  }

  #set(state: WayOut['state'], reason = '', errno = 0): void {
    this.state = state
    this.reason = reason
    this.errno = errno
  }
}
