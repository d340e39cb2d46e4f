/**
 * The udp backend through a real 802.1Q interface, which the hosts of our tests lack: frames on the wire, and heaps that arrive.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { explainBackends } from '#dist/src/devices/index.js'
import { openStream } from '#dist/src/index.js'
import { program, sendTutorial, sh, started, until } from './support.js'

const NS = 'peer'
const HEAPS = 20
const HEAP_BYTES = 30_000

/** Endpoint, and the largest packet of an MTU of 1500. */
const ENDPOINTS = [
  ['10.97.42.2:7148', 1472],
  ['[fd97:42::2]:7149', 1452],
  ['239.10.42.1:7150', 1472],
] as const

const inPeer = (...argv: string[]) => started(['ip', 'netns', 'exec', NS, ...argv])
let receivers: ReturnType<typeof started>

before(async () => {
  sh(`
    echo ${8 << 20} >/proc/sys/net/core/rmem_max
    ip netns add ${NS}
    ip link add trunk type veth peer name trunk-end netns ${NS}
    ip link set trunk up
    ip link add link trunk name trunk.42 type vlan id 42 egress-qos-map 0:5
    ip link set trunk.42 up
    ip address add 10.97.42.1/24 dev trunk.42
    ip address add fd97:42::1/64 dev trunk.42 nodad
    ip -n ${NS} link set lo up
    ip -n ${NS} link set trunk-end up
    ip -n ${NS} link add link trunk-end name tagged type vlan id 42
    ip -n ${NS} link set tagged up
    ip -n ${NS} address add 10.97.42.2/24 dev tagged
    ip -n ${NS} address add fd97:42::2/64 dev tagged nodad`)
  receivers = inPeer(...program('receive', String(HEAPS), ...ENDPOINTS.map(([to]) => to)))
  await until(receivers.text, (text) => text.includes('ready'), 50_000)
})

after(() => {
  receivers.child.kill('SIGKILL')
  sh(`ip netns del ${NS}; ip link del trunk 2>/dev/null; true`)
})

for (const [i, [to, packetSizeBytes]] of ENDPOINTS.entries())
  test(`to ${to} through a VLAN: every heap arrives whole, and frames are tagged`, async () => {
    const capture = inPeer('tcpdump', '-nn', '-e', '-U', '-c', '3', '-i', 'trunk-end', 'vlan 42 and udp')
    await until(capture.text, (text) => text.includes('listening on'))
    await using stream = await openStream({ to, interface: 'trunk.42', packetSizeBytes, backend: 'udp', ttl: 1, thread: 'inline' })
    const { backend } = await sendTutorial(stream, HEAPS, HEAP_BYTES)
    assert.equal(backend, 'udp')
    const { packets, udpBytes, wireBytes } = stream.stats()
    // Preamble 8, Ethernet with a tag 18, IP 20 or 40, UDP 8, FCS 4, gap 12 (IEEE 802.3 and 802.1Q).
    assert.equal(wireBytes, udpBytes + packets * (to.startsWith('[') ? 90 : 70))
    const ends = await until(
      () =>
        receivers
          .text()
          .split('\n')
          .filter((line) => line.startsWith('{')),
      (lines) => lines.length === i + 1,
      30_000,
    )
    assert.deepEqual(JSON.parse(ends[i]!), { heaps: HEAPS, heapsCorrupt: 0, reason: 'heaps', bytes: true })
    await capture.end
    assert.match(capture.text(), /ethertype 802\.1Q \(0x8100\).* vlan 42, p 5, ethertype IPv[46]/)
  })

test('a packet that fits the link but not the VLAN is refused before anything is sent', async () => {
  sh('ip link set trunk.42 mtu 1400')
  try {
    const options = { to: '10.97.42.2:7148', interface: 'trunk.42', backend: 'udp' } as const
    await assert.rejects(openStream({ ...options, packetSizeBytes: 1373 }), /1373.*trunk\.42.*1372/s)
    const stream = await openStream({ ...options, packetSizeBytes: 1372 })
    await stream.close()
  } finally {
    sh('ip link set trunk.42 mtu 1500')
  }
})

test('auto resolves the VLAN as any interface', async () => {
  const { backend, reason } = await explainBackends('10.97.42.2:7148')
  assert.equal(backend, 'udp')
  assert.match(reason, /no RDMA device is behind interface trunk\.42/)
})
