/** While a loop sends on the software NIC, the thread that began it has its time for itself. */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { Nic, needNic } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import type { Report } from './loop.program.js'

test.for([0, 10e9 / 8])('at %i bytes per second the main thread sleeps', async (rate, ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const nic = new Nic({ mode: 'null' })
  const options = { to: '10.77.0.2:7148', packetSizeBytes: 8972, backend: 'ibverbs', ...(rate > 0 && { rate }) }
  const { stdout } = await ns.exec('a', [...nic.prefix, ...programArgv('ibverbs/loop', options, 1.5)], { timeoutMs: 20_000 })
  const { mainShare, processShare, payloadBytesPerSecond, swaps } = JSON.parse(stdout) as Report
  console.log(
    `loop at ${rate}: ${((payloadBytesPerSecond * 8) / 1e9).toFixed(2)} Gb/s, main thread ${(mainShare * 100).toFixed(2)} % of a CPU, process ${(processShare * 100).toFixed(0)} %`,
  )
  expect(mainShare).toBeLessThan(0.01)
  expect(payloadBytesPerSecond).toBeGreaterThan(1e8)
  expect(swaps).toBe(1)
  expect(nic.cleanReport().cqOverruns).toBe(0)
})
