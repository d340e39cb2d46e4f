/**
 * The portable receiver: node:dgram in this thread. Its results are the same, its rate a fraction, and it gives the socket no
 * back-pressure.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { nativeCallsWork } from '../../ffi/libc.js'
import { ERRNO, errnoName, NativeError } from '../../ffi/native-error.js'
import { askInterfaceIndex } from '../../ffi/socket/interfaces.js'
import { filterGroup } from '../../ffi/socket/recvmmsg.js'
import { SpeadcastError } from '../errors.js'
import { familyRemedy } from '../net/address.js'
import { BoundedNews } from './bounded-news.js'
import { CreditLedger, isHello } from './credits.js'
import { byRoute, type Membership, Memberships } from './memberships.js'
import { plainMemory } from './plain-memory.js'
import type { DriverEvents, DriverOptions, ReceiveDriver, ReceiveEndpoint } from './receive-driver.js'
import { heldBytes } from './received-heap.js'
import { SenderNumbers } from './sender-numbers.js'
import { SenderWatch } from './sender-watch.js'
import { type EndReason, ReceiveSession, STAT } from './session.js'
import { setDropped, statWords } from './stats.js'

const DATAGRAM_BYTES = 65536

export async function openDgram(options: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const sockets: Socket[] = []
  let memberships: Memberships | undefined
  const closeAll = () => {
    memberships?.close()
    return Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))))
  }
  const stats = new Float64Array(statWords(options.endpoints.length))
  setDropped(stats, options.endpoints.length, () => Number.NaN)
  const senders = new SenderNumbers()
  let receiveBufferBytes: number
  let buffer: ArrayBuffer
  let session: ReceiveSession
  try {
    for (const endpoint of options.endpoints) sockets.push(await bind(endpoint))
    receiveBufferBytes = Math.min(...sockets.map((socket) => growBuffer(socket, options.receiveBufferBytes)))
    buffer = plainMemory(DATAGRAM_BYTES + options.memoryBytes)
    session = new ReceiveSession(buffer, DATAGRAM_BYTES, options.session, stats, (sender) => senders.textOf(sender))
    memberships = new Memberships(
      options.endpoints.flatMap((endpoint, i) => (endpoint.multicast ? [membershipOf(endpoint, sockets[i]!)] : [])),
      options.tell,
    )
    events.onBound()
  } catch (error) {
    await closeAll()
    throw error
  }
  const u8 = new Uint8Array(buffer)
  const view = new DataView(buffer)
  const credits = options.credits ? new CreditLedger(receiveBufferBytes) : undefined
  const news = new BoundedNews(options.tell)
  const watch = new SenderWatch(
    {
      senders: session.senders,
      news,
      texts: options.endpoints.map(({ text }) => text),
      nameOf: (sender) => senders.textOf(sender),
    },
    performance.now(),
  )
  let waitingHeaps = 0
  let waitingBytes = 0
  let ended = false
  let quiet = true
  let announceSoon = false
  let timer: NodeJS.Timeout | undefined
  let wakeAt = 0

  const deliver = () => {
    for (const heap of session.outbox.splice(0)) {
      if (waitingHeaps >= options.queueHeaps || waitingBytes >= options.queueBytes) {
        stats[STAT.heapsDiscarded]!++
        continue
      }
      waitingHeaps++
      waitingBytes += heldBytes(heap)
      events.onHeap(heap)
    }
  }
  const end = (reason: EndReason) => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    try {
      const summary = session.finish(reason)
      watch.end(performance.now())
      news.look(Number.POSITIVE_INFINITY)
      deliver()
      credits?.announce(stats, true, performance.now())
      void closeAll().then(() => events.onEnd(summary))
    } catch (error) {
      void closeAll().then(() => events.onError(error))
    }
  }
  const fail = (error: unknown) => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    void closeAll().then(() => events.onError(error))
  }
  const onMessage = (message: Buffer, from: RemoteInfo, socket: Socket, endpoint: number) => {
    if (ended) return
    const now = performance.now()
    u8.set(message)
    const text = from.family === 'IPv6' ? `[${from.address}]:${from.port}` : `${from.address}:${from.port}`
    if (credits && isHello(view, 0, message.length)) {
      const send = (credit: Uint8Array) => socket.send(credit, from.port, from.address, () => undefined)
      credits.hello(text, send, stats, now)
      return
    }
    try {
      session.look(now)
      session.arrived(now)
      session.message(endpoint)
      session.packet(0, message.length, senders.of(text), endpoint)
    } catch (error) {
      fail(error)
      return
    }
    quiet = false
    if (session.outbox.length > 0) deliver()
    if (credits && !announceSoon) {
      announceSoon = true
      // Runs after libuv has read this turn's datagrams: the socket is empty then, as before a sleep.
      setImmediate(() => {
        announceSoon = false
        if (!ended) credits.announce(stats, true, performance.now())
      })
    }
    const reason = session.ended(now, false)
    if (reason !== undefined) return end(reason)
    // After a stop heap the end is nearer than the next turn.
    if (now + session.sleepMs(now) < wakeAt) turnIn(session.sleepMs(now), now)
  }
  const turnIn = (ms: number, now: number) => {
    clearTimeout(timer)
    wakeAt = now + ms
    timer = setTimeout(turn, ms)
  }
  const turn = () => {
    const now = performance.now()
    let reason: EndReason | undefined
    try {
      session.look(now)
      watch.look(now, false)
      news.look(now)
      reason = session.ended(now, quiet)
    } catch (error) {
      return fail(error)
    }
    quiet = true
    if (session.outbox.length > 0) deliver()
    if (reason !== undefined) return end(reason)
    turnIn(session.sleepMs(now), now)
  }
  sockets.forEach((socket, endpoint) => {
    socket.on('message', (message, from) => onMessage(message, from, socket, endpoint))
    socket.on('error', fail)
  })
  session.start(performance.now())
  turn()

  return {
    backend: 'dgram',
    gro: false,
    receiveBufferBytes,
    memberships,
    stats,
    stop: () => end('closed'),
    taken(heap) {
      waitingHeaps--
      waitingBytes -= heldBytes(heap)
    },
  }
}

function bind(endpoint: ReceiveEndpoint): Promise<Socket> {
  const { family, address, port, multicast, scopeId, interfaceIndex, interfaceName } = endpoint
  const zone = family === 6 ? scopeId || (multicast ? interfaceIndex : 0) : 0
  const socket = createSocket({ type: family === 6 ? 'udp6' : 'udp4', reuseAddr: multicast, ipv6Only: family === 6 })
  // Windows does not bind group addresses. Elsewhere binding one keeps other groups on the port out.
  const at = multicast && process.platform === 'win32' ? undefined : zone ? `${address}%${zone}` : address
  return new Promise((resolve, reject) => {
    const failed = (cause: Error) => {
      socket.close()
      const message = `cannot receive on ${endpoint.text}: ${cause.message}${familyRemedy(family, cause)}`
      reject(new SpeadcastError('ERR_SPEADCAST_ENDPOINT', message, { cause }))
    }
    socket.once('error', failed)
    socket.bind({ port, ...(at !== undefined && { address: at }), exclusive: true }, () => {
      try {
        if (multicast) {
          filter(socket, family, interfaceIndex)
          socket.addMembership(address, interfaceName)
        }
        socket.off('error', failed)
        resolve(socket)
      } catch (cause) {
        failed(cause as Error)
      }
    })
  })
}

function membershipOf(endpoint: ReceiveEndpoint, socket: Socket): Membership {
  const { joinedOn, address, family, interfaceName } = endpoint
  if (family === 6 && joinedOn === undefined)
    return byRoute(endpoint, () => {
      try {
        socket.dropMembership(address)
      } catch {
        // An earlier try left it already.
      }
      socket.addMembership(address)
    })
  let bound = endpoint.interfaceIndex
  const rejoin = (): boolean => {
    if (family === 6 && joinedOn !== undefined && nativeCallsWork()) {
      const index = askInterfaceIndex(joinedOn)
      if (index === 0) throw new NativeError('SIOCGIFINDEX', ERRNO.ENODEV, joinedOn)
      const refused = index === bound ? 0 : filter(socket, family, index)
      if (refused !== 0)
        throw new Error(`bound to the one before, ${errnoName(refused)}: takes CAP_NET_RAW, or open another receiver`)
      bound = index
    }
    try {
      socket.addMembership(address, interfaceName)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false
      throw error
    }
    return true
  }
  return { endpoint, interfaceName: joinedOn, rejoin }
}

/** Where node:dgram keeps the handle of libuv; its `_handle` warns. */
const STATE = 'state symbol'

/** Keeps groups from other interfaces out, which Linux delivers too. node:dgram has no option for it. */
function filter(socket: Socket, family: 4 | 6, ifindex: number): number {
  if (!nativeCallsWork()) return 0
  const state = Object.getOwnPropertySymbols(socket).find(({ description }) => description === STATE)
  const { handle } = (state ? (socket as unknown as Record<symbol, { handle?: { fd?: number } }>)[state] : undefined) ?? {}
  const fd = handle?.fd
  return fd !== undefined && fd >= 0 ? filterGroup(fd, family, ifindex) : 0
}

/** Sets SO_RCVBUF. Linux clips it to rmem_max without an error; other systems refuse too much, so the next smaller size is tried there. */
function growBuffer(socket: Socket, wanted: number): number {
  for (let bytes = wanted; bytes >= 65536; bytes = Math.floor(bytes / 2)) {
    try {
      socket.setRecvBufferSize(bytes)
      break
    } catch {
      // too large for this system
    }
  }
  const got = socket.getRecvBufferSize()
  return process.platform === 'linux' ? got >>> 1 : got
}
