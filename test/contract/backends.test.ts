import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDgram } from '#dist/src/backend/dgram.js'
import { openMemory } from '#dist/src/backend/memory.js'
import { openPcap } from '#dist/src/backend/pcap.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { type Arrival, backendContract, environment } from './backend-contract.js'
import { openReceivers } from './receivers.js'

backendContract({
  name: 'memory',
  evidence: 'written',
  open: async (substreams) => {
    const backend = openMemory({ substreams }, environment())
    return { backend, arrived: async () => backend.packets, close: async () => backend.close() }
  },
})

/** UDP payloads of an Ethernet/IPv4 nanosecond pcap, by the format's own description (pcap-savefile(5), RFC 791, RFC 768). */
function readPcap(file: string, firstPort: number): Arrival[] {
  const bytes = readFileSync(file)
  const packets: Arrival[] = []
  for (let at = 24; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8)
    const frame = bytes.subarray(at + 16, at + 16 + length)
    const udp = frame.subarray(14 + (frame[14]! & 15) * 4)
    packets.push({ substream: udp.readUInt16BE(2) - firstPort, bytes: new Uint8Array(udp.subarray(8, udp.readUInt16BE(4))) })
    at += 16 + length
  }
  return packets
}

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
