// Three senders of one stream, each with a third of the heap cnts, into one receiver of the real spead2, which takes them for one.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ROOT } from '../project/support.js'
import { freePort, run } from '../support/cli.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'

const HEAPS = 300

test('all heaps arrive, and no cnt twice', async (ctx) => {
  const python = spead2Python()
  need(ctx, python !== undefined, 'the Python peer is not there (.cache/venv)')
  const to = `127.0.0.1:${await freePort()}`
  const program = join(ROOT, 'docker/spead2_receiver.py')
  const receiver = spawn(python!, ['-u', program, to, '--stops', '3', '--verify', '--timeout', '20'])
  onTestFinished(() => void receiver.kill('SIGKILL'))
  let [stdout, stderr] = ['', '']
  receiver.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  const listens = new Promise<void>((resolve) =>
    receiver.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      if (stderr.includes('listening')) resolve()
    }),
  )
  const done = new Promise<number | null>((resolve) => receiver.once('close', resolve))
  await Promise.race([listens, done])
  const args = ['send', to, '-n', `${HEAPS}`, '-H', '8KiB', '--rate', '20MB/s', '--burst', '16KiB', '--json']
  const senders = [0, 1, 2].map((index) => run(args, undefined, { SPEADCAST_INDEX: `senders-${index}`, SPEADCAST_SENDERS: '3' }))
  for (const { code, stderr } of await Promise.all(senders)) expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(await done, stderr).toBe(0)
  // Heaps of equal cnts would have been put together, and be incomplete or corrupt.
  expect(JSON.parse(stdout)).toMatchObject({
    heaps: 3 * HEAPS,
    heapsIncomplete: 0,
    heapsCorrupt: 0,
    payloadBytes: 3 * HEAPS * 8192,
  })
})
