import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openStream, type StreamOptions } from '#dist/src/index.js'
import { readPcap } from '../support/pcap.js'
import { openReceivers } from '../support/receivers.js'
import { openTcpReceivers } from '../support/tcp-receivers.js'
import { streamContract } from './stream-contract.js'

const ports = (substreams: number) => Array.from({ length: substreams }, (_, i) => `239.1.2.3:${7148 + i}`)

streamContract({
  what: 'memory',
  backend: 'memory',
  evidence: 'written',
  states: [],
  open: async (substreams, options) => {
    const stream = await openStream({ to: ports(substreams), backend: 'memory', ...options })
    return { stream, arrived: async () => stream.packets, close: () => stream.destroy() }
  },
})

streamContract({
  what: 'pcap',
  backend: 'pcap',
  evidence: 'written',
  states: ['path'],
  open: async (substreams, options) => {
    const folder = mkdtempSync(join(tmpdir(), 'speadcast-contract-'))
    const pcapPath = join(folder, 'out.pcap')
    const stream = await openStream({ to: ports(substreams), backend: 'pcap', pcapPath, ...options })
    return {
      stream,
      arrived: async () => readPcap(pcapPath, 7148),
      close: async () => {
        await stream.destroy()
        rmSync(folder, { recursive: true })
      },
    }
  },
})

const SOCKETS: readonly (readonly [string, Partial<StreamOptions>, readonly string[]])[] = [
  ['dgram', { backend: 'dgram' }, []],
  ...(['sendmmsg', 'io_uring'] as const).flatMap((udpPath) =>
    (['worker', 'inline'] as const).map(
      (thread) =>
        [
          `udp, ${udpPath}, ${thread}`,
          { backend: 'udp', udpPath, thread },
          ['interface', 'sourceAddress', 'udpPath', 'carrier'],
        ] as const,
    ),
  ),
]
for (const [what, fixed, states] of SOCKETS)
  streamContract({
    what,
    backend: fixed.backend!,
    evidence: 'accepted',
    states: ['sourcePort', 'segmentation', 'segmentationReason', 'dropsBelowSocket', 'pathChanges', ...states],
    open: async (substreams, options) => {
      const receivers = await openReceivers(substreams)
      const stream = await openStream({ to: receivers.endpoints.map(({ text }) => text), ...fixed, ...options })
      return {
        stream,
        arrived: receivers.arrived,
        close: async () => {
          await stream.destroy()
          await receivers.close()
        },
      }
    },
  })

for (const thread of ['worker', 'inline'] as const)
  for (const address of ['127.0.0.1', '::1'])
    streamContract({
      what: `tcp, ${thread}, ${address}`,
      backend: 'tcp',
      evidence: 'acknowledged',
      states: ['connections', 'connectionsLost'],
      open: async (substreams, options) => {
        const receivers = await openTcpReceivers(substreams, address)
        const stream = await openStream({ to: receivers.endpoints, thread, ...options })
        return {
          stream,
          arrived: receivers.arrived,
          close: async () => {
            await stream.destroy()
            await receivers.close()
          },
        }
      },
    })
