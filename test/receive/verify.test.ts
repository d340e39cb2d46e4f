/** What recv --verify passes and what it does not: every heap index once, from 0 on, each byte as it should be. */
import { createSocket } from 'node:dgram'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { stepsFor } from '#dist/src/receive/pattern-state.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import { freePort, recvArgv, send, start } from './support.js'
import { BACKENDS, control, descriptor, heapOf, receive, SAMPLES, START, STOP, TIMESTAMP, tutorial, upTo } from './wire.js'

describe.each(BACKENDS)('%s', (backend) => {
  const verify = { backend, verify: true, close: true }

  test.each<[string, number[], object]>([
    ['0–9 of 20, by the stop heap', upTo(0, 9), { heapsMissing: 10, verifyMissing: 10, heapsCorrupt: 0 }],
    ['10–19, because the pattern begins at 0', upTo(10, 19), { heapsMissing: 10, verifyMissing: 10, heapsCorrupt: 0 }],
    ['all of 20', upTo(0, 19), { heapsMissing: 0, verifyMissing: 0, heapsCorrupt: 0 }],
    ['every fourth, dealt out among endpoints', [1, 5, 9, 13, 17], { heapsMissing: 0, verifyMissing: 0, heapsCorrupt: 0 }],
  ])('%s', async (_name, indices, expected) => {
    const { summary } = await receive(verify, async ({ send: to }) => {
      await to('A', ...indices.map((index) => tutorial(index, index)), control(20, STOP))
    })
    expect(summary).toMatchObject({ heaps: indices.length, ...expected })
  })

  test('a heap lost and another repeated under a new cnt is not all heaps', async () => {
    const indices = [0, 1, 2, 2, 4, 5]
    const { summary } = await receive(verify, async ({ send: to }) => {
      await to('A', ...indices.map((index, cnt) => tutorial(cnt, index)), control(6, STOP))
    })
    expect(summary).toMatchObject({ heaps: 6, heapsCorrupt: 1, verifyMissing: 1 })
    expect(summary.corruptExamples).toEqual(['heap cnt 3: heap index 2 has come before'])
  })

  test('a copy made by the network, hundreds of heaps later, is no second heap', async () => {
    const { summary } = await receive(verify, async ({ send: to }) => {
      await to('A', ...upTo(0, 699).map((index) => tutorial(index, index)), tutorial(3, 3), tutorial(400, 400), control(700, STOP))
    })
    expect(summary).toMatchObject({ heaps: 700, heapsCorrupt: 0, duplicates: 2, verifyMissing: 0, heapsMissing: 0 })
  })

  test('each item of the id is checked, and its length by the descriptor', async () => {
    const both = (second: number) =>
      heapOf(
        1,
        [
          [true, TIMESTAMP, 16],
          [false, SAMPLES, 0],
          [false, SAMPLES, 16],
        ],
        Buffer.concat([Buffer.alloc(16, 1), Buffer.alloc(16, second)]),
      )
    const twice = await receive(verify, async ({ send: to }) => to('A', tutorial(0, 0), both(1)))
    expect(twice.summary).toMatchObject({ heaps: 2, heapsCorrupt: 0 })
    const wrong = await receive(verify, async ({ send: to }) => to('A', tutorial(0, 0), both(9)))
    expect(wrong.summary).toMatchObject({ heaps: 2, heapsCorrupt: 1 })
    const short = await receive(verify, async ({ send: to }) =>
      to('A', descriptor(9, SAMPLES, 'adc_samples', '|i1', '(64,)'), tutorial(10, 0)),
    )
    expect(short.summary).toMatchObject({ heaps: 1, heapsCorrupt: 1 })
    expect(short.summary.corruptExamples[0]).toContain('16 bytes of samples where their descriptor says 64')
  })

  test('a heap of another length than those before it is corrupt, until a run begins', async () => {
    const { summary } = await receive({ ...verify, stops: 0 }, async ({ send: to }) => {
      await to('A', ...upTo(0, 4).map((index) => tutorial(index, index)), tutorial(5, 5, 17), control(6, STOP))
      await to('A', ...upTo(0, 4).map((index) => tutorial(index, index, 17)))
    })
    expect(summary).toMatchObject({ heaps: 11, heapsCorrupt: 1 })
    expect(summary.corruptExamples).toEqual(['heap cnt 5: has 17 samples, and the heap before it 16'])
  })

  test.each<[string, number[], number]>([
    ['all to one, and to the other a stop heap', upTo(0, 9), 0],
    ['one, and to the other a stop heap', [0], 0],
    ['every second to one, and to the other a stop heap alone', [0, 2, 4, 6, 8], 4],
  ])('of two endpoints %s: %j', async (_name, indices, verifyMissing) => {
    const ports = [await freePort(), await freePort()]
    const endpoints = ports.map((port) => `127.0.0.1:${port}`)
    await using receiver = await openReceiver({ endpoints, backend, verify: true, deliver: false, timeoutSeconds: 20 })
    const socket = createSocket('udp4')
    const to = (port: number, packet: Uint8Array) =>
      new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
    for (const index of indices) await to(ports[0]!, tutorial(index + 1, index))
    for (const [i, port] of ports.entries()) await to(port, control(indices.at(-1)! + 2 + i, STOP))
    expect(await receiver.done).toMatchObject({ reason: 'stop', heaps: indices.length, verifyMissing, heapsCorrupt: 0 })
    socket.close()
  })

  test('two senders have a pattern each; a run begins the pattern anew', async () => {
    const pattern = upTo(0, 9).map((index) => tutorial(index + 2, index))
    const { summary } = await receive({ ...verify, stops: 0 }, async ({ send: to }) => {
      for (const [i, packet] of pattern.entries()) {
        await to('A', packet)
        await to('B', pattern[i]!)
      }
      await to('A', control(12, STOP), control(1, START), ...pattern)
    })
    expect(summary).toMatchObject({ heaps: 30, heapsCorrupt: 0, verifyMissing: 0, heapsMissing: 0 })
  })

  test('descriptors under heap cnts of their own, between slow heaps, begin no pattern anew', async () => {
    const { summary } = await receive(verify, async ({ send: to, pause }) => {
      for (const index of upTo(0, 3)) {
        await to('A', tutorial(5000 + index, index))
        await pause(200)
        await to(
          'A',
          descriptor(1, SAMPLES, 'adc_samples', '|i1', '(16,)'),
          descriptor(7 + index, SAMPLES, 'adc_samples', '|i1', '(16,)'),
        )
      }
      await to('A', tutorial(5004, 4), tutorial(5000, 0), tutorial(5002, 2), control(5005, STOP))
    })
    expect(summary).toMatchObject({ heaps: 5, duplicates: 2, heapsCorrupt: 0, heapsMissing: 0, verifyMissing: 0 })
  })

  test.each([5, 6, 8])('an addressed timestamp of %i bytes passes', async (width) => {
    const heap = (index: number) => {
      const timestamp = Buffer.alloc(8)
      timestamp.writeBigUInt64BE(BigInt(index * 16))
      return heapOf(
        index,
        [
          [false, TIMESTAMP, 0],
          [false, SAMPLES, width],
        ],
        Buffer.concat([timestamp.subarray(8 - width), Buffer.alloc(16, index)]),
      )
    }
    const { summary } = await receive(verify, async ({ send: to }) => to('A', ...upTo(0, 29).map(heap)))
    expect(summary).toMatchObject({ heaps: 30, heapsCorrupt: 0, verifyMissing: 0 })
  })
})

test('the step between two timestamps agrees with a search, for whatever numbers', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -300, max: 300 }),
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: 8, max: 24 }),
      (d, samples, bits) => {
        const modulo = 2 ** bits
        const ahead = (((d * samples) % modulo) + modulo) % modulo
        let nearest = Number.NaN
        for (let k = 0; Number.isNaN(nearest) && k < 700; k++)
          for (const steps of [1 + k, 1 - k])
            if (Number.isNaN(nearest) && (((steps * samples - ahead) % modulo) + modulo) % modulo === 0) nearest = steps
        const found = stepsFor(ahead, samples, modulo)
        // Two may be as near as one another.
        expect(Math.abs(found - 1)).toBe(Math.abs(nearest - 1))
        expect((((found * samples - ahead) % modulo) + modulo) % modulo).toBe(0)
      },
    ),
    { numRuns: 2000 },
  )
})

test('a step is found or not in the same time, for numbers that no search would end with', () => {
  for (const [ahead, samples, modulo] of [
    [7, 2 ** 31 - 1, 2 ** 24],
    [255, 2 ** 31, 256],
    [2 ** 47 + 1, 2 ** 32 - 1, 2 ** 48],
  ] as const) {
    const steps = stepsFor(ahead, samples, modulo)
    expect(Number.isNaN(steps) || Math.abs(steps) <= 2 ** 17).toBe(true)
  }
})

async function recvOf(args: string[], ...packets: Uint8Array[]) {
  const { createSocket } = await import('node:dgram')
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '20', ...args))
  await run.said(/^listening/m)
  const socket = createSocket('udp4')
  for (const packet of packets) await new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
  const ended = await run.ended
  socket.close()
  return ended
}

test('recv --verify: descriptors and a stop alone are a failure that says so', async () => {
  const { code, stderr } = await recvOf(['--verify'], descriptor(1, SAMPLES, 'adc_samples'), control(2, STOP))
  expect([code, stderr]).toEqual([1, expect.stringContaining('descriptors or a stop came, and no data to verify')])
})

test('recv --verify: what is missing at either end is a failure', async () => {
  const tail = await recvOf(['--verify'], ...upTo(0, 9).map((index) => tutorial(index, index)), control(20, STOP))
  const head = await recvOf(['--verify'], ...upTo(10, 19).map((index) => tutorial(index, index)), control(20, STOP))
  const all = await recvOf(['--verify'], ...upTo(0, 19).map((index) => tutorial(index, index)), control(20, STOP))
  expect([tail.code, head.code, all.code]).toEqual([1, 1, 0])
  for (const { stderr } of [tail, head]) expect(stderr).toContain('10 heaps are missing')
})

test("recv --verify passes spead2's default flavour, whose timestamps are addressed", async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '20', '--verify', '--json'))
  await run.said(/^listening/m)
  await send({ to: [['127.0.0.1', port]], kind: 'tutorial', heaps: 300, heapSize: 2000, packetSize: 1472, flavour: 40, rate: 20e6 })
  const { code, stdout } = await run.ended
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { heaps: 300, heapsCorrupt: 0, verifyMissing: 0 }])
})
