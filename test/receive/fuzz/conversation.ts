/**
 * Draws what a network may bring to a receiver: heaps of several senders, well formed and lying, cut, damaged, repeated and out of
 * order. A seed gives the same packets again. Bytes come from sections 8 and 9 of the SPEAD document, never from our encoder.
 */

export interface FuzzPacket {
  /** Index of the socket that sends it. */
  readonly sender: number
  readonly bytes: Buffer<ArrayBufferLike>
}

type Pointer = readonly [immediate: boolean, id: number, value: number | bigint]

const HEAP_CNT = 1
const HEAP_LENGTH = 2
const PAYLOAD_OFFSET = 3
const PAYLOAD_LENGTH = 4
const DESCRIPTOR = 5
const STREAM_CONTROL = 6
export const SENDERS = 6
/** The largest payload of a UDP datagram over IPv4. */
const LARGEST = 65507

/** The generator mulberry32, which takes any seed. */
export class Draw {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 to n − 1. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n)
  }

  chance(probability: number): boolean {
    return this.below(1e6) < probability * 1e6
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  shuffle(list: unknown[]): void {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      ;[list[i], list[j]] = [list[j], list[i]]
    }
  }

  bytes(length: number): Buffer {
    const out = Buffer.alloc(length)
    for (let i = 0; i < length; i++) out[i] = this.below(256)
    return out
  }
}

/** A packet of these pointers; `claimed` pointers are said to be there. */
function packetOf(
  pointers: readonly Pointer[],
  payload: Uint8Array,
  addressBytes = 6,
  claimed = pointers.length,
): Buffer<ArrayBuffer> {
  const packet = Buffer.alloc(8 + 8 * pointers.length + payload.length)
  packet.set([0x53, 4, 8 - addressBytes, addressBytes, 0, 0, (claimed >> 8) & 255, claimed & 255])
  const shift = BigInt(8 * addressBytes)
  for (const [i, [immediate, id, value]] of pointers.entries()) {
    const word =
      (immediate ? 1n << 63n : 0n) | ((BigInt(id) << shift) & ((1n << 63n) - 1n)) | (BigInt(value) & ((1n << shift) - 1n))
    packet.writeBigUInt64BE(word, 8 + 8 * i)
  }
  packet.set(payload, 8 + 8 * pointers.length)
  return packet
}

/** A heap in packets of at most `room` payload bytes, each with the four pointers of every packet. */
function heapPackets(
  cnt: number | bigint,
  items: readonly Pointer[],
  payload: Uint8Array,
  { room = 1400, addressBytes = 6, repeat = false, length = true } = {},
): Buffer[] {
  const packets: Buffer[] = []
  let at = 0
  do {
    const part = payload.subarray(at, at + room)
    const pointers: Pointer[] = [[true, HEAP_CNT, cnt]]
    if (length) pointers.push([true, HEAP_LENGTH, payload.length])
    pointers.push([true, PAYLOAD_OFFSET, at], [true, PAYLOAD_LENGTH, part.length])
    if (at === 0 || repeat) pointers.push(...items)
    packets.push(packetOf(pointers, part, addressBytes))
    at += part.length
  } while (at < payload.length)
  return packets
}

/** An item descriptor: a packet that is an item of a heap. */
function descriptorOf(
  id: number,
  {
    name,
    description,
    dtype,
    format,
    shape,
  }: Record<'name' | 'description' | 'dtype', string> & Record<'format' | 'shape', Buffer>,
  addressBytes = 6,
): Buffer<ArrayBuffer> {
  const fields: [number, Buffer][] = [
    [0x10, Buffer.from(name, 'latin1')],
    [0x11, Buffer.from(description, 'latin1')],
    [0x12, shape],
    [0x13, format],
    [0x15, Buffer.from(dtype, 'latin1')],
  ]
  const payload = Buffer.concat(fields.map(([, bytes]) => bytes))
  let at = 0
  const pointers: Pointer[] = [
    [true, HEAP_CNT, 1],
    [true, HEAP_LENGTH, payload.length],
    [true, PAYLOAD_OFFSET, 0],
    [true, PAYLOAD_LENGTH, payload.length],
    [true, 0x14, id],
  ]
  for (const [field, bytes] of fields) {
    pointers.push([false, field, at])
    at += bytes.length
  }
  return packetOf(pointers, payload, addressBytes)
}

const DTYPES = [
  '<i2',
  '>u8',
  '|i1',
  '|S5',
  '<U3',
  '<f999999',
  '|V16',
  'uint16',
  '?',
  'B',
  '<M8[ns]',
  '',
  '<f0',
  '\x1b[2J',
  '<i2'.repeat(90),
]
const KEYS = [
  (dtype: string, shape: string) => `{'descr': '${dtype}', 'fortran_order': False, 'shape': ${shape}, }`,
  (dtype: string, shape: string) => `{'shape': ${shape}, 'fortran_order': True, 'descr': '${dtype}'}`,
  (dtype: string, shape: string) => `{"descr": "${dtype}", "fortran_order": False, "shape": ${shape}}`,
  (dtype: string, shape: string) => `{'descr': [('a', '${dtype}'), ('b', '<i2', (2,))], 'fortran_order': False, 'shape': ${shape}}`,
  (dtype: string, shape: string) => `{'descr': '${dtype}', 'shape': ${shape}`,
  (dtype: string) => `${'('.repeat(300)}${dtype}`,
]
const SHAPES = [
  '()',
  '(0,)',
  '(16,)',
  '(3, 2)',
  '(99999999999999999999,)',
  '(-1,)',
  '(None, 3)',
  '(2L, 3L)',
  `(${'1, '.repeat(200)})`,
]

export class Conversation {
  readonly packets: FuzzPacket[] = []
  readonly #draw: Draw
  readonly #next = Array.from({ length: SENDERS }, () => 1)
  readonly #described: number[] = [0x1000, 0x1600, 0x3300]

  constructor(seed: number) {
    this.#draw = new Draw(seed)
  }

  /** Adds at least `most` packets. */
  grow(most: number): this {
    const draw = this.#draw
    const window: FuzzPacket[] = []
    while (this.packets.length < most) {
      window.push(...this.#step())
      if (draw.chance(0.3)) this.#flush(window)
    }
    this.#flush(window)
    return this
  }

  /** Some windows are mixed, which brings heaps out of order and between each other. */
  #flush(window: FuzzPacket[]): void {
    const draw = this.#draw
    const order = draw.of(['kept', 'kept', 'reverse', 'shuffle'] as const)
    if (order === 'reverse') window.reverse()
    if (order === 'shuffle') draw.shuffle(window)
    const lossy = draw.chance(0.2)
    this.packets.push(...window.filter(() => !lossy || draw.chance(0.8)))
    window.length = 0
  }

  #step(): FuzzPacket[] {
    const draw = this.#draw
    const sender = draw.below(SENDERS)
    const from = (packets: readonly Buffer[]) =>
      packets.filter(({ length }) => length <= LARGEST).map((bytes) => ({ sender, bytes }))
    const kind = draw.below(100)
    if (kind < 45) return from(this.#dataHeap(sender))
    if (kind < 55) return from(this.#descriptorHeap(sender))
    if (kind < 60) return from(this.#controlHeap(sender))
    if (kind < 70) return from(this.#lyingPackets(sender))
    if (kind < 73) return from([draw.bytes(draw.below(400))])
    if (kind < 75) return from(this.#scattered(sender))
    if (kind < 77) return from(Array.from({ length: draw.chance(0.1) ? 40 : 1 }, () => this.#manyPointers(sender)))
    return this.#again()
  }

  #cnt(sender: number): number {
    const draw = this.#draw
    if (draw.chance(0.02)) this.#next[sender] = draw.of([0, 1, 255, 2 ** 31, 2 ** 32 - 2, 2 ** 48 - 3, 2 ** 40 - 1])
    const cnt = this.#next[sender]!
    this.#next[sender] = cnt + (draw.chance(0.05) ? draw.below(20) : 1)
    return cnt
  }

  /** A heap of the tutorial's pattern often enough for the verifier to find it right, else of anything. */
  #dataHeap(sender: number): Buffer[] {
    const draw = this.#draw
    const addressBytes = draw.of([6, 6, 6, 5, 5, 7, 4, 3, 2, 1])
    const cnt = this.#cnt(sender)
    const samples = draw.of([0, 1, 4, 6, 16, 64, 1000, 5000])
    const index = draw.chance(0.9) ? cnt : draw.below(2 ** 20)
    const payload = Buffer.alloc(samples + draw.of([0, 0, 0, 9]), draw.chance(0.9) ? index & 255 : draw.below(256))
    const items: Pointer[] = [[true, 0x1600, index * samples]]
    if (draw.chance(0.1)) items[0] = [false, 0x1600, Math.max(0, samples - 6)]
    if (samples <= 6 && draw.chance(0.5)) items.push([true, 0x3300, draw.below(2 ** 30)])
    else items.push([false, 0x3300, 0])
    while (draw.chance(0.2)) {
      const id = draw.of([0, 0x3300, 0x1600, 0x1000, 0x2000, draw.below(0x8000)])
      items.push([draw.chance(0.5), id, draw.of([0, samples, draw.below(payload.length + 1), 2 ** 40])])
    }
    if (draw.chance(0.1)) items.reverse()
    return heapPackets(cnt, items, payload, {
      addressBytes,
      room: draw.of([1400, 1400, 500, 100, 8000]),
      repeat: draw.chance(0.3),
      length: draw.chance(0.85),
    })
  }

  #descriptorHeap(sender: number): Buffer[] {
    const draw = this.#draw
    const addressBytes = draw.of([6, 6, 5, 7, 4, 2])
    const parts: Buffer<ArrayBuffer>[] = []
    const items: Pointer[] = []
    let at = 0
    for (let k = 0; k <= draw.below(4); k++) {
      const id = draw.chance(0.7) ? draw.of(this.#described) : draw.below(0x8000)
      const numpy = draw.chance(0.5)
      const item = descriptorOf(
        id,
        {
          name: draw.of(['adc_samples', 'timestamp', 'a', 'b', '', '\x1b]0;title\x07', 'n'.repeat(draw.below(3000))]),
          description: draw.of(['', 'text', '\u0085'.repeat(draw.below(100))]),
          dtype: numpy ? draw.of(KEYS)(draw.of(DTYPES), draw.of(SHAPES)) : '',
          format: numpy ? Buffer.alloc(0) : draw.bytes(draw.of([0, 3, 4, 6, 40, 3000])),
          shape: draw.chance(0.3) ? draw.bytes(draw.below(60)) : Buffer.alloc(draw.of([0, 6, 7, 14])),
        },
        draw.chance(0.9) ? addressBytes : 6,
      )
      const damaged = draw.chance(0.2) ? this.#damage(item) : item
      items.push([false, DESCRIPTOR, at])
      parts.push(damaged)
      at += damaged.length
    }
    if (draw.chance(0.1)) items.push([true, DESCRIPTOR, 5])
    return heapPackets(this.#cnt(sender), items, Buffer.concat(parts), { addressBytes, room: 1400 })
  }

  #controlHeap(sender: number): Buffer[] {
    const draw = this.#draw
    const value = draw.of([0, 0, 2, 2, 2, 1, 3, 2 ** 40])
    const items: Pointer[] = [[draw.chance(0.95), STREAM_CONTROL, value]]
    const data = draw.chance(0.2)
    if (data) items.push([false, 0x3300, 0])
    const cnt = draw.chance(0.1) ? 2 ** 48 - 1 : this.#cnt(sender)
    if (draw.chance(0.3)) this.#next[sender] = 1
    return heapPackets(cnt, items, data ? draw.bytes(3000) : Buffer.alloc(0), { room: 1400 })
  }

  /** Packets one of whose numbers is not what the others say. */
  #lyingPackets(sender: number): Buffer[] {
    const draw = this.#draw
    const cnt = this.#cnt(sender)
    const payload = draw.bytes(draw.below(600))
    const odd = () =>
      draw.of([0, 1, payload.length - 1, payload.length + 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 47, 2 ** 48 - 1, 300 * 2 ** 20])
    const pointers: Pointer[] = []
    if (draw.chance(0.9)) pointers.push([draw.chance(0.95), HEAP_CNT, cnt])
    if (draw.chance(0.8)) pointers.push([true, HEAP_LENGTH, draw.chance(0.5) ? payload.length : Math.max(0, odd())])
    if (draw.chance(0.8)) pointers.push([true, PAYLOAD_OFFSET, draw.chance(0.5) ? 0 : Math.max(0, odd())])
    if (draw.chance(0.8)) pointers.push([true, PAYLOAD_LENGTH, draw.chance(0.5) ? payload.length : Math.max(0, odd())])
    while (draw.chance(0.6)) pointers.push([draw.chance(0.3), draw.below(0x8000), draw.of([0, 5, Math.max(0, odd())])])
    const claimed = draw.chance(0.2) ? draw.of([0, 1, pointers.length + 1, 65535]) : pointers.length
    const packet = packetOf(pointers, payload, draw.of([6, 6, 6, 5, 4, 1, 7]), claimed)
    if (draw.chance(0.1)) packet[draw.below(8)] = draw.below(256)
    return [packet]
  }

  /** One-byte packets of one heap from its end to its start, or in any order. */
  #scattered(sender: number): Buffer[] {
    const draw = this.#draw
    const count = draw.of([50, 200, 700])
    const step = draw.of([1, 2, 3])
    const length = count * step
    const cnt = this.#cnt(sender)
    const one = Buffer.alloc(1, cnt & 255)
    const places = Array.from({ length: count }, (_, k) => length - 1 - k * step)
    if (draw.chance(0.5)) draw.shuffle(places)
    const packets: Buffer[] = []
    for (const at of places)
      packets.push(
        packetOf(
          [
            [true, HEAP_CNT, cnt],
            [true, HEAP_LENGTH, length],
            [true, PAYLOAD_OFFSET, at],
            [true, PAYLOAD_LENGTH, 1],
            [false, 0x3300, 0],
          ],
          one,
        ),
      )
    return packets
  }

  #manyPointers(sender: number): Buffer {
    const draw = this.#draw
    const pointers: Pointer[] = [
      [true, HEAP_CNT, this.#cnt(sender)],
      [true, HEAP_LENGTH, draw.of([0, 100])],
    ]
    const n = draw.of([10, 100, 1000, 8000])
    for (let k = 0; k < n; k++) pointers.push([draw.chance(0.5), draw.below(0x8000), draw.below(200)])
    return packetOf(pointers, Buffer.alloc(0))
  }

  /** Something that came before: as it was, from another socket, cut, or damaged. */
  #again(): FuzzPacket[] {
    const draw = this.#draw
    if (this.packets.length === 0) return []
    const back = draw.chance(0.7) ? Math.min(this.packets.length, 50) : this.packets.length
    const old = this.packets[this.packets.length - 1 - draw.below(back)]!
    switch (draw.below(5)) {
      case 0:
        return [{ sender: draw.below(SENDERS), bytes: old.bytes }]
      case 1:
        return [{ sender: old.sender, bytes: old.bytes.subarray(0, draw.below(old.bytes.length + 1)) }]
      case 2:
      case 3:
        return [{ sender: old.sender, bytes: this.#damage(old.bytes) }]
      default:
        return [old]
    }
  }

  #damage(bytes: Buffer): Buffer<ArrayBuffer> {
    const draw = this.#draw
    const damaged = Buffer.from(bytes)
    if (damaged.length === 0) return damaged
    // Most of what a receiver decides by stands at the front.
    const reach = draw.chance(0.7) ? Math.min(damaged.length, 80) : damaged.length
    for (let k = 0; k <= draw.below(4); k++) damaged[draw.below(reach)] = draw.of([0, 255, 0x80, draw.below(256)])
    return damaged
  }
}
