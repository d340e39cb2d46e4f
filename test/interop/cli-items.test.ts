/** The items of `speadcast send` as the real spead2 gets them: names, ids, dtypes, shapes and values. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { freePort, runJson } from '../support/cli.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'

interface Got {
  readonly id: number
  readonly dtype: string | null
  readonly shape: readonly number[]
  readonly value: unknown
}
type Heap = Readonly<Record<string, Got>>

/** Sends to spead2 and returns the heaps that it got, and what the command said. */
async function exchange(args: readonly string[], input?: Uint8Array) {
  const port = await freePort()
  const child: ChildProcess = spawn(spead2Python()!, ['-u', peerScript('spead2_items.py'), `${port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const closed = once(child, 'close')
  const lines: { readonly heap?: number; readonly items: Heap }[] = []
  const reader = createInterface({ input: child.stdout! })
  const ready = once(reader, 'line')
  reader.on('line', (line) => lines.push(JSON.parse(line)))
  await ready
  const { code, stderr, json } = await runJson(['send', `127.0.0.1:${port}`, '--backend', 'udp', ...args], input)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  await closed
  return { heaps: lines.filter(({ heap }) => heap !== undefined).map(({ items }) => items), json }
}

const range = (count: number, first = 0) => Array.from({ length: count }, (_, k) => first + k)
const stamps = (heaps: readonly Heap[], name = 'timestamp') => heaps.map((heap) => heap[name]!.value)
const needSpead2 = (ctx: Parameters<typeof need>[0]) =>
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')

test('--input fills the items one after the other, beside constant ones', async (ctx) => {
  needSpead2(ctx)
  const heap = (first: number) =>
    Buffer.concat([
      Buffer.from(Int16Array.from(range(8, first - 4)).buffer),
      Buffer.from(Float64Array.from([first / 8, -first]).buffer),
    ])
  const { heaps, json } = await exchange(
    [
      ...['--input', '-', '--item', 'volts:0x4300:<i2:4x2', '--item', 'feng_id:0x4101:u48=0x30', '--item', 'gain:16642:<f8:2'],
      ...['--timestamp-id', '0x1601', '--first-timestamp', '1000', '--timestamp-step', '2048'],
    ],
    Buffer.concat([heap(10), heap(20), heap(30)]),
  )
  expect(json).toMatchObject({ heaps: 3, heapSizeBytes: 32, payloadBytes: 96 })
  expect(stamps(heaps)).toEqual([1000, 3048, 5096])
  expect(heaps[1]).toEqual({
    timestamp: { id: 0x1601, dtype: null, shape: [], value: 3048 },
    volts: { id: 0x4300, dtype: '<i2', shape: [4, 2], value: [[16, 17], [18, 19], [20, 21], [22, 23]] },
    feng_id: { id: 0x4101, dtype: null, shape: [], value: 48 },
    gain: { id: 0x4102, dtype: '<f8', shape: [2], value: [2.5, -20] },
  }) // biome-ignore format: a table
})

test('structured and big-endian dtypes, and the pattern in them', async (ctx) => {
  needSpead2(ctx)
  const args = [
    '-n',
    '3',
    '--item',
    `z:0x4300:[('re', '<i2'), ('im', '<i2')]:2,3`,
    '--item',
    'b:0x4301:>u4:4',
    '--item',
    'c:0x4302:<c8:1',
  ]
  const { heaps, json } = await exchange(args)
  expect(json).toMatchObject({ heaps: 3, heapSizeBytes: 24 + 16 + 8 })
  const [, , last] = heaps
  expect(last!.z).toEqual({
    id: 0x4300,
    dtype: `[('re', '<i2'), ('im', '<i2')]`,
    shape: [2, 3],
    value: [0, 1].map(() => [0, 1, 2].map(() => [0x0202, 0x0202])),
  })
  expect(last!.b).toEqual({ id: 0x4301, dtype: '>u4', shape: [4], value: range(4).map(() => 0x02020202) })
  expect(last!.c).toMatchObject({ dtype: '<c8', shape: [1] })
  // The samples of the first item: two steps of its slowest dimension.
  expect(stamps(heaps)).toEqual([0, 2, 4])
})

test('--items makes items of equal size, --dtype their type', async (ctx) => {
  needSpead2(ctx)
  const input = Buffer.from(Int16Array.from(range(24)).buffer)
  const { heaps } = await exchange(['--items', '3', '--dtype', '<i2', '-H', '24', '--input', '-'], input)
  expect(
    heaps.map(({ adc_samples_0, adc_samples_1, adc_samples_2 }) => [
      adc_samples_0!.value,
      adc_samples_1!.value,
      adc_samples_2!.value,
    ]),
  ).toEqual([
    [range(4), range(4, 4), range(4, 8)],
    [range(4, 12), range(4, 16), range(4, 20)],
  ])
  expect(heaps[0]!.adc_samples_2).toMatchObject({ id: 0x3302, dtype: '<i2', shape: [4] })
  expect(stamps(heaps)).toEqual([0, 4])
})

test('--format and --timestamp-format are bits, and --pad-last fills the last heap up', async (ctx) => {
  needSpead2(ctx)
  // 10-bit samples 1, 2, 3 … most significant bit first, 4 of them in 5 bytes.
  const bits = range(12, 1)
    .map((sample) => sample.toString(2).padStart(10, '0'))
    .join('')
  const input = Uint8Array.from(bits.match(/.{8}/g)!, (byte) => Number.parseInt(byte, 2))
  const args = ['--format', 'u10', '-H', '10', '--timestamp-format', 'u32', '--pad-last', '--input', '-']
  const { heaps, json } = await exchange(args, input)
  expect(json).toMatchObject({ heaps: 2, payloadBytes: 20 })
  expect(heaps.map(({ adc_samples }) => adc_samples!.value)).toEqual([
    [range(4, 1), range(4, 5)],
    [range(4, 9), [0, 0, 0, 0]],
  ])
  expect(stamps(heaps)).toEqual([0, 8])
})

test('an item with the timestamp’s id is the timestamp, and PySPEAD’s flaws are asked for by name', async (ctx) => {
  needSpead2(ctx)
  const args = [
    '-n',
    '2',
    '--item',
    'index:0x1600:u40',
    '--item',
    'volts:0x4300:<i2:8',
    '--heap-address-bits',
    '40',
    '--bug-compat',
    'swap-endian',
  ]
  const { heaps } = await exchange([...args, '--timestamp-step', '1', '--first-timestamp', '7'])
  expect(stamps(heaps, 'index')).toEqual([7, 8])
  // A receiver that does not know takes the byte order that the header names.
  expect(heaps[1]!.volts).toEqual({ id: 0x4300, dtype: '>i2', shape: [8], value: range(8).map(() => 0x0101) })
})
