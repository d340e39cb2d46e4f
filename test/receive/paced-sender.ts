/** Sends datagrams from any number of sockets to a port of this host, never more at a time than the receiver's socket holds. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** A socket of node:dgram has room for 208 KiB. */
const AT_MOST_BYTES = 32 << 10
/** The kernel charges a datagram for the memory that it lies in. */
const OVERHEAD_BYTES = 2304

/**
 * The bytes that wait in the socket bound to this port, and the datagrams that found it full (proc_net_udp, rx_queue and drops).
 */
function backlog(port: number): { bytes: number; drops: number } {
  const at = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const line = readFileSync('/proc/net/udp', 'utf8')
    .split('\n')
    .map((text) => text.trim().split(/\s+/))
    .find(([, local]) => local?.endsWith(at))
  if (!line) return { bytes: 0, drops: 0 }
  return { bytes: Number.parseInt(line[4]!.split(':')[1]!, 16), drops: Number(line.at(-1)) }
}

export class PacedSender implements AsyncDisposable {
  readonly #port: number
  readonly #sockets: Socket[] = []
  #burst: Promise<void>[] = []
  #bytes = 0

  constructor(port: number) {
    this.#port = port
  }

  /** Sends from the socket of this number. */
  async send(number: number, bytes: Uint8Array): Promise<void> {
    let socket = this.#sockets[number]
    if (!socket) {
      const fresh = createSocket('udp4')
      fresh.connect(this.#port, '127.0.0.1')
      await once(fresh, 'connect')
      this.#sockets[number] = fresh
      socket = fresh
    }
    const target = socket
    this.#burst.push(new Promise((resolve, reject) => target.send(bytes, (error) => (error ? reject(error) : resolve()))))
    this.#bytes += bytes.length + OVERHEAD_BYTES
    if (this.#bytes < AT_MOST_BYTES) return
    await this.sent()
    while (backlog(this.#port).bytes > AT_MOST_BYTES) await sleep(1)
  }

  /** Waits until the receiver has taken all. Returns how many datagrams found its socket full. */
  async drained(): Promise<number> {
    await this.sent()
    while (backlog(this.#port).bytes > 0) await sleep(5)
    return backlog(this.#port).drops
  }

  /** Waits until the kernel has all that was sent so far. */
  async sent(): Promise<void> {
    const burst = this.#burst
    this.#burst = []
    this.#bytes = 0
    await Promise.all(burst)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sent()
    for (const socket of this.#sockets) socket?.close()
  }
}
