import type { Step } from './step.js'

/** The burst length that `send` has by default. */
export const DEFAULT_BURST_BYTES = 65536
/** If packets are lost below this share of the highest rate that came through, bursts are too long, and the rate is not the reason. */
const TOO_LONG = 0.9
const SHORTER = 4

/** The length of bursts, which becomes shorter where a queue on the way has no room for them. */
export class Bursts {
  readonly #fixed: boolean
  readonly #leastBytes: number
  #bytes: number
  /** The highest rate that came through. */
  #most = 0

  /** @param given by the user, who knows what is sent later */
  constructor(given: number | undefined, packetSizeBytes: number) {
    this.#fixed = given !== undefined
    this.#bytes = given ?? DEFAULT_BURST_BYTES
    this.#leastBytes = packetSizeBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Returns the rate to begin again at, with shorter bursts; undefined where those of this step were no trouble. */
  note({ rateAsked, rateReceived, cause, packetsLost }: Step): number | undefined {
    this.#most = Math.max(this.#most, rateReceived)
    const below = rateAsked > 0 && rateAsked < this.#most * TOO_LONG
    const lost = packetsLost > 0 && (cause === 'way' || cause === 'sender-interface')
    if (!below || !lost || this.#fixed || this.#bytes <= this.#leastBytes) return undefined
    this.#bytes = Math.max(this.#leastBytes, Math.floor(this.#bytes / SHORTER))
    return this.#most
  }
}
