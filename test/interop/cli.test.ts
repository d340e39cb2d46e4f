/** The command line to the real spead2: files and the tutorial's pattern arrive byte for byte. */
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { startSpead2 } from '../support/spead2-receiver.js'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** `speadcast send --json` in namespace a to spead2 in b; what it said and what arrived. */
async function send(ns: Netns, endpoints: [string, number, string?][], args: string[], input?: Uint8Array) {
  const request = { endpoints: endpoints.map(([h, p, d]) => [h, p, d ?? null]), file: 'adc_samples', maxHeaps: 16 }
  const receiver = await startSpead2(ns, request)
  const { stdout } = await ns.exec('a', ['node', CLI, 'send', '--json', ...args], { timeoutMs: 30_000, ...(input && { input }) })
  const { version, done } = await receiver.received()
  const said = JSON.parse(stdout) as {
    heaps: number
    heapsFailed: number
    payloadBytes: number
    backend: string
    segmentation: string
  }
  expect(done).toMatchObject({ ended: true, incomplete: 0, rcvbufErrors: 0, heaps: said.heaps })
  expect(said).toMatchObject({ heapsFailed: 0, backend: 'udp', payloadBytes: done.bytes })
  console.log(
    `peer spead2 ${version}: ${done.heaps} heaps compared (send ${args.join(' ')}: ${done.bytes} bytes, sha256 ${done.sha256!.slice(0, 16)}…, ` +
      `segmentation ${said.segmentation})`,
  )
  expect(version).toBe('4.5.1')
  expect(done.heaps).toBeGreaterThan(0)
  return { ...done, heaps: said.heaps }
}

test('speadcast send to spead2: 64 MiB of random file, a pipe, and the tutorial’s heaps', { timeout: 60_000 }, async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const directory = mkdtempSync(join(tmpdir(), 'speadcast-interop-'))
  try {
    // The last heap is a short one.
    const data = randomFillSync(Buffer.alloc((64 << 20) - 4321))
    const file = join(directory, 'samples')
    writeFileSync(file, data)
    const whole = await send(ns, [['10.77.0.2', 7148]], ['--input', file, '--rate', '900Mbps', '10.77.0.2:7148'])
    expect(whole).toMatchObject({ bytes: data.length, sha256: sha256(data), heaps: 64 })

    const piped = randomFillSync(Buffer.alloc(3_000_002))
    const ports = [7148, 7149, 7150]
    const pipe = await send(
      ns,
      ports.map((port) => ['fd77::2', port]),
      [
        '--input',
        '-',
        '--dtype',
        '<i2',
        '-H',
        '100000',
        '-p',
        '8952',
        '--rate',
        '500Mbps',
        ...ports.map((port) => `[fd77::2]:${port}`),
      ],
      piped,
    )
    expect(pipe).toMatchObject({ bytes: piped.length, sha256: sha256(piped), heaps: 31 })

    const heaps = 300
    const groups = [0, 1, 2, 3].map((i): [string, number, string] => [`239.10.10.${i}`, 7148, 'v1'])
    const pattern = await send(ns, groups, [
      ...['-n', `${heaps}`, '-H', '8192', '--group-mode', 'round-robin', '--batch-heaps', '12', '--heap-address-bits', '40'],
      ...['--rate', '500Mbps', '--interface', 'v0', '--descriptors', 'in-band', '239.10.10.0+3:7148'],
    ])
    const expected = Buffer.concat(Array.from({ length: heaps }, (_, i) => Buffer.alloc(8192, i & 0xff)))
    expect(pattern).toMatchObject({ bytes: expected.length, sha256: sha256(expected), heaps })
  } finally {
    rmSync(directory, { recursive: true })
  }
})
