/**
 * The RDMA device and port behind an interface or an address: plain ones, VLANs, bonds, and neither. sysfs and librdmacm
 * agree.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { portInterfaces } from '#dist/ffi/netlink/rdma.js'
import { links } from '#dist/ffi/netlink/route.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { explainBackends } from '#dist/src/devices/index.js'
import { rdmaDevices, rdmaPathOf } from '#dist/src/rdma/devices.js'
import { interfacesOfPort } from '#dist/src/rdma/netdevs.js'
import { ended, ifindexOf, program, sh, until, withContext } from './support.js'

const library = VerbsLibrary.load()

before(() => {
  sh(`
    ip link add link rx0 name rx0.100 type vlan id 100
    ip link set rx0.100 up
    ip address add 10.98.100.1/24 dev rx0.100
    ip link add link rx0 name rx0.101 type vlan id 101
    ip link set rx0.101 up
    ip link add plain type veth peer name plain-end
    ip link set plain up
    ip address add 10.98.7.1/24 dev plain
    ip link add bond0 type bond mode active-backup miimon 100
    ip link add port0 type veth peer name port0-end
    ip link set port0 master bond0
    ip link set port0-end up
    ip link set bond0 up
    ip address add 10.98.8.1/24 dev bond0
    ip link add link bond0 name bond0.200 type vlan id 200
    ip link set bond0.200 up
    ip address add 10.98.200.1/24 dev bond0.200
    rdma link add rxe2 type rxe netdev port0`)
})

after(() => {
  sh(`
    rdma link del rxe2
    ip link del bond0
    ip link del port0
    ip link del plain
    rxe up`)
})

const pathOf = (name: string) => rdmaPathOf(library, ifindexOf(name))

test('the GID table is the one in sysfs: indexes, types, interfaces', async () => {
  const table = '/sys/class/infiniband/rxe0/ports/1'
  // A VLAN's address becomes a GID of the device below it.
  const count = () =>
    readdirSync(`${table}/gids`).filter(
      (i) => Number(i) < 16 && !/^0000:(0000:?){7}$/.test(readFileSync(`${table}/gids/${i}`, 'utf8').trim()),
    )
  const indexes = await until(count, (all) => all.length >= 5)
  const theirs = indexes.map(Number).map((index) => ({
    gid: readFileSync(`${table}/gids/${index}`, 'utf8').trim().replaceAll(':', ''),
    index,
    port: 1,
    type: readFileSync(`${table}/gid_attrs/types/${index}`, 'utf8').trim() === 'RoCE v2' ? 2 : 1,
    ifindex: ifindexOf(readFileSync(`${table}/gid_attrs/ndevs/${index}`, 'utf8').trim()),
  }))
  theirs.sort((a, b) => a.index - b.index)
  await withContext('rxe0', (context) => {
    const ours = context.gids()!.map(({ bytes, ...gid }) => ({ gid: Buffer.from(bytes).toString('hex'), ...gid }))
    assert.deepEqual(ours, theirs)
  })
  assert.ok(theirs.some(({ ifindex }) => ifindex === ifindexOf('rx0.100')))
})

test('a device lists the interface that it is first, and the VLANs on it', () => {
  const [rxe0, rxe1] = rdmaDevices(library).filter(({ name }) => name !== 'rxe2')
  const names = ({ ports }: typeof rxe0 & object) => ports[0]!.interfaces.map(({ name }) => name)
  assert.deepEqual(names(rxe0!).slice(0, 2), ['rx0', 'rx0.100'])
  assert.deepEqual(names(rxe1!), ['rx1'])
})

test('interfaces lead to their device: by themselves, by a VLAN with and without an address, by a bond and a VLAN on it', () => {
  const rxe = (device: string, interfaces: string[], ...vlans: number[]) => ({
    device,
    port: 1,
    vlans: vlans.map((id) => ({ id, protocol: 0x8100 })),
    interfaces,
  })
  assert.deepEqual(pathOf('rx0'), rxe('rxe0', ['rx0']))
  assert.deepEqual(pathOf('rx1'), rxe('rxe1', ['rx1']))
  assert.deepEqual(pathOf('rx0.100'), rxe('rxe0', ['rx0.100', 'rx0'], 100))
  assert.deepEqual(pathOf('rx0.101'), rxe('rxe0', ['rx0.101', 'rx0'], 101))
  // The bond's GIDs are those of the active port's device.
  assert.deepEqual(pathOf('bond0'), rxe('rxe2', ['bond0']))
  assert.deepEqual(pathOf('bond0.200'), rxe('rxe2', ['bond0.200', 'bond0'], 200))
})

test('the kernel tells the interface of a port by RDMA netlink, which needs no GIDs', () => {
  assert.deepEqual([...portInterfaces('rxe0')], [[1, ifindexOf('rx0')]])
  assert.deepEqual([...portInterfaces('rxe1')], [[1, ifindexOf('rx1')]])
  assert.deepEqual([...portInterfaces('none')], [])
  const names = (device: string) => interfacesOfPort(device, 1, links()).map(({ name }) => name)
  assert.deepEqual([names('rxe0'), names('rxe1')], [['rx0'], ['rx1']])
})

test('an interface with no device behind it is told so, with the devices there are', () => {
  assert.throws(
    () => pathOf('plain'),
    /no RDMA device is behind interface plain; there are: rxe0 \(rx0, rx0\.100.*\), rxe1 \(rx1\), rxe2 \(.*(port0|bond0).*\)/,
  )
  assert.throws(() => pathOf('lo'), /no RDMA device is behind interface lo/)
})

test('librdmacm finds the same devices by address', async () => {
  // In a process of its own: librdmacm keeps a device that it found open, and soft-RoCE is not removed before its last user ends.
  const addresses = ['10.98.0.1', '10.98.0.2', '10.98.100.1', 'fd98::2', '10.98.8.1', '10.98.7.1', '127.0.0.1']
  const { stdout, stderr } = await ended(program('device-of-address', ...addresses))
  assert.notEqual(stdout, '', stderr)
  const rxe = (i: number) => ({ device: `rxe${i}`, port: 1 })
  assert.deepEqual(JSON.parse(stdout), [rxe(0), rxe(1), rxe(0), rxe(1), rxe(2), null, null])
})

test('auto through a VLAN and through a bond names the device below', async () => {
  for (const [name, device] of [
    ['rx0.100', 'rxe0'],
    ['bond0', 'rxe2'],
    ['bond0.200', 'rxe2'],
  ] as const) {
    const { backend, reason } = await explainBackends('239.10.0.1:7148', { interface: name })
    assert.equal(backend, 'udp')
    assert.match(reason, new RegExp(`ibv_create_qp failed: EOPNOTSUPP \\(${device}\\), errno 95`))
  }
  const { reason } = await explainBackends('239.10.0.1:7148', { interface: 'plain' })
  assert.match(reason, /no RDMA device is behind interface plain/)
})
