// The streams of a soak, as both of its programs know them.

export const HEAP_BYTES = 8192
export const HEAPS_A_BATCH = 8
/** Less than the MTU that a fault leaves cannot carry. */
export const PACKET_BYTES = 1452
export const IPV4 = { sender: '10.77.0.1', receiver: '10.77.0.2', other: '10.78.0.2', far: '10.99.0.1' }
export const IPV6 = { sender: 'fd77::1', receiver: 'fd77::2', other: 'fd78::2', far: 'fd99::1' }

/** name → where it goes, and how. Rates are in bytes a second. */
export const STREAMS = {
  udp: { to: `${IPV4.far}:7148`, rateBytesPerSecond: 24e6 },
  ipv6: { to: `[${IPV6.far}]:7149`, rateBytesPerSecond: 12e6 },
  uring: { to: `${IPV4.far}:7150`, rateBytesPerSecond: 12e6, options: { udpPath: 'io_uring' } },
  tcp: { to: `tcp://${IPV4.far}:7151`, rateBytesPerSecond: 8e6, options: { tcp: { reconnect: 'retry' } } },
}
