/** Memory of a batch that goes away fails what lies there with the cause, and nothing else. */
import { expect, test } from 'vitest'
import type { BatchOutcome } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

interface Told {
  heaps: BatchOutcome['heaps']
  message?: string
}

const SENT = Array(8).fill('sent')

for (const [to, sink] of [
  ['10.77.0.2:7148', false],
  ['[fd77::2]:7148', false],
  ['10.99.0.2:7148', true],
] as const)
  for (const options of [
    { backend: 'udp', udpPath: 'sendmmsg' },
    { backend: 'udp', udpPath: 'sendmmsg', segmentation: 'off' },
    { backend: 'udp', udpPath: 'sendmmsg', thread: 'inline' },
    { backend: 'udp', udpPath: 'io_uring' },
    { backend: 'udp', udpPath: 'auto' },
    { backend: 'dgram', thread: 'inline' },
  ] as const)
    test(`the file behind a batch is made shorter: ${to}, ${JSON.stringify(options)}`, async (ctx) => {
      const why = netnsUnavailable()
      need(ctx, !why, why)
      await using ns = await makeNetns({ veth: {}, ...(sink && { sink: {} }) })
      const got = await ns.program<Record<'whole' | 'gone' | 'behind' | 'later' | 'mended', Told> & { udpPath?: string }>(
        'a',
        'kernel/truncated',
        { to, descriptors: 'none', packetSizeBytes: 1400, ...options },
      )
      console.log(`${to}, ${JSON.stringify(options)} (${got.udpPath}): ${got.gone.message}`)
      for (const step of ['whole', 'behind', 'later', 'mended'] as const) expect(got[step].heaps, step).toEqual(SENT)
      expect(got.gone.heaps.slice(0, 4)).toEqual(SENT.slice(4))
      for (const status of got.gone.heaps.slice(4)) expect(status).toBe('failed')
      expect(got.gone.message).toMatch(/EFAULT/)
    })
