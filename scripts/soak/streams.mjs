// The streams of a soak, as both of its programs know them.

export const HEAP_BYTES = 8192
export const HEAPS_A_BATCH = 8
/** Less than the MTU that a fault leaves cannot carry. */
export const PACKET_BYTES = 1452
export const IPV4 = { sender: '10.77.0.1', receiver: '10.77.0.2', other: '10.78.0.2', far: '10.99.0.1' }
export const IPV6 = { sender: 'fd77::1', receiver: 'fd77::2', other: 'fd78::2', far: 'fd99::1' }

/**
 * name → where it goes, and how. Rates are in bytes a second. `keepsRate`: its packets are compared with its rate. Those that wait for a connection
 * or an endpoint, or are left out, are not counted when their time comes.
 */
export const STREAMS = {
  udp: { to: `${IPV4.far}:7148`, rateBytesPerSecond: 24e6, keepsRate: true },
  ipv6: { to: `[${IPV6.far}]:7149`, rateBytesPerSecond: 12e6, keepsRate: true },
  uring: { to: `${IPV4.far}:7150`, rateBytesPerSecond: 12e6, keepsRate: true, options: { udpPath: 'io_uring' } },
  tcp: { to: `tcp://${IPV4.far}:7151`, rateBytesPerSecond: 8e6, options: { tcp: { reconnect: 'retry' } } },
  retried: { to: `${IPV4.far}:7152`, rateBytesPerSecond: 6e6, options: { onError: 'retry' } },
  // A heap a millisecond.
  clock: {
    to: `${IPV4.far}:7153`,
    rateBytesPerSecond: HEAP_BYTES * 1000,
    clock: { sampleRateHz: 1000, samplesPerHeap: 1, late: 'skip' },
  },
  replay: { to: `${IPV4.far}:7154`, rateBytesPerSecond: 6e6, loop: true },
}

/** Samples are the heap's number modulo this, so the window of a loop is as long. */
export const NUMBERS = 251
