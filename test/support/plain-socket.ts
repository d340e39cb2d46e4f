/** A socket as another program would make it, by the C library's calls alone. */
import { expect, onTestFinished } from 'vitest'
import { errno, libc } from '#dist/ffi/libc.js'
import { Scratch } from '#dist/ffi/memory/scratch.js'
import { encodeSocketAddress } from '#dist/ffi/socket/inet-socket.js'

// linux/socket.h, linux/net.h
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2

const LOOPBACK = { 4: Uint8Array.of(127, 0, 0, 1), 6: Uint8Array.of(...new Array(15).fill(0), 1) } as const

export class PlainSocket {
  fd: number
  readonly #scratch = new Scratch(4096)

  constructor(domain: number, type: number, protocol = 0) {
    this.fd = libc().socket(domain, type, protocol)
    expect(this.fd, `socket(): errno ${errno()}`).toBeGreaterThan(0)
    onTestFinished(() => this.close())
  }

  #call(name: 'bind' | 'connect', family: 4 | 6, port: number, address: Uint8Array): void {
    const bytes = encodeSocketAddress({ family, bytes: address, port })
    const result = libc()[name](this.fd, this.#scratch.put(bytes), bytes.length)
    expect(result, `${name}(): errno ${errno()}`).toBe(0)
  }

  bind(family: 4 | 6, port = 0, address: Uint8Array = LOOPBACK[family]): void {
    this.#call('bind', family, port, address)
  }

  connect(family: 4 | 6, port: number): void {
    this.#call('connect', family, port, LOOPBACK[family])
  }

  listen(): void {
    expect(libc().listen(this.fd, 5)).toBe(0)
  }

  /** Waits for a connection, and returns its descriptor, which is closed with the test. */
  accept(): number {
    const fd = libc().accept4(this.fd, 0, 0, 0)
    onTestFinished(() => void libc().close(fd))
    return fd
  }

  setOption(level: number, name: number, value: number): void {
    this.#scratch.i32[0] = value
    expect(libc().setsockopt(this.fd, level, name, this.#scratch.address, 4), `setsockopt(): errno ${errno()}`).toBe(0)
  }

  get port(): number {
    this.#scratch.i32[16] = 28
    libc().getsockname(this.fd, this.#scratch.address, this.#scratch.address + 64)
    return this.#scratch.view.getUint16(2)
  }

  /** The flags of the open file: 0o4000 is O_NONBLOCK (fcntl(2)). */
  get blocks(): boolean {
    return (libc().fcntl(this.fd, 3, 0) & 0o4000) === 0
  }

  close(): void {
    if (this.fd < 0) return
    libc().close(this.fd)
    this.fd = -1
    this.#scratch.region.release()
  }
}

// asm-generic/socket.h, linux/in.h, linux/in6.h, linux/tcp.h
export const SO_TIMESTAMPING = [1, 37] as const
export const IP_RECVERR = [0, 11] as const
export const IPV6_RECVERR = [41, 25] as const
export const TCP_NODELAY = [6, 1] as const

/** A socket option of any descriptor; undefined where it has none. */
export function optionOf(fd: number, level: number, name: number): number | undefined {
  const scratch = new Scratch(16)
  scratch.i32[2] = 4
  const failed = libc().getsockopt(fd, level, name, scratch.address, scratch.address + 8) < 0
  const [value] = scratch.i32
  scratch.region.release()
  return failed ? undefined : value
}

/** The port that any descriptor is connected to; undefined where it is no socket, or not connected. */
export function peerPort(fd: number): number | undefined {
  const scratch = new Scratch(64)
  scratch.i32[8] = 28
  const failed = libc().getpeername(fd, scratch.address, scratch.address + 32) < 0
  const port = scratch.view.getUint16(2)
  scratch.region.release()
  return failed ? undefined : port
}
