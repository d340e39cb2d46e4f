/**
 * The memory that the device may read. A region is pinned with the first posting that uses it and let go with the last, because
 * pinned memory counts against RLIMIT_MEMLOCK.
 */
import type { MemoryRegistration, ProtectionDomain } from '../../../ffi/verbs/context.js'
import type { TableRegion } from '../../batch/table.js'
import { explained, type VerbsBackendName } from '../../rdma/errors.js'

interface Registered {
  readonly registration: MemoryRegistration
  users: number
}

export class Registrations {
  readonly #domain: ProtectionDomain
  readonly #backend: VerbsBackendName
  readonly #registered = new Map<string, Registered>()

  constructor(domain: ProtectionDomain, backend: VerbsBackendName) {
    this.#domain = domain
    this.#backend = backend
  }

  /**
   * Counts one more user of the region and returns its lkey.
   * @throws ERR_SPEADCAST_BACKEND when it cannot be pinned, as beyond RLIMIT_MEMLOCK
   */
  use(region: TableRegion): number {
    const key = keyOf(region)
    let registered = this.#registered.get(key)
    if (!registered) {
      const registration = explained(this.#backend, () => this.#domain.register(region.address, region.byteLength))
      registered = { registration, users: 0 }
      this.#registered.set(key, registered)
    }
    registered.users++
    return registered.registration.lkey
  }

  /** Counts one user less. No work request of that user may be under way. */
  unuse(region: TableRegion): void {
    const key = keyOf(region)
    const registered = this.#registered.get(key)!
    if (--registered.users > 0) return
    registered.registration.release()
    this.#registered.delete(key)
  }

  close(): void {
    for (const { registration } of this.#registered.values()) registration.release()
    this.#registered.clear()
  }
}

/** A region's id alone is unique per isolate only, and its address is used again after it. */
function keyOf({ id, address, byteLength }: TableRegion): string {
  return `${id} ${address} ${byteLength}`
}
