/**
 * rateMethod 'kernel' under the kernel's fq: which qdiscs it takes and refuses, order and gaps on the wire, one rate for all
 * endpoints, no drops by a full queue, and the rate after fq is removed. Pacing may be slower than asked here, and never faster.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ItemGroup, openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { sh, speadcast, started, until } from './support.js'

const NS = 'fair'
const TO = '10.96.0.2:7148'
const V6 = '[fd96::2]:7148'
/** Endpoints that fq would take for flows of their own, and mq would put on different queues, were the socket not connected. */
const OTHERS = ['10.96.0.3:7148', '10.96.0.2:7149', '10.96.0.3:7150', '10.96.0.2:7151']
const GROUP = '239.96.0.1:7148'

before(() => {
  sh(`
    ip netns add ${NS}
    ip link add q0 numtxqueues 4 type veth peer name q1 netns ${NS}
    ip link set q0 up
    ip -n ${NS} link set q1 up
    ip address add 10.96.0.1/24 dev q0
    ip address add fd96::1/64 dev q0 nodad
    ip -n ${NS} address add 10.96.0.2/24 dev q1
    ip -n ${NS} address add 10.96.0.3/24 dev q1
    ip -n ${NS} address add fd96::2/64 dev q1 nodad
    ip link add link q0 name q0.42 type vlan id 42
    ip link set q0.42 up
    ip address add 10.96.42.1/24 dev q0.42
    ip -n ${NS} link add link q1 name tagged type vlan id 42
    ip -n ${NS} link set tagged up
    ip -n ${NS} address add 10.96.42.2/24 dev tagged`)
})

after(() => {
  sh(`ip netns del ${NS}; ip link del q0 2>/dev/null; true`)
})

interface Qdisc {
  readonly kind: string
  readonly root?: boolean
  readonly bytes: number
  readonly packets: number
  readonly drops: number
  readonly qlen: number
}
const qdiscs = (device = 'q0') => JSON.parse(sh(`tc -s -j qdisc show dev ${device}`)) as Qdisc[]
const root = (device = 'q0') => qdiscs(device).find((each) => each.root)!
const fq = (options = '', device = 'q0') => sh(`tc qdisc replace dev ${device} root handle ${++handles}: fq ${options}`)
let handles = 0x10

const open = (options: Partial<StreamOptions>): Promise<Stream> =>
  openStream({
    to: TO,
    backend: 'udp',
    rateMethod: 'kernel',
    descriptors: 'none',
    thread: 'inline',
    packetSizeBytes: 1448,
    ...options,
  })

/** Heaps of one item, spread over the stream's endpoints. */
function batchOf(stream: Stream, heaps: number, heapBytes: number) {
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', description: '', dtype: 'u1', shape: [heapBytes] })
  return stream.createBatch({ items, heaps })
}

interface Frame {
  readonly seconds: number
  readonly udpBytes: number
  readonly cnt: number
}

/** Messages as they arrive at the other end: veth hands segmented ones over whole. */
async function captured(device: string, send: () => Promise<unknown>, packets: number): Promise<Frame[]> {
  const argv = [
    'tcpdump',
    '-nn',
    '-tt',
    '-x',
    '-U',
    '-s',
    '100',
    '-c',
    `${packets}`,
    '-i',
    device,
    'udp and dst portrange 7148-7151',
  ]
  const capture = started(['ip', 'netns', 'exec', NS, ...argv])
  await until(capture.text, (text) => text.includes('listening on'))
  await send()
  const ended = await Promise.race([capture.end, new Promise((resolve) => setTimeout(() => resolve('late'), 30_000))])
  if (ended === 'late') {
    capture.child.kill()
    throw new Error(`fewer than ${packets} messages:\n${capture.text()}`)
  }
  return capture
    .text()
    .split(/\n(?=\d+\.\d+ IP)/)
    .filter((text) => /^\d+\.\d+ IP/.test(text))
    .map((text) => {
      const hex = [...text.matchAll(/0x[0-9a-f]{4}:((?: +[0-9a-f]{2,4})+)/g)]
        .map(([, words]) => words!.replaceAll(' ', ''))
        .join('')
      // SPEAD-64-48: behind IPv4 and UDP 8 bytes of header, then the item pointer of the heap cnt, with an address of 48 bits.
      const cnt = Number.parseInt(hex.slice(2 * (28 + 8 + 2), 2 * (28 + 8 + 8)), 16)
      return { seconds: Number(text.split(' ')[0]), udpBytes: Number(/length (\d+)/.exec(text)![1]), cnt }
    })
}

test('messages leave one at a time, in order, none longer than burstBytes, no faster than the rate', async () => {
  fq()
  await using stream = await open({ rate: '2MB/s', burstBytes: 20_000 })
  const batch = batchOf(stream, 10, 20_000)
  const frames = await captured('q1', () => stream.send(batch), 20)
  const { states } = stream.stats()
  assert.equal(states.rateMethod, 'kernel')
  assert.match(String(states.rateMethodReason), /^fq of q0, which holds up to 100 messages$/)
  const cnts = frames.map(({ cnt }) => cnt)
  assert.deepEqual(
    cnts,
    cnts.toSorted((a, b) => a - b),
  )
  assert.deepEqual([...new Set(cnts)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  assert.ok(frames.every(({ udpBytes }) => udpBytes <= 20_000))
  // The wait behind a long message is its own length; the quantum of fq lets short ones go together.
  const long = frames
    .slice(0, -1)
    .flatMap(({ udpBytes, seconds }, i) => (udpBytes > 15_000 ? [frames[i + 1]!.seconds - seconds] : []))
  console.log(`gaps behind messages of 20 kB at 2 MB/s: ${long.map((gap) => (1000 * gap).toFixed(1)).join(' ')} ms`)
  assert.ok(long.length >= 9)
  assert.ok(long.reduce((a, b) => a + b, 0) / long.length > 0.008)
})

for (const [what, to, device] of [
  ['IPv4', TO, 'q0'],
  ['IPv6', V6, 'q0'],
  ['multicast', GROUP, 'q0'],
  ['a VLAN above fq', '10.96.42.2:7148', 'q0.42'],
] as const)
  test(`over ${what}: the rate of frames is what fq counts for the rate asked`, async () => {
    fq()
    await using stream = await open({ to, interface: device, rate: '1MB/s' })
    const batch = batchOf(stream, 40, 4000)
    const before = root()
    await stream.send(batch)
    const sent = await until(
      () => ({ ...root(), ...stream.stats() }),
      ({ qlen }) => qlen === 0,
    )
    assert.equal(sent.states.rateMethod, 'kernel')
    assert.match(String(sent.states.rateMethodReason), /^fq of q0,/)
    const frames = sent.bytes - before.bytes
    console.log(
      `${what}: ${frames} bytes of frames for ${sent.udpBytes} of UDP payload; at ${sent.states.frameBytesPerSecond} bytes/s`,
    )
    // Frames of neighbour discovery and the like are few and short.
    assert.ok(Math.abs((Number(sent.states.frameBytesPerSecond) * sent.udpBytes) / 1e6 / frames - 1) < 0.004)
  })

test('several endpoints have one rate between them, also over the queues of mq', async () => {
  for (const queue of ['root handle 1: fq', 'root handle 2: mq']) {
    sh(`tc qdisc del dev q0 root 2>/dev/null; tc qdisc add dev q0 ${queue}`)
    if (queue.endsWith('mq')) for (const i of [1, 2, 3, 4]) sh(`tc qdisc replace dev q0 parent 2:${i} fq`)
    await using stream = await open({ to: [TO, ...OTHERS], rate: '1MB/s' })
    const batch = batchOf(stream, 50, 10_000)
    const begin = performance.now()
    await stream.send(batch)
    await until(root, ({ qlen }) => qlen === 0)
    const seconds = (performance.now() - begin) / 1000
    const { udpBytes, states } = stream.stats()
    console.log(`${queue}: ${udpBytes} bytes in ${seconds.toFixed(2)} s`)
    assert.equal(states.rateMethod, 'kernel')
    // The first 15,140 bytes (initial_quantum) may be free.
    assert.ok(seconds > (udpBytes - 40_000) / 1e6)
  }
  sh('tc qdisc del dev q0 root')
})

test('a full queue drops nothing, and is no more than fq takes: messages of one short packet', async () => {
  for (const flowLimit of [100, 20]) {
    fq(`flow_limit ${flowLimit}`)
    // An I/O thread fills the queue while this one asks tc.
    await using stream = await open({ to: [TO, ...OTHERS], rate: '200kB/s', thread: 'worker' })
    // Neighbours differ, so that each is a message of its own.
    const batch = batchOf(stream, 4000, 100)
    const sending = stream.send(batch)
    let most = 0
    for (let i = 0; i < 20; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      most = Math.max(most, root().qlen)
    }
    await sending
    const { drops } = await until(root, ({ qlen }) => qlen === 0)
    const { noBuffers, heapsSent } = stream.stats()
    console.log(`flow_limit ${flowLimit}: up to ${most} messages waited`)
    assert.deepEqual({ drops, noBuffers, heapsSent }, { drops: 0, noBuffers: 0, heapsSent: 4000 })
    assert.ok(most > flowLimit / 4 && most <= flowLimit)
  }
})

test('messages take less than the second that fq lets them, however low the rate', async () => {
  fq()
  await using stream = await open({ rate: 10_000 })
  const frames = await captured('q1', () => stream.send(batchOf(stream, 1, 20_000)), 5)
  assert.ok(frames.every(({ udpBytes }) => udpBytes <= 5000))
  assert.ok(frames.at(-1)!.seconds - frames[0]!.seconds > 1.5)
})

test('fq that goes away while the stream runs: this program paces, what waited is suspect; and the kernel again when it is back', async () => {
  fq()
  await using stream = await open({ rate: '1MB/s' })
  const batch = batchOf(stream, 50, 10_000)
  assert.equal((await stream.send(batch)).suspect, false)
  const sending = stream.send(batch)
  await new Promise((resolve) => setTimeout(resolve, 100))
  sh('tc qdisc replace dev q0 root pfifo')
  assert.equal((await sending).suspect, true)
  const begin = performance.now()
  const { udpBytes: already } = stream.stats()
  await stream.send(batch)
  await stream.send(batch)
  const seconds = (performance.now() - begin) / 1000
  const { udpBytes, states } = stream.stats()
  assert.equal(states.rateMethod, 'sw')
  assert.match(String(states.rateMethodReason), /discipline of q0 is pfifo, not fq/)
  console.log(`without fq: ${udpBytes - already} bytes in ${seconds.toFixed(2)} s`)
  assert.ok(seconds > (udpBytes - already - 70_000) / 1e6)
  fq()
  await until(
    () => stream.stats().states.rateMethod,
    (method) => method === 'sw',
  )
  await stream.send(batch)
  await stream.send(batch)
  assert.equal(stream.stats().states.rateMethod, 'kernel')
})

for (const [options, why] of [
  ['nopacing', /fq of q0 is told not to pace \(nopacing\); as root: `(.*)`/],
  ['maxrate 4mbit', /fq of q0 lets a socket have 500000 bytes\/s \(maxrate\); as root: `(.*)`/],
] as const)
  test(`refused: fq ${options}; what the refusal says helps`, async () => {
    fq(options)
    const error = await open({ rate: '1MB/s' }).catch((error) => error)
    assert.equal(error.code, 'ERR_SPEADCAST_BACKEND')
    sh(why.exec(error.message)![1]!)
    await using stream = await open({ rate: '1MB/s' })
    assert.equal(stream.stats().states.rateMethod, 'kernel')
  })

test('refused: a rate at which a packet takes longer than fq lets it', async () => {
  fq()
  await assert.rejects(open({ rate: 2000 }), {
    code: 'ERR_SPEADCAST_BACKEND',
    message: /a packet of 1448 bytes takes 0\.724 s, and fq lets none take more than 1/,
  })
})

test('auto takes the kernel where fq is, and a batch with rates of its own is refused', async () => {
  fq()
  await using stream = await open({ rate: '10MB/s', rateMethod: 'auto' })
  assert.equal(stream.stats().states.rateMethod, 'kernel')
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', description: '', dtype: 'u1', shape: [100] })
  assert.throws(() => stream.createBatch({ items, heaps: 2, rates: [-1, 1e6] }), {
    code: 'ERR_SPEADCAST_CONFIG',
    message: /the kernel keeps the rate of this stream: rates per heap need rateMethod 'sw'/,
  })
  await stream.send(stream.createBatch({ items, heaps: 2, rates: [-1, -1] }))
})

const DEAD = '10.96.0.9:7148'
for (const to of [[TO, DEAD], [DEAD]])
  test(`packets to ${DEAD}, where nobody answers, fail and take their time: to ${to.join(' and ')}`, async () => {
    fq()
    await using stream = await open({ to, rate: '1MB/s', neighbourTimeoutMs: 100 })
    const begin = performance.now()
    const { outcome } = await stream.send(batchOf(stream, 100, 10_000)).catch((error) => error)
    const seconds = (performance.now() - begin) / 1000
    assert.deepEqual(
      outcome.heaps,
      Array.from({ length: 100 }, (_, i) => (to[i % to.length] === DEAD ? 'failed' : 'sent')),
    )
    // The second that the rate takes, less the time of the packets that would wait in the kernel if they got there.
    assert.ok(seconds > 0.7)
  })

test('speadcast send --rate-method kernel', async () => {
  fq()
  const args = ['send', TO, '--backend', 'udp', '--rate', '4MB/s', '-H', '100000', '-n', '10', '--json', '--rate-method', 'kernel']
  const { code, stdout } = await speadcast(...args)
  assert.equal(code, 0)
  const { stats } = JSON.parse(stdout)
  assert.equal(stats.rateMethod, 'kernel')
  sh('tc qdisc del dev q0 root')
  const refused = await speadcast(...args)
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /tc qdisc replace dev q0 root fq/)
})
