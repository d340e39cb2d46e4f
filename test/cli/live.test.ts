// `speadcast send --input -` from a source that writes now and then; a last heap of few bytes; the exit status of what fails late.
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pointersOf, run, runJson, sink, start, startReceiver, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { startSpead2 } from '../support/spead2-receiver.js'

const HEAP = 8192
const bytesUpTo = (length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 11) & 0xff))
const isData = (packet: Buffer) => pointersOf(packet).some(({ id }) => id === 0x1600)
const payloadOf = (packets: readonly Buffer[]) =>
  Buffer.concat(packets.filter(isData).map((packet) => packet.subarray(8 + 8 * pointersOf(packet).length)))

test.for([
  ['udp', 'worker'],
  ['udp', 'inline'],
  ['dgram', 'inline'],
] as const)('a heap goes when it is whole, not when 64 are: %s, %s', async ([backend, thread]) => {
  const { to, datagrams, got } = await sink()
  const input = bytesUpTo(3 * HEAP + 100)
  const sending = start(
    ['send', to, '--input', '-', '-H', `${HEAP}`, '-p', '9000', '--backend', backend, '--thread', thread, '--json'],
    { stdin: 'pipe' },
  )
  for (let i = 0; i < 3; i++) {
    sending.child.stdin!.write(input.subarray(i * HEAP, (i + 1) * HEAP))
    // Descriptors first; each heap comes before the next is written.
    await got(2 + i)
  }
  expect(payloadOf(datagrams).equals(input.subarray(0, 3 * HEAP))).toBe(true)
  sending.child.stdin!.end(input.subarray(3 * HEAP))
  const { code, stderr, stdout } = await sending.done
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 4, payloadBytes: input.length })
  // Descriptors twice, four heaps, the stop heap.
  await got(7)
  expect(payloadOf(datagrams).equals(input)).toBe(true)
})

test('--max-delay says how long a heap may wait', async () => {
  const { to, datagrams, got } = await sink()
  const args = ['send', to, '--input', '-', '-H', `${HEAP}`, '-p', '9000', '--no-stop']
  const patient = start([...args, '--max-delay', '3600000'], { stdin: 'pipe' })
  const hasty = start([...args, '--max-delay', '0'], { stdin: 'pipe' })
  patient.child.stdin!.write(Buffer.alloc(HEAP, 1))
  hasty.child.stdin!.write(Buffer.alloc(HEAP, 2))
  await got(2)
  expect(payloadOf(datagrams).equals(Buffer.alloc(HEAP, 2))).toBe(true)
  patient.child.stdin!.end()
  hasty.child.stdin!.end()
  expect((await Promise.all([patient.done, hasty.done])).map(({ code }) => code)).toEqual([0, 0])
  await got(4)
  expect(payloadOf(datagrams).equals(Buffer.concat([Buffer.alloc(HEAP, 2), Buffer.alloc(HEAP, 1)]))).toBe(true)
})

test('the real spead2 gets a slow pipe’s samples', { timeout: 60_000 }, async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const ports = [7148, 7149, 7150]
  const receiver = await startSpead2(ns, { endpoints: ports.map((port) => ['10.77.0.2', port, null]), file: 'adc_samples' })
  const seconds = 'for i in 1 2 3 4 5 6 7 8; do head -c 9000 /dev/urandom; sleep 0.05; done'
  const file = join(temporaryFolder(), 'sent')
  const to = ports.map((port) => `10.77.0.2:${port}`).join(' ')
  const cli = new URL('../../dist/src/cli/main.js', import.meta.url).pathname
  const { stdout } = await ns.exec('a', [
    'sh',
    '-c',
    `(${seconds}) | tee ${file} | node ${cli} send --input - -H ${HEAP} -p 8972 --json ${to}`,
  ])
  const { version, done } = await receiver.received()
  // 72000 bytes: eight heaps and one of 6464 bytes.
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 9, heapsFailed: 0, payloadBytes: 72_000 })
  const sent = readFileSync(file)
  expect(done).toMatchObject({ ended: true, incomplete: 0, heaps: 9, bytes: sent.length })
  expect(done.sha256).toBe(createHash('sha256').update(sent).digest('hex'))
  console.log(`peer spead2 ${version}: ${done.heaps} heaps of a slow pipe compared`)
})

test.for([
  ['even', 2],
  ['even', 6],
  ['exact', 2],
  ['exact', 6],
] as const)('without descriptors a last heap keeps its length: split %s, %i bytes', async ([split, tail]) => {
  const folder = temporaryFolder()
  const [source, output] = [join(folder, 'in'), join(folder, 'out')]
  const input = bytesUpTo(98 + tail)
  writeFileSync(source, input)
  const receiver = await startReceiver(['--output', output])
  const layout = split === 'exact' ? ['--split', 'exact', '--payload-bytes', '49'] : []
  const sent = await runJson(['send', receiver.to, '--input', source, '-H', '49', '--descriptors', 'none', ...layout])
  expect(sent).toMatchObject({ code: 0, stderr: '', json: { heaps: 3, payloadBytes: 98 + tail } })
  expect(await receiver.done).toMatchObject({ code: 0, json: { heaps: 3, heapsIncomplete: 0 } })
  expect(readFileSync(output).equals(input)).toBe(true)
})

test('what fails before anything is sent is bad usage (2), what fails later is a failure (1)', async () => {
  const { to } = await sink()
  const source = join(temporaryFolder(), 'in')
  writeFileSync(source, bytesUpTo(1003))
  const late = await run(['send', to, '--input', source, '--dtype', '<i4', '-H', '100'])
  expect(late).toMatchObject({ code: 1, stderr: expect.stringMatching(/3 bytes left over/) })
  const early = await run(['send', to, '--input', source, '-H', '6'])
  expect(early).toMatchObject({ code: 2, stderr: expect.stringMatching(/travel inside the item pointer/) })
})
