/** NODE_DEBUG=speadcast of the commands: on standard error, escaped, and nothing of it on standard output. */
import { expect, test } from 'vitest'
import { freePort } from '../receive/support.js'
import { runToEnd } from '../support/child.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

const debugged = (...args: string[]) => runToEnd(['env', 'NODE_DEBUG=speadcast', process.execPath, CLI, ...args])

/** The lines of NODE_DEBUG, and the others. */
const parted = (text: string) => {
  const lines = text.trimEnd().split('\n')
  const ours = lines.filter((line) => line.startsWith('SPEADCAST '))
  return { debug: ours.map((line) => line.replace(/^SPEADCAST \d+: /, '')), rest: lines.filter((line) => !ours.includes(line)) }
}

test('send --json: one object on standard output, the story on standard error', async () => {
  const { stdout, stderr } = await debugged('send', '10.0.0.5:7148', '-n', '10', '--backend', 'memory', '--json')
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 10 })
  const { debug, rest } = parted(stderr)
  expect(rest).toEqual([])
  expect(debug).toContain('stream 1: backend memory: asked for')
  expect(debug).toContain('stream 1: sends from the event loop')
  expect(debug.at(-1)).toMatch(/^stream 1: closed; \d+ heaps sent, 0 failed, 0 dropped$/)
})

test('what was given is escaped', async () => {
  const { stderr } = await debugged('send', '127.0.0.1:7148', '--interface', 'x\x1b[2J\u2028\u202e')
  const { debug, rest } = parted(stderr)
  expect(rest).toHaveLength(1)
  expect(debug.at(-1)).toMatch(/^stream 1: cannot be opened: no interface is named 'x\\x1b\[2J\\u2028\\u202e'; there are: /)
  for (const character of ['\x1b', '\u2028', '\u202e']) expect(stderr).not.toContain(character)
})

test('a send is withdrawn for any reason, which may be no error', async () => {
  const { stdout, stderr } = await runToEnd(['env', 'NODE_DEBUG=speadcast', ...programArgv('stream/debug-reasons')])
  expect(JSON.parse(stdout)).toEqual([true, true, true, true])
  const reasons = parted(stderr).debug.filter((line) => line.includes('a send of 1 heap failed: '))
  expect(reasons.map((line) => line.replace(/.*failed: /, ''))).toEqual(['a symbol', 'an object', 'null', 'enough'])
})

test('recv: backend, socket buffer, the thread, the end', async (ctx) => {
  need(ctx, process.platform === 'linux', 'recvmmsg is Linux only')
  const { stderr } = await debugged('recv', `127.0.0.1:${await freePort()}`, '--timeout', '0.2')
  const { debug } = parted(stderr)
  expect(debug[0]).toMatch(/^receiving thread \d+ starts$/)
  expect(debug[1]).toMatch(/^receiver 1: open on 127\.0\.0\.1:\d+; backend recvmmsg, gro \w+, socket buffer \d+ bytes$/)
  expect(debug).toContain('receiver 1: over (timeout); 0 heaps received, 0 incomplete')
  expect(debug.at(-1)).toMatch(/^(receiving thread \d+ ended with code 0|receiver 1: over .*)$/)
})
