/**
 * Credits tell a sender how much the receiver has taken, so that the sender can keep what is under way below the receiver's socket buffer.
 * They are for a sender and a receiver on one machine with an ordinary user's 208 KiB buffers (`speadcast demo`), and no part of SPEAD.
 * Here are the datagrams and the receiver's side; the sender's is credit-gate.ts.
 *
 * Both datagrams are 32 bytes, big-endian, and start with 'SPCR', which no SPEAD packet does:
 * 0 u32 magic · 4 u16 version 1 · 6 u16 kind · 8 u64 UDP payload bytes · 16 u64 complete data heaps · 24 u64 socket buffer bytes.
 * A sender's HELLO (kind 0, the rest zero) goes to the receiver's data port from a socket of its own, because the stream's belongs to
 * the I/O thread. Every HELLO is answered, and its source gets CREDIT datagrams (kind 1, totals since the receiver started) for
 * five seconds from then on. 16 sources have such a slot at a time.
 */
import { STAT } from './session.js'

const CREDIT_MAGIC = 0x53504352
const CREDIT_BYTES = 32
const VERSION = 1
const HELLO = 0
const CREDIT = 1

export interface Credit {
  readonly udpBytes: number
  readonly heaps: number
  readonly receiveBufferBytes: number
}

function putHead(view: DataView, kind: number): void {
  view.setUint32(0, CREDIT_MAGIC)
  view.setUint16(4, VERSION)
  view.setUint16(6, kind)
}

function putNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32))
  view.setUint32(at + 4, value >>> 0)
}

export function encodeHello(): Uint8Array {
  const bytes = new Uint8Array(CREDIT_BYTES)
  putHead(new DataView(bytes.buffer), HELLO)
  return bytes
}

export function isHello(view: DataView, at: number, length: number): boolean {
  return (
    length === CREDIT_BYTES &&
    view.getUint32(at) === CREDIT_MAGIC &&
    view.getUint16(at + 4) === VERSION &&
    view.getUint16(at + 6) === HELLO
  )
}

function encodeCredit(credit: Credit): Uint8Array {
  const bytes = new Uint8Array(CREDIT_BYTES)
  const view = new DataView(bytes.buffer)
  putHead(view, CREDIT)
  putNumber(view, 8, credit.udpBytes)
  putNumber(view, 16, credit.heaps)
  putNumber(view, 24, credit.receiveBufferBytes)
  return bytes
}

/** Returns undefined for anything that is not a credit. */
export function decodeCredit(bytes: Uint8Array): Credit | undefined {
  if (bytes.length !== CREDIT_BYTES) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0) !== CREDIT_MAGIC || view.getUint16(4) !== VERSION || view.getUint16(6) !== CREDIT) return undefined
  const number = (at: number) => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)
  return { udpBytes: number(8), heaps: number(16), receiveBufferBytes: number(24) }
}

const MAX_SUBSCRIBERS = 16
/** A sender with bytes under way says HELLO every 50 ms (credit-gate.ts), so one that has not for longer has gone or is idle. */
const EXPIRES_MS = 5000

interface Subscriber {
  readonly send: () => void
  helloAt: number
}

/** The receiver's side: which senders want credits, and whether it is time for some. */
export class CreditLedger {
  readonly #subscribers = new Map<string, Subscriber>()
  readonly #stepBytes: number
  #credit: Uint8Array = encodeCredit({ udpBytes: 0, heaps: 0, receiveBufferBytes: 0 })
  #announcedBytes = 0

  constructor(private readonly receiveBufferBytes: number) {
    this.#stepBytes = Math.max(4096, receiveBufferBytes / 16)
  }

  /**
   * Takes a HELLO and answers at once, also where all slots are taken: that sender gets credits for its HELLOs alone. `send` sends
   * a datagram to the HELLO's source; `stats` are the session's counters.
   */
  hello(from: string, send: (credit: Uint8Array) => void, stats: Float64Array, nowMs: number): void {
    const known = this.#subscribers.get(from)
    if (known) known.helloAt = nowMs
    else {
      for (const [key, { helloAt }] of this.#subscribers) if (nowMs - helloAt >= EXPIRES_MS) this.#subscribers.delete(key)
      if (this.#subscribers.size < MAX_SUBSCRIBERS) this.#subscribers.set(from, { send: () => send(this.#credit), helloAt: nowMs })
    }
    this.#update(stats)
    send(this.#credit)
  }

  /**
   * Call it after each run of datagrams. Sends credits when a sixteenth of the buffer was taken since the last ones; before a sleep, when
   * anything was.
   */
  announce(stats: Float64Array, beforeSleep: boolean, nowMs: number): void {
    if (this.#subscribers.size === 0) return
    const udpBytes = stats[STAT.bytes]!
    const taken = udpBytes - this.#announcedBytes
    if (taken === 0 || (taken < this.#stepBytes && !beforeSleep)) return
    this.#announcedBytes = udpBytes
    this.#update(stats)
    for (const [key, { send, helloAt }] of this.#subscribers) {
      if (nowMs - helloAt >= EXPIRES_MS) this.#subscribers.delete(key)
      else send()
    }
  }

  #update(stats: Float64Array): void {
    this.#credit = encodeCredit({
      udpBytes: stats[STAT.bytes]!,
      heaps: stats[STAT.heaps]!,
      receiveBufferBytes: this.receiveBufferBytes,
    })
  }
}
