/** A receiver that has nothing to receive. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { freePort } from './support.js'

test('sleeps: in a second it takes less than a tenth of a CPU', async () => {
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${await freePort()}` })
  const heaps = receiver[Symbol.asyncIterator]()
  void heaps.next()
  await sleep(300)
  const before = process.cpuUsage()
  await sleep(1000)
  const { user, system } = process.cpuUsage(before)
  expect(user + system).toBeLessThan(100_000)
})
