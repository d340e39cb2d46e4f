/**
 * Bounds what strangers on the rendezvous cost (rendezvous.ts): all of this process's connections together, those from an address,
 * what each may say, and how long it may last however busy it is. Beyond the numbers the oldest goes for the new one, because it
 * has long been answered, and refusing the new one would let whoever holds connections keep senders out.
 */
import type { Socket } from 'node:net'

const MOST = 128
const MOST_OF_ADDRESS = 32
const LONGEST_MS = 5000
/**
 * Nothing has to be said. All that comes is read, because closing over unread bytes resets the connection and may take the answer
 * along.
 */
const MOST_BYTES = 1024

/** By age: a Set keeps the order of insertion. */
const inside = new Set<Socket>()

export function admit(socket: Socket): void {
  const from = socket.remoteAddress
  const its = [...inside].filter(({ remoteAddress }) => remoteAddress === from)
  if (its.length >= MOST_OF_ADDRESS) leave(its[0]!)
  for (const oldest of inside) {
    if (inside.size < MOST) break
    leave(oldest)
  }
  inside.add(socket)
  let bytes = 0
  const deadline = setTimeout(() => leave(socket), LONGEST_MS)
  deadline.unref()
  socket.unref()
  socket.on('error', () => undefined)
  socket.on('data', (chunk) => {
    bytes += chunk.length
    if (bytes > MOST_BYTES) leave(socket)
  })
  socket.on('close', () => {
    clearTimeout(deadline)
    inside.delete(socket)
  })
}

function leave(socket: Socket): void {
  inside.delete(socket)
  socket.destroy()
}
