/**
 * Tells a queue that is held up from one that is dead. Both complete nothing. A switch that sends pause frames holds a port for seconds,
 * and everything goes on behind them; a queue that is put in error meanwhile loses its packets.
 *
 * | state   | is                                                             | next                                              |
 * |---------|----------------------------------------------------------------|---------------------------------------------------|
 * | TALKING | packets complete, or were posted a moment ago                   | QUIET after half its patience                     |
 * | QUIET   | nothing completes, and nobody knows why                         | TALKING by a completion; HELD, or the end, after all of its patience |
 * | HELD    | the port says that it had data to send and could not            | TALKING by a completion; HELD again, or the end, after as long again |
 */
import { readFileSync } from 'node:fs'
import type { OpenDevice, QueueOptions } from './open.js'
import { DRAIN_MS } from './recovery.js'

const TALKING = 0
const QUIET = 1
const HELD = 2

/** How many parts of the send queue end in a signalled work request. */
export const SIGNALS = 8
/** A device that paces is to complete something this often, if packets do not take longer. */
const SIGNAL_MS = 100
/** Without a completion for as long as this many parts take, a device that paces is silent. */
const SILENT_PARTS = 4
/** A port that is held for longer than this many times its patience is not waited for. */
const MOST_HELD = 12

export class Silence {
  #state: typeof TALKING | typeof QUIET | typeof HELD = TALKING
  /** How often the port said that it is held up, since something completed. */
  #held = 0
  /** Silences that ended by themselves after the port was held up. */
  #stalls = 0
  /** Ticks in which the port had data and could not send, as last read. */
  #waits: number | undefined
  readonly #device: Pick<OpenDevice, 'rdma' | 'states'>

  readonly #timeoutMs: number
  readonly #packetMs: number
  #partMs = 0

  constructor(
    { completionTimeoutMs }: Pick<QueueOptions, 'completionTimeoutMs'>,
    { packetMs }: { readonly packetMs: number },
    device: Pick<OpenDevice, 'rdma' | 'states'>,
  ) {
    this.#timeoutMs = completionTimeoutMs
    this.#packetMs = packetMs
    this.#device = device
    device.states.add(() => (this.#stalls > 0 ? { stalls: this.#stalls } : {}))
  }

  /**
   * How many packets of a queue end in one that is signalled. At a low rate a part of the queue would take long, and nothing would tell that
   * it is under way.
   */
  signalEvery(depth: number): number {
    const most = this.#packetMs > 0 ? SIGNAL_MS / this.#packetMs : Number.POSITIVE_INFINITY
    const signalEvery = Math.max(1, Math.floor(Math.min(depth / SIGNALS, most)))
    this.#partMs = SILENT_PARTS * signalEvery * this.#packetMs
    return signalEvery
  }

  /**
   * How long a queue that is given up now was silent; 0 where it is not given up. Called while nothing completes.
   * @param announced a completion is to come; else none will tell of what is under way, unless more is posted
   */
  over(quietMs: number, announced: boolean): number {
    const timeoutMs = Math.max(this.#timeoutMs, this.#partMs)
    const patienceMs = announced ? timeoutMs : Math.min(Math.max(DRAIN_MS, this.#partMs), timeoutMs)
    if (quietMs < patienceMs / 2) {
      this.ends()
      return 0
    }
    if (this.#state === TALKING) {
      this.#state = QUIET
      this.#waits = this.#read()
    }
    const longestMs = patienceMs * (this.#held + 1)
    if (quietMs < longestMs) return 0
    const waits = this.#read()
    const held = waits !== undefined && this.#waits !== undefined && waits > this.#waits
    this.#waits = waits
    if (!held || this.#held === MOST_HELD) {
      this.#talks(false)
      return longestMs
    }
    this.#held++
    this.#state = HELD
    return 0
  }

  /** Something completed. */
  ends(): void {
    if (this.#state !== TALKING) this.#talks()
  }

  #talks(byItself = true): void {
    if (this.#state === HELD && byItself) {
      this.#stalls++
      this.#device.states.change()
    }
    this.#state = TALKING
    this.#held = 0
  }

  /** Undefined where the driver has no such counter. */
  #read(): number | undefined {
    const { device, port } = this.#device.rdma
    try {
      return Number(readFileSync(`/sys/class/infiniband/${device}/ports/${port}/counters/port_xmit_wait`, 'utf8'))
    } catch {
      return undefined
    }
  }
}
