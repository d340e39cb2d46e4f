import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type ExactPointer,
  type ExactSplit,
  type Heap,
  ItemGroup,
  makeFlavour,
  packetsOf,
  type Split,
} from '#dist/src/spead/index.js'
import { need } from '../support/need.js'
import { type DecodedHeap, PythonPeer, type SequenceCase, type SequenceStep } from '../support/python-peer.js'
import { base64, dump, fromBase64, type ItemCase, ourHeap, peerCase, peerItem } from '../support/spead-cases.js'
import { BUCKETS, FLAVOUR_BITS, type GeneratedHeap, heapArb, itemArb, KINDS, type Kind } from '../support/spead-generate.js'

// A run is repeated with SPEADCAST_TEST_SEED=<the printed seed>.
const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? Date.now() % 2 ** 31)
/** A case is added to its cell until spead2 itself has split this many heaps into the cell's number of packets. */
const PER_CELL = 20
const ROUNDS = 8

let peer: PythonPeer | undefined
let version = ''
const compared = { bytes: 0, padding: 0, refused: 0, even: 0, evenWhole: 0, evenMore: 0, exact: 0, sequences: 0 }

beforeAll(async () => {
  peer = PythonPeer.start()
  version = (await peer?.versions())?.spead2 ?? ''
})
afterAll(async () => {
  await peer?.close()
})

interface Parsed {
  size: number
  pointers: bigint[]
  heapLength: number
  payloadLength: number
}

/** A packet read by the specification alone (section 8.1): header, 64-bit pointers, payload. */
function parse(packet: Uint8Array): Parsed {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const bits = BigInt(packet[3]! * 8)
  const pointers = Array.from({ length: view.getUint16(6) }, (_, i) => view.getBigUint64(8 + 8 * i))
  const immediate = (id: bigint) =>
    Number((pointers.find((p) => p >> bits === ((1n << (63n - bits)) | id)) ?? 0n) & ((1n << bits) - 1n))
  return { size: packet.length, pointers, heapLength: immediate(2n), payloadLength: immediate(4n) }
}

/**
 * Packets of exactly `size` bytes for `payload` bytes and `pointers` pointers: their number, and the size of the last. Pointers leave
 * at least 8 bytes of a packet to the payload, as in spead2.
 */
function fill(size: number, payload: number, pointers: number): { packets: number; last: number } | undefined {
  const room = size - 40
  for (let packets = 1; ; packets++) {
    const here = Math.min(pointers, Math.floor((room - 8) / 8))
    const bytes = Math.min(payload, room - 8 * here)
    if (here < 0 || bytes < 1) return undefined
    pointers -= here
    payload -= bytes
    if (pointers === 0 && payload === 0) return { packets, last: 40 + 8 * here + bytes }
  }
}

/**
 * Checks the promises of the even split without our planner: the fewest packets or up to `extra` more, the first number of them that can be
 * equal; else the fewest, with a shorter last one. Returns what is wrong.
 */
function unevenness(packets: Uint8Array[], maxSize: number, repeat: boolean, extra: number): string | undefined {
  const sizes = packets.map((p) => p.length)
  const parsed = packets.map(parse)
  const { heapLength } = parsed[0]!
  const own = parsed.map((p) => p.pointers.length - 4)
  const all = repeat ? own[0]! : own.reduce((a, b) => a + b, 0)
  const overhead = repeat ? 40 + 8 * all : 40
  const shared = repeat ? heapLength : heapLength + 8 * all
  const describe = `sizes ${[...new Set(sizes)]} (${sizes.length} packets), payload ${heapLength}, ${all} pointers, at most ${maxSize}`
  if (Math.max(...sizes) > maxSize) return `a packet exceeds the maximum: ${describe}`
  const at = (size: number) => (repeat ? { packets: Math.ceil(shared / (size - overhead)) } : fill(size, heapLength, all))
  // More bytes a packet never make more packets, but they may leave a packet of pointers without payload.
  let largest = maxSize
  while (!at(largest)) largest--
  const fewest = at(largest)!.packets
  const equal = Array.from({ length: extra + 1 }, (_, more) => fewest + more).find((count) => {
    const size = overhead + shared / count
    return Number.isInteger(size) && size <= maxSize && at(size)?.packets === count
  })
  if (sizes.length !== (equal ?? fewest)) return `${sizes.length} packets where ${equal ?? fewest} do: ${describe}`
  if (equal !== undefined) return sizes.every((size) => size === sizes[0]) ? undefined : `could be equal: ${describe}`
  // A single packet may be shorter than a full one of its size is: `fill` keeps 8 bytes for payload beside the pointers.
  const last = sizes.length === 1 ? 0 : sizes[sizes.length - 1]!
  if (sizes.slice(0, -1).every((size) => size === sizes[0]) && last < sizes[0]!) return undefined
  return `neither equal nor equal with a shorter last one: ${describe}`
}

/** spead2 emits a heap's padding before its data when pointers fill several packets and the data cannot (reference 3c). */
function paddingDefect(c: GeneratedHeap, size: number, reference: Uint8Array): boolean {
  if (c.repeatPointers) return false
  const whole = parse(reference)
  const real = whole.pointers.some((p) => p >> BigInt(c.flavour.heapAddressBits) === 0n) ? 0 : whole.heapLength
  const items = whole.pointers.length - 4
  const perPacket = (Math.floor(size / 8) * 8 - 48) / 8
  return real > 0 && real < 8 * Math.floor(items / perPacket) + 1
}

/** The standard pointers, every item in its order, and padding; the payload bytes drawn, or none where no item is addressed. */
function exactSplit(c: GeneratedHeap, heap: Heap): ExactSplit {
  const addressed = heap.entries.some((e) => !e.immediate && e.lengthBytes > 0)
  const pointers: ExactPointer[] = ['heap-cnt', 'heap-length', 'payload-offset', 'payload-length']
  for (const { id } of heap.entries) pointers.push({ item: id })
  for (let i = 0; i < c.exactPadding; i++) pointers.push('padding')
  return { payloadBytes: addressed ? c.exactPayloadBytes : 0, pointers, repeat: c.repeatPointers }
}

const attempt = <T>(f: () => T): T | Error => {
  try {
    return f()
  } catch (e) {
    return e as Error
  }
}

interface Verdict {
  problem?: string
  /** Packets spead2 makes; 0 where it refuses the packet size. */
  packets: number
  pads?: boolean
}

type Splits = Record<'greedy' | 'even' | 'merged' | 'exact', Uint8Array[] | Error>

/** One heap's packets against spead2's greedy ones and the rules of the other splits. */
function judgeOne(c: GeneratedHeap, mine: Splits, theirs: string[] | { error: string }, reference: Uint8Array[]): Verdict {
  const { greedy, even, merged, exact } = mine
  if (!Array.isArray(theirs)) {
    compared.refused++
    return greedy instanceof Error ? { packets: 0 } : { packets: 0, problem: `spead2 refused (${theirs.error}), ours did not` }
  }
  const packets = theirs.length
  if (greedy instanceof Error) return { packets, problem: `greedy threw ${greedy.stack}` }
  if (even instanceof Error) return { packets, problem: `even threw ${even.stack}` }
  if (merged instanceof Error) return { packets, problem: `even with mergesEqualPackets threw ${merged.stack}` }
  if (exact instanceof Error) return { packets, problem: `exact threw ${exact.stack}` }
  const uneven = unevenness(even, c.packetSize, c.repeatPointers, 0) ?? unevenness(merged, c.packetSize, c.repeatPointers, 1)
  if (uneven) return { packets, problem: `even: ${uneven}` }
  if (merged.length > even.length) compared.evenMore++
  if (even.every((p) => p.length === even[0]!.length)) compared.evenWhole++
  const payloads = exact.map((p) => parse(p).payloadLength)
  if (payloads.slice(0, -1).some((n) => n !== c.exactPayloadBytes) || payloads[payloads.length - 1]! > c.exactPayloadBytes)
    return { packets, problem: `exact: payloads ${payloads} where ${c.exactPayloadBytes} were asked` }
  if (greedy.map(base64).join() === theirs.join()) {
    compared.bytes++
    return { packets }
  }
  if (paddingDefect(c, c.packetSize, reference[0]!)) {
    compared.padding++
    return { packets, pads: true }
  }
  return { packets, problem: `greedy differs from spead2\n--- spead2\n${dump(theirs.map(fromBase64))}\n--- ours\n${dump(greedy)}` }
}

/** Everything the property says, for a batch of heaps in three requests. */
async function judge(cases: GeneratedHeap[], live: PythonPeer): Promise<Verdict[]> {
  const asked = live.encode(cases.map((c) => peerCase(c, [c.packetSize, 65_000])))
  const ours = cases.map((c) =>
    attempt(() => {
      const heap = ourHeap(c)
      const make = (maxPacketSizeBytes: number, split: Split, mergesEqualPackets = false) =>
        attempt(() => packetsOf(heap, c.cnt, { maxPacketSizeBytes, split, mergesEqualPackets }))
      return {
        greedy: make(c.packetSize, 'greedy'),
        even: make(c.packetSize, 'even'),
        merged: make(c.packetSize, 'even', true),
        exact: make(65_507, exactSplit(c, heap)),
      }
    }),
  )
  const verdicts: Verdict[] = []
  const decode: { at: number; what: string; packets: Uint8Array[] }[] = []
  const answers = await asked
  for (const [at, c] of cases.entries()) {
    const answer = answers[at]!
    const mine = ours[at]!
    const verdict: Verdict = { packets: 0 }
    verdicts.push(verdict)
    if ('error' in answer) verdict.problem = `spead2 refused a generated heap: ${answer.error}`
    else if (mine instanceof Error) verdict.problem = `ours threw ${mine.stack}`
    else {
      const whole = answer.packets[1]!
      if (!Array.isArray(whole)) throw new Error(`spead2 refused 65000 bytes: ${whole.error}`)
      const reference = whole.map(fromBase64)
      Object.assign(verdict, judgeOne(c, mine, answer.packets[0]!, reference))
      if (verdict.problem !== undefined || verdict.packets === 0) continue
      const { greedy, even, merged, exact } = mine as Record<'greedy' | 'even' | 'merged' | 'exact', Uint8Array[]>
      decode.push(
        { at, what: 'reference', packets: reference },
        { at, what: 'even', packets: even },
        { at, what: 'even with mergesEqualPackets', packets: merged },
        { at, what: 'exact', packets: exact },
      )
      if (verdict.pads) decode.push({ at, what: 'greedy (padding after data)', packets: greedy })
    }
  }
  const decoded = await live.decode(
    decode.map(({ at, packets }) => ({
      packets: packets.map(base64),
      bugCompat: cases[at]!.flavour.bugCompat,
      items: cases[at]!.parts.flatMap((p) => ('item' in p ? [peerItem(p.item)] : [])),
    })),
  )
  const seen = (d: DecodedHeap) => JSON.stringify({ ...d, packets: undefined })
  const references = new Map(decode.flatMap((d, j) => (d.what === 'reference' ? [[d.at, decoded[j]] as const] : [])))
  decode.forEach(({ at, what, packets }, j) => {
    const reference = references.get(at)!
    const got = decoded[j]!
    if (what === 'reference') {
      if (got.error !== undefined || !got.complete) verdicts[at]!.problem ??= `spead2 cannot decode itself: ${JSON.stringify(got)}`
      return
    }
    if (what === 'even') compared.even++
    if (what === 'exact') compared.exact++
    if (seen(got) !== seen(reference) || got.packets !== packets.length)
      verdicts[at]!.problem ??= `${what} decodes to\n${seen(got)}\ninstead of\n${seen(reference)}\n${dump(packets)}`
  })
  return verdicts
}

const bucketOf = (packets: number) => BUCKETS.findLastIndex((b) => packets >= b.first)
const show = (c: GeneratedHeap) => JSON.stringify({ packetSize: c.packetSize, kinds: c.kinds, ...peerCase(c, []) })

describe('random heaps against the real spead2', () => {
  test('greedy equals spead2 byte for byte; spead2 decodes even and exact to the same values', {
    timeout: 120_000,
  }, async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    const live = peer
    console.log(`property seed ${SEED}`)
    const cells = FLAVOUR_BITS.flatMap((bits) =>
      KINDS.flatMap((kind) => BUCKETS.map((bucket, b) => ({ bits, kind, b, arb: heapArb(bits, kind, bucket) }))),
    ).map((cell, n) => ({ ...cell, n, seed: SEED + 7919 * n, drawn: 0 }))
    const histogram = new Map<string, number>()
    const key = (bits: number, kind: Kind, b: number) => `${bits} ${kind} ${b}`
    const count = (bits: number, kind: Kind, b: number) => histogram.get(key(bits, kind, b)) ?? 0

    for (let round = 0; round < ROUNDS; round++) {
      const lacking = cells.filter((c) => count(c.bits, c.kind, c.b) < PER_CELL)
      for (let from = 0; from < lacking.length; from += 40) {
        const batch = lacking.slice(from, from + 40).flatMap((cell) => {
          // The same seed draws the same heaps, so that a later round continues where the earlier one stopped.
          const want = cell.drawn + (round === 0 ? 14 : 8)
          const drawn = fc.sample(cell.arb, { seed: cell.seed, numRuns: want }).map((heap, index) => ({ cell, heap, index }))
          const fresh = drawn.slice(cell.drawn)
          cell.drawn = want
          return fresh
        })
        const verdicts = await judge(
          batch.map((x) => x.heap),
          live,
        )
        for (const [i, v] of verdicts.entries()) {
          const { cell, heap, index } = batch[i]!
          if (v.problem !== undefined) {
            // The run of this heap alone, again, and then of ever simpler ones.
            const simplest = await fc.check(
              fc.asyncProperty(cell.arb, async (c) => {
                const again = (await judge([c], live))[0]!
                if (again.problem !== undefined) throw new Error(`${again.problem}\n${show(c)}`)
              }),
              { seed: cell.seed, path: String(index), numRuns: 1, interruptAfterTimeLimit: 20_000 },
            )
            const found = simplest.errorInstance instanceof Error ? simplest.errorInstance.message : `${v.problem}\n${show(heap)}`
            throw new Error(`${found}\nSPEADCAST_TEST_SEED=${SEED} shows it again`)
          }
          if (v.packets > 0) {
            for (const kind of heap.kinds) {
              const k = key(cell.bits, kind, bucketOf(v.packets))
              histogram.set(k, (histogram.get(k) ?? 0) + 1)
            }
          }
        }
      }
    }

    const rows = FLAVOUR_BITS.map((bits) => [
      `64-${bits}`,
      ...KINDS.map((kind) => BUCKETS.map((_, b) => count(bits, kind, b)).join('/')),
    ])
    const table = [['flavour', ...KINDS.map(String)], ...rows]
    console.log(
      `heaps with an item of the kind, by packets a heap (${BUCKETS.map((b) => b.name).join('/')}), seed ${SEED}\n` +
        table.map((r) => r.map((cell, i) => cell.padEnd(i ? 16 : 8)).join('')).join('\n'),
    )
    console.log(
      `compared: ${compared.bytes} heaps byte for byte, ${compared.padding} decoded (spead2 pads before data), ` +
        `${compared.refused} refused by both, ${compared.even} even (${compared.evenWhole} with all packets of one size, ${compared.evenMore} where merging takes one more) and ${compared.exact} exact decoded by spead2`,
    )
    const thin = cells.filter((c) => count(c.bits, c.kind, c.b) < PER_CELL)
    expect(thin.map((c) => `${key(c.bits, c.kind, c.b)}: ${count(c.bits, c.kind, c.b)}`)).toEqual([])
    expect(compared.bytes).toBeGreaterThanOrEqual(2000)
    expect(compared.even).toBeGreaterThanOrEqual(2000)
    expect(compared.evenMore).toBeGreaterThan(0)
    expect(compared.exact).toBeGreaterThanOrEqual(2000)
    console.log(`peer spead2 ${version}: ${compared.bytes + compared.padding} heaps compared`)
  })
})

type Step = SequenceStep & { mine?: (group: ItemGroup) => void }

/** Random lives of an item group: add, replace, set, touch, take heaps with every selection. */
const sequenceArb = fc
  .record({
    heapAddressBits: fc.constantFrom(16, 40, 48),
    descriptorFrequency: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
    ops: fc.array(
      fc.record({
        op: fc.constantFrom('add', 'set', 'touch', 'heap', 'heap'),
        slot: fc.nat(3),
        rename: fc.nat(3),
        kind: fc.constantFrom<Kind>('immediate', 'dtype', 'format', 'variable', 'string'),
        seed: fc.integer({ min: 1, max: 1e6 }),
        empty: fc.boolean(),
        descriptors: fc.constantFrom('stale' as const, 'all' as const, 'none' as const),
        data: fc.constantFrom('stale' as const, 'all' as const, 'none' as const),
      }),
      { minLength: 4, maxLength: 24 },
    ),
  })
  .map(({ heapAddressBits, descriptorFrequency, ops }) => {
    const known = new Map<string, ItemCase>()
    const steps: Step[] = []
    let cnt = 1
    for (const o of ops) {
      const name = `item${o.slot}`
      const old = known.get(name)
      const drawn = () => {
        const base = {
          id: 0x1600 + ((o.slot + (o.rename === 0 ? 1 : 0)) % 4),
          name,
          description: o.rename === 1 ? 'other' : 'same',
        }
        return fc.sample(itemArb(o.kind, base, 12, heapAddressBits / 8), { seed: o.seed, numRuns: 1 })[0]!
      }
      if (o.op === 'add') {
        const made = drawn()
        const c: ItemCase = o.empty ? { ...made, ours: null, theirs: null } : made
        for (const [k, v] of known) if (k === name || v.init.id === c.init.id) known.delete(k)
        known.set(name, c)
        steps.push({
          add: peerItem(c),
          mine: (g) => {
            g.add(c.ours === null ? c.init : { ...c.init, value: c.ours })
          },
        })
      } else if (o.op === 'set' && old?.theirs) {
        steps.push({
          set: name,
          item: peerItem(old),
          mine: (g) => {
            g.get(name).value = old.ours
          },
        })
      } else if (o.op === 'touch' && old) {
        steps.push({
          touch: name,
          mine: (g) => {
            g.get(name).version++
          },
        })
      } else if (o.op === 'heap') {
        steps.push({ heap: { descriptors: o.descriptors, data: o.data }, cnt: cnt++, packetSize: 1472 })
      }
    }
    return { flavour: { heapAddressBits, bugCompat: 0 }, descriptorFrequency, steps }
  })

function ourSequence(c: {
  flavour: SequenceCase['flavour']
  descriptorFrequency?: number | undefined
  steps: Step[]
}): Uint8Array[][] {
  const group = new ItemGroup({
    flavour: makeFlavour(c.flavour),
    ...(c.descriptorFrequency === undefined ? {} : { descriptorFrequency: c.descriptorFrequency }),
  })
  const heaps: Uint8Array[][] = []
  for (const s of c.steps) {
    s.mine?.(group)
    if ('heap' in s)
      heaps.push(packetsOf(group.getHeap(s.heap as never), Number(s.cnt), { maxPacketSizeBytes: s.packetSize, split: 'greedy' }))
  }
  return heaps
}

test('item groups re-send what spead2 would: random lives, every selection', async (ctx) => {
  need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
  const lives = fc.sample(sequenceArb, { seed: SEED, numRuns: 300 })
  const theirs = await peer.sequence(
    lives.map(({ flavour, descriptorFrequency, steps }) => ({
      flavour,
      descriptorFrequency,
      steps: steps.map(({ mine: _, ...s }) => s),
    })),
  )
  lives.forEach((life, i) => {
    const their = theirs[i]!
    if ('error' in their) throw new Error(`seed ${SEED}, life ${i}: spead2 refused: ${their.error}`)
    const ours = ourSequence(life)
    const context = `seed ${SEED}, life ${i}: ${JSON.stringify(life)}`
    expect(
      ours.map((h) => h.map(base64)),
      context,
    ).toEqual(their.heaps)
    compared.sequences += their.heaps.length
  })
  console.log(`peer spead2 ${version}: ${compared.sequences} heaps of ${lives.length} item group lives compared`)
  expect(compared.sequences).toBeGreaterThan(500)
})
