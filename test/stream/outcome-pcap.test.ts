/** The disk is full at every packet of a batch in turn: what the stream tells is what the file lacks, and the file is whole packets. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { datagramsOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { compareOutcome, EACH_PACKET, packetsOfHeaps } from '../support/outcome.js'
import { programArgv } from '../support/program.js'
import type { Report } from './full-disk.program.js'

test('a full disk at each of the 15 packets, from this thread and from the I/O thread', (ctx) => {
  need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'a small file system to fill needs Linux and root')
  need(ctx, !spawnSync('unshare', ['--version']).error, 'a mount namespace needs unshare (util-linux)')
  // In a mount namespace of its own, so that nothing is left mounted whatever happens.
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', ...programArgv('stream/full-disk', temporaryFolder())], {
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
    timeout: 25_000,
  })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const reports = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Report)
  expect(reports.map(({ thread, k }) => `${thread} ${k}`)).toEqual(
    ['inline', 'worker'].flatMap((thread) => [...EACH_PACKET, 15].map((k) => `${thread} ${k}`)),
  )
  for (const { k, told, later, closed, file } of reports) {
    const packets = datagramsOf(Buffer.from(file, 'base64')).map(({ payload }) => ({ bytes: payload }))
    expect(packets).toHaveLength(k)
    const there = packetsOfHeaps(packets)
    compareOutcome(told.error?.outcome, 1, there)
    expect(told.result === undefined).toBe(k < 15)
    expect(compareOutcome(later.error?.outcome, 4, there)).toEqual(['failed', 'failed', 'failed'])
    expect(later.error!.message).toMatch(/^3 of 3 heaps were not sent whole: ENOSPC while writing '.*heaps\.pcap'/)
    expect(closed).toEqual({ droppedHeaps: 0 })
  }
  console.log(
    `outcome, pcap: ${reports.length * 6} heaps compared with ${reports.length} files: ${reports[0]!.told.error!.message}`,
  )
})
