/**
 * Credits: a receiver tells a sender how much it has taken, so that the sender can keep what is under way below the receiver's socket
 * buffer. Made for sender and receiver on one machine with an ordinary user's 208 KiB buffers (the demo); not part of SPEAD.
 *
 * Both datagrams are 32 bytes, big-endian, and start with 'SPCR', which no SPEAD packet does:
 * 0 u32 magic · 4 u16 version 1 · 6 u16 kind · 8 u64 UDP payload bytes · 16 u64 complete data heaps · 24 u64 socket buffer bytes.
 * A sender's HELLO (kind 0, the rest zero) goes to the receiver's data port from a socket of its own, since the stream's belongs to
 * the I/O thread; every HELLO is answered, and its source gets CREDIT datagrams (kind 1, totals since the receiver started) from then on.
 */
import { createSocket, type Socket } from 'node:dgram'
import { SpeadcastError } from '../errors.js'
import { parseEndpoints, resolveEndpoints } from '../net/endpoint.js'

export const CREDIT_MAGIC = 0x53504352
export const CREDIT_BYTES = 32
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

export function encodeCredit(credit: Credit): Uint8Array {
  const bytes = new Uint8Array(CREDIT_BYTES)
  const view = new DataView(bytes.buffer)
  putHead(view, CREDIT)
  putNumber(view, 8, credit.udpBytes)
  putNumber(view, 16, credit.heaps)
  putNumber(view, 24, credit.receiveBufferBytes)
  return bytes
}

/** undefined for anything that is not a credit. */
export function decodeCredit(bytes: Uint8Array): Credit | undefined {
  if (bytes.length !== CREDIT_BYTES) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0) !== CREDIT_MAGIC || view.getUint16(4) !== VERSION || view.getUint16(6) !== CREDIT) return undefined
  const number = (at: number) => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)
  return { udpBytes: number(8), heaps: number(16), receiveBufferBytes: number(24) }
}

const MAX_SUBSCRIBERS = 16

/** The receiver's side: who wants credits, and whether it is time for some. `send` is the driver's. */
export class CreditLedger {
  readonly #subscribers = new Map<string, () => void>()
  readonly #stepBytes: number
  #credit: Uint8Array = encodeCredit({ udpBytes: 0, heaps: 0, receiveBufferBytes: 0 })
  #announcedBytes = 0

  constructor(private readonly receiveBufferBytes: number) {
    this.#stepBytes = Math.max(4096, receiveBufferBytes / 16)
  }

  /** A HELLO came; `send` sends the datagram it is given to where that came from. Answers at once. */
  hello(from: string, send: (credit: Uint8Array) => void, udpBytes: number, heaps: number): void {
    if (!this.#subscribers.has(from) && this.#subscribers.size >= MAX_SUBSCRIBERS) return
    this.#subscribers.set(from, () => send(this.#credit))
    this.#credit = encodeCredit({ udpBytes, heaps, receiveBufferBytes: this.receiveBufferBytes })
    send(this.#credit)
  }

  /** After each run of datagrams: announces when a sixteenth of the buffer, or before a sleep anything, was taken since the last time. */
  announce(udpBytes: number, heaps: number, beforeSleep: boolean): void {
    if (this.#subscribers.size === 0) return
    const taken = udpBytes - this.#announcedBytes
    if (taken === 0 || (taken < this.#stepBytes && !beforeSleep)) return
    this.#announcedBytes = udpBytes
    this.#credit = encodeCredit({ udpBytes, heaps, receiveBufferBytes: this.receiveBufferBytes })
    for (const send of this.#subscribers.values()) send()
  }
}

export interface CreditGateOptions {
  /** The receiver's data endpoint, HOST:PORT, unicast. It must run with credits on. */
  readonly to: string
  /**
   * UDP payload bytes that may be under way. Default: half the receiver's socket buffer, which leaves room for the kernel's own
   * bookkeeping with packets of 256 bytes and more.
   */
  readonly windowBytes?: number
  /** How long open() waits for the receiver. Default 5. */
  readonly timeoutSeconds?: number
}

const HELLO_EVERY_MS = 50
/** HELLOs answered without progress after which the bytes still out are taken for lost. */
const ANSWERS_WITHOUT_PROGRESS = 3

/**
 * The sender's side. `await gate.ready(bytes)` before every send; it resolves when `bytes` more fit into the window, and counts them as
 * under way. Lost packets never earn credit: after 150 ms of answered silence what is out is written off (`lostBytes`).
 */
export class CreditGate {
  /** Bytes written off because no credit came for them. */
  lostBytes = 0
  /** How often ready() had to wait. */
  waits = 0
  readonly windowBytes: number
  readonly #socket: Socket
  readonly #timer: NodeJS.Timeout
  #base: number
  #credited: number
  #sent = 0
  #silentAnswers = 0
  #closed = false
  #wake: (() => void) | undefined
  #turn: Promise<void> = Promise.resolve()

  private constructor(socket: Socket, first: Credit, windowBytes: number | undefined) {
    this.#socket = socket
    this.#base = first.udpBytes
    this.#credited = first.udpBytes
    this.windowBytes = windowBytes ?? Math.max(4096, Math.floor(first.receiveBufferBytes / 2))
    socket.on('message', (bytes) => this.#onCredit(bytes))
    this.#timer = setInterval(() => {
      if (this.bytesInFlight > 0) socket.send(encodeHello(), () => undefined)
    }, HELLO_EVERY_MS)
    // The process stays alive for a ready() that waits, not for the gate.
    this.#timer.unref()
    socket.unref()
  }

  /** Finds the receiver. @throws SpeadcastError ERR_SPEADCAST_UNREACHABLE when it does not answer, ERR_SPEADCAST_ENDPOINT. */
  static async open(options: CreditGateOptions): Promise<CreditGate> {
    const [endpoint] = await resolveEndpoints(parseEndpoints([options.to]))
    if (!endpoint || endpoint.multicast)
      throw new SpeadcastError(
        'ERR_SPEADCAST_ENDPOINT',
        `credits need one unicast receiver, and ${options.to} is a multicast group`,
      )
    const socket = createSocket(endpoint.family === 6 ? 'udp6' : 'udp4')
    socket.on('error', () => undefined) // ECONNREFUSED: the receiver is not there (yet, or any more)
    await new Promise<void>((resolve) => socket.connect(endpoint.port, endpoint.address, () => resolve()))
    const first = await firstCredit(socket, (options.timeoutSeconds ?? 5) * 1000)
    if (first) return new CreditGate(socket, first, options.windowBytes)
    socket.close()
    throw new SpeadcastError(
      'ERR_SPEADCAST_UNREACHABLE',
      `no credit from ${endpoint.text} in ${options.timeoutSeconds ?? 5} s; is a receiver with credits on (speadcast recv --credits) listening there?`,
    )
  }

  /** UDP payload bytes sent, not yet credited and not written off. */
  get bytesInFlight(): number {
    return Math.max(0, this.#base + this.#sent - this.lostBytes - this.#credited)
  }

  /** Waits until `bytes` fit, in the order of the calls. More than a whole window goes when nothing else is under way. */
  ready(bytes: number): Promise<void> {
    const turn = this.#turn.then(() => this.#admit(bytes))
    this.#turn = turn
    return turn
  }

  async #admit(bytes: number): Promise<void> {
    if (!this.#fits(bytes) && !this.#closed) {
      this.waits++
      this.#timer.ref()
      do {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      } while (!this.#fits(bytes) && !this.#closed)
      this.#timer.unref()
    }
    this.#sent += bytes
  }

  #fits(bytes: number): boolean {
    const out = this.bytesInFlight
    return out === 0 || out + bytes <= this.windowBytes
  }

  #onCredit(bytes: Uint8Array): void {
    const credit = decodeCredit(bytes)
    if (!credit) return
    if (credit.udpBytes > this.#credited) {
      this.#credited = credit.udpBytes
      this.#silentAnswers = 0
      // What was written off came after all.
      this.lostBytes = Math.min(this.lostBytes, Math.max(0, this.#base + this.#sent - credit.udpBytes))
    } else if (++this.#silentAnswers >= ANSWERS_WITHOUT_PROGRESS) {
      this.lostBytes += this.bytesInFlight
      this.#silentAnswers = 0
    }
    this.#wake?.()
  }

  /** Lets waiting calls through and ends the credits. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.#socket.close()
    this.#wake?.()
  }
}

function firstCredit(socket: Socket, timeoutMs: number): Promise<Credit | undefined> {
  return new Promise((resolve) => {
    const hello = () => socket.send(encodeHello(), () => undefined)
    const every = setInterval(hello, HELLO_EVERY_MS)
    const end = setTimeout(() => done(undefined), timeoutMs)
    const onMessage = (bytes: Uint8Array) => {
      const credit = decodeCredit(bytes)
      if (credit) done(credit)
    }
    const done = (credit: Credit | undefined) => {
      clearInterval(every)
      clearTimeout(end)
      socket.off('message', onMessage)
      resolve(credit)
    }
    socket.on('message', onMessage)
    hello()
  })
}
