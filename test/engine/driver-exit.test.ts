/** How a process with a stream ends: when what it sent is sent, not before; by itself, and at once when it is told to. */
import { describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'
import type { Deed } from './driver-exit.program.js'

const ended = (stdout: string) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

const DRIVERS: readonly { what: string; options: Omit<StreamOptions, 'to'>; native: boolean }[] = [
  { what: 'event loop, memory', options: { backend: 'memory' }, native: false },
  { what: 'event loop, dgram', options: { backend: 'dgram' }, native: false },
  { what: 'event loop, udp', options: { backend: 'udp', thread: 'inline' }, native: true },
  { what: 'I/O thread, udp', options: { backend: 'udp', thread: 'worker' }, native: true },
  { what: 'I/O thread, pcap', options: { backend: 'pcap', thread: 'worker', pcapPath: '/dev/null' }, native: true },
]
// 105 kB a batch: a tenth of a second each.
const PACED = { rate: 1_000_000, burstBytes: 2000 }

describe.for(DRIVERS)('$what', ({ options, native }) => {
  const run = (ctx: { skip(note?: string): never }, deed: Deed, more: Partial<StreamOptions> = {}) => {
    need(ctx, !native || (process.platform === 'linux' && nativeCallsWork()), 'udp is for Linux')
    return runProgram('engine/driver-exit', { ...options, ...more }, deed)
  }

  test('an idle stream keeps nobody alive, opened just now or after sending', async (ctx) => {
    const fresh = await run(ctx, 'nothing')
    expect(fresh).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(ended(fresh.stdout)).toEqual([{ code: 0, sent: 0, inFlight: 0 }])
    const used = await run(ctx, 'sendOne')
    expect(used).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(ended(used.stdout)).toEqual([{ code: 0, sent: 100, inFlight: 0 }])
  })

  test('sends that nobody waits for are sent before the process ends', async (ctx) => {
    for (const more of [{}, PACED]) {
      const { stdout, ...end } = await run(ctx, 'sendAll', more)
      expect(end).toEqual({ code: 0, signal: null, stderr: '' })
      expect(ended(stdout)).toEqual([{ code: 0, sent: 200, inFlight: 0 }])
    }
  })

  test('a top-level await of a send, of free, of flush and of close comes back', async (ctx) => {
    const { stdout, ...end } = await run(ctx, 'awaitEverything', PACED)
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)).toEqual([{ heaps: 100 }, { droppedHeaps: 0 }, { code: 0, sent: 400, inFlight: 0 }])
  })

  test('after a close with a deadline nothing is left running', async (ctx) => {
    const { stdout, ...end } = await run(ctx, 'closeWithDeadline', PACED)
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)[0]).toEqual({ total: 200 })
  })

  test('process.exit keeps its code, idle or in the middle of sending', async (ctx) => {
    const idle = await run(ctx, 'exit')
    expect(idle).toMatchObject({ code: 7, signal: null, stderr: '' })
    // All of it would take three minutes.
    const busy = await run(ctx, 'exitWhileSending', { rate: 1000, burstBytes: 1000 })
    expect(busy).toMatchObject({ code: 8, signal: null, stderr: '' })
    // Fewer batches may be told as sent than went, never more, and the end waited for none of the rest.
    expect(ended(busy.stdout)[0].sent).toBeLessThan(200)
  })

  test('an uncaught error ends the process', async (ctx) => {
    const { code, signal, stderr } = await run(ctx, 'throwWhileSending', PACED)
    expect({ code, signal }).toEqual({ code: 1, signal: null })
    expect(stderr).toContain('on purpose')
  })

  test('destroyed in the middle, it ends, and a dropped promise is no unhandled rejection', async (ctx) => {
    const { stdout, ...end } = await run(ctx, 'destroyWhileSending', PACED)
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)[0].inFlight).toBe(0)
  })
})

test('an exit while an I/O thread loads its code keeps its code', async (ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'udp is for Linux')
  // It loads for some 40 ms, and for some of them the end of it would abort the process.
  for (let milliseconds = 0; milliseconds < 50; milliseconds += 5) {
    const exited = await runProgram('engine/exit-while-loading', milliseconds)
    expect({ milliseconds, ...exited }).toEqual({ milliseconds, code: 3, signal: null, stdout: '', stderr: '' })
  }
})
