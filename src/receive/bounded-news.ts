/**
 * Tells what happens where packets are received, and bounds it: anybody may connect, or send from any port, as often as he likes, and each
 * item costs a message to the main thread.
 */
import type { ReceiverEventKind, ReceiverNewsItem, TellReceiver } from './events.js'

/** Items of a kind that are told within PERIOD_MS; the others are counted. */
const MOST = 16
export const PERIOD_MS = 1000

interface Period {
  endsAt: number
  told: number
  left: number
}

export class BoundedNews {
  readonly #tell: TellReceiver
  readonly #periods = new Map<ReceiverEventKind, Period>()

  constructor(tell: TellReceiver) {
    this.#tell = tell
  }

  /** @param make the item, which is made only if it is told: to find a sender's name may take long */
  tell(kind: ReceiverEventKind, nowMs: number, make: () => Omit<ReceiverNewsItem, 'kind'>): void {
    const period = this.#periods.get(kind) ?? { endsAt: 0, told: 0, left: 0 }
    this.#periods.set(kind, period)
    if (nowMs >= period.endsAt) this.#begin(kind, period, nowMs)
    if (period.told >= MOST) period.left++
    else {
      period.told++
      this.#tell({ kind, ...make() })
    }
  }

  /** Call it every now and then: tells how many were left out. @param nowMs Infinity at the end */
  look(nowMs: number): void {
    for (const [kind, period] of this.#periods) if (nowMs >= period.endsAt) this.#begin(kind, period, nowMs)
  }

  #begin(kind: ReceiverEventKind, period: Period, nowMs: number): void {
    const { left } = period
    period.endsAt = nowMs + PERIOD_MS
    period.told = 0
    period.left = 0
    if (left > 0)
      this.#tell({ kind, message: `${left} more of kind '${kind}' within a second, not told one by one`, after: { left } })
  }
}
