import { execFileSync } from 'node:child_process'
import type { ReceivedHeap } from '#dist/src/receive/index.js'
import { ReceiveSession, statWords } from '#dist/src/receive/session.js'
import { peerScript, spead2Python } from '../support/peer.js'

export const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'

/** What numpy makes of a header. */
export interface ToldHeader {
  shape: number[]
  order: 'C' | 'F'
  itemsize: number
  kind: string
  text: string
}

/** An item for spead2 to send; `dtype` and a `value` of text are Python expressions. */
export interface PeerItem {
  name: string
  shape: (number | null)[]
  dtype?: string
  format?: [string, number][]
  order?: 'C' | 'F'
  value: unknown
}

export interface PeerTold {
  packets: string[]
  items: {
    id: number
    name: string
    shape: (number | null)[]
    dtype: string | null
    itemsize: number | null
    format: [string, number][]
    order: 'C' | 'F'
    valueShape: number[]
  }[]
}

const questions: object[] = []
let answers: unknown[] = []

/** A question to peers/descriptors.py. All that were made before one is answered are answered by one process. */
export function question<T>(asked: object): () => T {
  const i = questions.push(asked) - 1
  return () => {
    if (i >= answers.length) {
      const input = JSON.stringify(questions)
      const how = { input, maxBuffer: 1 << 28, encoding: 'utf8' } as const
      answers = JSON.parse(execFileSync(spead2Python() ?? 'python3', [peerScript('descriptors.py')], how))
    }
    return answers[i] as T
  }
}

/** A SPEAD packet by the specification: 16-bit magic and version, widths, pointers, payload. */
export function packetOf(
  pointers: readonly (readonly [immediate: boolean, id: number, value: number | bigint])[],
  payload: Uint8Array,
  addressBytes = 6,
): Uint8Array {
  const packet = Buffer.alloc(8 + 8 * pointers.length + payload.length)
  packet.set([0x53, 4, 8 - addressBytes, addressBytes, 0, 0, pointers.length >> 8, pointers.length & 255])
  for (const [i, [immediate, id, value]] of pointers.entries()) {
    const word = (immediate ? 1n << 63n : 0n) | (BigInt(id) << BigInt(8 * addressBytes)) | BigInt(value)
    packet.writeBigUInt64BE(word, 8 + 8 * i)
  }
  packet.set(payload, 8 + 8 * pointers.length)
  return new Uint8Array(packet)
}

export const FIELD = { name: 0x10, description: 0x11, shape: 0x12, format: 0x13, id: 0x14, dtype: 0x15 } as const

/** A descriptor with these fields, in this order. */
export function descriptorOf(
  fields: readonly (readonly [field: keyof typeof FIELD, content: string | Uint8Array])[],
  { id = 0x3300 as number | bigint, addressBytes = 6, extra = [] as [boolean, number, number][] } = {},
): Uint8Array {
  const contents = fields.map(([, content]) => (typeof content === 'string' ? Buffer.from(content, 'latin1') : content))
  const payload = Buffer.concat(contents)
  let at = 0
  const addressed = fields.map(([field], i) => {
    const pointer = [false, FIELD[field], at] as const
    at += contents[i]!.length
    return pointer
  })
  const standard = [1, payload.length, 0, payload.length].map((value, i) => [true, i + 1, value] as const)
  return packetOf([...standard, [true, FIELD.id, id], ...extra, ...addressed], payload, addressBytes)
}

/** A heap of one packet with this payload and these pointers besides. */
export function heapOf(
  cnt: number,
  pointers: readonly (readonly [boolean, number, number | bigint])[],
  payload: Uint8Array,
  addressBytes = 6,
): Uint8Array {
  const standard = [cnt, payload.length, 0, payload.length].map((value, i) => [true, i + 1, value] as const)
  return packetOf([...standard, ...pointers], payload, addressBytes)
}

/** A heap of these descriptors. */
export function descriptorHeap(cnt: number, ...descriptors: Uint8Array[]): Uint8Array {
  let at = 0
  const pointers = descriptors.map(({ length }) => {
    const pointer = [false, 5, at] as const
    at += length
    return pointer
  })
  return heapOf(cnt, pointers, Buffer.concat(descriptors))
}

/** Gives the packets to the receiver's session, and returns the heaps that come out. */
export function receive(packets: readonly Uint8Array[], bugCompat?: number): ReceivedHeap[] {
  const scratch = 64 << 10
  const buffer = new ArrayBuffer(scratch + (8 << 20))
  const bounds = { endpoints: 1, maxHeaps: 8, memoryBytes: 8 << 20, timeoutMs: 1e9, heaps: 1e9, stops: 1e9 }
  const options = { ...bounds, verify: false, hash: false, anySource: false, cntStep: 0 }
  const session = new ReceiveSession(
    buffer,
    scratch,
    { ...options, item: 0x3300, deliver: true, bugCompat },
    new Float64Array(statWords(1)),
  )
  for (const packet of packets) {
    new Uint8Array(buffer).set(packet)
    session.packet(0, packet.length, 0, 0)
  }
  session.finish('closed')
  return session.outbox
}

export const fromHex = (packets: readonly string[]): Uint8Array[] =>
  packets.map((packet) => Uint8Array.from(Buffer.from(packet, 'hex')))
