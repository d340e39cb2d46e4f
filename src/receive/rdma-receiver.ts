/**
 * The receiver of datagrams (UD): the rendezvous in this thread, queue pairs in the worker. Imports koffi: load it dynamically.
 *
 * A sender asks an endpoint's HOST:PORT for the endpoint's queue pair, over TCP (rdma/rendezvous.ts). A multicast group needs no such
 * answer.
 */
import { mapReceiveMemory } from '../../ffi/socket/recvmmsg.js'
import { type DatagramPeer, offerRendezvous } from '../rdma/rendezvous.js'
import { receiverPlace } from './numa.js'
import { arenaBytes, SLOT_BYTES } from './rdma-source.js'
import type { DriverEvents, DriverOptions, ReceiveDriver } from './receive-driver.js'
import { startThread, threadShared } from './receiver-thread.js'

const LEAST_SLOTS = 64
const MOST_SLOTS = 65536

export async function openRdma(options: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const { endpoints, device, verbsLibrary } = options
  const offers: { close(): void }[] = []
  const close = () => {
    for (const offer of offers) offer.close()
  }
  let answer: { resolve: (peers: readonly DatagramPeer[]) => void; reject: (error: unknown) => void }
  const peers = new Promise<readonly DatagramPeer[]>((resolve, reject) => {
    answer = { resolve, reject }
  })
  peers.catch(() => undefined)
  try {
    for (const [i, endpoint] of endpoints.entries())
      if (!endpoint.multicast)
        offers.push(
          await offerRendezvous(
            endpoint,
            peers.then((all) => all[i]!),
          ),
        )
    events.onBound()
    const slots = Math.min(MOST_SLOTS, Math.max(LEAST_SLOTS, Math.floor(options.receiveBufferBytes / SLOT_BYTES)))
    const numa = receiverPlace(options)
    const driver = await startThread({
      shared: threadShared(mapReceiveMemory(options.memoryBytes, arenaBytes(endpoints.length, slots), numa.node), endpoints.length),
      source: { kind: 'rdma-ud', endpoints, interface: options.interface, device, verbsLibrary, slots },
      options,
      events,
      driver: { backend: 'rdma-ud', gro: false, receiveBufferBytes: slots * SLOT_BYTES, numa: numa.states },
      onGone: close,
    })
    answer!.resolve(driver.peers!)
    return driver
  } catch (error) {
    answer!.reject(error)
    close()
    throw error
  }
}
