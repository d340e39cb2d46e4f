/** Takes datagrams from bound sockets by recvmmsg(2). The main thread closes the sockets. */

import { SOCKADDR_IN, SOCKADDR_IN6 } from '../../ffi/layout.js'
import type { RegionHandle } from '../../ffi/memory/region.js'
import { Scratch } from '../../ffi/memory/scratch.js'
import { ARENA_BYTES, ARENA_MESSAGE_BYTES, droppedBySocket, ReceiveArena } from '../../ffi/socket/recvmmsg.js'
import { formatAddress } from '../net/address.js'
import { CreditLedger, isHello } from './credits.js'
import type { ReceiveSession } from './session.js'
import type { PacketSource } from './source.js'

export interface UdpSourceInput {
  readonly kind: 'udp'
  readonly fds: readonly number[]
  /** Socket buffer bytes to state in credits; 0: send no credits. */
  readonly creditBufferBytes: number
}

export class UdpSource implements PacketSource {
  readonly buffer: ArrayBuffer
  readonly freeAt = ARENA_BYTES
  readonly endpoints: number
  readonly fds: readonly number[]
  readonly #arena: ReceiveArena
  readonly #view: DataView
  readonly #credits: CreditLedger | undefined
  readonly #scratch = new Scratch(64)
  readonly #stats: Float64Array

  constructor({ fds, creditBufferBytes }: UdpSourceInput, memory: RegionHandle, stats: Float64Array) {
    this.#arena = new ReceiveArena(memory)
    this.buffer = this.#arena.buffer
    this.#view = new DataView(this.buffer)
    this.#credits = creditBufferBytes > 0 ? new CreditLedger(creditBufferBytes) : undefined
    this.#stats = stats
    this.fds = fds
    this.endpoints = fds.length
  }

  /** Calls recvmmsg once and returns the number of messages. @param endpoint below `endpoints`, so there is a descriptor */
  take(endpoint: number, session: ReceiveSession): number {
    const arena = this.#arena
    const fd = this.fds[endpoint]!
    const n = arena.receive(fd)
    // The arena's arrays have an entry for each of the n messages.
    for (let i = 0; i < n; i++) {
      const base = i * ARENA_MESSAGE_BYTES
      const length = arena.length[i]!
      if (arena.truncated[i]) {
        session.truncated(endpoint)
        continue
      }
      if (this.#credits && isHello(this.#view, base, length)) {
        const to = arena.senderAddress(i)
        const reply = (credit: Uint8Array) => arena.reply(fd, credit, to)
        this.#credits.hello(`${fd} ${to.join()}`, reply, this.#stats, performance.now())
        continue
      }
      session.message(endpoint)
      // Else an empty datagram would be no packet, and so count nowhere.
      if (length === 0) session.packet(base, 0, arena.sender[i]!, endpoint)
      const segment = arena.segmentBytes[i]!
      const sender = arena.sender[i]!
      for (let at = 0; at < length; at += segment) session.packet(base + at, Math.min(segment, length - at), sender, endpoint)
    }
    return n
  }

  nameOf(sender: number): string | null {
    const sockaddr = this.#arena.addressOf(sender)
    if (!sockaddr) return null
    const v4 = sockaddr.length === SOCKADDR_IN.size
    const bytes = v4
      ? sockaddr.subarray(SOCKADDR_IN.addr, SOCKADDR_IN.addr + 4)
      : sockaddr.subarray(SOCKADDR_IN6.addr, SOCKADDR_IN6.addr + 16)
    const port = new DataView(sockaddr.buffer).getUint16(SOCKADDR_IN.port)
    return v4 ? `${formatAddress(bytes)}:${port}` : `[${formatAddress(bytes)}]:${port}`
  }

  announce(quiet: boolean): void {
    this.#credits?.announce(this.#stats, quiet, performance.now())
  }

  dropped(endpoint: number): number {
    return droppedBySocket(this.fds[endpoint]!, this.#scratch)
  }

  close(): void {}
}
