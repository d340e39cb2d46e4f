/**
 * Writes packets into a pcap file instead of sending them, and reads their headers back. No network is touched. Packet 0 has the
 * descriptors, the last one stops the stream. `tshark -r dry-run.pcap` and Wireshark read the file too.
 *
 *     $ npx tsx docs/examples/dry-run.ts dry-run.pcap
 *     written: 8 heaps in 16 packets
 *     packet 0: 358 bytes to 239.10.0.1:7148, SPEAD-64-48, heap cnt 1
 *     packet 1: 8240 bytes to 239.10.0.1:7148, SPEAD-64-48, heap cnt 2
 *     packet 2: 8240 bytes to 239.10.0.1:7148, SPEAD-64-48, heap cnt 2
 *     …
 *     packet 17: 57 bytes to 239.10.0.1:7148, SPEAD-64-48, heap cnt 10
 *     $ rm dry-run.pcap
 */
import { readFileSync } from 'node:fs'
import { ItemGroup, openStream } from 'speadcast'

const [pcapPath = 'dry-run.pcap', to = '239.10.0.1:7148'] = process.argv.slice(2)
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [16384] })
{
  await using stream = await openStream({ to, backend: 'pcap', pcapPath, packetSizeBytes: 8972 })
  const batch = stream.createBatch({ items, heaps: 8 })
  batch.immediate('timestamp').setRamp(0, 16384)
  const { heaps, packets } = await stream.send(batch)
  console.log(`written: ${heaps} heaps in ${packets} packets`)
  await stream.sendEnd()
} // closed here: the file is whole

// The file's header has 24 bytes, each packet's 16; then Ethernet (14), IPv4 (20), UDP (8) and SPEAD.
const file = readFileSync(pcapPath)
for (let at = 24, packet = 0; at < file.length; packet++) {
  const frame = file.subarray(at + 16, at + 16 + file.readUInt32LE(at + 8))
  const [ip, udp, spead] = [frame.subarray(14), frame.subarray(34), frame.subarray(42)]
  const endpoint = `${ip.subarray(16, 20).join('.')}:${udp.readUInt16BE(2)}`
  const addressBits = spead.readUInt8(3) * 8
  const flavour = `SPEAD-${addressBits + spead.readUInt8(2) * 8}-${addressBits}`
  // The first item pointer of each packet is the heap cnt: an immediate (first bit) of id 1.
  console.log(`packet ${packet}: ${spead.length} bytes to ${endpoint}, ${flavour}, heap cnt ${spead.readUIntBE(10, 6)}`)
  at += 16 + frame.length
}
