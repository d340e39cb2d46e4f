// The verdict of a soak says no to each thing that it is there to find.
import { expect, test } from 'vitest'
import { HEAP_BYTES, STREAMS } from '../../scripts/soak/streams.mjs'
import { type Line, majorCollections, verdict } from '../../scripts/soak/verdict.mjs'

const SECONDS = 60
const PACKETS_A_HEAP = 6
const names = Object.keys(STREAMS)
const heapsOf = (name: string) => Math.round((STREAMS[name]!.rateBytesPerSecond * SECONDS) / HEAP_BYTES)

/** A soak in which all went well. */
function good() {
  const sender: Line[] = []
  const receiver: Line[] = []
  for (let second = 1; second <= SECONDS; second++) {
    const streams = Object.fromEntries(
      names.map((name) => {
        const heaps = (STREAMS[name]!.rateBytesPerSecond * second) / HEAP_BYTES
        const stats = {
          batches: heaps / 8,
          packets: heaps * PACKETS_A_HEAP,
          packetsFailed: 0,
          udpBytes: heaps * HEAP_BYTES,
          givenUpNanoseconds: 0,
          lagNanoseconds: 0,
          greatestLagNanoseconds: 0,
        }
        return [name, { stats }]
      }),
    )
    sender.push({ kind: 'sample', milliseconds: second * 1000, rssBytes: 80e6, descriptors: 40, mappings: 200, streams })
  }
  for (const stream of names) {
    const heaps = heapsOf(stream)
    sender.push({ kind: 'fate', stream, from: 0, to: heaps, word: 'sent' })
    sender.push({
      kind: 'end',
      stream,
      submitted: heaps,
      settled: heaps,
      errnos: {},
      stats: { heapsSent: heaps, heapsFailed: 0, heapsSkipped: 0 },
    })
    if (STREAMS[stream]!.loop) sender.push({ kind: 'loop', stream, sentHeaps: heaps, failedHeaps: 0, suspectHeaps: 0 })
    receiver.push({ kind: 'got', stream, from: 0, to: heaps, word: 'whole' })
    receiver.push({ kind: 'end', stream, stats: { droppedByKernel: 0 } })
  }
  return { lines: { sender, receiver }, collections: '', how: { sender: 0, receiver: 0 } }
}

type Soak = ReturnType<typeof good>
const judge = ({ lines, collections, how }: Soak) => verdict(lines, collections, how).wrong

const replace = (list: Line[], kind: string, change: (line: Line, i: number) => object) => {
  let i = 0
  for (const [k, line] of list.entries())
    if (line.kind === kind && (line.stream ?? 'udp') === 'udp') list[k] = { ...line, ...change(line, i++) }
}

test('nothing is wrong with a good one', () => {
  expect(judge(good())).toEqual([])
})

const N = heapsOf('udp')
const statsOf = (line: Line, more: object) => {
  const { udp, ...others } = line.streams as Record<string, { stats: object }>
  return { streams: { ...others, udp: { stats: { ...udp!.stats, ...more } } } }
}

test.for<[what: string, change: (soak: Soak) => void, says: RegExp]>([
  [
    'a program that failed',
    ({ how }) => {
      how.sender = 1
    },
    /^the sender ended with 1/,
  ],
  [
    'a heap that did not come',
    ({ lines }) => replace(lines.receiver, 'got', () => ({ to: N - 1 })),
    /^udp: 1 heaps reported sent did not come/,
  ],
  [
    'a heap that came in part',
    ({ lines }) => {
      replace(lines.receiver, 'got', () => ({ to: N - 1 }))
      lines.receiver.push({ kind: 'got', stream: 'udp', from: N - 1, to: N, word: 'partial' })
    },
    /1 heaps reported sent did not come/,
  ],
  ['other samples', ({ lines }) => replace(lines.receiver, 'got', () => ({ word: 'corrupt' })), /heaps came with other samples/],
  [
    'a heap that came twice',
    ({ lines }) => {
      lines.receiver.push({ kind: 'got', stream: 'udp', from: 5, to: 6, word: 'whole' })
    },
    /^udp: 1 heaps came twice/,
  ],
  [
    'a failed heap that came',
    ({ lines }) => replace(lines.sender, 'fate', () => ({ word: 'failed' })),
    /heaps reported failed came whole/,
  ],
  ['a heap without a fate', ({ lines }) => replace(lines.sender, 'fate', () => ({ from: 3 })), /^udp: 3 heaps have no fate/],
  [
    'a send that never settled',
    ({ lines }) => replace(lines.sender, 'end', () => ({ settled: N - 8 })),
    /were submitted and \d+ settled/,
  ],
  [
    'counters that say other things',
    ({ lines }) => replace(lines.sender, 'end', () => ({ stats: { heapsSent: N - 1, heapsFailed: 1, heapsSkipped: 0 } })),
    /counters say/,
  ],
  [
    'a sender that vanished',
    ({ lines }) => {
      lines.sender.splice(0, lines.sender.length, ...lines.sender.filter(({ kind }) => kind !== 'end'))
    },
    /did not come to its end/,
  ],
  [
    'a rate',
    ({ lines }) => replace(lines.sender, 'sample', (line, i) => statsOf(line, { lagNanoseconds: i * 5e7 })),
    /^udp: the rate is off by 5\.2/,
  ],
  [
    'a small error of the rate',
    ({ lines }) => replace(lines.sender, 'sample', (line, i) => statsOf(line, { lagNanoseconds: i * 1.9e7 })),
    /^udp: the rate is off by 1\.937 %/,
  ],
  ['memory', ({ lines }) => replace(lines.sender, 'sample', (_, i) => ({ rssBytes: 80e6 + i * 3e4 })), /^memory grows by/],
  [
    'descriptors',
    ({ lines }) => replace(lines.sender, 'sample', (_, i) => ({ descriptors: i > 55 ? 41 : 40 })),
    /^descriptors grew from 40 to 41/,
  ],
  ['mappings', ({ lines }) => replace(lines.sender, 'sample', (_, i) => ({ mappings: 200 + i })), /^mappings grew/],
])('it finds %s', ([, change, says]) => {
  const soak = good()
  change(soak)
  expect(judge(soak).join('\n')).toMatch(says)
})

test.each([
  ['suspect', { heapsSent: N, heapsFailed: 0 }, /not come: 0 trusted, 2 just before the evidence, 8 suspect/],
  ['failed', { heapsSent: N - 8, heapsFailed: 8 }, /not come: 0 trusted, 2 just before the evidence, 0 suspect/],
] as const)('losses just before the evidence, heaps that are %s, are told and no fault', (word, counts, says) => {
  const soak = good()
  replace(soak.lines.sender, 'fate', () => ({ to: N - 8 }))
  soak.lines.sender.push({ kind: 'fate', stream: 'udp', from: N - 8, to: N, word })
  replace(soak.lines.sender, 'end', () => ({ stats: { ...counts, heapsSkipped: 0 } }))
  replace(soak.lines.receiver, 'got', () => ({ to: N - 10 }))
  const { report, wrong } = verdict(soak.lines, '', soak.how)
  expect(wrong).toEqual([])
  expect(report[0]).toMatch(says)
})

test('a receiver whose socket was full explains the heaps of as many runs of packets', () => {
  const soak = good()
  replace(soak.lines.receiver, 'got', () => ({ to: N - 20 }))
  replace(soak.lines.receiver, 'end', () => ({ stats: { droppedByKernel: 2 } }))
  expect(judge(soak)).toEqual(['udp: 20 heaps reported sent did not come, and none of their batches is suspect'])
  replace(soak.lines.receiver, 'end', () => ({ stats: { droppedByKernel: 3 } }))
  expect(judge(soak)).toEqual([])
})

test('a wait at an end of the measurement, of which the counters tell later, is no error of the rate', () => {
  const soak = good()
  replace(soak.lines.sender, 'sample', (line, i) => {
    const { packets, udpBytes } = (line.streams as Record<string, { stats: Record<string, number> }>).udp!.stats
    const standing = i === SECONDS - 1 ? (i - 1) / i : 1
    return statsOf(line, { packets: packets! * standing, udpBytes: udpBytes! * standing })
  })
  expect(judge(soak)).toEqual([])
})

test('heaps of a loop that did not come are no more than its suspect ones', () => {
  const soak = good()
  const { receiver, sender } = soak.lines
  const at = receiver.findIndex(({ kind, stream }) => kind === 'got' && STREAMS[stream!]!.loop)
  const { stream, to } = receiver[at]!
  receiver[at] = { ...receiver[at]!, to: (to as number) - 30 }
  expect(judge(soak)).toEqual([`${stream}: 30 heaps reported sent did not come, and 0 were suspect`])
  const account = sender.findIndex(({ kind }) => kind === 'loop')
  sender[account] = { ...sender[account]!, suspectHeaps: 30 }
  expect(judge(soak)).toEqual([])
})

// As Node 20 and 24 print them.
const TRACE = `[7:0x55d0]    29000 ms: Mark-Compact 5.1 (7.9) -> 4.6 (8.9) MB, 3.9 / 0.0 ms
[7:0x55d0]    31000 ms: Mark-Compact 5.1 (7.9) -> 4.6 (8.9) MB, 3.9 / 0.0 ms
[7:0x55d0]    32000 ms: Mark-Compact (reduce) 5.1 (7.9) -> 4.6 (8.9) MB
[7:0x7f11]    31500 ms: Scavenge 5.1 (7.9) -> 4.6 (8.9) MB`

test('major collections are counted by isolate, behind the warm-up', () => {
  expect([...majorCollections(TRACE, 1e9)]).toEqual([['0x55d0', 2]])
  expect([...majorCollections(TRACE, 31_500)]).toEqual([['0x55d0', 1]])
  const soak = good()
  soak.collections = `${TRACE}\n[7:0x7f11]    40000 ms: Mark-Compact 5.1 (7.9) -> 4.6 (8.9) MB`
  expect(judge(soak)).toEqual(['an I/O thread had a major collection after 30 s'])
})
