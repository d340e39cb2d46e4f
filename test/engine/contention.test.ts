/** When a thread may spin: not while others want its CPU, and again when they have gone. A clock of the test's own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpus } from 'node:os'
import { expect, onTestFinished, test, vi } from 'vitest'
import { Contention, HostLoad } from '#dist/src/engine/contention.js'
import { need } from '../support/need.js'

const MS = 1e6

class Thread {
  now = 0
  readonly contention: Contention
  /** Whether others are running; undefined where the kernel does not tell. */
  others: boolean | undefined
  asked = 0
  constructor(word: Int32Array = new Int32Array(1)) {
    this.contention = new Contention(word, () => {
      this.asked++
      return this.others
    })
  }

  maySpinAfter(milliseconds: number): boolean {
    this.now += milliseconds * MS
    return this.contention.maySpin(this.now)
  }

  /** An offer of the CPU that comes back so much later. */
  offer(milliseconds: number): void {
    const before = this.now
    this.now += milliseconds * MS
    this.contention.note(before, this.now)
  }

  /** Milliseconds until it may spin again. */
  pause(): number {
    const from = this.now
    for (let i = 0; i < 10_000; i++) if (this.maySpinAfter(1)) return (this.now - from) / MS
    return Number.POSITIVE_INFINITY
  }
}

test('brief offers are none of anybody else', () => {
  const thread = new Thread()
  for (let i = 0; i < 1000; i++) thread.offer(0.999)
  expect(thread.maySpinAfter(0)).toBe(true)
})

test('a yield that takes 3 ms ends spinning for 20 ms', () => {
  const thread = new Thread()
  thread.offer(3)
  expect(thread.maySpinAfter(0)).toBe(false)
  expect(thread.pause()).toBe(20)
})

test('pauses double while the calm behind them does not last, and are short again after a longer one', () => {
  const thread = new Thread()
  const pauses = Array.from({ length: 9 }, () => {
    thread.offer(3)
    return thread.pause()
  })
  expect(pauses).toEqual([20, 40, 80, 160, 320, 640, 1280, 1600, 1600])
  expect(thread.maySpinAfter(1700)).toBe(true)
  thread.offer(3)
  expect(thread.pause()).toBe(20)
})

test('what one thread finds holds for the others of the process', () => {
  const word = new Int32Array(new SharedArrayBuffer(4))
  const [main, io] = [new Thread(word), new Thread(word)]
  io.offer(3)
  expect(main.maySpinAfter(1)).toBe(false)
  expect(main.pause()).toBe(20)
  expect(io.maySpinAfter(0)).toBe(false)
  expect(io.pause()).toBe(20)
})

test('a thread that begins later does not take over what was found before', () => {
  const word = new Int32Array(1)
  new Thread(word).offer(3)
  expect(new Thread(word).maySpinAfter(0)).toBe(true)
})

test('an offer that comes back late where no others run is none of theirs', () => {
  const thread = new Thread()
  thread.others = false
  thread.offer(3)
  expect(thread.maySpinAfter(0)).toBe(true)
})

test('one that comes back so late that a quota of CPU time must be used up is', () => {
  const thread = new Thread()
  thread.others = false
  thread.offer(60)
  expect(thread.maySpinAfter(0)).toBe(false)
})

test('while others run nobody spins, and the kernel is asked less and less', () => {
  const thread = new Thread()
  thread.others = true
  thread.offer(3)
  for (let ms = 0; ms < 10_000; ms++) expect(thread.maySpinAfter(1)).toBe(false)
  // At once, after 20, 40 … 1280 ms, and every 1.6 s.
  expect(thread.asked).toBe(12)
  thread.others = false
  expect(thread.pause()).toBeLessThanOrEqual(1600)
})

test('the kernel is asked only when an offer came back late', () => {
  const thread = new Thread()
  for (let i = 0; i < 1000; i++) thread.offer(0.5)
  expect(thread.asked).toBe(0)
})

test("endless loops on every CPU are seen in the kernel's own figures, and this process's are not", async (ctx) => {
  const load = new HostLoad()
  need(ctx, load.othersRun() !== undefined, 'this process may not use every CPU, or /proc is hidden')
  const loops = cpus().map(() => spawn('sh', ['-c', 'while :; do :; done']))
  onTestFinished(() => loops.forEach((loop) => void loop.kill('SIGKILL')))
  await Promise.all(loops.map((loop) => once(loop, 'spawn')))
  await vi.waitUntil(() => load.othersRun(), { timeout: 10_000, interval: 100 })
  const ended = Promise.all(loops.map((loop) => once(loop, 'exit')))
  for (const loop of loops) loop.kill('SIGKILL')
  expect(await ended).toHaveLength(cpus().length)
})
