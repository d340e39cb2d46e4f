/**
 * Backend ibverbs through a bond whose ports have devices of their own, as where the NIC does not offload it, and through stacked VLANs:
 * which port frames leave by, and with which tags. The devices are software NICs, because soft-RoCE has no raw packets.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { sendTutorial, sh, started, until } from './support.js'

/** scripts/vm/suite.mjs builds it. */
const SOFTNIC = '.cache/vm-softnic'
const skip = existsSync(`${SOFTNIC}/libibverbs.so.1`)
  ? false
  : 'the software NIC was not built: it takes a C compiler and libibverbs-dev'
const HEAPS = 40
const HEAP_BYTES = 30_000
const OPTIONS: StreamOptions = {
  to: '239.10.0.1:7148',
  interface: 'team',
  backend: 'ibverbs',
  packetSizeBytes: 1400,
  ibverbs: { library: `${SOFTNIC}/libibverbs.so.1` },
}

before(() => {
  // The device of the port that does not send is listed first.
  Object.assign(process.env, {
    SOFTNIC_MODE: 'wire',
    SOFTNIC_NETDEVS: 'port1,port0',
    SPEADCAST_RDMACM_LIBRARY: `${SOFTNIC}/librdmacm.so.1`,
  })
  sh(`
    sysctl -q net.ipv6.conf.default.disable_ipv6=1
    ip link add team type bond mode active-backup miimon 50
    for i in 0 1; do
      ip link add port$i type veth peer name far$i
      ip link set port$i gso_max_segs 1
      ip link set port$i master team
      ip link set far$i up
    done
    ip link set team type bond active_slave port0
    ip link set team up
    ip address add 10.96.0.1/24 dev team
    ip link add link team name team.5 type vlan proto 802.1ad id 5
    ip link set team.5 up
    ip link add link team.5 name team.5.6 type vlan id 6
    ip link set team.5.6 up
    ip address add 10.96.6.1/24 dev team.5.6`)
})

after(() => {
  sh('ip link del team; ip link del port0; ip link del port1')
})

const receivedBy = (i: number) => Number(readFileSync(`/sys/class/net/far${i}/statistics/rx_packets`, 'utf8'))

/** Sends heaps, and tells how many frames left by each port. */
async function frames(stream: Stream): Promise<readonly [number, number]> {
  const before = [receivedBy(0), receivedBy(1)] as const
  await sendTutorial(stream, HEAPS, HEAP_BYTES)
  return [receivedBy(0) - before[0], receivedBy(1) - before[1]]
}

const LEAST = (HEAPS * HEAP_BYTES) / 1400
/** The bond and the test's own commands send a frame now and then. */
const STRAY = 20

function leftBy(port: 0 | 1, counts: readonly [number, number]): void {
  assert.ok(
    counts[port] >= LEAST && counts[1 - port]! < STRAY,
    `${counts} frames left by the two ports, of them ${LEAST} by port${port}`,
  )
}

for (const thread of ['worker', 'inline'] as const)
  test(`frames leave by the port that the bond sends by, and follow it, ${thread}`, { skip }, async () => {
    sh('ip link set team type bond active_slave port0')
    await using stream = await openStream({ ...OPTIONS, thread })
    leftBy(0, await frames(stream))
    assert.equal(stream.stats().states.device, 'softnic1')
    sh('ip link set team type bond active_slave port1')
    leftBy(1, await frames(stream))
    const { device, recoveries, trouble } = stream.stats().states
    assert.deepEqual(
      { device, recoveries, trouble },
      { device: 'softnic0', recoveries: 1, trouble: 'the bond sends by another port' },
    )
    // The link of the port is lost.
    sh('ip link set far1 down')
    await until(
      () => readFileSync('/sys/class/net/team/bonding/active_slave', 'utf8'),
      (port) => port.trim() === 'port0',
    )
    leftBy(0, await frames(stream))
    sh('ip link set far1 up')
  })

test('stacked VLANs on a bond: each tag with its protocol, the outer first', { skip }, async () => {
  sh('ip link set team type bond active_slave port0')
  const capture = started(['tcpdump', '-nn', '-e', '-U', '-c', '3', '-i', 'far0', 'ether proto 0x88a8 or vlan'])
  await until(capture.text, (text) => text.includes('listening on'))
  await using stream = await openStream({ ...OPTIONS, interface: 'team.5.6', thread: 'inline' })
  leftBy(0, await frames(stream))
  assert.equal(stream.stats().states.vlan, '5.6')
  await capture.end
  assert.match(capture.text(), /ethertype 802\.1Q-QinQ \(0x88a8\).* vlan 5, p 0, ethertype 802\.1Q.* vlan 6, p 0, ethertype IPv4/)
})

test('a bond without a port that is up has no device', { skip }, async () => {
  sh('ip link set far0 down; ip link set far1 down')
  try {
    await until(
      () => readFileSync('/sys/class/net/team/bonding/active_slave', 'utf8'),
      (port) => port.trim() === '',
    )
    await assert.rejects(
      openStream(OPTIONS),
      /no RDMA device is behind interface team; there are: softnic0 \(port1\), softnic1 \(port0\)/,
    )
  } finally {
    sh('ip link set far0 up; ip link set far1 up')
  }
})
