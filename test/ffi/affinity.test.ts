/** Where the calling thread runs, and may. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { currentCpu, getAffinity, leaveCpu, setAffinity } from '#dist/ffi/affinity.js'
import { need } from '../support/need.js'

/** As taskset(1) prints them: 0,2-5. */
function listed(text: string): number[] {
  return text.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({ length: last! - first! + 1 }, (_, i) => first! + i)
  })
}

test('the CPUs allowed are those that the kernel tells a child', () => {
  const text = execFileSync('grep', ['Cpus_allowed_list', '/proc/self/status'], { encoding: 'utf8' })
  expect(getAffinity()).toEqual(listed(text.split(/\s+/)[1]!))
  expect(getAffinity()).toContain(currentCpu())
})

test('leaving a CPU moves the thread at once and leaves it free to run anywhere', (ctx) => {
  const allowed = getAffinity()
  need(ctx, allowed.length > 1, 'one CPU only: there is none to move to')
  for (const cpu of allowed) {
    setAffinity([cpu])
    expect(currentCpu()).toBe(cpu)
    // Set free, it stays where it is unless it is moved: the kernel moves only who waits.
    setAffinity(allowed)
    leaveCpu(cpu)
    expect(currentCpu()).not.toBe(cpu)
    expect(getAffinity()).toEqual(allowed)
  }
})
