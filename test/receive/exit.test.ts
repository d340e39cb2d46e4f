/** How a process with a receiver ends: by itself when it is closed, at once when it is told to, and never stuck in the thread's sleep. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'
import { runProgram } from '../support/program.js'
import type { Deed } from './exit.program.js'
import { freePort } from './support.js'

const run = async (deed: Deed) => runProgram('receive/exit', `127.0.0.1:${await freePort()}`, deed)

test('process.exit with an open receiver keeps its code', async () => {
  expect(await run('exit')).toMatchObject({ code: 7, signal: null, stderr: '' })
})

test('process.exit while a heap is awaited', async () => {
  expect(await run('exitWhileWaiting')).toMatchObject({
    code: 8,
    stderr: '',
    stdout: '',
  })
})

test('an uncaught error ends the process', async () => {
  const { code, stderr } = await run('throw')
  expect(code).toBe(1)
  expect(stderr).toContain('on purpose')
})

test('a closed receiver lets the process end by itself, an open one does not', async () => {
  expect(await run('close')).toMatchObject({ code: 0, stderr: '' })
  expect(await run('dispose')).toMatchObject({ code: 0, stderr: '' })
  expect(await run('stay')).toMatchObject({
    code: 3,
    stdout: 'still open\n',
  })
})

test('opening and closing ten times leaves no descriptor and no receive memory behind', async (ctx) => {
  need(ctx, process.platform === 'linux', 'counts through /proc')
  const endpoints = `127.0.0.1:${await freePort()}`
  const cycle = async () => {
    const receiver = await openReceiver({ endpoints })
    await receiver.close()
  }
  const descriptors = () => readdirSync('/proc/self/fd').length
  // A receiver maps 260 MiB; koffi leaves about 3 MiB of address space per ended worker, which is not counted here.
  const largeMappings = () =>
    [...readFileSync('/proc/self/maps', 'utf8').matchAll(/^([\da-f]+)-([\da-f]+) rw/gm)].filter(
      ([, from, to]) => Number.parseInt(to!, 16) - Number.parseInt(from!, 16) >= 256 << 20,
    ).length
  for (let i = 0; i < 3; i++) await cycle()
  const before = { fds: descriptors(), mappings: largeMappings() }
  for (let i = 0; i < 10; i++) await cycle()
  expect(before.mappings).toBeGreaterThanOrEqual(1)
  expect(largeMappings()).toBe(before.mappings)
  expect(descriptors()).toBeLessThanOrEqual(before.fds)
})

test('an exit while a receiver is being opened keeps its code', async (ctx) => {
  need(ctx, process.platform === 'linux', 'a thread receives on Linux')
  for (let milliseconds = 0; milliseconds < 50; milliseconds += 10) {
    const exited = await runProgram('engine/exit-while-loading', milliseconds, `127.0.0.1:${await freePort()}`)
    expect(exited).toMatchObject({ code: 3, signal: null, stderr: '' })
  }
})
