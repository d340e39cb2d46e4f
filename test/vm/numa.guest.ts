/** Memory on the NIC's NUMA node, in a machine that has two of them: CPU 0 is on node 0, CPU 1 and a network card are on node 1. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { ended, program, sh } from './support.js'

const PORT = 7148
let nic = ''

before(() => {
  sh('/run/modprobe virtio_net')
  nic = sh('ls /sys/bus/virtio/drivers/virtio_net/virtio*/net').trim()
  sh(
    `ip link set ${nic} up && ip address add 10.99.0.1/24 dev ${nic} && ip neighbour add 10.99.0.2 lladdr 02:00:00:00:99:02 dev ${nic}`,
  )
})

after(() => sh('/run/modprobe -r virtio_net'))

test('the machine has two nodes, and the card is on the second', () => {
  assert.equal(readFileSync('/sys/devices/system/node/online', 'utf8'), '0-1\n')
  assert.equal(sh(`cat "$(readlink -f /sys/class/net/${nic}/device)/../numa_node"`), '1\n')
})

test('batches, the ring with its accounts, and a receiver’s memory lie on the card’s node, though all threads run on the other', async () => {
  const { code, stdout, stderr } = await ended(program('numa', nic, `10.99.0.1:${PORT}`, `10.99.0.2:${PORT}`))
  assert.equal(code, 0, stderr)
  const { near, far, received } = JSON.parse(stdout)
  const told = { numaNode: 1, numaNodeReason: `that of ${nic}` }
  const { bound, ...stream } = near
  assert.deepEqual(stream, { ...told, payload: [1], rings: [[1]] })
  assert.ok(bound.near >= 1024 && bound.far === 0, JSON.stringify(bound))
  // By loopback nothing is bound, so memory lies where it was touched first.
  assert.deepEqual([far.numaNode, far.numaNodeReason, far.payload], [undefined, 'nothing is bound: no node is told of lo', [0]])
  const { kibibytes, ...receiver } = received
  assert.deepEqual(receiver, { heaps: 4, ...told, far: 0 })
  assert.ok(kibibytes >= 256, `${kibibytes} KiB`)
})
