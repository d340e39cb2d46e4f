/** The sender's side of credits (credits.ts): lets as much out as the receiver has room for. No part of the package's entry: the demo's. */
import { createSocket, type Socket } from 'node:dgram'
import { SpeadcastError } from '../errors.js'
import { parseEndpoints, resolveEndpoints } from '../net/endpoint.js'
import { type Credit, decodeCredit, encodeHello } from './credits.js'

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
/** After this number of HELLOs answered without progress, the bytes still out count as lost. */
const ANSWERS_WITHOUT_PROGRESS = 3

/**
 * `await gate.ready(bytes)` before every send: it resolves when `bytes` more fit into the window, and counts them as under way. Lost
 * packets never earn credit, so the gate writes off what is out after 150 ms in which the receiver answered and no credit came
 * (`lostBytes`).
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

  /** Finds the receiver. @throws ERR_SPEADCAST_UNREACHABLE when it does not answer, ERR_SPEADCAST_ENDPOINT */
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

  /** Waits until `bytes` fit, in the order of the calls. More bytes than the window go when nothing else is under way. */
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
      // Some of the bytes written off came after all.
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
