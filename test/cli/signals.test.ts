// Ctrl-C: the first drains, within the deadline, and exits 0 with the summary; the second ends at once with 130.
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CLI, datagramsOf, pointersOf, sink, start, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'

const TIMESTAMP = 0x1600

/** Resolves when the file has grown beyond `bytes`. */
async function grown(path: string, bytes: number): Promise<void> {
  for (let waited = 0; waited < 10_000; waited += 20) {
    try {
      if (readFileSync(path).length > bytes) return
    } catch {
      // not there yet
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`${path} did not grow`)
}

test.for(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s sends what is queued, then the stop heap, and exits 0', async (signal) => {
  const path = join(temporaryFolder(), 'x.pcap')
  const args = ['send', '10.0.0.5:7148', '-n', '1000000', '-H', '10000', '--batch-heaps', '2', '--rate', '2MB/s', '--pcap', path]
  const sending = start([...args, '--json'])
  // More than a buffer of the pcap backend.
  await grown(path, 10_000)
  sending.child.kill(signal)
  const { code, stdout, stderr } = await sending.done
  const json = JSON.parse(stdout)
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/^interrupted: /) })
  expect(json).toMatchObject({ heapsFailed: 0, heapsDropped: 0 })
  expect(json.heaps).toBeGreaterThan(0)
  const packets = datagramsOf(readFileSync(path)).map(({ payload }) => pointersOf(payload))
  // The summary tells the truth: as many heaps as the file has, each of its packets there, and the stop heap last.
  expect(packets.filter((pointers) => pointers.some(({ id }) => id === TIMESTAMP))).toHaveLength(json.heaps)
  expect(packets).toHaveLength(json.packets)
  expect(packets.at(-1)!.find(({ id }) => id === 6)).toEqual({ id: 6, immediate: true, value: 2 })
})

test('what the deadline cuts off is counted as dropped, and the exit status is 1', async () => {
  const { to, got } = await sink()
  // A heap takes ten seconds.
  const sending = start(['send', to, '-n', '1000', '--rate', '100kB/s', '--deadline', '0.2', '--json'])
  await got(2)
  sending.child.kill('SIGINT')
  const { code, stdout, stderr } = await sending.done
  const told =
    /^interrupted: .* for 0\.2 s at most.*\n(.*\n)*speadcast send: \d+ heaps? (was|were) dropped at the deadline \(--deadline\)\n/
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringMatching(told) })
  const json = JSON.parse(stdout)
  expect(json).toMatchObject({ heaps: 0, heapsFailed: 0, payloadBytes: 0 })
  expect(json.heapsDropped).toBeGreaterThan(0)
})

test('a second signal ends at once with 130 and no summary', async () => {
  const { to, got } = await sink()
  const sending = start(['send', to, '-n', '1000', '--rate', '100kB/s', '--deadline', '3600', '--json'])
  await got(2)
  sending.child.kill('SIGINT')
  await sending.saw(/^interrupted: /)
  sending.child.kill('SIGINT')
  expect(await sending.done).toMatchObject({ code: 130, signal: null, stdout: '' })
})

test('a second SIGHUP, of the shell behind that of the kernel, cuts nothing off', async () => {
  const { to, got } = await sink()
  const sending = start(['send', to, '-n', '1000', '-H', '10000', '--batch-heaps', '2', '--rate', '300kB/s', '--json'])
  await got(2)
  sending.child.kill('SIGHUP')
  await sending.saw(/^interrupted: /)
  sending.child.kill('SIGHUP')
  const { code, stdout } = await sending.done
  expect({ code, json: JSON.parse(stdout) }).toMatchObject({ code: 0, json: { heapsDropped: 0, heapsFailed: 0 } })
})

test('an open pipe that gives nothing does not hold the end; what was read is sent, but for a partial sample', async () => {
  const { to, datagrams, got } = await sink()
  const args = ['send', to, '--input', '-', '--dtype', '<i4', '-H', '1000', '--batch-heaps', '1', '--descriptors', 'none', '--json']
  const sending = start(args, { stdin: 'pipe' })
  const samples = Buffer.alloc(2500 + 3, 'abcdefg')
  sending.child.stdin!.write(samples)
  await got(2)
  sending.child.kill('SIGINT')
  const { code, stdout } = await sending.done
  expect({ code, json: JSON.parse(stdout) }).toMatchObject({ code: 0, json: { heaps: 3, payloadBytes: 2500 } })
  await got(4)
  const data = datagrams.slice(0, 3).map((bytes) => bytes.subarray(8 + 8 * pointersOf(bytes).length))
  expect(Buffer.concat(data).equals(samples.subarray(0, 2500))).toBe(true)
})

test('a reader of standard output that went away is not an error to report', async () => {
  const sending = start(['send', '127.0.0.1:7148', '-n', '3', '--backend', 'memory'])
  sending.child.stdout!.destroy()
  const { code, stderr } = await sending.done
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})

test('a run that its reader ended is no success', async () => {
  const { to, got } = await sink()
  const sending = start(['send', to, '--forever', '--rate', '1MB/s', '--json-stream', '--interval', '0.05'])
  await got(2)
  sending.child.stdout!.destroy()
  const { code, stderr } = await sending.done
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' })
})

test('--deadline bounds the time behind --seconds too: heaps that have begun are dropped, others count nowhere', async () => {
  const { to } = await sink()
  // A heap takes 800 seconds.
  const args = ['send', to, '-n', '1000000', '--rate', '10kbps', '--seconds', '0.1', '--deadline', '0.1', '--json']
  const { code, stdout, stderr } = await start(args).done
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: 'speadcast send: 1 heap was dropped at the deadline (--deadline)\n',
  })
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 0, heapsFailed: 0, heapsDropped: 1 })
})

test('a reader of standard error that went away keeps nothing from being sent and told', async () => {
  const { to, got } = await sink()
  const sending = start(['send', to, '-n', '100000', '-H', '10000', '--rate', '2MB/s', '--json'])
  sending.child.stderr!.destroy()
  await got(2)
  sending.child.kill('SIGINT')
  const { code, stdout } = await sending.done
  const json = JSON.parse(stdout)
  expect({ code, json }).toMatchObject({ code: 0, json: { heapsFailed: 0, heapsDropped: 0 } })
  expect(json.heaps).toBeGreaterThan(0)
})

test.for([
  ['send', '127.0.0.1:7148', '-n', '3', '--backend', 'memory'],
  ['send', '--help'],
])('%j says that standard output is full', (args, ctx) => {
  need(ctx, existsSync('/dev/full'), 'needs /dev/full (Linux)')
  const full = openSync('/dev/full', 'w')
  const { status, stderr } = spawnSync(process.execPath, [CLI, ...args], { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' })
  closeSync(full)
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: 'speadcast: cannot write to standard output: ENOSPC: no space left on device, write\n',
  })
})
