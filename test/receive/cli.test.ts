import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import { programFile } from '../support/program.js'
import { freePort, recvArgv, type SenderSpec, send, start } from './support.js'

const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'
const scratch = mkdtempSync(join(tmpdir(), 'speadcast-recv-'))
afterAll(() => rmSync(scratch, { recursive: true }))

async function recv(spec: Omit<SenderSpec, 'to'>, ...args: string[]) {
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '20', ...args))
  await run.said(/^listening on 127\.0\.0\.1:\d+; /m)
  const sent = await send({ to: [['127.0.0.1', port]], rate: 40e6, ...spec })
  return { ...(await run.ended), done: sent.done }
}

const TUTORIAL = { kind: 'tutorial', heaps: 50, heapSize: 20_000, packetSize: 1472 } as const

test('recv --verify --output --json: one object on stdout with the agreed fields, and the file', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'samples')
  const { code, stdout, done } = await recv(TUTORIAL, '--verify', '--output', file, '--json')
  expect(code).toBe(0)
  expect(stdout).toMatch(/^\{.*\}\n$/)
  const result = JSON.parse(stdout)
  expect(Object.keys(result).slice(0, 8)).toEqual(
    'heaps heapsIncomplete heapsCorrupt payloadBytes packets seconds items sha256'.split(' '),
  )
  expect(result).toMatchObject({
    heaps: 50,
    heapsIncomplete: 0,
    heapsCorrupt: 0,
    payloadBytes: 1_000_000,
    packets: done.packets,
    sha256: done.sha256,
    items: [
      { id: 0x1600, name: 'timestamp', format: [['u', 48]], shape: [] },
      { id: 0x3300, name: 'adc_samples', dtype: '|i1', shape: [20_000] },
    ],
    reason: 'stop',
  })
  expect(createHash('sha256').update(readFileSync(file)).digest('hex')).toBe(done.sha256)
})

test.for([
  ['not told', []],
  ['told by --bug-compat 7', ['--bug-compat', '7']],
] as const)("recv takes PySPEAD's descriptors, %s", async ([, given], ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'pyspead')
  const { code, stdout, done } = await recv({ ...TUTORIAL, bugCompat: 7 }, '--output', file, '--json', ...given)
  expect(JSON.parse(stdout)).toMatchObject({
    sha256: done.sha256,
    outputBytes: 1_000_000,
    items: [
      { id: 0x1600, name: 'timestamp', format: [['u', 48]], shape: [] },
      { id: 0x3300, name: 'adc_samples', dtype: '|i1', shape: [20_000] },
    ],
  })
  expect(code).toBe(0)
})

test('recv --item finds by its name an item of 12-bit numbers that PySPEAD describes', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'u12')
  const { code, stdout } = await recv(
    { kind: 'types', heaps: 3, packetSize: 9000, bugCompat: 7 },
    '--item',
    'u12',
    '--output',
    file,
    '--json',
  )
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 3, outputBytes: 3 * 11 })
  expect(code).toBe(0)
})

test('recv shows a structured dtype as numpy does, and writes its items', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'struct')
  const { code, stdout } = await recv({ kind: 'types', heaps: 2, packetSize: 9000 }, '--item', 'struct', '--output', file)
  expect(stdout).toContain("struct [('x', '<i2'), ('y', '>f8', (2,)), ('z', [('re', 'i1'), ('im', 'i1')])] [3]")
  expect(readFileSync(file)).toHaveLength(2 * 3 * 20)
  expect(code).toBe(0)
})

test('recv without --json prints a table for people', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const { code, stdout } = await recv({ ...TUTORIAL, heaps: 3 })
  expect(code).toBe(0)
  expect(stdout).toMatch(/^heaps +3$/m)
  expect(stdout).toMatch(/^payload +60000 bytes$/m)
  expect(stdout).toMatch(/^item 0x3300 +adc_samples \|i1 \[20000\]$/m)
})

test('recv --heaps N ends there; a stream that stops before is a failure that says so', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const enough = await recv({ ...TUTORIAL, stop: false }, '--heaps', '20', '--json')
  expect([enough.code, JSON.parse(enough.stdout)]).toMatchObject([0, { heaps: 20, reason: 'heaps' }])
  const few = await recv(TUTORIAL, '--heaps', '51', '--json')
  expect([few.code, JSON.parse(few.stdout)]).toMatchObject([1, { heaps: 50, reason: 'stop' }])
  expect(few.stderr).toContain('the stream stopped after 50 of 51 heaps')
})

test('recv --verify: corrupt heaps are a failure that names them; without it they go unnoticed', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const { code, stdout, stderr } = await recv({ ...TUTORIAL, corrupt: [3, 40] }, '--verify', '--json')
  expect([code, JSON.parse(stdout)]).toMatchObject([1, { heaps: 50, heapsCorrupt: 2 }])
  expect(stderr).toMatch(/2 heaps are corrupt\n {2}heap cnt 5: sample 10000 of heap index 3 is 2, not 3\n/)
  const unchecked = await recv({ ...TUTORIAL, corrupt: [3, 40] }, '--json')
  expect([unchecked.code, JSON.parse(unchecked.stdout)]).toMatchObject([0, { heapsCorrupt: 0 }])
})

test('recv --output: heaps with holes are left out, counted, and a failure', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'holes')
  const lost: [number, number][] = [[7, 2], ...Array.from({ length: 15 }, (_, packet) => [9, packet] as [number, number])]
  const { code, stdout, stderr } = await recv({ ...TUTORIAL, wire: 'packets', drop: lost }, '--output', file, '--json')
  expect([code, JSON.parse(stdout)]).toMatchObject([
    1,
    { heaps: 48, heapsIncomplete: 1, heapsMissing: 1, outputBytes: 48 * 20_000 },
  ])
  expect(stderr).toMatch(/1 heap is incomplete\n.*1 heap is missing\n/)
  const expected = Buffer.concat(Array.from({ length: 50 }, (_, i) => Buffer.alloc(i === 7 || i === 9 ? 0 : 20_000, i)))
  expect(readFileSync(file).equals(expected)).toBe(true)
})

test.for(['native', 'dgram'])('recv --output on a full disk says so and exits 1: %s', async (backend, ctx) => {
  need(ctx, existsSync('/dev/full'), 'needs /dev/full (Linux)')
  need(ctx, spead2Python(), NO_PEER)
  const { code, stdout, stderr } = await recv(TUTORIAL, '--output', '/dev/full', '--backend', backend, '--json')
  expect(code).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject({ outputBytes: 0, sha256: null, outputError: expect.stringMatching(/ENOSPC/) })
  expect(stderr).toMatch(/^speadcast recv: cannot write \/dev\/full: ENOSPC.*ends behind its last whole heap, 0 bytes$/m)
})

test('recv --item takes a name or an id', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const file = join(scratch, 'item')
  const wrong = await recv({ ...TUTORIAL, heaps: 2 }, '--output', file, '--item', 'nonesuch')
  expect(wrong.code).toBe(1)
  expect(wrong.stderr).toContain("without item 'nonesuch'")
  const { code } = await recv({ ...TUTORIAL, heaps: 2 }, '--output', file, '--item', '0x1600')
  expect(code).toBe(0)
  expect(readFileSync(file).toString('hex')).toBe('000000000000000000004e20')
})

test('recv --timeout: exit 1 with what was got', async (ctx) => {
  const idle = start(recvArgv(`127.0.0.1:${await freePort()}`, '--timeout', '0.2', '--json'))
  const { code, stdout, stderr } = await idle.ended
  expect([code, JSON.parse(stdout)]).toMatchObject([1, { heaps: 0, packets: 0, seconds: 0, items: [], reason: 'timeout' }])
  expect(stderr).toContain('the expected end did not come in 0.2 s')
  need(ctx, spead2Python(), NO_PEER)
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '4', '--json'))
  await run.said(/listening/)
  await send({ to: [['127.0.0.1', port]], ...TUTORIAL, rate: 40e6, stop: false })
  const some = await run.ended
  expect([some.code, JSON.parse(some.stdout)]).toMatchObject([1, { heaps: 50, reason: 'timeout' }])
})

test('recv where koffi cannot be loaded uses node:dgram, says why, and receives the same', async (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const preload = pathToFileURL(programFile('support/no-koffi')).href
  const port = await freePort()
  const [node, ...args] = recvArgv(`127.0.0.1:${port}`, '--timeout', '20', '--verify', '--json')
  const run = start([node!, '--import', preload, ...args])
  await run.said(
    /^listening on .*; dgram \(the C library cannot be called: no koffi binary for this platform \(planted by the test\)\)/m,
  )
  const { done } = await send({ to: [['127.0.0.1', port]], ...TUTORIAL, rate: 20e6 })
  const { code, stdout } = await run.ended
  const { sha256, packets } = done
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { backend: 'dgram', heaps: 50, sha256, packets, droppedByKernel: null }])
})

test('the first SIGINT or SIGTERM ends with the summary and 0, a second while that lasts with 130', async () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const run = start(recvArgv(`127.0.0.1:${await freePort()}`, '--json'))
    await run.said(/listening/)
    run.child.kill(signal)
    const { code, stdout } = await run.ended
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { heaps: 0, reason: 'interrupted' }])
  }
  const run = start(recvArgv(`127.0.0.1:${await freePort()}`, '--json'))
  await run.said(/listening/)
  // Both are pending when it goes on, so that the second comes during the end the first began.
  for (const signal of ['SIGSTOP', 'SIGINT', 'SIGTERM', 'SIGCONT'] as const) run.child.kill(signal)
  expect(await run.ended).toMatchObject({ code: 130, stdout: '' })
})

test('recv on a port in use: exit 1, because it may be free in a moment', async () => {
  for (const backend of ['auto', 'dgram']) {
    const endpoint = `127.0.0.1:${await freePort()}`
    const first = start(recvArgv(endpoint))
    await first.said(/listening/)
    const { code, stderr } = await start(recvArgv(endpoint, '--backend', backend)).ended
    expect([code, stderr]).toEqual([1, expect.stringMatching(/cannot receive on .*EADDRINUSE/)])
    first.child.kill('SIGINT')
    await first.ended
  }
})

test.each([
  [['127.0.0.1:0'], 2, /port 0 is not in 1–65535/],
  [['127.0.0.1:7148', '--interface', 'nonesuch'], 2, /no interface is named 'nonesuch'/],
  [['192.0.2.1:7148'], 2, /no interface here has this address/],
  [['127.0.0.1:7148', '--output', '/nonexistent/x'], 1, /cannot write \/nonexistent\/x/],
])('recv %j: exit %i', async (args, expected, message) => {
  const { code, stdout, stderr } = await start(recvArgv(...args)).ended
  expect([code, stdout]).toEqual([expected, ''])
  expect(stderr).toMatch(message)
})

test.each([
  [[], /missing required argument/],
  [['127.0.0.1:7148', '--heaps', '0'], /a whole number from 1 up/],
  [['127.0.0.1:7148', '--timeout', '5x'], /'5x' is invalid/],
  [['127.0.0.1:7148', '--memory', '64'], /a whole number of bytes from 1048576/],
  [['127.0.0.1:7148', '--cnt-step', '0'], /a whole number from 1 up/],
  [['127.0.0.1:7148', '--buffer', '64'], /a whole number of bytes from 4096/],
  [['127.0.0.1:7148', '--backend', 'ibverbs'], /Allowed choices are auto, native, tcp, dgram/],
  [['127.0.0.1:7148', '--order', 'name'], /Allowed choices are arrival, cnt, sender/],
  [['127.0.0.1:7148', '--verfy'], /unknown option '--verfy'/],
])('recv %j: exit 2', async (args, message) => {
  const { code, stdout, stderr } = await start(recvArgv(...args)).ended
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toMatch(message)
})
