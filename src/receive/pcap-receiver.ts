/**
 * Receives what a capture holds: the frames of a pcap file take the place of sockets, and their time stamps that of the clock. So heaps end,
 * runs begin and seconds pass as they did when it was captured. Runs on the event loop, a MiB of the file at a time, on every platform.
 */
import { fstatSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { SenderTable } from '../../ffi/socket/sender-table.js'
import { ensure } from '../errors.js'
import { formatAddress } from '../net/address.js'
import { packetBytes } from './framing.js'
import { findEndpoints, PcapDestinations, type PcapEndpoint } from './pcap-endpoints.js'
import { PCAP_BUFFER_BYTES, PcapFile } from './pcap-file.js'
import { addressIn, CUT_DATAGRAM, DATAGRAM, FRAGMENT, Frame } from './pcap-frame.js'
import { plainMemory } from './plain-memory.js'
import type { DriverEvents, DriverOptions, ReceiveDriver } from './receive-driver.js'
import { heldBytes } from './received-heap.js'
import { type EndReason, ReceiveSession, STAT } from './session.js'
import { setDropped, statWords } from './stats.js'

/** Time between frames in which a receiver would have found its socket empty. */
const QUIET_MS = 10
/** Time after the last frame in which whatever waits for silence comes to its end. */
const AFTER_MS = 2000
/** Frames between looks whether a heap ended all, or the consumer wants its turn. */
const TURN_FRAMES = 4096

/** @throws (rejects) ERR_SPEADCAST_INPUT, ERR_SPEADCAST_CONFIG */
export async function openPcap(path: string, given: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const buffer = plainMemory(PCAP_BUFFER_BYTES + given.memoryBytes)
  const file = await PcapFile.open(path, buffer)
  try {
    const { outputFd, outputPath } = given.session
    const output = outputFd === undefined ? undefined : fstatSync(outputFd, { bigint: true })
    const taken = output !== undefined && `${output.dev} ${output.ino}` === (await file.identity())
    ensure(!taken, 'ERR_SPEADCAST_CONFIG', () => `output ${outputPath} is the capture itself; name another file`)
    const endpoints = given.endpoints.length > 0 ? given.endpoints : await findEndpoints(file, buffer)
    const options = { ...given, session: { ...given.session, endpoints: Math.max(1, endpoints.length) } }
    const reader = new PcapReader(file, buffer, endpoints, options, events)
    events.onBound()
    void reader.run()
    return reader.driver
  } catch (error) {
    await file.close()
    throw error
  }
}

class PcapReader {
  readonly driver: ReceiveDriver
  readonly #file: PcapFile
  readonly #view: DataView
  readonly #frame: Frame
  readonly #destinations: PcapDestinations
  readonly #sources = new SenderTable()
  readonly #words = new Uint32Array(7)
  readonly #stats: Float64Array
  readonly #session: ReceiveSession
  readonly #options: DriverOptions
  readonly #events: DriverEvents
  #now = 0
  #stopped: EndReason | undefined
  #waitingHeaps = 0
  #waitingBytes = 0
  #onRoom: (() => void) | undefined

  constructor(
    file: PcapFile,
    buffer: ArrayBuffer,
    endpoints: readonly PcapEndpoint[],
    options: DriverOptions,
    events: DriverEvents,
  ) {
    this.#file = file
    this.#options = options
    this.#events = events
    this.#view = new DataView(buffer)
    this.#frame = new Frame(this.#view, file.linkType)
    this.#destinations = new PcapDestinations(endpoints)
    const { endpoints: counted } = options.session
    this.#stats = new Float64Array(statWords(counted))
    setDropped(this.#stats, counted, () => Number.NaN)
    // The time limit is of this program's time, not of the capture's.
    const session = { ...options.session, timeoutMs: Number.POSITIVE_INFINITY }
    this.#session = new ReceiveSession(buffer, PCAP_BUFFER_BYTES, session, this.#stats, (sender) => this.#nameOf(sender))
    this.driver = {
      backend: 'pcap',
      endpoints: endpoints.map(({ text }) => text),
      gro: false,
      receiveBufferBytes: 0,
      stats: this.#stats,
      stop: () => this.#stop('closed'),
      taken: (heap) => {
        this.#waitingHeaps--
        this.#waitingBytes -= heldBytes(heap)
        if (!this.#full) this.#onRoom?.()
      },
    }
  }

  async run(): Promise<void> {
    const { timeoutMs } = this.#options.session
    const timer = Number.isFinite(timeoutMs) ? setTimeout(() => this.#stop('timeout'), Math.min(timeoutMs, 2 ** 31 - 1)) : undefined
    try {
      const reason = await this.#readAll()
      const summary = this.#session.finish(reason)
      this.#deliver()
      await this.#file.close()
      this.#events.onEnd({ ...summary, inputError: this.#file.damage })
    } catch (error) {
      await this.#file.close().catch(() => undefined)
      this.#events.onError(error)
    } finally {
      clearTimeout(timer)
    }
  }

  async #readAll(): Promise<EndReason> {
    const file = this.#file
    const session = this.#session
    // The caller gets the receiver before the first heap is read.
    await setImmediate()
    let first = true
    for (;;) {
      for (let frames = 0; file.next(); ) {
        if (first) {
          this.#now = file.timeMs
          session.start(this.#now)
          first = false
        }
        this.#take()
        const reason = this.#stopped ?? session.ended(this.#now, false)
        if (reason !== undefined) return reason
        if (this.#full) await this.#room()
        else if (++frames % TURN_FRAMES === 0) await setImmediate()
      }
      if (this.#stopped) return this.#stopped
      if (!(await file.more())) break
    }
    this.#now += AFTER_MS
    return this.#stopped ?? session.ended(this.#now, true) ?? 'end'
  }

  /** Takes the frame that the file has found. */
  #take(): void {
    const file = this.#file
    const frame = this.#frame
    const stats = this.#stats
    const session = this.#session
    const found = frame.read(file.frameAt, file.capturedBytes, file.originalBytes)
    if (found === FRAGMENT) stats[STAT.fragmentsIgnored]!++
    const endpoint = found === DATAGRAM || found === CUT_DATAGRAM ? this.#destinations.of(frame) : -1
    if (endpoint < 0) {
      stats[STAT.framesIgnored]!++
      return
    }
    // Captures of several interfaces are not in order, and a receiver's clock never goes back.
    const now = Math.max(this.#now, file.timeMs)
    if (now - this.#now >= QUIET_MS) session.ended(this.#now, true)
    this.#now = now
    session.look(now)
    session.arrived(now)
    session.message(endpoint)
    if (found === DATAGRAM) {
      frame.put(this.#words, 'source')
      this.#packets(this.#sources.of(this.#words, 0), endpoint)
    } else session.truncated(endpoint)
    if (session.outbox.length > 0) this.#deliver()
  }

  /** A frame that was captured before its segmentation, or after being coalesced, holds several packets one behind the other. */
  #packets(sender: number, endpoint: number): void {
    const view = this.#view
    const session = this.#session
    const end = this.#frame.payloadAt + this.#frame.payloadBytes
    let at = this.#frame.payloadAt
    do {
      const bytes = packetBytes(view, at, end - at)
      const next = at + bytes
      const another = bytes > 0 && next + 8 <= end && view.getUint32(next) === view.getUint32(at)
      session.packet(at, (another ? next : end) - at, sender, endpoint)
      at = another ? next : end
    } while (at < end)
  }

  #deliver(): void {
    for (const heap of this.#session.outbox.splice(0)) {
      this.#waitingHeaps++
      this.#waitingBytes += heldBytes(heap)
      this.#events.onHeap(heap)
    }
  }

  get #full(): boolean {
    return this.#waitingHeaps >= this.#options.queueHeaps || this.#waitingBytes >= this.#options.queueBytes
  }

  /** Waits for the consumer, or for the end. */
  async #room(): Promise<void> {
    if (this.#stopped === undefined && this.#full)
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve
      })
    this.#onRoom = undefined
  }

  #stop(reason: EndReason): void {
    this.#stopped ??= reason
    this.#onRoom?.()
  }

  #nameOf(sender: number): string | null {
    const words = this.#sources.wordsOf(sender)
    if (!words) return null
    const { bytes, port } = addressIn(words)
    return bytes.length === 4 ? `${formatAddress(bytes)}:${port}` : `[${formatAddress(bytes)}]:${port}`
  }
}
