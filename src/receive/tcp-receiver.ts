/** The receiver of TCP connections: listeners in this thread, connections in the worker. Imports koffi: load it dynamically. */
import { mapReceiveMemory } from '../../ffi/socket/recvmmsg.js'
import { TcpListener } from '../../ffi/socket/tcp-intake.js'
import { explainBind } from './native-receiver.js'
import { receiverPlace } from './numa.js'
import type { DriverEvents, DriverOptions, ReceiveDriver } from './receive-driver.js'
import { startThread, type ThreadShared, threadShared } from './receiver-thread.js'
import { TCP_ARENA_BYTES } from './tcp-source.js'

export async function openTcp(options: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const listeners: TcpListener[] = []
  const close = () => {
    for (const listener of listeners) listener.close()
  }
  const numa = receiverPlace(options)
  let shared: ThreadShared
  try {
    for (const endpoint of options.endpoints)
      listeners.push(explainBind(endpoint, () => new TcpListener(endpoint, endpoint.interfaceIndex)))
    events.onBound()
    shared = threadShared(mapReceiveMemory(options.memoryBytes, TCP_ARENA_BYTES, numa.node), options.endpoints.length)
  } catch (error) {
    close()
    throw error
  }
  return startThread({
    shared,
    source: { kind: 'tcp', fds: listeners.map(({ fd }) => fd) },
    options,
    events,
    driver: { backend: 'tcp', gro: false, receiveBufferBytes: options.receiveBufferBytes, numa: numa.states },
    onGone: close,
  })
}
