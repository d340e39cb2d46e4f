/**
 * An Internet socket that does not block, and its options.
 *
 * | state  | legal calls          | leaves by |
 * |--------|----------------------|-----------|
 * | open   | all                  | close()   |
 * | closed | close() (no effect)  | never     |
 *
 * Node does not know a descriptor that is opened through koffi: we close it, or nobody does (docs/ground-rules.md, "Memory and koffi").
 */
import { AF_INET, AF_INET6, OPT, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCKADDR_IN, SOCKADDR_IN6 } from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { orRelease } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'
import { NativeError } from '../native-error.js'

export interface SocketAddress {
  readonly family: 4 | 6
  /** 4 or 16 bytes, network order. */
  readonly bytes: Uint8Array
  readonly port: number
  /** IPv6 link-local scope (interface index); 0 elsewhere. */
  readonly scopeId?: number
}

/** sockaddr_in or sockaddr_in6 bytes. */
export function encodeSocketAddress(address: SocketAddress): Uint8Array {
  const v6 = address.family === 6
  const bytes = new Uint8Array(v6 ? SOCKADDR_IN6.size : SOCKADDR_IN.size)
  const view = new DataView(bytes.buffer)
  view.setUint16(SOCKADDR_IN.family, v6 ? AF_INET6 : AF_INET, true)
  view.setUint16(SOCKADDR_IN.port, address.port)
  bytes.set(address.bytes, v6 ? SOCKADDR_IN6.addr : SOCKADDR_IN.addr)
  if (v6) view.setUint32(SOCKADDR_IN6.scopeId, address.scopeId ?? 0, true)
  return bytes
}

function optionName(option: readonly [number, number]): string {
  for (const [name, value] of Object.entries(OPT)) if (value[0] === option[0] && value[1] === option[1]) return name
  return `option ${option[0]}/${option[1]}`
}

/** fcntl(2) */
const F_DUPFD_CLOEXEC = 1030

/** A descriptor of its own for the same socket. @throws NativeError */
const duplicate = (fd: number): number => checkCall('fcntl', libc().fcntl(fd, F_DUPFD_CLOEXEC, 0), `F_DUPFD_CLOEXEC of ${fd}`)

/** @param type SOCK_DGRAM or SOCK_STREAM @throws NativeError */
export function openSocket(family: 4 | 6, type: number): number {
  const [domain, name] = family === 6 ? [AF_INET6, 'AF_INET6'] : [AF_INET, 'AF_INET']
  return checkCall('socket', libc().socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), name)
}

export class InetSocket {
  readonly fd: number
  readonly family: 4 | 6
  /** It is somebody else's, and they may go on with it after close(). */
  readonly given: boolean
  protected readonly scratch = new Scratch(4096)
  /** Options of a given socket as its owner had them. */
  readonly #before: { readonly option: readonly [number, number]; readonly value: number }[] = []
  #open = true

  /** @param given the descriptor of a socket that is somebody else's: this is a duplicate of it */
  constructor(family: 4 | 6, type: number, given?: number) {
    this.family = family
    this.given = given !== undefined
    this.fd = orRelease(this.scratch.region, () => (given === undefined ? openSocket(family, type) : duplicate(given)))
    if (family === 6 && given === undefined) this.setOption(OPT.IPV6_V6ONLY, 1)
  }

  setOption(option: readonly [number, number], value: number | Uint8Array): void {
    if (typeof value === 'number') {
      this.scratch.i32[0] = value
      checkCall(
        'setsockopt',
        libc().setsockopt(this.fd, option[0], option[1], this.scratch.address, 4),
        `${optionName(option)} = ${value}`,
      )
    } else {
      checkCall(
        'setsockopt',
        libc().setsockopt(this.fd, option[0], option[1], this.scratch.put(value), value.length),
        optionName(option),
      )
    }
  }

  /** Sets an option that a given socket has until close(): duplicates share all options (dup(2)). */
  protected setMeanwhile(option: readonly [number, number], value: number): void {
    if (this.given) this.#before.push({ option, value: this.getOption(option) })
    this.setOption(option, value)
  }

  /** Leaves a given socket as its owner had it. */
  protected giveBack(): void {
    for (const { option, value } of this.#before) this.tryOption(option, value)
  }

  /** 0 or the errno, for options whose absence is a fact to report and not a failure. */
  tryOption(option: readonly [number, number], value: number): number {
    this.scratch.i32[0] = value
    return libc().setsockopt(this.fd, option[0], option[1], this.scratch.address, 4) < 0 ? errno() : 0
  }

  /** Allocates nothing, because a stream in trouble asks for SO_ERROR thousands of times a second. */
  getOption(option: readonly [number, number]): number {
    this.scratch.i32[0] = 0
    this.scratch.i32[2] = 4
    if (libc().getsockopt(this.fd, option[0], option[1], this.scratch.address, this.scratch.address + 8) < 0)
      throw new NativeError('getsockopt', errno(), optionName(option))
    return this.scratch.i32[0]!
  }

  bind(address: SocketAddress): void {
    const bytes = encodeSocketAddress(address)
    checkCall('bind', libc().bind(this.fd, this.scratch.put(bytes), bytes.length), `port ${address.port}`)
  }

  connect(address: SocketAddress): void {
    const bytes = encodeSocketAddress(address)
    checkCall('connect', libc().connect(this.fd, this.scratch.put(bytes), bytes.length), `port ${address.port}`)
  }

  /** Whether it is connected. */
  get hasPeer(): boolean {
    this.scratch.i32[16] = SOCKADDR_IN6.size
    return libc().getpeername(this.fd, this.scratch.address, this.scratch.address + 64) >= 0
  }

  localPort(): number {
    this.#askName()
    return this.scratch.view.getUint16(SOCKADDR_IN.port)
  }

  /** The address that it is bound to, by bind or by connect; zeros where each packet's route decides. */
  localAddress(): Uint8Array {
    this.#askName()
    const at = this.family === 6 ? SOCKADDR_IN6.addr : SOCKADDR_IN.addr
    return this.scratch.u8.slice(at, at + (this.family === 6 ? 16 : 4))
  }

  #askName(): void {
    this.scratch.i32[16] = SOCKADDR_IN6.size
    checkCall('getsockname', libc().getsockname(this.fd, this.scratch.address, this.scratch.address + 64))
  }

  /** Reads and clears the pending error that the next send would have reported instead of sending; 0 if none. */
  takeError(): number {
    return this.getOption(OPT.SO_ERROR)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.giveBack()
    libc().close(this.fd)
    this.scratch.region.release()
  }
}
