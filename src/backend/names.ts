/** The ways of sending, as users name them. */
export const BACKEND_NAMES = ['ibverbs', 'rdma-ud', 'udp', 'tcp', 'dgram', 'memory', 'pcap'] as const

export type BackendName = (typeof BACKEND_NAMES)[number]
/** 'auto' takes the fastest that works (select.ts). */
export type BackendChoice = BackendName | 'auto'
