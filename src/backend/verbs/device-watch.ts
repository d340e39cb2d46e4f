/**
 * Watches a device beside its completions: takes its asynchronous events, and says whether recent completions can be believed. An
 * event stays in the device until somebody looks for it.
 */
import { ERRNO } from '../../../ffi/native-error.js'
import { EVENT_TYPE } from '../../../ffi/verbs/layout.js'
import { CAUSE_EVENT } from '../backend.js'
import type { OpenDevice } from './open.js'
import type { VerbsPosting } from './posting.js'
import type { QueueKind } from './queue-kind.js'
import { BROKEN, type Recovery } from './recovery.js'

/** How often to look for what happened to the device, the link or the neighbours. */
const LOOK_MS = 1
/** A stream that never sleeps reads the clock at every 8th call of `suspicion`. */
const CALLS_PER_LOOK = 8

export const CAUSE_CQ_ERR = CAUSE_EVENT + EVENT_TYPE.indexOf('IBV_EVENT_CQ_ERR')

export class DeviceWatch<V extends VerbsPosting> {
  readonly #device: OpenDevice
  readonly #kind: QueueKind<V>
  readonly #recovery: Recovery<V>
  #eventsAt = 0
  #suspicion = 0
  /** The kind's when it was last asked. */
  #kindSuspicion = 0
  #lookedAt = 0
  #calls = 0
  /** The thread sleeps with nothing to send: what wakes it stays until somebody looks. */
  #idle = false

  constructor(device: OpenDevice, kind: QueueKind<V>, recovery: Recovery<V>) {
    this.#device = device
    this.#kind = kind
    this.#recovery = recovery
    device.states.add(() => ({ portActive: device.portActive }))
  }

  /** Takes all events there are, unless the device is given up. */
  takeEvents(): void {
    while (this.#recovery.state < BROKEN) {
      const event = this.#device.context.event()
      if (!event) return
      this.#take(event.name)
    }
  }

  #take(event: string): void {
    switch (event) {
      case 'IBV_EVENT_PORT_ERR':
      case 'IBV_EVENT_PORT_ACTIVE':
        this.#device.portActive = event === 'IBV_EVENT_PORT_ACTIVE'
        this.#suspicion++
        this.#device.states.change()
        break
      case 'IBV_EVENT_DEVICE_FATAL':
        this.#recovery.break(event)
        break
      case 'IBV_EVENT_CQ_ERR':
        this.#recovery.beginAnew(CAUSE_CQ_ERR)
        break
      // A late event may be about a queue that was reset since. Then all that is under way completes, and the queue is reset once
      // more.
      case 'IBV_EVENT_QP_FATAL':
      case 'IBV_EVENT_QP_REQ_ERR':
      case 'IBV_EVENT_QP_ACCESS_ERR':
        this.#recovery.begin(CAUSE_EVENT + EVENT_TYPE.indexOf(event))
    }
  }

  /** Takes events once in LOOK_MS. */
  takeEventsAt(now: number): void {
    if (now - this.#eventsAt <= LOOK_MS) return
    this.#eventsAt = now
    this.takeEvents()
  }

  /**
   * As Backend's. Looks once in LOOK_MS at most, because looking is a few system calls and a batch of 64 packets takes less than
   * one of them.
   */
  suspicion(thorough: boolean): number {
    const now = thorough || ++this.#calls % CALLS_PER_LOOK === 0 ? performance.now() : this.#lookedAt
    if (now - this.#lookedAt > LOOK_MS || (thorough && this.#idle)) {
      this.#lookedAt = now
      this.takeEvents()
      this.#kindSuspicion = this.#kind.suspicion()
      if (this.#kind.displaced) this.#recovery.begin(ERRNO.ENODEV, this.#kind.displaced)
    }
    if (!this.#device.portActive || !this.#kind.passable) this.#suspicion++
    return this.#suspicion + this.#kindSuspicion
  }

  /**
   * Before each post.
   * @param within a long batch, of which nothing settles for a while: what changed may make the next packets go another way
   */
  posts(within: boolean): void {
    this.#idle = false
    if (within) this.suspicion(false)
  }

  /** The next call of `suspicion` asks for the time: a thread that sleeps is not so busy that its batches are short. */
  sleeps(idle: boolean): void {
    this.#calls = -1
    this.#idle = idle
  }
}
