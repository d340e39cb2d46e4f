/** The udp backend through a real 802.1Q interface, which hosts of this project's kind lack: what is on the wire, and what arrives. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { CLI, ended, sh, speadcast, started, until } from './support.js'

const NS = 'peer'
const HEAPS = 40
const HEAP_BYTES = 30_000

before(() => {
  sh(`
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
})

after(() => sh(`ip netns del ${NS}; ip link del trunk 2>/dev/null; true`))

const received = (device: string): number =>
  JSON.parse(sh(`ip -n ${NS} -s -json link show ${device}`))[0].stats64.rx.packets as number

for (const [name, to, packetBytes] of [
  ['IPv4 unicast', '10.97.42.2:7148', 1472],
  ['IPv6 unicast', '[fd97:42::2]:7148', 1452],
  ['IPv4 multicast', '239.10.42.1:7148', 1472],
] as const)
  test(`${name} through a VLAN: every heap arrives, tagged, in packets of the VLAN's MTU`, async () => {
    const capture = started([
      'ip',
      'netns',
      'exec',
      NS,
      'tcpdump',
      '-nn',
      '-e',
      '-U',
      '-c',
      '3',
      '-i',
      'trunk-end',
      'udp port 7148 or (vlan and udp port 7148)',
    ])
    const receiver = started([
      'ip',
      'netns',
      'exec',
      NS,
      process.execPath,
      CLI,
      'recv',
      to,
      '--interface',
      'tagged',
      '--verify',
      '--json',
      '--heaps',
      `${HEAPS}`,
      '--timeout',
      '20',
    ])
    await until(
      () => sh(`ip netns exec ${NS} ss -Hlun`),
      (text) => text.includes(':7148'),
    )
    await until(capture.text, (text) => text.includes('listening on'))
    const before = received('tagged')
    const args = [
      '--interface',
      'trunk.42',
      '-n',
      `${HEAPS}`,
      '-H',
      `${HEAP_BYTES}`,
      '-p',
      `${packetBytes}`,
      '--backend',
      'udp',
      '--json',
    ]
    const sent = await speadcast('send', to, ...args)
    assert.equal(sent.code, 0, sent.stderr)
    assert.equal(await receiver.end, 0, receiver.text())
    const report = JSON.parse(
      receiver
        .text()
        .split('\n')
        .find((line) => line.startsWith('{'))!,
    )
    assert.deepEqual([report.heaps, report.heapsIncomplete, report.heapsCorrupt], [HEAPS, 0, 0])
    assert.equal(report.payloadBytes >= HEAPS * HEAP_BYTES, true)
    assert.ok(received('tagged') > before)
    await capture.end
    assert.match(capture.text(), /ethertype 802\.1Q \(0x8100\).* vlan 42, p 5, ethertype IPv[46]/)
  })

test('a packet that fits the link but not the VLAN is refused before anything is sent', async () => {
  sh('ip link set trunk.42 mtu 1400')
  try {
    const sent = await speadcast(
      'send',
      '10.97.42.2:7148',
      '--interface',
      'trunk.42',
      '-n',
      '1',
      '-p',
      '1472',
      '--backend',
      'udp',
      '--json',
    )
    assert.notEqual(sent.code, 0)
    assert.match(sent.stderr, /1472.*MTU.*1400|1400.*1372/s)
  } finally {
    sh('ip link set trunk.42 mtu 1500')
  }
})

test('doctor resolves the VLAN as any interface', async () => {
  const { code, stdout } = await ended([process.execPath, CLI, 'doctor', '10.97.42.2:7148', '--json'])
  assert.equal(code, 0)
  const { backend, reason } = JSON.parse(stdout)
  assert.equal(backend, 'udp')
  assert.match(reason, /no RDMA device is behind interface trunk\.42/)
})
