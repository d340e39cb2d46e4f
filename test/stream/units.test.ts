/** Options that are allowed and in another unit than was meant warn once. */
import { expect, test } from 'vitest'
import { ROOT, runIn } from '../project/support.js'
import { runProgram } from '../support/program.js'

test('rates below 1 kB/s and times in milliseconds are told once each, with what was meant', async () => {
  const { stdout } = await runProgram('stream/units')
  expect(JSON.parse(stdout)).toEqual([
    "SPEADCAST_UNIT: rate is 10, which is 10 bytes a second; if you meant gigabits, give '10Gbps'",
    "SPEADCAST_UNIT: rate is 999, which is 999 bytes a second; if you meant gigabits, give '999Gbps'",
    "SPEADCAST_UNIT: rate is '10bps', which is 1.25 bytes a second; if you meant gigabits, give '10Gbps'",
    'SPEADCAST_UNIT: catchUpSeconds is 50, which is 50 seconds; if you meant 50 milliseconds, give 0.05',
    'SPEADCAST_UNIT: descriptors.everySeconds is 5000, which is 83 minutes; if you meant 5000 milliseconds, give 5',
    'SPEADCAST_UNIT: heap rate is 40, which is 40 bytes a second; if you meant gigabits a second, give 5000000000',
    'SPEADCAST_UNIT: heap rate is 500, which is 500 bytes a second; if you meant gigabits a second, give 62500000000',
    'SPEADCAST_UNIT: close: deadlineSeconds is 5000, which is 83 minutes; if you meant 5000 milliseconds, give 5',
  ])
})

test('the command wants a unit, and tells of a rate that is too slow once', () => {
  const send = (rate: string) =>
    runIn(ROOT, process.execPath, [
      'lib/cli.js',
      'send',
      '127.0.0.1:9',
      '--backend',
      'dgram',
      '--heaps',
      '1',
      '-H',
      '64',
      '--rate',
      rate,
    ])
  expect(send('10')).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/--rate '10' has no known unit.*; write it as 10Gbps/),
  })
  const { stderr } = send('999B/s')
  const told =
    "speadcast: warning: --rate is '999B/s', which is 999 bytes a second; if you meant gigabits, give '999Gbps' (speadcast explain SPEADCAST_UNIT)"
  expect(stderr.split('\n').filter((line) => /bytes a second/.test(line))).toEqual([told])
})
