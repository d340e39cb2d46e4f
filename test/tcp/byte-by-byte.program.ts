/**
 * Listens with the smallest receive buffer that there is, tells its port, and reads one connection by calls of recv(2) of one byte to its end. Then
 * prints all of it, in hexadecimal.
 */
import { writeSync } from 'node:fs'
import { libc } from '#dist/ffi/libc.js'
import { Scratch } from '#dist/ffi/memory/scratch.js'
import { encodeSocketAddress } from '#dist/ffi/socket/inet-socket.js'

const c = libc()
const scratch = new Scratch(4096)
const listener = c.socket(2, 1, 0)
scratch.i32[0] = 1
// SOL_SOCKET, SO_RCVBUF: the kernel makes it 2304 bytes (socket(7)).
c.setsockopt(listener, 1, 8, scratch.address, 4)
const name = encodeSocketAddress({ family: 4, bytes: Uint8Array.of(127, 0, 0, 1), port: 0 })
c.bind(listener, scratch.put(name), name.length)
c.listen(listener, 1)
scratch.i32[16] = 28
c.getsockname(listener, scratch.address, scratch.address + 64)
writeSync(1, `${scratch.view.getUint16(2)}\n`)
const fd = c.accept4(listener, 0, 0, 0)
const all: number[] = []
while (c.recv(fd, scratch.address, 1, 0) === 1) all.push(scratch.u8[0]!)
writeSync(1, `${Buffer.from(all).toString('hex')}\n`)
