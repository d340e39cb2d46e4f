/**
 * Tells when the kernel begins to drop what finds a socket buffer full, and when that is over, by the counters that the receiving thread reads
 * anyway.
 *
 * | state of an endpoint | next                                                        |
 * |----------------------|-------------------------------------------------------------|
 * | calm                 | dropping, when the counter rises                            |
 * | dropping             | calm, when it has not risen for CALM_MS, or at the end      |
 */
import type { BoundedNews } from './bounded-news.js'
import { STAT, statsAt } from './stats.js'

const CALM_MS = 1000

interface Drops {
  state: 'calm' | 'dropping'
  /** The counter when it was looked at last, and when the drops began. */
  count: number
  from: number
  beganAt: number
  roseAt: number
}

export class DropWatch {
  readonly #drops: readonly Drops[]

  constructor(
    readonly stats: Float64Array,
    readonly texts: readonly string[],
    readonly news: BoundedNews,
  ) {
    this.#drops = texts.map(() => ({ state: 'calm', count: 0, from: 0, beganAt: 0, roseAt: 0 }))
  }

  /** Call it after the counters were read. NaN, where nobody counts, never rises. */
  look(nowMs: number): void {
    for (let endpoint = 0; endpoint < this.#drops.length; endpoint++) {
      const drops = this.#drops[endpoint]!
      const count = this.stats[statsAt(endpoint) + STAT.droppedByKernel]!
      if (count > drops.count) this.#rose(drops, this.texts[endpoint]!, count, nowMs)
      else if (drops.state === 'dropping' && nowMs - drops.roseAt >= CALM_MS) this.#over(drops, this.texts[endpoint]!, nowMs)
    }
  }

  end(nowMs: number): void {
    this.look(nowMs)
    for (const [i, drops] of this.#drops.entries()) if (drops.state === 'dropping') this.#over(drops, this.texts[i]!, nowMs)
  }

  #rose(drops: Drops, endpoint: string, count: number, nowMs: number): void {
    if (drops.state === 'calm') {
      drops.state = 'dropping'
      drops.from = drops.count
      drops.beganAt = nowMs
      const message = `${endpoint}: the socket buffer is full, and the kernel drops what comes`
      const [before, after] = [{ droppedByKernel: drops.from }, { droppedByKernel: count }]
      this.news.tell('drops', nowMs, () => ({ message, endpoint, before, after }))
    }
    drops.count = count
    drops.roseAt = nowMs
  }

  #over(drops: Drops, endpoint: string, nowMs: number): void {
    drops.state = 'calm'
    const { from, count, beganAt, roseAt } = drops
    const seconds = ((roseAt - beganAt) / 1000).toFixed(1)
    const message = `${endpoint}: the kernel drops nothing any more; ${count - from} were dropped within ${seconds} s`
    const [before, after] = [{ droppedByKernel: from }, { droppedByKernel: count }]
    this.news.tell('drops', nowMs, () => ({ message, endpoint, before, after }))
  }
}
