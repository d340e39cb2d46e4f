// Waiting on the event loop, up to the very end of the process.
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'

test('what comes while the process ends is not told, and does not abort it', async (ctx) => {
  need(ctx, process.platform === 'linux', 'eventfd is of Linux')
  expect(await runProgram('ffi/loop-end')).toEqual({ code: 0, signal: null, stdout: 'exits\n', stderr: '' })
})

test('the end of the process closes what it is told to close, once', async (ctx) => {
  need(ctx, process.platform === 'linux', 'eventfd is of Linux')
  expect(await runProgram('ffi/loop-close')).toEqual({ code: 0, signal: null, stdout: 'false,false\n', stderr: '' })
})

test('ticks and microtasks run behind what is told, and do not wait for the next event', async (ctx) => {
  need(ctx, process.platform === 'linux', 'eventfd is of Linux')
  expect(await runProgram('ffi/loop-ticks')).toMatchObject({ code: 0, signal: null, stdout: '"told,tick,microtask"\n', stderr: '' })
})
