/**
 * Queues that drop packets below VLANs, on a dummy interface, which takes every packet that a queue lets through: what a queue drops in silence is
 * counted once, however many VLANs stand on it, and makes the batch suspect; what it refuses is posted again. Nobody can tell of drops below a
 * tunnel that is bound to no interface. The kernels of other hosts of our tests have neither VLANs nor netem.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ItemGroup, openStream } from '#dist/src/index.js'
import { sh } from './support.js'

const BATCHES = 3
const PACKETS = BATCHES * 20 * 6

before(() => {
  const silenced = (name: string) => `echo 1 >/proc/sys/net/ipv6/conf/${name}/disable_ipv6; ip link set ${name} up`
  sh(`ip link add sink type dummy; ${silenced('sink')}; ip address add 10.94.0.1/24 dev sink`)
  for (const id of [1, 2])
    sh(
      `ip link add link sink name sink.${id} type vlan id ${id}; ${silenced(`sink.${id}`)}; ip address add 10.94.${id}.1/24 dev sink.${id}`,
    )
})

after(() => {
  sh('ip link del sink')
})

/** The VLANs and the interface itself. */
const HOSTS = ['10.94.1.2:7148', '10.94.2.2:7148', '10.94.0.2:7148']

/** Sends behind a queue. */
async function behind(queue: string, to: readonly string[] = HOSTS) {
  sh(queue)
  const stream = await openStream({
    to,
    backend: 'udp',
    thread: 'inline',
    descriptors: 'none',
    // A queue counts a message of several packets that it drops as one.
    segmentation: 'off',
    packetSizeBytes: 1400,
  })
  try {
    const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'i1', shape: [7000] })
    const batch = stream.createBatch({ items, heaps: 20 })
    const suspects: boolean[] = []
    for (let i = 0; i < BATCHES; i++) suspects.push((await stream.send(batch)).suspect)
    const { heapsFailed, packets, noBuffers, states } = stream.stats()
    const queues = JSON.parse(sh('tc -s -j qdisc show dev sink')) as {
      root?: boolean
      drops: number
      packets: number
      qlen: number
    }[]
    const { drops, packets: passed, qlen } = queues.find(({ root }) => root)!
    assert.deepEqual([heapsFailed, packets], [0, PACKETS])
    return { suspects, noBuffers, dropsBelowSocket: states.dropsBelowSocket, drops, reached: passed + qlen }
  } finally {
    await stream.close()
    sh('tc qdisc del dev sink root')
  }
}

for (const [what, queue] of [
  ['netem', 'tc qdisc add dev sink root netem loss 33%'],
  ['netem in a band of prio', 'tc qdisc add dev sink root handle 1: prio; tc qdisc add dev sink parent 1:2 netem loss 33%'],
] as const)
  test(`${what}: each drop is counted once, and every batch is suspect`, async () => {
    const { suspects, dropsBelowSocket, drops, reached } = await behind(queue)
    assert.deepEqual(suspects, Array(BATCHES).fill(true))
    assert.equal(dropsBelowSocket, drops)
    assert.equal(reached, PACKETS - drops)
  })

test('tbf, which refuses packets when it is full: they are posted again, and nothing is lost or suspect', async () => {
  const { suspects, dropsBelowSocket, drops, noBuffers, reached } = await behind(
    'tc qdisc add dev sink root tbf rate 20mbit burst 3000 limit 3000',
  )
  assert.ok(drops > 0 && noBuffers > 0)
  assert.deepEqual([suspects, dropsBelowSocket, reached], [Array(BATCHES).fill(false), 0, PACKETS])
})

for (const [what, bound, isSeen] of [
  ['bound to the interface', 'dev sink', true],
  ['bound to none', '', false],
] as const)
  test(`a tunnel that is ${what}: drops below it are ${isSeen ? 'seen' : 'silent'}`, async () => {
    sh(`
      ip link add pipe type ipip local 10.94.0.1 remote 10.94.0.9 ${bound}
      ip link set pipe up
      ip address add 10.94.9.1/24 dev pipe`)
    try {
      const { suspects, dropsBelowSocket, drops } = await behind('tc qdisc add dev sink root netem loss 33%', ['10.94.9.2:7148'])
      assert.ok(drops > 0)
      assert.deepEqual([suspects, dropsBelowSocket], [Array(BATCHES).fill(isSeen), isSeen ? drops : 0])
    } finally {
      sh('ip link del pipe')
    }
  })
