/** Which NUMA node a receiver's memory is bound to, with a /sys of the test's own. Node 0 is there on every machine. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { openReceiver } from 'speadcast/receive'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { bindingRefused } from '#dist/ffi/memory/numa.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { numaNodes } from '#dist/src/net/numa.js'
import { receiverPlace } from '#dist/src/receive/numa.js'
import { freePort } from '../support/cli.js'
import { need } from '../support/need.js'

const root = mkdtempSync(join(tmpdir(), 'speadcast-sysfs-'))
afterAll(() => rmSync(root, { recursive: true }))

beforeEach((ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'interfaces are asked of Linux')
  const refused = bindingRefused(0)
  need(ctx, refused === undefined, `${refused}`)
})

for (const [path, text] of [
  ['devices/system/node/online', '0-1\n'],
  ['class/net/lo/device/numa_node', '0\n'],
  ['class/infiniband/mlx5_0/device/numa_node', '0\n'],
] as const) {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
}

const OF_LO = { node: 0, states: { numaNode: 0, numaNodeReason: 'that of lo' } }
const OF_DEVICE = { node: 0, states: { numaNode: 0, numaNodeReason: 'that of mlx5_0' } }
const NOWHERE = { node: -1, states: { numaNodeReason: 'nothing is bound: no node is told of the NIC' } }

interface Row {
  readonly joinedOn?: string
  readonly device?: string
  readonly interface?: { readonly name: string }
}

const rows: [string, string, Row, object][] = [
  ['an address of the interface', '127.0.0.1:7148', {}, OF_LO],
  ['a group that is joined on it', '239.10.0.1:7148', { joinedOn: 'lo' }, OF_LO],
  ['the interface that was named', '0.0.0.0:7148', { interface: { name: 'lo' } }, OF_LO],
  ['the device that was named', '0.0.0.0:7148', { device: 'mlx5_0:1' }, OF_DEVICE],
  ['all interfaces', '0.0.0.0:7148', {}, NOWHERE],
  ['an address of nobody', '192.0.2.1:7148', {}, NOWHERE],
]

test.for(rows)('%s', async ([, text, { joinedOn, ...named }, place]) => {
  const resolved = await resolveEndpoints(parseEndpoints([text]))
  const endpoints = resolved.map((endpoint) => ({ ...endpoint, joinedOn, interfaceIndex: 0, interfaceName: undefined }))
  expect(receiverPlace({ endpoints, interface: undefined, device: undefined, ...named } as never, root)).toEqual(place)
})

test('an open receiver tells the node, and nothing on a machine of one node', async () => {
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${await freePort()}` })
  const { numaNode, numaNodeReason } = receiver.stats()
  expect(numaNode).toBeUndefined()
  expect(numaNodeReason === undefined).toBe(numaNodes().length < 2)
})
