/**
 * A VLAN that is deleted and made anew with the same name and addresses, alone and with the interface below it, under streams and under
 * receivers: what is sent while it is gone fails, and both go on when it is back. The kernels of other hosts of our tests have no VLANs.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type BatchResult, ItemGroup, openStream, SendError, type Stream, type StreamOptions } from '#dist/src/index.js'
import { program, sh, started, until } from './support.js'

const NS = 'anew'
const HEAPS = 4
const HEAP_BYTES = 7000

/** Ports differ, because all count heaps from 1. Threads take seconds to start in the guest. */
const WAYS: readonly StreamOptions[] = [
  { to: '10.95.7.2:7150', backend: 'udp' },
  { to: '[fd95:7::2]:7151', backend: 'udp', thread: 'inline' },
  { to: '239.95.7.1:7152', backend: 'udp', thread: 'inline' },
  { to: '[ff15::95:7]:7153', backend: 'udp', thread: 'inline', udpPath: 'io_uring' },
  { to: '239.95.7.3:7154', backend: 'dgram' },
  { to: '[ff15::95:9]:7155', backend: 'dgram' },
  { to: '10.95.7.2:7156', backend: 'dgram' },
]
const portOf = ({ to }: StreamOptions) => (to as string).split(':').at(-1)!

const ours = () =>
  sh(`
    ip link add link line name line.7 type vlan id 7
    ip link set line.7 up
    ip address add 10.95.7.1/24 dev line.7
    ip address add fd95:7::1/64 dev line.7 nodad`)
const theirs = () =>
  sh(`
    ip -n ${NS} link add link line-end name tagged type vlan id 7
    ip -n ${NS} link set tagged up
    ip -n ${NS} address add 10.95.7.2/24 dev tagged
    ip -n ${NS} address add fd95:7::2/64 dev tagged nodad`)
const line = () =>
  sh(`
    ip link add line address 02:00:00:00:95:01 type veth peer name line-end address 02:00:00:00:95:02 netns ${NS}
    ip link set line up
    ip -n ${NS} link set line-end up`)
/** Until then the kernel drops multicast in silence. */
const isUp = () =>
  until(
    () => sh('ip -br link show line.7'),
    (text) => / UP /.test(text),
  )

let heard: ReturnType<typeof started>
interface Way {
  readonly way: StreamOptions
  readonly name: string
  readonly stream: Stream
  /** What `onPathChange` told. */
  readonly told: string[]
  nextCnt: number
}
const ways: Way[] = []

before(async () => {
  sh(`ip netns add ${NS}; ip -n ${NS} link set lo up`)
  line()
  ours()
  theirs()
  await isUp()
  heard = started(['ip', 'netns', 'exec', NS, ...program('hear', 'tagged', ...WAYS.map(({ to }) => to as string))])
  await until(heard.text, (text) => text.includes('ready'))
  for (const way of WAYS) {
    const told: string[] = []
    const onPathChange = ({ what }: { readonly what: string }) => told.push(what)
    const common = { interface: 'line.7', packetSizeBytes: 1400, descriptors: 'none', ttl: 1, onPathChange } as const
    const stream = await openStream({ ...common, ...way })
    ways.push({ way, name: `${way.to} by ${way.backend}`, stream, told, nextCnt: 1 })
  }
})

after(async () => {
  for (const { stream } of ways) await stream.close()
  heard.child.kill('SIGKILL')
  sh(`ip netns del ${NS}; ip link del line 2>/dev/null; true`)
})

const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'i1', shape: [HEAP_BYTES] })

/** Sends a batch, and tells its heap cnts with its result. */
async function send(each: Way): Promise<{ readonly cnts: readonly number[]; readonly result: BatchResult | SendError }> {
  const cnts = Array.from({ length: HEAPS }, (_, j) => each.nextCnt + j)
  each.nextCnt += HEAPS
  const batch = each.stream.createBatch({ items, heaps: HEAPS })
  try {
    return { cnts, result: await each.stream.send(batch) }
  } catch (error) {
    if (error instanceof SendError) return { cnts, result: error }
    throw error
  } finally {
    await batch.close()
  }
}

const wholeAt = (port: string): Set<number> =>
  new Set([...heard.text().matchAll(new RegExp(`^${port} (\\d+) whole$`, 'gm'))].map(([, cnt]) => Number(cnt)))

/** Every way sends until a batch is trusted, and every heap of that batch is heard. */
async function allArrive(): Promise<void> {
  const arrives = async (each: Way) => {
    const port = portOf(each.way)
    for (let i = 0; i < 40; i++) {
      const { cnts, result } = await send(each)
      if (!(result instanceof SendError) && !result.suspect) {
        await until(
          () => cnts.filter((cnt) => !wholeAt(port).has(cnt)),
          (lacking) => lacking.length === 0,
          20_000,
        )
        return
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    assert.fail(`${each.name}: no batch is trusted`)
  }
  await Promise.all(ways.map(arrives))
}

/** Every way's next batch fails whole, and says that the interface is gone. */
async function allFail(): Promise<void> {
  const fails = async (each: Way) => {
    const { cnts, result } = await send(each)
    assert.ok(result instanceof SendError, `${each.name} was sent`)
    assert.deepEqual(result.outcome.heaps, Array(HEAPS).fill('failed'), each.name)
    const { errnoName, message } = result.outcome.causes[0]!
    assert.match(errnoName, /^(ENODEV|ENETUNREACH)$/, each.name)
    assert.match(message, /interface line\.7 is gone \(\w+\); the stream goes on when it is back$/, each.name)
    const whole = wholeAt(portOf(each.way))
    for (const cnt of cnts) assert.ok(!whole.has(cnt), `${each.name}: ${cnt} arrived`)
  }
  await Promise.all(ways.map(fails))
}

const GROUPS = WAYS.filter(({ to }) => /^\[?(239|ff15)/.test(to as string)).length
const lost = () => heard.text().match(/cannot be received on tagged \(ENODEV\)/g)?.length ?? 0
const rejoined = () => heard.text().match(/joined again on tagged, which was made anew/g)?.length ?? 0

test("a sender's VLAN: nothing is sent while it is gone, and all arrives when it is back", async () => {
  await allArrive()
  sh('ip link del line.7')
  await allFail()
  ours()
  await isUp()
  await allArrive()
  for (const { name, stream, told } of ways) {
    assert.equal(stream.stats().states.interface, 'line.7', name)
    await until(
      () => told.at(-1) ?? name,
      (what) => /leaves? (again )?by line\.7 \(index/.test(what),
    )
  }
})

test("a receiver's VLAN: groups are joined again, and the next heaps arrive", async () => {
  assert.equal(rejoined(), 0)
  sh(`ip -n ${NS} link del tagged`)
  await until(lost, (times) => times === GROUPS)
  theirs()
  await until(rejoined, (times) => times === GROUPS)
  await allArrive()
})

test('the interface below both: senders and receivers find the new one', async () => {
  sh('ip link del line')
  await allFail()
  line()
  ours()
  theirs()
  await isUp()
  await until(rejoined, (times) => times === 2 * GROUPS)
  await allArrive()
})

test('a batch under way is suspect, and no heap that is said to have failed arrives whole', async () => {
  const { way } = ways[0]!
  const heaps = 60
  const common = { interface: 'line.7', packetSizeBytes: 1400, descriptors: 'none', thread: 'inline' } as const
  const stream = await openStream({ ...way, ...common, rate: '100kB/s' })
  const first = 1e6
  stream.setCntSequence(first, 1)
  const sending = stream.send(stream.createBatch({ items, heaps })).catch((error: unknown) => error)
  await until(
    () => [...wholeAt(portOf(way))],
    (cnts) => cnts.some((cnt) => cnt >= first),
  )
  sh('ip link del line.7')
  const error = await sending
  ours()
  await stream.close()
  assert.ok(error instanceof SendError)
  const { heaps: statuses, failedHeaps, suspect } = error.outcome
  assert.deepEqual([suspect, statuses[0], statuses.at(-1)], [true, 'sent', 'failed'])
  const whole = wholeAt(portOf(way))
  for (const j of failedHeaps) assert.ok(!whole.has(first + j), `heap ${j}`)
})
