/**
 * Numbers for the socket addresses that datagrams come from. Anybody may send from any port, so their count is bounded; for another
 * the one goes that was silent for long. A number is given once.
 */
import { AF_INET } from '../layout.js'

const SENDERS = 1024
const BUCKETS = 2 * SENDERS
/** A sockaddr_in6, the longest. */
const WORDS = 7

export class SenderTable {
  readonly #words = new Uint32Array(SENDERS * WORDS)
  /** −1: the place is free. */
  readonly #id = new Int32Array(SENDERS).fill(-1)
  readonly #bucket = new Int32Array(SENDERS)
  /** The next place of the same bucket, −1 none. */
  readonly #next = new Int32Array(SENDERS)
  readonly #heads = new Int32Array(BUCKETS).fill(-1)
  /** Heard a second time, or again since it was passed over. */
  readonly #recent = new Uint8Array(SENDERS)
  #hand = 0
  #last = 0
  #nextId = 0

  /**
   * Returns the number of the sender whose sockaddr is at word `at`. The same as the last in the usual case: two or six compares.
   */
  of(u32: Uint32Array, at: number): number {
    const last = this.#last
    if (this.#id[last]! >= 0 && this.#is(last, u32, at)) {
      this.#recent[last] = 1
      return this.#id[last]!
    }
    const bucket = bucketOf(u32, at)
    for (let place = this.#heads[bucket]!; place >= 0; place = this.#next[place]!) {
      if (!this.#is(place, u32, at)) continue
      this.#recent[place] = 1
      this.#last = place
      return this.#id[place]!
    }
    return this.#add(bucket, u32, at)
  }

  /** Returns the words of a sender's sockaddr, undefined where it has been forgotten. Cold. */
  wordsOf(id: number): Uint32Array<ArrayBuffer> | undefined {
    const place = this.#id.indexOf(id)
    return place < 0 ? undefined : this.#words.slice(place * WORDS, (place + 1) * WORDS)
  }

  #add(bucket: number, u32: Uint32Array, at: number): number {
    // At most one turn: each that it passes over is not recent the next time.
    while (this.#recent[this.#hand] === 1) {
      this.#recent[this.#hand] = 0
      this.#hand = (this.#hand + 1) % SENDERS
    }
    const place = this.#hand
    this.#hand = (place + 1) % SENDERS
    if (this.#id[place]! >= 0) this.#unlink(place)
    const id = this.#nextId
    this.#nextId = (id + 1) & 0x7fffffff
    this.#id[place] = id
    this.#bucket[place] = bucket
    this.#next[place] = this.#heads[bucket]!
    this.#heads[bucket] = place
    this.#last = place
    // The words behind a sockaddr_in are in the same memory, and nobody compares them.
    for (let k = 0; k < WORDS; k++) this.#words[place * WORDS + k] = u32[at + k]!
    return id
  }

  #unlink(place: number): void {
    const bucket = this.#bucket[place]!
    if (this.#heads[bucket] === place) this.#heads[bucket] = this.#next[place]!
    else {
      let before = this.#heads[bucket]!
      while (this.#next[before] !== place) before = this.#next[before]!
      this.#next[before] = this.#next[place]!
    }
  }

  #is(place: number, u32: Uint32Array, at: number): boolean {
    const known = this.#words
    const k = place * WORDS
    if (known[k] !== u32[at]) return false
    // sockaddr_in ends behind its second word; sockaddr_in6's second word is a flow label, which may change from packet to packet.
    if ((u32[at]! & 0xffff) === AF_INET) return known[k + 1] === u32[at + 1]
    return (
      known[k + 2] === u32[at + 2] &&
      known[k + 3] === u32[at + 3] &&
      known[k + 4] === u32[at + 4] &&
      known[k + 5] === u32[at + 5] &&
      known[k + 6] === u32[at + 6]
    )
  }
}

function bucketOf(u32: Uint32Array, at: number): number {
  let hash = Math.imul(u32[at]!, 0x9e3779b1)
  if ((u32[at]! & 0xffff) === AF_INET) hash = Math.imul(hash ^ u32[at + 1]!, 0x85ebca6b)
  else for (let k = 2; k < WORDS; k++) hash = Math.imul(hash ^ u32[at + k]!, 0x85ebca6b)
  return ((hash ^ (hash >>> 15)) >>> 0) & (BUCKETS - 1)
}
