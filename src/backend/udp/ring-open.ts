/** Whether this kernel lets us send by io_uring, and the ring to do so. Cold. */
import { Scratch } from '../../../ffi/memory/scratch.js'
import { ERRNO, errnoName, NativeError } from '../../../ffi/native-error.js'
import { LEND, NO_SLOT } from '../../../ffi/socket/io-uring.js'
import { MessageVector } from '../../../ffi/socket/message-vector.js'
import { connectToItself, UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { UdpRing } from './ring.js'

const WHY: Readonly<Record<string, string>> = {
  ENOSYS: 'this kernel has none (ENOSYS)',
  EPERM: 'it is forbidden here (EPERM), by kernel.io_uring_disabled or a seccomp profile',
  EACCES: 'it is forbidden here (EACCES), by a seccomp profile or a security module',
  EINVAL: 'sending without a copy that tells whether it copied needs Linux 6.2 (EINVAL)',
  ENOMEM: 'its rings need more memory than may be locked (ENOMEM)',
}

/** A ring for a socket, or why there can be none. */
export function openUdpRing(socket: number): UdpRing | string {
  try {
    const refused = probe()
    return refused ? why(refused) : new UdpRing(socket)
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return why(error.errno)
  }
}

function why(errno: number): string {
  const name = errnoName(errno)
  return WHY[name] ?? `io_uring_setup failed with ${name}`
}

let probed: number | undefined

/**
 * 0, or the errno with which the kernel refuses the operation or its flag. A byte from a loopback socket to itself tells, once per
 * process. Where loopback is down, the first message of the stream will tell.
 */
function probe(): number {
  if (probed !== undefined) return probed
  const socket = new UdpSocket(4)
  let ring: UdpRing | undefined
  try {
    ring = new UdpRing(socket.fd)
    connectToItself(socket)
    const byte = new Scratch(1)
    const vector = new MessageVector(1, 1, [])
    vector.iovec(0, byte.address, 0, 1)
    vector.message(0, 0, 0, 1, 0)
    const sent = ring.send(vector, 0, 1, LEND, NO_SLOT, 0)
    ring.abandon()
    probed = sent === -ERRNO.EINVAL || sent === -ERRNO.EOPNOTSUPP ? -sent : 0
    vector.release()
    byte.region.release()
  } catch (error) {
    if (!ring || !(error instanceof NativeError)) throw error
    probed = 0
  } finally {
    ring?.close()
    socket.close()
  }
  return probed
}
