/** A way of sending: docs/options.md has the table. */
export type BackendName = 'ibverbs' | 'rdma-ud' | 'udp' | 'tcp' | 'dgram' | 'memory' | 'pcap'
/** 'auto' takes the fastest that works (select.ts). */
export type BackendChoice = BackendName | 'auto'

/** All of them. */
export const BACKEND_NAMES = [
  'ibverbs',
  'rdma-ud',
  'udp',
  'tcp',
  'dgram',
  'memory',
  'pcap',
] as const satisfies readonly BackendName[]
