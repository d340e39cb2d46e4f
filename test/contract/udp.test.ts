import { openUdp } from '#dist/src/backend/udp/backend.js'
import { environment } from '../support/hand-table.js'
import { openReceivers } from '../support/receivers.js'
import { backendContract } from './backend-contract.js'

// Twice: with segmentation offload, and packet by packet.
for (const segmentation of ['auto', 'off'] as const)
  for (const udpPath of ['sendmmsg', 'io_uring'] as const) {
    backendContract({
      name: 'udp',
      what: `udp, segmentation ${segmentation}, ${udpPath}`,
      evidence: 'accepted',
      mergesEqualPackets: segmentation === 'auto',
      open: async (substreams) => {
        const receivers = await openReceivers(substreams)
        const backend = await openUdp(
          {
            endpoints: receivers.endpoints,
            sourcePort: 0,
            multicastLoop: true,
            sendBufferBytes: 0,
            packetSizeBytes: 1472,
            allowFragmentation: false,
            segmentation,
            udpPath,
            neighbourTimeoutMs: 100,
          },
          environment(),
        )
        return {
          backend,
          arrived: receivers.arrived,
          close: async () => {
            backend.close()
            await receivers.close()
          },
        }
      },
    })
  }
