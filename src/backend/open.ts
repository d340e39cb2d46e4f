/**
 * Opens a backend from its plain description. Backend udp is at hand, because most streams send by it; a file of another is loaded
 * when it is needed.
 */
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { Backend, BackendEnvironment } from './backend.js'
import type { DgramOptions } from './dgram.js'
import type { MemoryOptions } from './memory.js'
import type { PcapOptions } from './pcap.js'
import type { TcpOptions } from './tcp/dial.js'
import { openUdp } from './udp/backend.js'
import type { UdpOptions } from './udp/open.js'
import type { RdmaUdOptions } from './verbs/datagrams-open.js'
import type { IbverbsOptions } from './verbs/raw-options.js'

export type BackendSpec =
  | ({ readonly kind: 'ibverbs' } & IbverbsOptions)
  | ({ readonly kind: 'rdma-ud' } & RdmaUdOptions)
  | ({ readonly kind: 'udp' } & UdpOptions)
  | ({ readonly kind: 'tcp' } & TcpOptions)
  | ({ readonly kind: 'dgram' } & DgramOptions)
  | ({ readonly kind: 'memory'; readonly substreams: number } & MemoryOptions)
  | ({ readonly kind: 'pcap'; readonly endpoints: readonly ResolvedEndpoint[] } & PcapOptions)

export async function openBackend(spec: BackendSpec, environment: BackendEnvironment): Promise<Backend> {
  switch (spec.kind) {
    case 'ibverbs':
      return (await import('./verbs/raw.js')).openIbverbs(spec, environment)
    case 'rdma-ud':
      return (await import('./verbs/datagrams.js')).openRdmaUd(spec, environment)
    case 'udp':
      return openUdp(spec, environment)
    case 'tcp':
      return (await import('./tcp/backend.js')).openTcp(spec, environment)
    case 'dgram':
      return (await import('./dgram.js')).openDgram(spec, environment)
    case 'memory':
      return (await import('./memory.js')).openMemory(spec, environment)
    case 'pcap':
      return (await import('./pcap.js')).openPcap(spec, environment)
  }
}
