/**
 * A stream keeps a lane per batch or prepared heap list: the ids of its variants, which are the forms it was compiled to, and the
 * one Send that is used over and over, because at most one of them is in flight.
 */
import { ChosenHeaps } from '../batch/chosen.js'
import type { Sendable } from '../batch/sendable.js'
import type { Driver } from '../engine/driver.js'
import { ensure, warn } from '../errors.js'
import { Send } from './send.js'
import type { Telling } from './telling.js'

/**
 * A lane keeps this many variants compiled. Sending the first n heaps needs a variant of its own unless their rows begin the
 * whole's.
 */
const MAX_VARIANTS = 8

export class Lane {
  readonly variants = new Map<string, number>()
  send: Send
  /** Debug mode: the checksum at send. */
  checksum = 0
  /** The descriptors that the send under way carries. */
  telling: Telling | undefined
  #chosen: ChosenHeaps | undefined

  constructor(
    readonly sendable: Sendable,
    readonly onFree: (lane: Lane) => void,
  ) {
    this.send = this.#newSend()
  }

  /** The heaps that the mask names, of those from `first` on. The same object for the same choice as last time. */
  choose(mask: Uint8Array, first: number, heaps: number): ChosenHeaps {
    if (!this.#chosen?.isOf(mask, first, heaps)) {
      const chosen: number[] = []
      for (let j = first; j < first + heaps; j++) if (mask[j] !== 0) chosen.push(j)
      this.#chosen = new ChosenHeaps(Uint32Array.from(chosen), this.sendable.heaps)
    }
    return this.#chosen
  }

  #newSend(): Send {
    return new Send(() => this.onFree(this))
  }

  /** A withdrawn Send stays in the ring until the engine passes it; the next one gets another. */
  renew(): void {
    this.send = this.#newSend()
  }
}

export class Lanes {
  #nextVariant = 1
  constructor(readonly driver: Driver) {}

  /** Sets the Send's variant and rows, and compiles the variant if it is new. Allocates nothing for a whole batch sent before. */
  aim(
    { sendable, variants, send }: Lane,
    heaps: number,
    inBand: ReadonlySet<number> | undefined,
    first: number,
    chosen?: ChosenHeaps,
  ): void {
    const { key, rows, compile } = sendable.compilation(heaps, inBand, first, chosen)
    let id = variants.get(key)
    if (id === undefined) {
      if (variants.size >= MAX_VARIANTS) {
        const [oldest, oldId] = [...variants].find(([name]) => name !== 'all')!
        variants.delete(oldest)
        this.driver.dropVariant(oldId)
      }
      id = this.#nextVariant++
      const { rates } = sendable
      const own = rates && (chosen ? chosen.pick(rates) : first > 0 ? rates.slice(first, first + heaps) : rates)
      this.driver.addVariant(id, compile(), own)
      variants.set(key, id)
    }
    send.variant = id
    send.rows = rows
    send.chosen = chosen
  }

  drop(lane: Lane): void {
    for (const id of lane.variants.values()) this.driver.dropVariant(id)
    lane.variants.clear()
  }
}

/** Notes what the engine and the queue must know of the first `send.heaps` heaps. */
export function measure(send: Send, sendable: Sendable): void {
  send.explicitCnts = sendable.explicitCnts
  send.measured = sendable
  send.payloadBytes = sendable.payloadBytes(send.heaps)
  send.queuedBytes = sendable.queuedBytes(send.heaps)
}

/** A batch as debug mode looks at it. */
interface Summed {
  checksum(): number
  readonly shortened: boolean
}

/** @throws ERR_SPEADCAST_MEMORY where reading the batch would end the process */
export function checksumOf(batch: Summed): number {
  ensure(
    !batch.shortened,
    'ERR_SPEADCAST_MEMORY',
    () =>
      'send: the file behind Region.fromFd is shorter than the region, so reading it would end the process; give it its size again',
  )
  return batch.checksum()
}

/** Debug mode: warns where what was sent is not what was there at send. */
export function reportIfOverwritten(batch: Summed, checksum: number): void {
  if (batch.shortened || batch.checksum() === checksum) return
  warn(
    'SPEADCAST_OVERWRITE',
    'a batch was written while it was in flight: what was sent is a mixture; await batch.free before writing',
  )
}
