import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDgram } from '#dist/src/backend/dgram.js'
import { openMemory } from '#dist/src/backend/memory.js'
import { openPcap } from '#dist/src/backend/pcap.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { environment } from '../support/hand-table.js'
import { readPcap } from '../support/pcap.js'
import { openReceivers } from '../support/receivers.js'
import { backendContract } from './backend-contract.js'

backendContract({
  name: 'memory',
  evidence: 'written',
  open: async (substreams) => {
    const backend = openMemory({ substreams }, environment())
    return { backend, arrived: async () => backend.packets, close: async () => backend.close() }
  },
})

backendContract({
  name: 'pcap',
  evidence: 'written',
  open: async (substreams) => {
    const folder = mkdtempSync(join(tmpdir(), 'speadcast-contract-'))
    const path = join(folder, 'out.pcap')
    const endpoints = await resolveEndpoints(parseEndpoints(Array.from({ length: substreams }, (_, i) => `239.1.2.3:${7148 + i}`)))
    const backend = openPcap({ path, endpoints }, environment())
    return {
      backend,
      arrived: async () => {
        backend.close()
        return readPcap(path, 7148)
      },
      close: async () => {
        backend.close()
        rmSync(folder, { recursive: true })
      },
    }
  },
})

backendContract({
  name: 'dgram',
  evidence: 'accepted',
  open: async (substreams) => {
    const receivers = await openReceivers(substreams)
    const backend = await openDgram(
      { endpoints: receivers.endpoints, sourcePort: 0, multicastLoop: true, sendBufferBytes: 0 },
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
