// A network namespace whose only way out is an ifb: it takes GSO super-packets, needs no ARP and drops everything it is given, so a
// sender is measured without a receiver. It frees a packet at once, which no real interface does: rates are upper bounds.
import { openNamespace } from './namespace.mjs'

export const INTERFACE = 'ifb9'
export const PORT = 7148
export const ADDRESS = '10.99.0.2'
export const DESTINATION = `${ADDRESS}:${PORT}`
/** Ethernet, IPv4 and UDP headers; a GSO message carries them once. */
export const FRAME_OVERHEAD_BYTES = 42
export const MTU = 9100

/** Makes one. Its maker calls close(), which is also safe in an exit handler. Needs root. */
export async function openBlackHole({ segmentInSoftware = false } = {}) {
  const namespace = await openNamespace()
  const { ip } = namespace
  const hole = {
    ...namespace,
    address: ADDRESS,
    /**
     * Packets and bytes that the interface was given so far; an ifb counts them as received. A GSO message is one packet with one
     * set of headers.
     */
    async counters() {
      const { rx } = await namespace.statistics(INTERFACE)
      return { packets: rx.packets, bytes: rx.bytes }
    },
    /** Whether messages are cut into segments before the interface, as for a card without segmentation offload. */
    async segmentInSoftware(yes) {
      await ip('link', 'set', INTERFACE, 'gso_max_segs', yes ? 1 : 65535)
    },
    /** Nobody listens here. */
    receive: async () => async () => undefined,
  }
  try {
    await ip('link', 'add', INTERFACE, 'type', 'ifb')
    await ip('link', 'set', INTERFACE, 'mtu', MTU, 'up')
    await ip('addr', 'add', '10.99.0.1/24', 'dev', INTERFACE)
    if (segmentInSoftware) await hole.segmentInSoftware(true)
  } catch (error) {
    namespace.close()
    throw error
  }
  return hole
}
