/** Memory and descriptors do not grow over some hundred thousand batches with a fault every hundred. */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { Nic, needNic } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import type { Report } from './endurance.program.js'

const BATCHES = 300_000
/** Samples up to here do not count, because V8 still compiles and its heaps still grow to their size. */
const WARM = 100_000
const PACKETS_A_BATCH = 4

/** Bytes that memory grows by a batch, by least squares. */
function slope(samples: readonly (readonly [number, number])[]): number {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
  const x = mean(samples.map(([batches]) => batches))
  const y = mean(samples.map(([, bytes]) => bytes))
  const over = samples.reduce((sum, [batches, bytes]) => sum + (batches - x) * (bytes - y), 0)
  return over / samples.reduce((sum, [batches]) => sum + (batches - x) ** 2, 0)
}

for (const thread of ['worker', 'inline'] as const)
  test(`memory and descriptors over ${BATCHES} batches with a fault every hundred, ${thread}`, {
    timeout: 120_000,
  }, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    const nic = new Nic({ mode: 'null', faults: [`fail-every ${100 * PACKETS_A_BATCH} GENERAL_ERR`] })
    const options = { to: '10.77.0.2:7148', packetSizeBytes: 1048, backend: 'ibverbs', thread }
    const [node, ...args] = programArgv('ibverbs/endurance', options, BATCHES, BATCHES / 30)
    const argv = [...nic.prefix, node!, '--expose-gc', ...args]
    const { stdout } = await ns.exec('a', argv, { timeoutMs: 110_000 })
    const { sent, failed, unexpected, samples, states } = JSON.parse(stdout) as Report
    const steady = samples.filter(([batches]) => batches > WARM)
    const perBatch = slope(steady.map(([batches, rss]) => [batches, rss] as const))
    console.log(
      `ibverbs endurance, ${thread}: ${sent} batches sent, ${failed} failed, ${states.recoveries} recoveries; ` +
        `RSS ${steady.map(([, rss]) => (rss / 2 ** 20).toFixed(1)).join(' ')} MiB, ${perBatch.toFixed(2)} bytes a batch; ${samples.at(-1)![2]} descriptors`,
    )
    expect(unexpected).toEqual([])
    expect(sent + failed).toBe(BATCHES)
    expect(failed).toBeGreaterThan(BATCHES / 150)
    expect(states.recoveries).toBeGreaterThan(BATCHES / 150)
    expect(perBatch).toBeLessThan(10)
    expect(new Set(steady.map(([, , fds]) => fds)).size).toBe(1)
    expect(nic.cleanReport().cqOverruns).toBe(0)
  })
