import { readFileSync } from 'node:fs'

export interface PcapPacket {
  readonly substream: number
  readonly bytes: Uint8Array
}

/**
 * UDP payloads of an Ethernet/IPv4 nanosecond pcap, by the format's own description (pcap-savefile(5), RFC 791, RFC 768). The
 * destination port gives the substream.
 */
export function readPcap(file: string, firstPort: number): PcapPacket[] {
  const bytes = readFileSync(file)
  const packets: PcapPacket[] = []
  for (let at = 24; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8)
    const frame = bytes.subarray(at + 16, at + 16 + length)
    const udp = frame.subarray(14 + (frame[14]! & 15) * 4)
    packets.push({ substream: udp.readUInt16BE(2) - firstPort, bytes: new Uint8Array(udp.subarray(8, udp.readUInt16BE(4))) })
    at += 16 + length
  }
  return packets
}
