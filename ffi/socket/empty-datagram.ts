/** Sends one UDP datagram without payload from a socket of its own: makes the kernel resolve a neighbour. Linux only. */
import { checkCall, libc } from '../libc.js'
import { Region } from '../memory/region.js'
import type { Family } from '../netlink/route.js'

const SOCK_DGRAM_CLOEXEC_NONBLOCK = 2 | 0x80000 | 0x800
const IPPROTO_IP = 0
const IPPROTO_IPV6 = 41
// linux/in.h, linux/in6.h: choose the outgoing interface; unlike SO_BINDTODEVICE they never needed a privilege.
const IP_UNICAST_IF = 50
const IPV6_UNICAST_IF = 76

let region: Region | undefined

/** @throws NativeError (EPERM when a firewall forbids it, ENETUNREACH, ENODEV…). */
export function sendEmptyDatagram(family: Family, address: Uint8Array, port: number, ifindex: number): void {
  const c = libc()
  region ??= Region.allocate(4096, { hugePages: 'never' })
  const view = new DataView(region.buffer)
  const bytes = new Uint8Array(region.buffer)
  const fd = checkCall('socket', c.socket(family === 4 ? 2 : 10, SOCK_DGRAM_CLOEXEC_NONBLOCK, 0))
  try {
    view.setInt32(0, ifindex) // network byte order, as these two options want it
    const [level, option] = family === 4 ? [IPPROTO_IP, IP_UNICAST_IF] : [IPPROTO_IPV6, IPV6_UNICAST_IF]
    checkCall('setsockopt', c.setsockopt(fd, level, option, region.address, 4), `UNICAST_IF ${ifindex}`)
    // struct sockaddr_in: family, be16 port, address, 8 zero; sockaddr_in6: family, be16 port, flow, address, u32 scope
    bytes.fill(0, 0, 28)
    view.setUint16(0, family === 4 ? 2 : 10, true)
    view.setUint16(2, port)
    bytes.set(address, family === 4 ? 4 : 8)
    if (family === 6) view.setUint32(24, ifindex, true)
    checkCall('sendto', c.sendto(fd, region.address, 0, 0, region.address, family === 4 ? 16 : 28))
  } finally {
    c.close(fd)
  }
}
