/**
 * The memory that the device may read. A region is pinned when it is first named: by the stream, as long as it lives, or by a posting, as
 * long as that uses it, because pinned memory counts against RLIMIT_MEMLOCK. A large one is pinned by another thread, because that takes
 * a tenth of a second and more a gigabyte, and this one sends.
 *
 * | state   | is                                          | next                                          |
 * |---------|---------------------------------------------|-----------------------------------------------|
 * | PINNING | another thread pins it; it has no key        | PINNED or REFUSED; gone, if nobody uses it then |
 * | PINNED  | the device may read it by its key            | gone, when nobody uses it any more             |
 * | REFUSED | it cannot be pinned                          | gone, when nobody uses it any more             |
 */
import { NativeError } from '../../../ffi/native-error.js'
import type { MemoryRegistration, ProtectionDomain } from '../../../ffi/verbs/context.js'
import type { TableRegion } from '../../batch/table.js'
import { SpeadcastError } from '../../errors.js'
import { refused, type VerbsBackendName, whyRefused } from '../../rdma/errors.js'
import type { VerbsPosting } from './posting.js'

/** A region as large as this is pinned by another thread. Less takes some milliseconds. */
const LARGE_BYTES = 32 << 20

/** PINNING, PINNED, REFUSED. */
type Outcome = undefined | MemoryRegistration | NativeError

interface Entry {
  readonly region: TableRegion
  outcome: Outcome
  users: number
}

export class Registrations {
  /** Undefined unless a region was refused: why the last one was. */
  refusal: { readonly errno: number; readonly message: string } | undefined
  /** Regions that another thread is pinning. */
  pinning = 0
  #domain: ProtectionDomain
  readonly #backend: VerbsBackendName
  readonly #turning: (until: Promise<void>) => void
  readonly #entries = new Map<string, Entry>()
  readonly #kept = new Set<string>()
  /** Set by close. */
  #last: (() => void) | undefined

  /** @param turning keeps this thread's event loop turning until a promise is settled */
  constructor(domain: ProtectionDomain, backend: VerbsBackendName, turning: (until: Promise<void>) => void) {
    this.#domain = domain
    this.#backend = backend
    this.#turning = turning
  }

  /**
   * Counts one more user of the region.
   * @throws ERR_SPEADCAST_BACKEND when it cannot be pinned, as beyond RLIMIT_MEMLOCK, and this is found out at once
   */
  use(region: TableRegion): void {
    const key = keyOf(region)
    const entry = this.#entries.get(key) ?? { region, outcome: undefined, users: 0 }
    if (!this.#entries.has(key)) {
      if (region.byteLength < LARGE_BYTES) entry.outcome = this.#pin(region)
      else this.#pinElsewhere(entry)
      this.#entries.set(key, entry)
    }
    entry.users++
  }

  /** The stream is a user of the region until `dismiss`, if it can be pinned. */
  keep(region: TableRegion): void {
    try {
      this.use(region)
      this.#kept.add(keyOf(region))
    } catch (error) {
      if (!(error instanceof SpeadcastError)) throw error
    }
  }

  dismiss(region: TableRegion): void {
    if (this.#kept.delete(keyOf(region))) this.unuse(region)
  }

  #pin({ address, byteLength }: TableRegion): MemoryRegistration {
    try {
      return this.#domain.register(address, byteLength)
    } catch (error) {
      throw error instanceof NativeError ? refused(this.#backend, error) : error
    }
  }

  #pinAnew(entry: Entry): void {
    const { address, byteLength } = entry.region
    try {
      entry.outcome = this.#domain.register(address, byteLength)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#refuse(entry, error)
    }
  }

  #refuse(entry: Entry, error: NativeError): void {
    entry.outcome = error
    this.refusal = { errno: error.errno, message: whyRefused(this.#backend, error) }
  }

  #pinElsewhere(entry: Entry): void {
    const { address, byteLength } = entry.region
    this.pinning++
    const over = new Promise<void>((resolve) => {
      this.#domain.registerElsewhere(address, byteLength, (outcome) => {
        this.pinning--
        if (outcome instanceof NativeError) this.#refuse(entry, outcome)
        else entry.outcome = outcome
        if (entry.users === 0) this.#forget(entry)
        if (this.pinning === 0) this.#last?.()
        resolve()
      })
    })
    this.#turning(over)
  }

  /** Gives a posting the keys of its memory: undefined, unless some is still being pinned (0) or cannot be (the errno). */
  key(posting: VerbsPosting): number | undefined {
    const lkeys: number[] = []
    for (const region of posting.regions) {
      const { outcome } = this.#entries.get(keyOf(region))!
      if (outcome === undefined) return 0
      if (outcome instanceof NativeError) return outcome.errno
      lkeys.push(outcome.lkey)
    }
    posting.setKeys(lkeys)
    return undefined
  }

  /** Counts one user less. No work request of that user may be under way. */
  unuse(region: TableRegion): void {
    const entry = this.#entries.get(keyOf(region))!
    if (--entry.users === 0 && entry.outcome !== undefined) this.#forget(entry)
  }

  #forget({ region, outcome }: Entry): void {
    if (outcome !== undefined && !(outcome instanceof NativeError)) outcome.release()
    this.#entries.delete(keyOf(region))
  }

  /** Takes all memory from the device, which is to be closed. Nothing may be under way, nor being pinned. */
  release(): void {
    for (const { outcome } of this.#entries.values()) if (outcome && !(outcome instanceof NativeError)) outcome.release()
  }

  /** Pins all memory for the device of another domain, after `release`. Postings need their keys anew. */
  renew(domain: ProtectionDomain): void {
    this.#domain = domain
    for (const entry of this.#entries.values()) {
      entry.outcome = undefined
      if (entry.region.byteLength < LARGE_BYTES) this.#pinAnew(entry)
      else this.#pinElsewhere(entry)
    }
  }

  /** Lets go of everything, and calls `then` when no other thread uses the domain any more: at once, or before the promise is settled. */
  close(then: () => void): Promise<void> | undefined {
    for (const entry of this.#entries.values()) {
      entry.users = 0
      if (entry.outcome !== undefined) this.#forget(entry)
    }
    if (this.pinning > 0)
      return new Promise((resolve) => {
        this.#last = () => {
          then()
          resolve()
        }
      })
    then()
    return undefined
  }
}

/** A region's id alone is unique per isolate only, and its address is used again after it. */
function keyOf({ id, address, byteLength }: TableRegion): string {
  return `${id} ${address} ${byteLength}`
}
