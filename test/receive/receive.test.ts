import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { CreditGate } from '#dist/src/receive/credit-gate.js'
import { openReceiver, type ReceivedHeap, type ReceiverOptions } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import { comparable, expectedOf, freePort, type SenderSpec, type Sent, send } from './support.js'

const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'
const linux = process.platform === 'linux'
const BACKENDS = [...(linux ? (['native'] as const) : []), 'dgram'] as const
const scratch = mkdtempSync(join(tmpdir(), 'speadcast-receive-'))
let compared = 0
let version = ''

afterAll(() => {
  rmSync(scratch, { recursive: true })
  if (spead2Python()) console.log(`peer spead2 ${version}: ${compared} heaps compared`)
})

/** Receives what spead2 sends until its stop heap. */
async function exchange(
  spec: Omit<SenderSpec, 'to'>,
  options: Partial<ReceiverOptions> = {},
): Promise<{ sent: Sent; heaps: ReceivedHeap[] }> {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 25, ...options })
  const heaps: ReceivedHeap[] = []
  const all = (async () => {
    for await (const heap of receiver) heaps.push(heap)
  })()
  const sent = await send({ to: [['127.0.0.1', port]], rate: 40e6, ...spec })
  await all
  expect((await receiver.done).reason).toBe('stop')
  version = sent.done.spead2
  return { sent, heaps }
}

function compare(sent: Sent, heaps: ReceivedHeap[]): void {
  const byCnt = new Map(heaps.map((heap) => [`${heap.cnt}`, heap]))
  expect([...byCnt.keys()].sort()).toEqual(sent.heaps.map(({ cnt }) => cnt).sort())
  for (const told of sent.heaps) {
    expect(comparable(byCnt.get(told.cnt)!, told)).toEqual(expectedOf(told))
    compared++
  }
}

for (const backend of BACKENDS) {
  test.each([
    { flavour: 48, packetSize: 1472 },
    { flavour: 40, packetSize: 9000, repeatPointers: true },
    { flavour: 56, packetSize: 1472, descriptors: 'each' as const },
    { flavour: 32, packetSize: 520, repeatPointers: true },
    { flavour: 24, packetSize: 128 },
    { flavour: 16, packetSize: 1472 },
    { flavour: 8, packetSize: 1472, descriptors: 'none' as const },
  ])(`${backend}: spead2's own stream, all kinds of items, %o`, async (spec, ...rest) => {
    const ctx = rest[0] as unknown as { skip(note?: string): never }
    need(ctx, spead2Python(), NO_PEER)
    const { sent, heaps } = await exchange({ kind: 'types', heaps: 6, ...spec }, { backend })
    expect(sent.heaps.length).toBe(7 + (spec.descriptors ? 0 : 1))
    compare(sent, heaps)
  })

  test.each([
    [48, undefined],
    [48, 7],
    [40, 7],
  ])(`${backend}: descriptors of PySPEAD, SPEAD-64-%i, bugCompat %s given`, async (flavour, given, ...rest) => {
    const ctx = rest[0] as unknown as { skip(note?: string): never }
    need(ctx, spead2Python(), NO_PEER)
    const options = { backend, ...(given !== undefined && { bugCompat: given }) }
    const { sent, heaps } = await exchange({ kind: 'types', heaps: 2, packetSize: 9000, flavour, bugCompat: 7 }, options)
    compare(sent, heaps)
  })

  test(`${backend}: names, dtypes and shapes reach the items`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const { heaps } = await exchange({ kind: 'types', heaps: 2, packetSize: 9000 }, { backend })
    const items = [...heaps[1]!.items.values()]
    const of = (name: string) => items.find((item) => item.name === name)
    expect(of('array <f8')).toMatchObject({ dtype: '<f8', shape: [3, 2], immediate: false })
    expect(of('scalar >u4')).toMatchObject({ dtype: '>u4', shape: [], immediate: true })
    expect(of('scalar >u4')!.bytes).toHaveLength(4)
    expect(of('rows')).toMatchObject({ dtype: '>u2', immediate: false })
    expect(of('rows')!.shape).toEqual([of('rows')!.bytes.length / 6, 3])
    expect(of('no text')).toMatchObject({ dtype: '|S1', shape: [0] })
  })

  test(`${backend}: packets shuffled over eight heaps, with duplicates, garbage and truncated copies`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const port = await freePort()
    await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 25, backend })
    const spec = { kind: 'types', wire: 'packets', order: 'shuffle', window: 8, duplicate: 5, garbage: 4, truncate: 3 } as const
    const sending = send({ to: [['127.0.0.1', port]], heaps: 24, packetSize: 600, seed: 7, ...spec })
    const heaps: ReceivedHeap[] = []
    for await (const heap of receiver) heaps.push(heap)
    const sent = await sending
    compare(sent, heaps)
    const { duplicates, malformed, packets, heapsIncomplete, bytes } = await receiver.done
    // Descriptors and the stop heap are each a flush of their own, and so is what is left at the end.
    expect(duplicates).toBeGreaterThanOrEqual(15)
    expect(malformed).toBeGreaterThanOrEqual(3 * 7)
    expect({ packets, heapsIncomplete, bytes }).toEqual({
      packets: sent.done.packets,
      heapsIncomplete: 0,
      bytes: sent.done.udpBytes,
    })
  })

  test(`${backend}: reversed packets; lost ones leave an incomplete heap with zeros`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const { sent, heaps } = await exchange(
      { kind: 'types', wire: 'packets', order: 'reverse', heaps: 4, packetSize: 1000, drop: [[2, 3]] },
      { backend },
    )
    const incomplete = heaps.filter(({ complete }) => !complete)
    expect(incomplete.map(({ cnt }) => cnt)).toEqual([4])
    const complete = heaps.filter((heap) => heap.complete)
    compare({ ...sent, heaps: sent.heaps.filter(({ cnt }) => cnt !== '4') }, complete)
    const told = sent.heaps.find(({ cnt }) => cnt === '4')!
    expect(incomplete[0]!.packets).toBe(told.packets - 1)
    let zeroed = 0
    for (const item of told.items) {
      const bytes = incomplete[0]!.items.get(item.id)?.bytes
      if (item.immediate || !bytes) continue
      Buffer.from(item.bytes, 'base64').forEach((byte, i) => {
        if (bytes[i] !== byte) {
          expect(bytes[i]).toBe(0)
          zeroed++
        }
      })
    }
    expect(zeroed).toBeGreaterThan(500)
  })

  test(`${backend}: the tutorial over four substreams, round-robin, verified, hashed and written in order`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const ports = await Promise.all([0, 1, 2, 3].map(() => freePort()))
    const output = join(scratch, `${backend}.bin`)
    writeFileSync(output, 'an older and longer recording'.repeat(100_000))
    await using receiver = await openReceiver({
      endpoints: ports.map((port) => `127.0.0.1:${port}`),
      timeoutSeconds: 25,
      backend,
      verify: true,
      output,
    })
    const spec = { kind: 'tutorial', heaps: 300, heapSize: 5000, packetSize: 1472, roundRobin: true, rate: 20e6 } as const
    const { done } = await send({ to: ports.map((port) => ['127.0.0.1', port]), ...spec })
    const summary = await receiver.done
    expect(summary).toMatchObject({
      reason: 'stop',
      heaps: 300,
      heapsIncomplete: 0,
      heapsCorrupt: 0,
      heapsMissing: 0,
      verifyMissing: 0,
      payloadBytes: done.payloadBytes,
      packets: done.packets,
      sha256: done.sha256,
      outputLeftOut: 0,
      controlHeaps: 5,
    })
    expect(createHash('sha256').update(readFileSync(output)).digest('hex')).toBe(done.sha256)
    compared += summary.heaps
  })

  test(`${backend}: corrupt, incomplete and missing heaps are told apart`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const port = await freePort()
    await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 25, backend, verify: true })
    const lost: [number, number][] = [0, 1, 2, 3].map((packet) => [30, packet])
    const spec = { kind: 'tutorial', wire: 'packets', heaps: 40, heapSize: 4000, packetSize: 1472, corrupt: [5, 11] } as const
    const { done } = await send({ to: [['127.0.0.1', port]], ...spec, drop: [[20, 1], ...lost] })
    const summary = await receiver.done
    expect(summary).toMatchObject({ heaps: 38, heapsIncomplete: 1, heapsCorrupt: 2, heapsMissing: 1, verifyMissing: 2 })
    expect(summary.packets).toBe(done.packets - 1 - 3)
    expect(summary.corruptExamples[0]).toBe('heap cnt 7: sample 2000 of heap index 5 is 4, not 5')
  })

  test(`${backend}: tiny heaps, whose samples travel in the item pointer, are verified too`, async (ctx) => {
    need(ctx, spead2Python(), NO_PEER)
    const port = await freePort()
    await using receiver = await openReceiver({
      endpoints: `127.0.0.1:${port}`,
      timeoutSeconds: 25,
      backend,
      verify: true,
      hash: true,
    })
    const { done } = await send({
      to: [['127.0.0.1', port]],
      kind: 'tutorial',
      heaps: 300,
      heapSize: 4,
      packetSize: 1472,
      rate: 1e6,
      corrupt: [9],
    })
    expect(await receiver.done).toMatchObject({
      heaps: 300,
      heapsCorrupt: 1,
      sha256: done.sha256,
      payloadBytes: 0,
      outputBytes: 1200,
    })
  })

  test(`${backend}: ends after N heaps, at the deadline, at abort, and when closed`, async () => {
    const port = await freePort()
    const endpoints = `127.0.0.1:${port}`
    const socket = createSocket('udp4')
    const sendHeap = (cnt: number) => {
      const packet = Buffer.from('53040206000000020000000000000000b300000000000001', 'hex')
      packet.writeBigUInt64BE((1n << 63n) | (1n << 48n) | BigInt(cnt), 8)
      socket.send(packet, port, '127.0.0.1')
    }
    {
      const receiver = await openReceiver({ endpoints, backend, heaps: 3, deliver: false })
      for (let cnt = 1; cnt <= 10; cnt++) sendHeap(cnt)
      expect(await receiver.done).toMatchObject({ reason: 'heaps', heaps: 3 })
    }
    {
      const receiver = await openReceiver({ endpoints, backend, heaps: 3, timeoutSeconds: 0.3 })
      sendHeap(1)
      const cnts: unknown[] = []
      for await (const { cnt } of receiver) cnts.push(cnt)
      expect(cnts).toEqual([1])
      expect(await receiver.done).toMatchObject({ reason: 'timeout', heaps: 1 })
    }
    {
      const abort = new AbortController()
      const receiver = await openReceiver({ endpoints, backend, signal: abort.signal })
      const next = receiver[Symbol.asyncIterator]().next()
      abort.abort(new Error('enough'))
      await expect(next).rejects.toThrow('enough')
      expect(await receiver.done).toMatchObject({ reason: 'aborted' })
      await expect(openReceiver({ endpoints, backend, signal: abort.signal })).rejects.toThrow('enough')
    }
    {
      const receiver = await openReceiver({ endpoints, backend })
      const [first, second] = await Promise.all([receiver.close(), receiver.close()])
      expect(first).toBe(second)
      expect(first.reason).toBe('closed')
      expect(await receiver[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined })
    }
    {
      const receiver = await openReceiver({ endpoints, backend })
      sendHeap(5)
      for await (const { cnt } of receiver) {
        expect(cnt).toBe(5)
        break
      }
      expect(await receiver.done).toMatchObject({ reason: 'closed', heaps: 1 })
    }
    socket.close()
  })

  test(`${backend}: a port that is taken is an error that says so, and costs no recording`, async () => {
    const port = await freePort()
    const endpoints = `127.0.0.1:${port}`
    const output = join(scratch, 'precious')
    writeFileSync(output, 'precious')
    await using _first = await openReceiver({ endpoints, backend })
    await expect(openReceiver({ endpoints, backend, output })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_ENDPOINT',
      message: expect.stringMatching(new RegExp(`cannot receive on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`)),
    })
    expect(readFileSync(output, 'utf8')).toBe('precious')
  })

  test(`${backend}: credits hold a sender below the socket buffer, and losses do not stop it`, async () => {
    const port = await freePort()
    const options = { endpoints: `127.0.0.1:${port}`, backend, credits: true, deliver: false, receiveBufferBytes: 65536 }
    await using receiver = await openReceiver({ ...options, timeoutSeconds: 25 })
    const gate = await CreditGate.open({ to: `127.0.0.1:${port}` })
    expect(gate.windowBytes).toBeLessThanOrEqual(32768)
    const socket = createSocket('udp4')
    const packet = Buffer.alloc(4096)
    packet.set(Buffer.from('53040206000000030000000000000000', 'hex'))
    packet.writeBigUInt64BE((1n << 63n) | (2n << 48n) | 4064n, 16)
    packet.writeBigUInt64BE(0x3300n << 48n, 24)
    for (let cnt = 1; cnt <= 1000; cnt++) {
      await gate.ready(packet.length)
      packet.writeBigUInt64BE((1n << 63n) | (1n << 48n) | BigInt(cnt), 8)
      await new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
    }
    expect(gate.waits).toBeGreaterThan(0)
    await expect.poll(() => receiver.stats().heaps, { timeout: 10_000 }).toBe(1000)
    expect(receiver.stats().malformed).toBe(0)
    // Nothing is sent for these, so no credit comes: they are written off and the gate opens again.
    await gate.ready(gate.windowBytes)
    await gate.ready(gate.windowBytes)
    expect(gate.lostBytes).toBe(gate.windowBytes)
    gate.close()
    socket.close()
  })
}

test('coalesced datagrams are taken apart: the same heaps with UDP_GRO, without, and from node:dgram', async (ctx) => {
  need(ctx, linux, 'UDP_SEGMENT and UDP_GRO are for Linux')
  need(ctx, spead2Python(), NO_PEER)
  const perMessage: number[] = []
  for (const options of [{ gro: true }, { gro: false }, { backend: 'dgram' }] as const) {
    const port = await freePort()
    await using receiver = await openReceiver({
      endpoints: `127.0.0.1:${port}`,
      timeoutSeconds: 25,
      verify: true,
      hash: true,
      ...options,
    })
    const spec = { kind: 'tutorial', wire: 'packets', gso: true, heaps: 30, heapSize: 100_000, packetSize: 1472 } as const
    const { done } = await send({ to: [['127.0.0.1', port]], ...spec })
    const summary = await receiver.done
    const { heaps, heapsCorrupt, packets, bytes, sha256, malformed } = summary
    const expected = { heaps: 30, heapsCorrupt: 0, packets: done.packets, bytes: done.udpBytes, sha256: done.sha256, malformed: 0 }
    expect({ heaps, heapsCorrupt, packets, bytes, sha256, malformed }).toEqual(expected)
    perMessage.push(packets / summary.messages)
    compared += heaps
  }
  expect(perMessage[0]).toBeGreaterThan(10)
  expect(perMessage.slice(1)).toEqual([1, 1])
})

test.each([
  [null, /openReceiver: the options are null; give an object of endpoints, /],
  ['127.0.0.1:7148', /openReceiver: the options are '127.0.0.1:7148'/],
  [{ endpoints: '127.0.0.1:7148', signal: new AbortController() }, /signal is an AbortController; it must be an AbortSignal/],
  [{ endpoints: '127.0.0.1:7148', heap: 1 }, /unknown option 'heap'; there are: endpoints, /],
  [{ endpoints: '127.0.0.1:7148', heaps: 0 }, /heaps is 0; it must be a whole number from 1/],
  [{ endpoints: '127.0.0.1:7148', timeoutSeconds: -1 }, /timeoutSeconds is -1/],
  [
    { endpoints: '127.0.0.1:7148', backend: 'ibverbs' },
    /backend is 'ibverbs'; it must be 'auto', 'native', 'tcp', 'dgram', 'rdma-ud' or 'pcap'/,
  ],
  [{ endpoints: '127.0.0.1:7148', device: 'rxe0' }, /device is for backend 'rdma-ud', not 'auto'/],
  [{ endpoints: '127.0.0.1:7148', backend: 'native', verbsLibrary: 'x.so' }, /verbsLibrary is for backend 'rdma-ud', not 'native'/],
  [{ endpoints: '127.0.0.1:7148', backend: 'rdma-ud', credits: true }, /credits are of UDP/],
  [{ endpoints: '127.0.0.1:7148', backend: 'rdma-ud', device: 1 }, /device is 1; it must be a string/],
  [{ endpoints: '127.0.0.1:7148', item: 5 }, /item is 5/],
  [{ endpoints: '127.0.0.1:7148', order: 'cnts' }, /order is 'cnts'; it must be 'arrival', 'cnt' or 'sender'/],
  [{ endpoints: 7148 }, /endpoints is number/],
  [{ endpoints: '127.0.0.1' }, /port is missing/],
  [{ endpoints: ['127.0.0.1:7148', '127.0.0.1:7148'] }, /given twice/],
  [{ endpoints: '127.0.0.1:7148', interface: 'nonesuch' }, /no interface is named 'nonesuch'/],
  [{ endpoints: '192.0.2.1:7148' }, /no interface here has this address/],
  [{ endpoints: '127.0.0.1:7148', output: '/nonexistent/file' }, /cannot write \/nonexistent\/file/],
  [{ endpoints: '127.0.0.1:7148', output: '/' }, /cannot write \//],
])('bad options are refused: %o', async (options, message) => {
  await expect(openReceiver(options as unknown as ReceiverOptions)).rejects.toMatchObject({
    name: 'SpeadcastError',
    message: expect.stringMatching(message),
  })
})

test('a slow consumer leaves packets in the socket, and every heap is delivered or accounted for', async (ctx) => {
  need(ctx, linux, 'recvmmsg is for Linux')
  need(ctx, spead2Python(), NO_PEER)
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 25 })
  const spec = { kind: 'tutorial', heaps: 2000, heapSize: 1000, packetSize: 1472, rate: 20e6 } as const
  const { done } = await send({ to: [['127.0.0.1', port]], ...spec })
  // All is sent; the queue is full and the rest waits in the socket.
  await expect.poll(() => receiver.stats().heaps + receiver.stats().controlHeaps, { timeout: 10_000 }).toBeGreaterThanOrEqual(256)
  const before = receiver.stats().heaps
  expect(before).toBeLessThan(done.heaps)
  let data = 0
  for await (const heap of receiver) if (heap.items.size > 0) data++
  expect([data, (await receiver.done).droppedByKernel]).toEqual([done.heaps, 0])
})

test('the peer was really there', (ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  expect([version, compared >= 700]).toEqual(['4.5.1', true])
})
