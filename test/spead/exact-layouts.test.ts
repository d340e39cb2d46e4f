import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SpeadcastError } from '#dist/src/errors.js'
import { type ExactSplit, Heap, Item, packetsOf } from '#dist/src/spead/index.js'
import { need } from '../support/need.js'
import { type PeerItem, PythonPeer } from '../support/python-peer.js'
import { base64, dump } from '../support/spead-cases.js'

let peer: PythonPeer | undefined
beforeAll(() => {
  peer = PythonPeer.start()
})
afterAll(async () => {
  await peer?.close()
})

const hex = (text: string) => Buffer.from(text.replace(/[^0-9a-f]/g, ''), 'hex')
const samples = (n: number) => Uint8Array.from({ length: n }, (_, i) => i * 31 + (i >> 8))
const u48 = (id: number, name: string, value: number | (() => number)) => new Item({ id, name, format: [['u', 48]], value })

describe('SKA-Low station beam, SPS to CBF', () => {
  // Six items and nothing else, SPEAD-64-48: heap counter, packet payload length, scan id, channel and antenna information, and the
  // samples at payload offset 0. No heap-length and no payload-offset pointer, because the correlator's firmware finds the 8192 bytes
  // at byte 56 of every packet. In the document the samples' pointer is addressed; one simulator sends it as an immediate 0.
  const heap = (scan: number | (() => number)) =>
    new Heap()
      .addItem(u48(0x3010, 'scan_id', scan))
      .addItem(u48(0x3000, 'csp_channel_info', 5 * 0x10000 + 140))
      .addItem(u48(0x3001, 'csp_antenna_info', 2 * 2 ** 40 + 3 * 2 ** 32 + 7 * 2 ** 16))
      .addItem(new Item({ id: 0x3300, name: 'samples', dtype: 'i1', shape: [2048, 2, 2], value: samples(8192) }))
  const split = (addressAsImmediate: boolean): ExactSplit => ({
    payloadBytes: 8192,
    pointers: [
      'heap-cnt',
      'payload-length',
      { item: 0x3010 },
      { item: 0x3000 },
      { item: 0x3001 },
      addressAsImmediate ? { item: 0x3300, addressAsImmediate } : { item: 0x3300 },
    ],
  })
  const header = (cnt: string, scan: string, mode: string) =>
    hex(`53 04 02 06 00 00 00 06
         8001 ${cnt}
         8004 000000002000
         b010 ${scan}
         b000 00000005008c
         b001 020300070000
         ${mode}300 000000000000`)

  test('one packet of 8248 bytes, samples at byte 56', () => {
    const [packet, ...more] = packetsOf(heap(99), 0x0102030405, { maxPacketSizeBytes: 8972, split: split(false) })
    expect(more).toEqual([])
    expect(packet).toHaveLength(8248)
    expect(dump([packet!.subarray(0, 56)])).toBe(dump([header('000102030405', '000000000063', '3')]))
    expect(base64(packet!.subarray(56))).toBe(base64(samples(8192)))
  })

  test('the samples’ offset as an immediate, as firmware and the simulator have it', () => {
    const [packet] = packetsOf(heap(99), 1, { maxPacketSizeBytes: 8248, split: split(true) })
    expect(dump([packet!.subarray(0, 56)])).toBe(dump([header('000000000001', '000000000063', 'b')]))
    expect(base64(packet!.subarray(56))).toBe(base64(samples(8192)))
  })

  test('immediates by reference are read at every send', () => {
    let scan = 1
    const h = heap(() => scan)
    const at = (cnt: number) => packetsOf(h, cnt, { maxPacketSizeBytes: 8248, split: split(false) })[0]!.subarray(0, 56)
    expect(dump([at(1)])).toBe(dump([header('000000000001', '000000000001', '3')]))
    scan = 0xabcdef
    expect(dump([at(2)])).toBe(dump([header('000000000002', '000000abcdef', '3')]))
  })

  test('what contradicts the layout is refused', () => {
    const refuse = (over: Partial<ExactSplit>, message: RegExp, maxPacketSizeBytes = 8972) => {
      const f = () => packetsOf(heap(1), 1, { maxPacketSizeBytes, split: { ...split(false), ...over } })
      expect(f).toThrow(message)
      expect(f).toThrow(SpeadcastError)
    }
    refuse({}, /8248/, 8247)
    refuse({ payloadBytes: 4096 }, /payload-offset/)
    refuse({ pointers: split(false).pointers.slice(0, 5) }, /0x3300/)
    refuse({ pointers: [...split(false).pointers, { item: 0x1234 }] }, /0x1234/)
    refuse({ pointers: [...split(false).pointers, { item: 0x3300 }] }, /0x3300/)
    refuse({ pointers: [...split(false).pointers, 'heap-cnt'] }, /heap-cnt/)
    refuse({ payloadBytes: 0 }, /payloadBytes/)
    refuse({ payloadBytes: 8192.5 }, /8192\.5/)
  })
})

describe('katgpucbf F-engine output', () => {
  // SPEAD-64-48, 8192 bytes of payload after 96 bytes: header, eight pointers (four standard, timestamp, feng_id, frequency,
  // feng_raw) and three padding pointers that align the payload to 32 bytes; all pointers in every packet.
  const PACKETS = 4
  const data = samples(PACKETS * 8192)
  const heap = () =>
    new Heap()
      .addItem(u48(0x1600, 'timestamp', 0x123456789abc))
      .addItem(u48(0x4101, 'feng_id', 63))
      .addItem(u48(0x4103, 'frequency', 4080))
      .addItem(new Item({ id: 0x4300, name: 'feng_raw', dtype: 'i1', shape: [PACKETS * 8, 256, 2, 2], value: data }))
  const split: ExactSplit = {
    payloadBytes: 8192,
    repeat: true,
    pointers: [
      'heap-cnt',
      'heap-length',
      'payload-offset',
      'payload-length',
      { item: 0x1600 },
      { item: 0x4101 },
      { item: 0x4103 },
      { item: 0x4300 },
      'padding',
      'padding',
      'padding',
    ],
  }
  const header = (offset: string) =>
    hex(`53 04 02 06 00 00 00 0b
         8001 00000000003f
         8002 000000008000
         8003 00000000${offset}
         8004 000000002000
         9600 123456789abc
         c101 00000000003f
         c103 000000000ff0
         4300 000000000000
         8000 000000000000
         8000 000000000000
         8000 000000000000`)

  test('four packets of 8288 bytes, every header written out', () => {
    const packets = packetsOf(heap(), 63, { maxPacketSizeBytes: 8288, split })
    expect(packets.map((p) => p.length)).toEqual([8288, 8288, 8288, 8288])
    for (const [i, offset] of ['0000', '2000', '4000', '6000'].entries()) {
      expect(dump([packets[i]!.subarray(0, 96)])).toBe(dump([header(offset)]))
      expect(base64(packets[i]!.subarray(96))).toBe(base64(data.subarray(i * 8192, (i + 1) * 8192)))
    }
  })

  test('spead2 receives it, from all packets and in any order', async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    const packets = packetsOf(heap(), 63, { maxPacketSizeBytes: 8288, split }).map(base64)
    const scalar = (id: number, name: string): PeerItem => ({
      id,
      name,
      description: '',
      shape: [],
      format: [['u', 48]],
      value: null,
    })
    const items: PeerItem[] = [
      scalar(0x1600, 'timestamp'),
      scalar(0x4101, 'feng_id'),
      scalar(0x4103, 'frequency'),
      { id: 0x4300, name: 'feng_raw', description: '', shape: [PACKETS * 8, 256, 2, 2], dtype: 'i1', value: null },
    ]
    for (const order of [packets, packets.toReversed()]) {
      const [got] = await peer.decode([{ packets: order, items }])
      expect(got!.complete).toBe(true)
      expect(got!.packets).toBe(PACKETS)
      expect(got!.values).toEqual({
        timestamp: { int: String(0x123456789abc) },
        feng_id: { int: '63' },
        frequency: { int: '4080' },
        feng_raw: { shape: [PACKETS * 8, 256, 2, 2], dtype: '|i1', bytes: base64(data) },
      })
    }
    console.log(`peer spead2 ${(await peer.versions()).spead2}: 2 heaps compared`)
  })

  test('without repetition only the first packet has the items', () => {
    const packets = packetsOf(heap(), 63, { maxPacketSizeBytes: 8288, split: { ...split, repeat: false } })
    expect(packets.map((p) => p.length)).toEqual([8288, 8232, 8232, 8232])
    expect(dump([packets[0]!.subarray(0, 96)])).toBe(dump([header('0000')]))
    expect(dump([packets[3]!.subarray(0, 40)])).toBe(
      dump([
        hex(`53 04 02 06 00 00 00 04
             8001 00000000003f
             8002 000000008000
             8003 000000006000
             8004 000000002000`),
      ]),
    )
  })

  test('a last packet carries what is left', () => {
    const packets = packetsOf(heap(), 63, { maxPacketSizeBytes: 8972, split: { ...split, payloadBytes: 8190 } })
    expect(packets.map((p) => p.length - 96)).toEqual([8190, 8190, 8190, 8190, 8])
  })
})
