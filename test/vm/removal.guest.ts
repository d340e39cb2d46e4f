/** `rdma link del` under an open context. The kernel waits for the last user of soft-RoCE, so we must let go. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Region } from '#dist/ffi/memory/region.js'
import { deviceNames, VerbsContext } from '#dist/ffi/verbs/context.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { explainBackends, listRdmaDevices } from '#dist/src/devices/index.js'
import { resources, sh, started, until } from './support.js'
import { UdQueue } from './ud.js'

const library = VerbsLibrary.load()
after(() => sh('rxe up'))

test('a device removed while it is open: the removal ends when everything is given back, and the context stays harmless', async () => {
  const context = VerbsContext.open(library, 'rxe1')
  const domain = context.allocateDomain()
  const region = Region.allocate(1 << 16)
  const registration = domain.register(region.address, region.byteLength)
  const queue = new UdQueue(context, domain)
  queue.arm()
  const removal = started(['rdma', 'link', 'del', 'rxe1'])
  let removed = false
  void removal.end.then(() => {
    removed = true
  })
  // New programs do not find the device any more, and the kernel waits for us.
  await until(
    () => deviceNames(library),
    (names) => !names.includes('rxe1'),
  )
  assert.equal(removed, false)
  assert.deepEqual(queue.poll(), [])
  assert.equal(context.event(), undefined)
  queue.close()
  registration.release()
  domain.release()
  context.close()
  assert.equal(await removal.end, 0, removal.text())
  region.release()
  assert.deepEqual(
    listRdmaDevices().map(({ name }) => name),
    ['rxe0'],
  )
  assert.deepEqual(resources('ctx', 'rxe0'), [])
  const { backend, reason } = await explainBackends('239.10.0.1:7148', { interface: 'rx1' })
  assert.equal(backend, 'udp')
  assert.match(reason, /no RDMA device is behind interface rx1; there are: rxe0 \(rx0\)/)
})

test('a device that comes back is used again by the same process', async () => {
  sh('rdma link add rxe1 type rxe netdev rx1')
  const { reason } = await explainBackends('239.10.0.1:7148', { interface: 'rx1' })
  assert.match(reason, /EOPNOTSUPP \(rxe1\), errno 95/)
})

test('without any device: said so, and not an error', async () => {
  sh('rxe down')
  assert.deepEqual(listRdmaDevices(), [])
  sh('rxe up')
  assert.equal(listRdmaDevices().length, 2)
})
