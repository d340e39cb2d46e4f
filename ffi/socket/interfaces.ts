/**
 * The interfaces of this network namespace without netlink, for cages that leave AF_NETLINK out: by the ioctls of netdevice(7) and by
 * /proc/net (proc_pid_net(5)). getifaddrs(3) and if_nameindex(3) take netlink themselves. Linux only. Cold.
 */
import { readFileSync } from 'node:fs'
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IFCONF,
  IFREQ,
  SIOCGIFCONF,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFINDEX,
  SIOCGIFMTU,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCKADDR_IN,
} from '../layout.js'
import { checkCall, libc } from '../libc.js'
import { Scratch } from '../memory/scratch.js'
import { ERRNO, NativeError } from '../native-error.js'
import { IFF_UP } from '../netlink/route.js'

export interface AskedInterface {
  readonly name: string
  readonly index: number
  readonly mtu: number
  /** Empty where the link layer has no addresses. */
  readonly mac: Uint8Array
  readonly up: boolean
  readonly loopback: boolean
  readonly addresses: readonly { readonly family: 4 | 6; readonly bytes: Uint8Array }[]
}

const IFF_LOOPBACK = 8
/** linux/if_arp.h, ARPHRD_ETHER. */
const ETHERNET = 1
/** Room for 1600 addresses. */
const LIST_AT = 4096
const LIST_BYTES = 64 << 10

let scratch: Scratch | undefined

/** @throws NativeError where there is no socket of any family, or an interface went away meanwhile; Error without /proc */
export function askInterfaces(): AskedInterface[] {
  scratch ??= new Scratch(LIST_AT + LIST_BYTES)
  const s = scratch
  const fd = anySocket()
  try {
    const names = readFileSync('/proc/net/dev', 'latin1').match(/^ *[^\s:|]+(?=:)/gm) ?? []
    const v4 = addresses4(s, fd)
    const v6 = addresses6()
    return names.map((padded) => {
      const name = padded.trim()
      const index = ask(s, fd, SIOCGIFINDEX, name).getInt32(IFREQ.data, true)
      const mtu = ask(s, fd, SIOCGIFMTU, name).getInt32(IFREQ.data, true)
      const flags = ask(s, fd, SIOCGIFFLAGS, name).getUint16(IFREQ.data, true)
      const hardware = ask(s, fd, SIOCGIFHWADDR, name).getUint16(IFREQ.data, true)
      const mac = s.u8.slice(IFREQ.data + 2, IFREQ.data + 8)
      const loopback = (flags & IFF_LOOPBACK) !== 0
      return {
        name,
        index,
        mtu,
        mac: hardware === ETHERNET || loopback ? mac : new Uint8Array(0),
        up: (flags & IFF_UP) !== 0,
        loopback,
        addresses: [...(v4.get(name) ?? []), ...(v6.get(name) ?? [])],
      }
    })
  } finally {
    libc().close(fd)
  }
}

/** The index of an interface by its name; 0 where there is none. @throws NativeError where there is no socket of any family */
export function askInterfaceIndex(name: string): number {
  scratch ??= new Scratch(LIST_AT + LIST_BYTES)
  const fd = anySocket()
  try {
    return ask(scratch, fd, SIOCGIFINDEX, name).getInt32(IFREQ.data, true)
  } catch (error) {
    if (error instanceof NativeError && error.errno === ERRNO.ENODEV) return 0
    throw error
  } finally {
    libc().close(fd)
  }
}

/** These ioctls are of sockets of any family. */
function anySocket(): number {
  let refusal: unknown
  for (const [family, name] of [
    [AF_INET, 'AF_INET'],
    [AF_INET6, 'AF_INET6'],
    [AF_UNIX, 'AF_UNIX'],
  ] as const) {
    try {
      return checkCall('socket', libc().socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), name)
    } catch (error) {
      refusal ??= error
    }
  }
  throw refusal
}

function ask(s: Scratch, fd: number, request: number, name: string): DataView {
  s.u8.fill(0, 0, IFREQ.size)
  s.put(Buffer.from(name, 'latin1'))
  checkCall('ioctl', libc().ioctl(fd, request, s.address), `0x${request.toString(16)} ${name}`)
  return s.view
}

type Addresses = Map<string, { readonly family: 4 | 6; readonly bytes: Uint8Array }[]>

function note(all: Addresses, name: string, family: 4 | 6, bytes: Uint8Array): void {
  const list = all.get(name)
  if (list) list.push({ family, bytes })
  else all.set(name, [{ family, bytes }])
}

/** SIOCGIFCONF lists every IPv4 address, with the label of it (`eth0:1`) for a name. */
function addresses4(s: Scratch, fd: number): Addresses {
  const all: Addresses = new Map()
  s.view.setInt32(IFCONF.len, LIST_BYTES, true)
  s.putPointer(IFCONF.req, s.address + LIST_AT)
  checkCall('ioctl', libc().ioctl(fd, SIOCGIFCONF, s.address), 'SIOCGIFCONF')
  const end = LIST_AT + s.view.getInt32(IFCONF.len, true)
  for (let at = LIST_AT; at + IFREQ.size <= end; at += IFREQ.size) {
    const label = Buffer.from(s.u8.subarray(at, at + IFREQ.data))
      .toString('latin1')
      .replace(/[\0:].*/s, '')
    const address = at + IFREQ.data + SOCKADDR_IN.addr
    note(all, label, 4, s.u8.slice(address, address + 4))
  }
  return all
}

/** Lines of address, index, prefix length, scope, flags, all hexadecimal, and name. There is no such file without IPv6. */
function addresses6(): Addresses {
  const all: Addresses = new Map()
  try {
    for (const line of readFileSync('/proc/net/if_inet6', 'latin1').split('\n')) {
      const [hex, , , , , name] = line.trim().split(/\s+/)
      if (hex && name) note(all, name, 6, Uint8Array.from(Buffer.from(hex, 'hex')))
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  return all
}
