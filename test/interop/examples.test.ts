/** The real spead2 receives what docs/examples send as telescopes do, and finds every value what it should be. */
import { expect, test } from 'vitest'
import { plainEnv, ROOT } from '../project/support.js'
import { runSteps } from '../support/examples.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'

/** Runs an example beside spead2, both at groups of the loopback interface. Returns what the example prints, and what spead2 found. */
async function beside(name: string, [group, groups, port]: readonly [string, number, number], args: readonly string[] = []) {
  const peer = `'${spead2Python()}' '${peerScript('examples.py')}' ${name} ${group} ${groups} ${port}`
  const example = `npx tsx docs/examples/${name}.ts ${[...args, `${group}+${groups - 1}:${port}`].join(' ')}`
  const steps = [
    { command: peer, beside: true, prints: ['ready'] },
    { command: example, beside: false, prints: [] },
  ]
  const [received, sent] = await runSteps(steps, ROOT, plainEnv())
  expect([received!.status, sent!.status], received!.printed + sent!.printed).toEqual([0, 0])
  return { printed: sent!.printed, found: JSON.parse(received!.printed.split('\n')[1]!) as Record<string, unknown> }
}

const WHOLE = { incomplete: 0, wrong: [] }

test('voltages of two F-engines in 16 groups', { timeout: 60_000 }, async (ctx) => {
  need(ctx, spead2Python() !== undefined, 'spead2 is not installed')
  const { found } = await beside('f-engine', ['239.102.1.64', 16, 7231])
  expect(found).toMatchObject({ ...WHOLE, heaps: 1536, different: 1536 })
})

test('samples of 10 bits of two polarisations', { timeout: 60_000 }, async (ctx) => {
  need(ctx, spead2Python() !== undefined, 'spead2 is not installed')
  // spead2 unpacks samples of 10 bits in Python, so these are few: the window of 128 times, and 19 of its second round.
  const { printed, found } = await beside('digitiser', ['239.102.1.80', 4, 7232], ['0.075'])
  expect(found).toMatchObject({ ...WHOLE, heaps: 294, different: 294 })
  const { saturated, tone } = found as { saturated: number[]; tone: number[] }
  expect(printed).toContain(`polarisation 0: 147 heaps are what was sent, ${saturated[0]} saturated samples\n`)
  expect(saturated[0]).toBeGreaterThan(0)
  expect(saturated[1]).toBe(0)
  // The mean of 602,112 samples with noise of 40 is within 1.
  expect(Math.abs(tone[0]! - 400)).toBeLessThan(1)
  expect(Math.abs(tone[1]! - 100)).toBeLessThan(1)
})
