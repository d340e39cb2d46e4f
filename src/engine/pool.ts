/**
 * The I/O threads that the streams of a process share, less those that a program makes itself (src/stream/io-thread.ts).
 *
 * | a stream that       | goes to                                                                                        |
 * |---------------------|------------------------------------------------------------------------------------------------|
 * | keeps a rate        | the thread with the most paced streams and no other, as long as their rates stay below a bound    |
 * | is as fast as it can | a thread without streams, or a new one while there are fewer than `ioThreads`; else the one with the fewest such streams |
 *
 * A thread stays when its last stream closes, because each thread that ends leaves three mappings of koffi's behind: a service that opens
 * a stream every second would run into vm.max_map_count within a day. It waits in its event loop and does not keep the process alive.
 */
import { availableParallelism } from 'node:os'
import type { ThreadPriority } from '../../ffi/placement.js'
import { IoThreadHandle } from './thread.js'

/** A thread that paces 10 Gb/s in bursts of 64 KiB has no time left to sleep: more streams go to another. */
const PACED_BYTES_PER_SECOND = 1.25e9

/** A stream's claim on an I/O thread. */
export interface Lease {
  readonly thread: IoThreadHandle
  /** The stream is closed, or never came to be. Idempotent. */
  release(): void
}

interface Placement {
  /** 0 = as fast as it can. */
  readonly rateBytesPerSecond: number
  /** CPUs the thread may run on; empty = as inherited. Only streams that say the same share a thread. */
  readonly affinity: readonly number[]
  /** Its priority; undefined = as inherited. Only streams that say the same share a thread. */
  readonly priority: ThreadPriority | undefined
  /** A thread more is started only while there are fewer of this affinity and priority. */
  readonly ioThreads: number
}

export const DEFAULT_IO_THREADS = Math.max(2, availableParallelism())

class Place {
  unpaced = 0
  rate = 0
  constructor(
    readonly thread: IoThreadHandle,
    /** Affinity and priority. */
    readonly kind: string,
  ) {}

  get idle(): boolean {
    return this.thread.streams === 0
  }
}

class IoThreadPool {
  #places: Place[] = []

  /** @throws ThreadRefused when it takes a thread more and there can be none */
  take(placement: Placement): Lease {
    const { rateBytesPerSecond: rate } = placement
    const place = this.#choose(placement)
    if (rate === 0) place.unpaced++
    place.rate += rate
    return lease(place.thread, () => {
      if (rate === 0) place.unpaced--
      place.rate -= rate
    })
  }

  #choose({ rateBytesPerSecond: rate, affinity, priority, ioThreads }: Placement): Place {
    this.#places = this.#places.filter(({ thread }) => thread.state === 'running')
    const kind = JSON.stringify([affinity, priority])
    const places = this.#places.filter((place) => place.kind === kind)
    if (rate > 0) {
      const gathered = places.filter(
        (place) => place.unpaced === 0 && place.rate > 0 && place.rate + rate <= PACED_BYTES_PER_SECOND,
      )
      const fullest = gathered.toSorted((a, b) => b.rate - a.rate)[0]
      if (fullest) return fullest
    }
    const idle = places.find((place) => place.idle)
    if (idle) return idle
    if (places.length < ioThreads) {
      const thread = new IoThreadHandle({ name: 'speadcast I/O', affinity, priority })
      const place = new Place(thread, kind)
      this.#places.push(place)
      return place
    }
    return places.toSorted((a, b) => a.unpaced - b.unpaced || a.rate - b.rate)[0]!
  }
}

/** Counts a stream of the thread's until release(). */
export function lease(thread: IoThreadHandle, onRelease: () => void = () => {}): Lease {
  let held = true
  thread.join()
  return {
    thread,
    release: () => {
      if (!held) return
      held = false
      thread.leave()
      onRelease()
    },
  }
}

/** This isolate's pool: a thread belongs to the isolate that started it and ends with it. */
export const ioThreads = new IoThreadPool()
