/**
 * Tells of senders that begin to send, fall silent and send again. A look once a second reads a mark of each sender, of which there are
 * 1024 at most, so packets cost no more than that mark.
 *
 * | a sender's `telling` | next                                    |
 * |----------------------|-----------------------------------------|
 * | new                  | sending, at the first look              |
 * | sending              | silent, after SILENT_MS without a packet |
 * | silent               | sending                                 |
 */
import { type BoundedNews, PERIOD_MS } from './bounded-news.js'
import type { Sender } from './sender.js'
import type { Senders } from './senders.js'

/** Longer than the time between two dumps of a correlator. */
const SILENT_MS = 10_000

export interface SenderWatchOptions {
  readonly senders: Senders
  readonly news: BoundedNews
  /** The endpoints' texts. */
  readonly texts: readonly string[]
  /** A sender's address and port; null where nobody knows them. */
  readonly nameOf: (number: number) => string | null
}

export class SenderWatch {
  readonly #options: SenderWatchOptions
  #lookedAt: number
  /** Packets were left in the socket since the last look, so silence says nothing. */
  #blind = false

  constructor(options: SenderWatchOptions, nowMs: number) {
    this.#options = options
    this.#lookedAt = nowMs
  }

  /** Call it at each turn. @param blind packets are left in the socket */
  look(nowMs: number, blind: boolean): void {
    if (blind) this.#blind = true
    if (nowMs - this.#lookedAt < PERIOD_MS) return
    // A process that stood still heard nobody either.
    const deaf = this.#blind || nowMs - this.#lookedAt > 2 * PERIOD_MS
    this.#blind = false
    this.#all(nowMs, deaf)
  }

  /** The last look. */
  end(nowMs: number): void {
    this.#all(nowMs, true)
  }

  #all(nowMs: number, deaf: boolean): void {
    this.#lookedAt = nowMs
    for (const sender of this.#options.senders.all()) {
      if (sender.heard) {
        sender.heard = false
        this.#heard(sender, nowMs)
        sender.heardAt = nowMs
      } else if (deaf) sender.heardAt = nowMs
      else if (sender.telling === 'sending' && nowMs - sender.heardAt >= SILENT_MS) {
        sender.telling = 'silent'
        this.#say(sender, nowMs, 'sends no more to', `: silent for ${SILENT_MS / 1000} s`, false)
      }
    }
  }

  #heard(sender: Sender, nowMs: number): void {
    const { telling, heardAt } = sender
    sender.telling = 'sending'
    if (telling === 'new') this.#say(sender, nowMs, 'sends to', '', true)
    else if (telling === 'silent')
      this.#say(sender, nowMs, 'sends again to', `, after ${Math.round((nowMs - heardAt) / 1000)} s`, true)
  }

  #say(sender: Sender, nowMs: number, what: string, how: string, sending: boolean): void {
    const { senders, news, texts, nameOf } = this.#options
    news.tell('sender', nowMs, () => {
      const endpoint = texts[sender.endpoint]
      const name = senders.anySource ? null : nameOf(sender.number)
      const after = { ...(name !== null && { sender: name }), sending }
      return { message: `${name ?? 'a sender'} ${what} ${endpoint}${how}`, endpoint, before: { sending: !sending }, after }
    })
  }
}
