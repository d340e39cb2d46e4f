/** Packets made by hand, straight from section 8 of the SPEAD document, and sockets to send them from. */
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { openReceiver, type ReceivedHeap, type ReceiverOptions, type ReceiveSummary } from '#dist/src/receive/index.js'
import { freePort } from './support.js'

export const SAMPLES = 0x3300
export const TIMESTAMP = 0x1600
export const BACKENDS = [...(process.platform === 'linux' ? (['native'] as const) : []), 'dgram'] as const

export type Pointer = [immediate: boolean, id: number, value: number | bigint]

export function packetOf(pointers: Pointer[], payload: Uint8Array = new Uint8Array(0), addressBytes = 6): Uint8Array {
  const packet = Buffer.alloc(8 + 8 * pointers.length + payload.length)
  packet.set([0x53, 4, 8 - addressBytes, addressBytes, 0, 0, pointers.length >> 8, pointers.length & 255])
  pointers.forEach(([immediate, id, value], i) => {
    const word = (immediate ? 1n << 63n : 0n) | (BigInt(id) << BigInt(8 * addressBytes)) | BigInt(value)
    packet.writeBigUInt64BE(word, 8 + 8 * i)
  })
  packet.set(payload, 8 + 8 * pointers.length)
  return packet
}

/** A packet of heap `cnt` with `part` of its payload. */
export const partOf = (
  cnt: number | bigint,
  heapLength: number,
  offset: number,
  part: Uint8Array,
  items: Pointer[] = [],
): Uint8Array => packetOf([[true, 1, cnt], [true, 2, heapLength], [true, 3, offset], [true, 4, part.length], ...items], part)

/** A heap of one packet. */
export const heapOf = (cnt: number | bigint, items: Pointer[], payload: Uint8Array = new Uint8Array(0), addressBytes = 6) =>
  packetOf([[true, 1, cnt], [true, 2, payload.length], [true, 3, 0], [true, 4, payload.length], ...items], payload, addressBytes)

/** Heap `index` of the tutorial's pattern, of `samples` samples. */
export const tutorial = (cnt: number | bigint, index: number, samples = 16): Uint8Array =>
  heapOf(
    cnt,
    [
      [true, TIMESTAMP, index * samples],
      [false, SAMPLES, 0],
    ],
    new Uint8Array(samples).fill(index),
  )

/** A data heap: item 0x3300 is `bytes`. */
export const data = (cnt: number | bigint, bytes: Uint8Array = Uint8Array.of(Number(BigInt(cnt) & 255n))): Uint8Array =>
  heapOf(cnt, [[false, SAMPLES, 0]], bytes)

export const START = 0
export const STOP = 2
export const control = (cnt: number | bigint, value: number): Uint8Array => heapOf(cnt, [[true, 6, value]])

/** A descriptor heap: an item of id, name and a dtype in a numpy header. */
export function descriptor(cnt: number, id: number, name: string, dtype = '|u1', shape = '(1,)'): Uint8Array {
  const header = Buffer.from(`{'descr': '${dtype}', 'fortran_order': False, 'shape': ${shape}}`)
  const text = Buffer.from(name, 'latin1')
  const inner = heapOf(
    1,
    [
      [true, 0x14, id],
      [false, 0x10, 0],
      [false, 0x15, text.length],
    ],
    Buffer.concat([text, header]),
  )
  return heapOf(cnt, [[false, 5, 0]], inner)
}

export interface Arrived {
  summary: ReceiveSummary
  heaps: ReceivedHeap[]
}

export interface Line {
  /** Sends from the socket of this name, and waits until all that was sent has been taken. */
  send(from: string, ...packets: Uint8Array[]): Promise<void>
  /** Lets time pass without anything sent. */
  pause(ms: number): Promise<void>
}

/** Opens a receiver, lets `script` send to it, and returns what came when it has ended; `close` ends it where nothing else does. */
export async function receive(
  options: Partial<ReceiverOptions> & { close?: boolean },
  script: (line: Line) => Promise<void>,
): Promise<Arrived> {
  const { close = false, ...rest } = options
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 20, ...rest })
  const sockets = new Map<string, Socket>()
  const heaps: ReceivedHeap[] = []
  const taken = (async () => {
    for await (const heap of receiver) heaps.push(heap)
  })()
  let sent = 0
  const settled = async () => {
    for (let turn = 0; turn < 5000; turn++) {
      const { packets, duplicates, malformed } = receiver.stats()
      if (packets + duplicates + malformed >= sent) return
      await sleep(1)
    }
  }
  const line: Line = {
    async send(from, ...packets) {
      let socket = sockets.get(from)
      if (!socket) {
        socket = createSocket('udp4')
        sockets.set(from, socket)
      }
      for (const [i, packet] of packets.entries()) {
        await new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
        sent++
        if (i % 32 === 31) await settled()
      }
      await settled()
    },
    pause: (ms) => sleep(ms).then(() => undefined),
  }
  try {
    await script(line)
    // Closing drops the heaps that nobody has taken.
    const isDelivered = () => heaps.length >= receiver.stats().heaps + receiver.stats().controlHeaps
    for (let turn = 0; rest.deliver !== false && !rest.output && !rest.verify && !isDelivered() && turn < 2000; turn++)
      await sleep(1)
    if (close) await receiver.close()
    const summary = await receiver.done
    await taken
    return { summary, heaps }
  } finally {
    for (const socket of sockets.values()) socket.close()
  }
}

export const upTo = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
