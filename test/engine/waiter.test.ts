/** A wait for a batch, on a clock of the test's own. Its gain is measured (docs/bench/README.md). */
import { expect, test } from 'vitest'
import { Contention } from '#dist/src/engine/contention.js'
import { Waiter } from '#dist/src/engine/waiter.js'

const YIELD_NANOSECONDS = 300
const NAP_NANOSECONDS = 50_000

/** A caller with sends in flight, behind a sender that settles one every few naps or yields. */
class Caller {
  now = 0
  inFlight = 0
  naps = 0
  yields = 0
  /** Batches that the sender, asleep until it is told, settles on this CPU before it gives it back. */
  settlesWhenTold = 0
  /** How long offers take; what they settle. */
  yieldNanoseconds = YIELD_NANOSECONDS
  settles: (asleep: boolean) => boolean = () => false
  #ready = 0
  readonly batches: { state: string }[] = []
  readonly waiter = new Waiter(
    {
      now: () => this.now,
      yieldOrNap: (asleep) => {
        if (asleep) this.naps++
        else this.yields++
        this.now += asleep ? NAP_NANOSECONDS : this.yieldNanoseconds
        if (this.settles(asleep)) this.#ready++
      },
      ring: () => {
        this.#ready += this.settlesWhenTold
      },
    },
    new Contention(new Int32Array(1), () => undefined),
  )

  harvest(): boolean {
    const any = this.#ready > 0
    for (; this.#ready > 0; this.#ready--) {
      this.batches.shift()!.state = 'free'
      this.inFlight--
    }
    return any
  }

  send(): { state: string } {
    const batch = { state: 'in-flight' }
    this.batches.push(batch)
    this.inFlight++
    return batch
  }

  /** Waits for the oldest batch; whether it became free, and how. */
  wait(): { free: boolean; naps: number; yields: number } {
    this.naps = 0
    this.yields = 0
    const batch = this.batches[0]!
    this.waiter.wait(batch, this)
    const { naps, yields } = this
    return { free: batch.state === 'free', naps, yields }
  }
}

/** Whether each of `count` waits napped, with `inFlight` batches in flight. */
function waits(count: number, inFlight: number, napsPerBatch = 1): boolean[] {
  const caller = new Caller()
  let naps = 0
  let yields = 0
  // With this many yields none of the waits is a brief one.
  caller.settles = (asleep) => (asleep ? ++naps % napsPerBatch === 0 : ++yields % 16 === 0)
  for (let i = 0; i < inFlight; i++) caller.send()
  return Array.from({ length: count }, () => {
    yields = 0
    const wait = caller.wait()
    expect(wait.free).toBe(true)
    caller.send()
    return wait.naps > 0
  })
}

test('a wait naps while something stays in flight', () => {
  expect(waits(50, 2)).toEqual(Array(50).fill(true))
})

test.for([1, 2, 3])('naps that leave nothing in flight become rare, %i to a batch', (napsPerBatch) => {
  const napping = waits(5000, 1, napsPerBatch).flatMap((napped, i) => (napped ? [i] : []))
  const spun = napping.slice(1).map((i, k) => i - napping[k]! - 1)
  expect(spun).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024])
})

test('a wait in vain ends after 0.2 ms; after 32 of them the next one sleeps at once, then 2, 4 … 64', () => {
  const caller = new Caller()
  caller.send()
  const slept = Array.from({ length: 500 }, () => {
    const start = caller.now
    const { free, naps, yields } = caller.wait()
    expect(free).toBe(false)
    expect(caller.now - start).toBeLessThan(300_000)
    return naps + yields === 0
  })
  const lengths = slept
    .map((asleep) => (asleep ? 's' : ' '))
    .join('')
    .split(' ')
    .map((run) => run.length)
  expect(lengths.slice(0, 33)).toEqual(Array(33).fill(0))
  expect(lengths.slice(33, 41)).toEqual([1, 2, 4, 8, 16, 32, 64, 64])
})

test('a yield that takes 3 ms: the wait ends, the next ones sleep at once, and it spins again when it is calm', () => {
  const caller = new Caller()
  caller.send()
  caller.yieldNanoseconds = 3e6
  expect(caller.wait()).toEqual({ free: false, naps: 0, yields: 1 })
  caller.yieldNanoseconds = YIELD_NANOSECONDS
  for (let ms = 0; ms < 19; ms++) {
    expect(caller.wait()).toEqual({ free: false, naps: 0, yields: 0 })
    caller.now += 1e6
  }
  caller.now += 1e6
  caller.settles = () => true
  expect(caller.wait()).toEqual({ free: true, naps: 0, yields: 1 })
})

test('what settled during a long yield is settled, though others want the CPU', () => {
  const caller = new Caller()
  caller.send()
  caller.yieldNanoseconds = 3e6
  caller.settles = () => true
  expect(caller.wait().free).toBe(true)
})

test('beside others a wait wakes the thread that sends, and needs no sleep for what that settles at once', () => {
  const caller = new Caller()
  for (let i = 0; i < 3; i++) caller.send()
  caller.yieldNanoseconds = 3e6
  caller.wait()
  expect(caller.wait().free).toBe(false)
  caller.settlesWhenTold = 2
  expect(caller.wait()).toEqual({ free: true, naps: 0, yields: 0 })
  expect(caller.inFlight).toBe(1)
})
