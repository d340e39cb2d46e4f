/** A worker that holds a stream is terminated, and its I/O thread with it, so nobody is left to close anything. */
import { expect, test } from 'vitest'
import { makeNetns } from '../support/netns.js'
import { Nic, needNic, sleep } from '../support/nic.js'
import { startLoaded } from './loaded.js'

test('a worker that holds a stream is terminated: the process goes on, and only that stream’s objects are left', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  for (const thread of ['worker', 'inline'] as const)
    for (const commands of [[], ['stall'], ['qp-fatal']]) {
      const nic = new Nic({ mode: 'copy', faults: ['pace 20000'] })
      const running = await startLoaded(ns, nic, { thread }, 'terminate')
      await sleep(50)
      await nic.command(...commands)
      // The next stream finds a device that works.
      setTimeout(() => void nic.command('resume'), 50)
      const { code, signal, stderr, told } = await running.finish()
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
      expect(told!.sent).toBeGreaterThan(3)
      const { made, leaked } = nic.report()
      expect(made.contexts - leaked.contexts).toBeGreaterThan(1)
      expect(leaked).toMatchObject({ contexts: 1, pds: 1, qps: 1, cqs: 1, channels: 1 })
    }
})
