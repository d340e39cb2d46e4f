// Reads captured frames by the formats' own documents (pcap-savefile(5), RFC 791, 768, 8200, SPEAD), without any code of the
// library.

/** Frames of an Ethernet pcap file, little-endian, micro- or nanoseconds. */
export function framesOf(pcap) {
  if (pcap.length < 24) return []
  const magic = pcap.readUInt32LE(0)
  if (magic !== 0xa1b2c3d4 && magic !== 0xa1b23c4d) throw new Error('not a pcap file of this byte order (use tcpdump -w)')
  if (pcap.readUInt32LE(20) !== 1) throw new Error('not captured on Ethernet')
  const frames = []
  for (let at = 24; at + 16 <= pcap.length; ) {
    const length = pcap.readUInt32LE(at + 8)
    if (at + 16 + length > pcap.length) break
    frames.push({ bytes: pcap.subarray(at + 16, at + 16 + length), cut: length < pcap.readUInt32LE(at + 12) })
    at += 16 + length
  }
  return frames
}

/** Ones' complement sum of 16-bit words, an odd last byte padded. */
function sum(bytes, start = 0) {
  let total = start
  for (let i = 0; i + 1 < bytes.length; i += 2) total += bytes.readUInt16BE(i)
  if (bytes.length % 2) total += bytes[bytes.length - 1] << 8
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

const mac = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')

/** A UDP datagram in an Ethernet frame, or undefined. Checksums: 'right', 'wrong', 'none'. */
export function datagramOf(frame) {
  let at = 12
  let vlan
  if (frame.readUInt16BE(at) === 0x8100) {
    vlan = frame.readUInt16BE(at + 2) & 0xfff
    at += 4
  }
  const type = frame.readUInt16BE(at)
  const ip = frame.subarray(at + 2)
  const v6 = type === 0x86dd
  if (!v6 && type !== 0x0800) return undefined
  const headerBytes = v6 ? 40 : (ip[0] & 15) * 4
  if (ip[v6 ? 6 : 9] !== 17) return undefined
  const udp = ip.subarray(headerBytes, headerBytes + ip.readUInt16BE(headerBytes + 4))
  const pseudo = Buffer.concat([
    v6 ? ip.subarray(8, 40) : ip.subarray(12, 20),
    Buffer.from([0, 17, udp.length >> 8, udp.length & 255]),
  ])
  const fragment = !v6 && (ip.readUInt16BE(6) & 0x3fff) !== 0
  return {
    from: mac(frame.subarray(6, 12)),
    to: mac(frame.subarray(0, 6)),
    vlan,
    hops: ip[v6 ? 7 : 8],
    fragment,
    destinationPort: udp.readUInt16BE(2),
    ipChecksum: v6 ? 'none' : sum(ip.subarray(0, headerBytes)) === 0xffff ? 'right' : 'wrong',
    udpChecksum: udp.readUInt16BE(6) === 0 ? 'none' : sum(udp, sum(pseudo)) === 0xffff ? 'right' : 'wrong',
    payload: udp.subarray(8),
  }
}

/** Heap cnt, heap length and payload length of a SPEAD-64-48 packet, or undefined. */
export function packetOf(payload) {
  if (payload.length < 8 || payload[0] !== 0x53 || payload[1] !== 4 || payload[2] !== 2 || payload[3] !== 6) return undefined
  const values = new Map()
  const pointers = payload.readUInt16BE(6)
  for (let i = 0; i < pointers; i++) {
    const at = 8 + 8 * i
    if (payload[at] & 0x80) values.set(((payload[at] & 0x7f) << 8) | payload[at + 1], payload.readUIntBE(at + 2, 6))
  }
  return {
    cnt: values.get(1),
    heapBytes: values.get(2),
    payloadBytes: values.get(4),
    samples: payload.subarray(8 + 8 * pointers),
    ids: values,
  }
}

/**
 * Data heaps (those with a timestamp, 0x1600) in the packets: how many are whole, which are not, which are missing between the
 * first and the last, and in how many packets not every sample is the same, as it is in the tutorial's heaps.
 */
export function heapsOf(payloads) {
  const heaps = new Map()
  for (const payload of payloads) {
    const packet = packetOf(payload)
    if (packet?.cnt === undefined) continue
    const heap = heaps.get(packet.cnt) ?? { bytes: 0, of: packet.heapBytes, data: false, uneven: 0 }
    heap.bytes += packet.payloadBytes
    heap.data ||= packet.ids.has(0x1600)
    if (packet.samples.some((byte) => byte !== packet.samples[0])) heap.uneven++
    heaps.set(packet.cnt, heap)
  }
  const data = [...heaps].filter(([, heap]) => heap.data).sort(([a], [b]) => a - b)
  const partial = data.filter(([, heap]) => heap.bytes !== heap.of).map(([cnt]) => cnt)
  const missing = []
  for (let i = 1; i < data.length; i++) if (data[i][0] > data[i - 1][0] + 1) missing.push([data[i - 1][0] + 1, data[i][0] - 1])
  const last = data.at(-1)?.[0]
  const wrongPackets = data.reduce((sum, [, heap]) => sum + heap.uneven, 0)
  return { whole: data.length - partial.length, partial, missing, last, wrongPackets }
}
