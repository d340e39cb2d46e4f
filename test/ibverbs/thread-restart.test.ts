/** An I/O thread dies under a stream of backend ibverbs that outlives it: another has a queue pair of its own, and no heap is told wrong. */
import { expect, test } from 'vitest'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { IoThread, ItemGroup, openStream, type SendError } from '#dist/src/index.js'
import { inNamespace, needNic, nicHere } from '../support/nic.js'
import { plantFault } from '../support/planted-fault.js'
import { openReceivers } from '../support/receivers.js'

const here = nicHere({ veth: { mtu: 9000 } }, {}, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

test('what was under way fails with its fate, and the rest goes on from another queue pair', async (ctx) => {
  needNic(ctx)
  const fault = plantFault()
  const receivers = await inNamespace(here.ns.name.b, () => openReceivers(1, '10.77.0.2'))
  const items = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: '|u1', shape: [1000] })
  // Threads are where the thread was that started them.
  const thread = await inNamespace(here.ns.name.a, async () => new IoThread())
  const stream = await inNamespace(here.ns.name.a, () =>
    openStream({
      to: receivers.endpoints.map(({ text }) => text),
      backend: 'ibverbs',
      descriptors: 'none',
      onThreadDeath: 'restart',
      thread,
      rate: 40_000,
      burstBytes: 1,
    }),
  )
  const sends = [4, 40, 4, 4].map((heaps) => stream.send(stream.createBatch({ items, heaps })))
  await sends[0]
  await expect.poll(() => stream.stats().packets).toBeGreaterThan(6)
  // The next thread opens the device where this one is.
  const results = await inNamespace(here.ns.name.a, async () => {
    fault()
    return Promise.allSettled(sends)
  })
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  const error = (results[1] as PromiseRejectedResult).reason as SendError
  expect(error.code).toBe('ERR_SPEADCAST_WORKER')
  expect(error.outcome.heaps.join()).toMatch(/^(unknown,)+(flushed,)*flushed$/)
  expect(stream.stats()).toMatchObject({ threadRestarts: 1, heapsSent: 12, heapsFailed: 40 })
  await stream.close()
  await thread.close()
  await receivers.close()
})
