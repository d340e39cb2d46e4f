// What samples may be: byte streams of every kind, and typed arrays of the item's own numbers. Others are refused, and say what to give.
import { Blob } from 'node:buffer'
import { open, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { runInNewContext } from 'node:vm'
import { Heap, ItemGroup, type ItemInit, type SampleWriter, sampleWriter, sendAll, toWritable } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from '../support/cli.js'
import { memoryStream, parse } from './support.js'

const BYTES = Uint8Array.from({ length: 4096 }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 11) & 0xff)

async function writerOf(samples: Partial<ItemInit> = { dtype: 'i1' }): Promise<{ writer: SampleWriter; sent: () => Buffer }> {
  const stream = await memoryStream({ descriptors: 'none' })
  const items = new ItemGroup().add({ name: 'samples', shape: [64], ...samples })
  const writer = sampleWriter(stream, { items, item: 'samples' })
  return { writer, sent: () => Buffer.concat(stream.packets.map((packet) => parse(packet).data)) }
}

/**
 * A file of BYTES. Node 20 ends the process by an assertion when a file is closed whose stream, unless of type 'bytes', was not read to its
 * end or was cancelled, so those stay open.
 */
async function fileOfBytes() {
  const path = join(temporaryFolder(), 'samples')
  await writeFile(path, BYTES)
  const file = await open(path)
  if (!process.version.startsWith('v20.')) onTestFinished(() => file.close())
  return file
}

/** An address of a server that answers with BYTES. */
async function served(): Promise<string> {
  const server = createServer((_, response) => response.end(BYTES)).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

const chunks = <T>(make: (bytes: Uint8Array) => T): T[] =>
  Array.from({ length: 4 }, (_, i) => make(BYTES.slice(1024 * i, 1024 * (i + 1))))

/** Byte streams of the web, each of BYTES. */
const WEB_STREAMS = {
  'FileHandle.readableWebStream()': async () => (await fileOfBytes()).readableWebStream(),
  "FileHandle.readableWebStream({ type: 'bytes' })": async () => (await fileOfBytes()).readableWebStream({ type: 'bytes' }),
  'Blob.stream()': async () => new Blob([BYTES]).stream(),
  'the body of fetch': async () => (await fetch(await served())).body!,
  'a ReadableStream of Uint8Arrays': async () => Readable.toWeb(Readable.from(chunks((bytes) => bytes))),
  'a ReadableStream of ArrayBuffers': async () => Readable.toWeb(Readable.from(chunks((bytes) => bytes.buffer))),
} as const
const NAMES = Object.keys(WEB_STREAMS) as (keyof typeof WEB_STREAMS)[]
type Source = ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>
const open_ = async (name: keyof typeof WEB_STREAMS): Promise<Source> => (await WEB_STREAMS[name]()) as unknown as Source

describe('samples of byte streams', () => {
  test.for(NAMES)('%s goes into a writer, piped', async (name) => {
    const { writer, sent } = await writerOf()
    await (await open_(name)).pipeTo(toWritable(writer))
    expect(sent().equals(BYTES)).toBe(true)
  })

  test.for(NAMES)('%s goes into a writer, chunk by chunk', async (name) => {
    const { writer, sent } = await writerOf()
    for await (const chunk of await open_(name)) await writer.write(chunk)
    await writer.end()
    expect(sent().equals(BYTES)).toBe(true)
  })

  test.for(NAMES)('%s is no source of heaps, and sendAll says where it goes', async (name) => {
    const stream = await memoryStream()
    await expect(sendAll(stream, (await open_(name)) as never)).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_VALUE',
      message: expect.stringMatching(/the source gave an? (Uint8Array|ArrayBuffer|Buffer).*source\.pipeTo\(toWritable\(writer\)\)/),
    })
    expect(stream.packets).toEqual([])
  })

  test.for<[string, () => unknown]>([
    ['a node stream', () => Readable.from(chunks((bytes) => bytes))],
    ['an array of chunks', () => chunks((bytes) => bytes)],
    ['a Buffer', () => Buffer.from(BYTES)],
    ['a typed array', () => new Int16Array(8)],
    ['a typed array of bigints', () => new BigInt64Array(8)],
    ['an ArrayBuffer', () => BYTES.buffer],
    ['a SharedArrayBuffer', () => new SharedArrayBuffer(8)],
    ['a Blob', () => new Blob([BYTES])],
    ['a Response', () => new Response(BYTES)],
  ])('%s is none either', async ([, source]) => {
    const stream = await memoryStream()
    const refused = { code: 'ERR_SPEADCAST_VALUE', message: expect.stringContaining('sampleWriter(stream, { items, item })') }
    await expect(sendAll(stream, source() as never)).rejects.toMatchObject(refused)
    await expect(sendAll(stream, [new Heap().addStart()])).resolves.toMatchObject({ heaps: 1 })
  })
})

const KINDS = [
  Int8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
] as const

/** Items, and the one typed array beside bytes that is samples of each. */
const SAMPLES: readonly [Partial<ItemInit>, string | undefined][] = [
  [{ dtype: 'i1' }, 'Int8Array'],
  [{ dtype: 'u1' }, undefined],
  [{ dtype: '<i2' }, 'Int16Array'],
  [{ dtype: '<u2' }, 'Uint16Array'],
  [{ dtype: '<f2' }, 'Uint16Array'],
  [{ dtype: '<i4' }, 'Int32Array'],
  [{ dtype: '<u4' }, 'Uint32Array'],
  [{ dtype: '<i8' }, 'BigInt64Array'],
  [{ dtype: '<u8' }, 'BigUint64Array'],
  [{ dtype: '<f4' }, 'Float32Array'],
  [{ dtype: '<c8' }, 'Float32Array'],
  [{ dtype: '<f8' }, 'Float64Array'],
  [{ dtype: '<c16' }, 'Float64Array'],
  [{ dtype: '<M8[ns]' }, 'BigInt64Array'],
  [{ dtype: '?' }, undefined],
  [{ dtype: 'S4' }, undefined],
  [{ dtype: '>i2' }, undefined],
  [{ dtype: '>f4' }, undefined],
  [{ dtype: '>c8' }, undefined],
  [{ format: [['i', 8]] }, 'Int8Array'],
  [
    {
      format: [
        ['i', 8],
        ['i', 8],
      ],
    },
    'Int8Array',
  ],
  [{ format: [['u', 8]] }, undefined],
  [{ format: [['i', 16]] }, undefined],
  [{ format: [['i', 4]], shape: [64, 2] }, undefined],
]

describe('samples in typed arrays', () => {
  test.for(SAMPLES)('for %j are of its own numbers (%s) or bytes', async ([item, own]) => {
    for (const Kind of KINDS) {
      const { writer, sent } = await writerOf(item)
      const samples = new Kind(BYTES.buffer)
      if (Kind.name === own) {
        await writer.write(samples)
        await writer.end()
        expect({ kind: own, equal: sent().equals(BYTES) }).toEqual({ kind: own, equal: true })
      } else {
        const message = expect.stringMatching(new RegExp(`item 'samples' has .* takes ${own ?? 'bytes'}.*, not ${Kind.name}`))
        await expect(writer.write(samples)).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE', message })
        await expect(toWritable(writer).getWriter().write(samples)).rejects.toMatchObject({ message })
      }
    }
    for (const bytes of [BYTES, Buffer.from(BYTES), BYTES.buffer, new DataView(BYTES.buffer), new Uint8ClampedArray(BYTES)]) {
      const { writer, sent } = await writerOf(item)
      await writer.write(bytes)
      await writer.end()
      expect(sent().equals(BYTES)).toBe(true)
    }
  })

  test('a refused array takes nothing, and the writer goes on', async () => {
    const { writer, sent } = await writerOf()
    await expect(writer.write(new Float32Array(16))).rejects.toThrow('Float32Array')
    await expect(writer.write(new Float32Array(0))).rejects.toThrow('Float32Array')
    await writer.write(new Int8Array(BYTES.buffer))
    await writer.end()
    expect(sent().equals(BYTES)).toBe(true)
  })

  test('big-endian items say how to swap native numbers, and the swapped bytes are theirs', async () => {
    const { writer, sent } = await writerOf({ dtype: '>i2' })
    const samples = Int16Array.from({ length: 64 }, (_, i) => 1000 + i)
    await expect(writer.write(samples)).rejects.toThrow(
      'Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength).swap16()',
    )
    await writer.write(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength).swap16())
    await writer.end()
    expect(sent().readInt16BE(0)).toBe(1000)
  })

  test('arrays of another realm, and of a class of the program, are what they extend', async () => {
    const { writer, sent } = await writerOf({ dtype: '<i2' })
    class Samples extends Int16Array {}
    await writer.write(new Samples(BYTES.slice(0, 2048).buffer))
    await writer.write(runInNewContext('new Int16Array(1024).fill(258)'))
    await expect(writer.write(runInNewContext('new Int8Array(1024)'))).rejects.toThrow('takes Int16Array')
    await writer.end()
    expect(sent().equals(Buffer.concat([BYTES.slice(0, 2048), Buffer.alloc(2048, Uint8Array.of(2, 1))]))).toBe(true)
  })

  test('a Float16Array, where there is one, is samples of <f2', async () => {
    const { Float16Array } = globalThis as unknown as { Float16Array?: typeof Float32Array }
    if (!Float16Array) return expect(process.version).toMatch(/^v2[0-3]\./)
    const { writer, sent } = await writerOf({ dtype: '<f2' })
    await writer.write(Float16Array.from({ length: 64 }, () => 1))
    await writer.end()
    expect(sent().readUInt16LE(0)).toBe(0x3c00)
  })
})
