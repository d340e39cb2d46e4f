/** Says when descriptors are due again, to which substreams. It keeps no process alive: one that only waits for it may end. */
import { performance } from 'node:perf_hooks'

/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1

export interface DescriptorSchedule {
  readonly everySeconds: number
  /** One substream after the other, evenly over the period, instead of all at once. */
  readonly stagger: boolean
}

export class DescriptorTimer {
  readonly #stepMs: number
  readonly #all: readonly number[]
  #timer: NodeJS.Timeout | undefined
  #startedAt = 0
  /** Steps that have passed. Step s is due s × #stepMs after one period. */
  #step = 0
  /** The substream whose turn it is, where one comes after the other. */
  #turn = 0
  #state: 'stopped' | 'running' | 'closed' = 'stopped'

  /** @param send sends to these substreams; the next steps wait until it resolves. It never rejects. */
  constructor(
    readonly schedule: DescriptorSchedule,
    substreams: number,
    readonly send: (substreams: readonly number[]) => Promise<void>,
  ) {
    this.#stepMs = (schedule.everySeconds * 1000) / (schedule.stagger ? substreams : 1)
    this.#all = Array.from({ length: substreams }, (_, k) => k)
  }

  get stopped(): boolean {
    return this.#state === 'stopped'
  }

  /** The descriptors went out for the first time. */
  start(): void {
    if (this.#state !== 'stopped') return
    this.#state = 'running'
    this.#startedAt = performance.now()
    this.#wait()
  }

  close(): void {
    this.#state = 'closed'
    clearTimeout(this.#timer)
  }

  #wait(): void {
    const at = this.#startedAt + this.schedule.everySeconds * 1000 + this.#step * this.#stepMs
    const leftMs = Math.min(Math.max(0, Math.ceil(at - performance.now())), MAX_TIMER_MS)
    this.#timer = setTimeout(this.#tick, leftMs)
    this.#timer.unref()
  }

  /** Steps that a busy thread or a full queue let pass are made up for once for each substream. */
  #inTurn(steps: number): number[] {
    const n = this.#all.length
    const first = this.#turn
    const count = Math.min(steps, n)
    this.#turn = (first + count) % n
    return Array.from({ length: count }, (_, i) => (first + i) % n)
  }

  readonly #tick = (): void => {
    const passedMs = performance.now() - this.#startedAt - this.schedule.everySeconds * 1000
    const due = Math.floor(passedMs / this.#stepMs) + 1
    if (due <= this.#step) {
      this.#wait()
      return
    }
    const substreams = this.schedule.stagger ? this.#inTurn(due - this.#step) : this.#all
    this.#step = due
    void this.send(substreams).then(() => {
      if (this.#state === 'running') this.#wait()
    })
  }
}
