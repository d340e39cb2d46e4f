/** Takes all descriptors and makes OPENER 5000 times. Prints its errors, and by how many KiB the process grew in the last 4000. */
import { openSync, readFileSync } from 'node:fs'
import { libc } from '#dist/ffi/libc.js'
import type { NativeError } from '#dist/ffi/native-error.js'
import { LinkLosses } from '#dist/ffi/netlink/link-losses.js'
import { LinkWatch } from '#dist/ffi/netlink/link-watch.js'
import { IoUring } from '#dist/ffi/socket/io-uring.js'
import { UdpSocket } from '#dist/ffi/socket/udp-socket.js'
import { EventFd } from '#dist/ffi/wait.js'
import { print } from '../support/print.js'

export type Opener = keyof typeof OPENERS

const OPENERS = {
  EventFd: () => new EventFd(),
  UdpSocket: () => new UdpSocket(4),
  LinkWatch: () => new LinkWatch(),
  LinkLosses: () => new LinkLosses(),
  IoUring: () => new IoUring(64, 128),
}

const open = OPENERS[process.argv[2] as Opener]
const status = openSync('/proc/self/status', 'r')
const resident = () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])
// The first loads what all of them need.
open().close()
const errors = new Set<string>()
const taken: number[] = []
function attempt(): void {
  try {
    open()
  } catch (error) {
    errors.add((error as NativeError).errnoName)
  }
}
while ((taken.at(-1) ?? 0) >= 0) taken.push(libc().dup(status))
for (let i = 0; i < 1000; i++) attempt()
// Reading /proc takes one.
libc().close(taken.at(-2)!)
const before = resident()
libc().dup(status)
for (let i = 0; i < 4000; i++) attempt()
libc().close(taken.at(-2)!)
print({ errors: [...errors], grown: resident() - before })
