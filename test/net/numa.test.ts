/** NUMA nodes of interfaces and devices, from a /sys of the test's own, as machines with several nodes have it. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { bindingRefused } from '#dist/ffi/memory/numa.js'
import { numaPlace } from '#dist/src/backend/numa.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { cpusOfNode, nodeOfDevice, nodeOfInterface, numaNodes, rangesOf } from '#dist/src/net/numa.js'
import { need } from '../support/need.js'

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

/** A /sys with these files. A name that ends with a slash is a folder. */
function sysfs(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'speadcast-sysfs-'))
  folders.push(root)
  for (const [name, text] of Object.entries(files)) {
    const path = join(root, name)
    mkdirSync(name.endsWith('/') ? path : dirname(path), { recursive: true })
    if (!name.endsWith('/')) writeFileSync(path, text)
  }
  return root
}

const TWO = {
  'devices/system/node/online': '0-1\n',
  'devices/system/node/node0/cpulist': '0-3,8-11\n',
  'devices/system/node/node1/cpulist': '4-7,12-15\n',
}

const MACHINE = sysfs({
  ...TWO,
  'class/net/eth0/device/numa_node': '0\n',
  'class/net/eth1/device/numa_node': '1\n',
  'class/net/eth2/device/numa_node': '-1\n',
  // A VLAN on eth1, a bond of two on one node with a VLAN on it, a bond across nodes, a bridge of nothing.
  'class/net/eth1.5/lower_eth1/': '',
  'class/net/eth3/device/numa_node': '1\n',
  'class/net/bond0/lower_eth1/': '',
  'class/net/bond0/lower_eth3/': '',
  'class/net/bond0.7/lower_bond0/': '',
  'class/net/bond1/lower_eth0/': '',
  'class/net/bond1/lower_eth1/': '',
  'class/net/bond2/lower_eth1/': '',
  'class/net/bond2/lower_eth2/': '',
  'class/net/br0/': '',
  'class/net/lo/': '',
  'class/net/loop0/lower_loop0/': '',
  'class/net/odd/device/numa_node': 'nonsense\n',
  'class/infiniband/mlx5_0/device/numa_node': '1\n',
  // A virtio device on its PCI device.
  'devices/pci0000:40/0000:40:00.0/0000:41:00.0/numa_node': '1\n',
  'devices/pci0000:40/0000:40:00.0/0000:41:00.0/virtio0/net/eth9/': '',
  'class/net/eth9/': '',
})
symlinkSync('../../../devices/pci0000:40/0000:40:00.0/0000:41:00.0/virtio0', join(MACHINE, 'class/net/eth9/device'))

test.for([
  ['0', [0]],
  ['0-3,8\n', [0, 1, 2, 3, 8]],
  ['', []],
  ['\n', []],
  ['3-1', []],
  ['x', []],
] as const)('the list %j', ([text, numbers]) => {
  expect(rangesOf(text)).toEqual(numbers)
})

test('which nodes there are, and their CPUs', () => {
  expect(numaNodes(MACHINE)).toEqual([0, 1])
  expect(cpusOfNode(1, MACHINE)).toEqual([4, 5, 6, 7, 12, 13, 14, 15])
  expect(numaNodes(sysfs({}))).toEqual([])
})

test.for([
  ['eth0', 0],
  ['eth1', 1],
  ['eth2', -1],
  ['eth9', 1],
  ['eth1.5', 1],
  ['bond0', 1],
  ['bond0.7', 1],
  ['bond1', -1],
  ['bond2', -1],
  ['br0', -1],
  ['lo', -1],
  ['loop0', -1],
  ['odd', -1],
  ['gone', -1],
] as const)('%s is on node %d', ([name, node]) => {
  expect(nodeOfInterface(name, MACHINE)).toBe(node)
})

test('an RDMA device has a node too', () => {
  expect(nodeOfDevice('mlx5_0', MACHINE)).toBe(1)
  expect(nodeOfDevice('mlx5_1', MACHINE)).toBe(-1)
})

describe('where a stream binds its memory', () => {
  const placeOf = async (
    root: string,
    { backend = 'udp', device }: { backend?: 'udp' | 'pcap' | 'rdma-ud'; device?: string } = {},
  ) =>
    numaPlace(
      { backend, endpoints: await resolveEndpoints(parseEndpoints(['127.0.0.1:7148'])), interface: undefined, device },
      root,
    )

  test('nowhere, and nothing is told, where there is one node or none, or no NIC', async (ctx) => {
    need(ctx, process.platform === 'linux', 'routes are asked of Linux')
    const one = sysfs({ 'devices/system/node/online': '0\n', 'class/net/lo/device/numa_node': '0\n' })
    const two = sysfs({ ...TWO, 'class/net/lo/device/numa_node': '0\n' })
    expect(await placeOf(one)).toEqual({ node: -1, states: {} })
    expect(await placeOf(sysfs({}))).toEqual({ node: -1, states: {} })
    expect(await placeOf(two, { backend: 'pcap' })).toEqual({ node: -1, states: {} })
  })

  test('on the NIC’s node, by the route, or on that of the device that was named', async (ctx) => {
    need(ctx, process.platform === 'linux' && nativeCallsWork(), 'routes are asked of Linux')
    const refused = bindingRefused(0)
    need(ctx, refused === undefined, `${refused}`)
    const two = sysfs({ ...TWO, 'class/net/lo/device/numa_node': '0\n', 'class/infiniband/mlx5_0/device/numa_node': '0\n' })
    expect(await placeOf(two)).toEqual({ node: 0, states: { numaNode: 0, numaNodeReason: 'that of lo' } })
    const named = await placeOf(two, { backend: 'rdma-ud', device: 'mlx5_0:1' })
    expect(named).toEqual({ node: 0, states: { numaNode: 0, numaNodeReason: 'that of mlx5_0' } })
  })

  test('nowhere, and the reason is told, where no node is known, or the kernel refuses it', async (ctx) => {
    need(ctx, process.platform === 'linux' && nativeCallsWork(), 'routes are asked of Linux')
    expect(await placeOf(sysfs(TWO))).toEqual({
      node: -1,
      states: { numaNodeReason: 'nothing is bound: no node is told of lo' },
    })
    // No machine here has that node.
    const far = sysfs({ ...TWO, 'class/net/lo/device/numa_node': '1000\n' })
    expect(await placeOf(far)).toEqual({
      node: -1,
      states: { numaNodeReason: expect.stringMatching(/^nothing is bound to node 1000, that of lo: mbind failed: E\w+ /) },
    })
  })
})
