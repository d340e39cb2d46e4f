/** Classes that open a descriptor and have memory for its calls give the memory back when no descriptor can be had. */
import { spawnSync } from 'node:child_process'
import { beforeEach, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { runToEnd } from '../support/child.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'
import type { Opener } from './descriptors.program.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'native calls are made on Linux only'))

const OPENERS: readonly Opener[] = ['EventFd', 'UdpSocket', 'LinkWatch', 'LinkLosses', 'IoUring']

test.for(OPENERS)('%s, with all descriptors taken', async (opener, ctx) => {
  need(ctx, spawnSync('prlimit', ['--version']).status === 0, 'limiting descriptors needs prlimit (util-linux)')
  const command = ['prlimit', '--nofile=64:64', ...programArgv('ffi/descriptors', opener)]
  const { stdout, stderr } = await runToEnd(command, 20_000)
  expect(stderr).toBe('')
  // In KiB.
  const { errors, grown } = JSON.parse(stdout) as { errors: string[]; grown: number }
  expect(errors).toEqual(['EMFILE'])
  // Leaks of 4000 times 4 KiB or more would all be resident.
  expect(grown).toBeLessThan(8000)
})

test('an installed package is no copy of a bundler where no descriptor is left to look', async (ctx) => {
  need(ctx, spawnSync('prlimit', ['--version']).status === 0, 'limiting descriptors needs prlimit (util-linux)')
  const { stdout } = await runToEnd(['prlimit', '--nofile=64:64', ...programArgv('ffi/copied')], 20_000)
  expect(JSON.parse(stdout)).toEqual({ code: 'EMFILE', copy: false })
})
