/** What the package tells of a real RDMA device, soft-RoCE's, through Debian's libibverbs and the kernel's uverbs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listRdmaDevices } from '#dist/src/devices.js'

test('soft-RoCE devices are listed with their interfaces, and raw packets refused with the errno', () => {
  const devices = listRdmaDevices()
  assert.deepEqual(
    devices.map(({ name, ports }) => [name, ports[0]!.interfaces]),
    [
      ['rxe0', ['rx0']],
      ['rxe1', ['rx1']],
    ],
  )
})
