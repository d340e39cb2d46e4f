// One region on two interfaces, and sendAll over two streams: both receivers get equal heaps.

import { createHash } from 'node:crypto'
import { Heap, type Stream, sendAll } from 'speadcast'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { programArgv } from '../support/program.js'
import { filledBatch, memoryStream } from './support.js'

test.for(['worker', 'inline'] as const)('%s: two interfaces, one region', { timeout: 60_000 }, async (thread, ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  ns.ip('a', 'address add 10.78.0.1/24 dev w0')
  ns.ip('b', 'address add 10.78.0.2/24 dev w1')
  ns.ip('a', 'link set w0 up')
  ns.ip('b', 'link set w1 up')
  const hearing = ns.spawn('b', programArgv('stream/two-hear'), { stdio: ['ignore', 'pipe', 'inherit'] })
  const [, told] = await Promise.all([waitForOutput(hearing, /ready/), waitForOutput(hearing, /\[\{.*\}\]/), sendNow()])
  async function sendNow() {
    await waitForOutput(hearing, /ready/)
    expect(await ns.program('a', 'stream/two-streams', thread)).toEqual({ heaps: 32, all: 100, payloadBytes: 10_000 })
  }
  const hash = createHash('sha256')
  let cnt = 0
  // Descriptors take a heap cnt before the first batch.
  for (let heap = 0; heap < 16; heap++) {
    const bytes = Uint8Array.from({ length: 4096 }, (_, k) => {
      const i = (heap % 8) * 4096 + k
      return (heap >> 3) * 101 + i * 7 + (i >> 8)
    })
    hash.update(`${++cnt + 1} `).update(bytes)
  }
  for (let i = 0; i < 50; i++) hash.update(`${++cnt + 1} `).update(new Uint8Array(100).fill(i))
  const expected = { heaps: 66, digest: hash.digest('hex') }
  expect(JSON.parse(told![0])).toEqual([expected, expected])
})

test('a batch of another stream, and a list that holds no streams, are refused', async () => {
  const [a, b] = [await memoryStream(), await memoryStream()]
  const batch = filledBatch(a, 0)
  expect(() => b.send(batch)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' }))
  await expect(sendAll([], [])).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringMatching(/list of streams is empty/),
  })
  await expect(sendAll([a, 7 as unknown as Stream], [])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG' })
  // One that is closed ends all, and what is under way settles.
  await b.close()
  await expect(sendAll([a, b], [new Heap().addStart()])).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
})
