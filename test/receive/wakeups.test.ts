/** A receiver that has nothing to receive sleeps: how often all threads of this process wake, by the kernel's count. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, expect, test } from 'vitest'
import { openReceiver, type ReceiverOptions } from '#dist/src/receive/index.js'
import { openTaker, RX1 } from '../support/datagrams.js'
import { inNamespace, needNic, nicHere } from '../support/nic.js'
import { freePort } from './support.js'

const here = nicHere({}, { mode: 'null', netdevs: ['rx0', 'rx1'] }, ({ ns, nic }) => {
  ns.ip('a', 'link add rx0 address 02:00:00:00:98:01 type veth peer name rx1 address 02:00:00:00:98:02')
  for (const i of [0, 1]) {
    ns.ip('a', `link set rx${i} mtu 4200 up`)
    ns.ip('a', `address add 10.98.0.${i + 1}/24 dev rx${i}`)
  }
  process.env.SPEADCAST_VERBS_LIBRARY = nic.library
})

beforeEach(needNic)

const MOST = 25

/** Voluntary context switches by thread. */
function wakeUps(): Map<string, number> {
  const tasks = readdirSync('/proc/self/task')
  return new Map(
    tasks.map((task) => {
      const status = readFileSync(`/proc/self/task/${task}/status`, 'utf8')
      return [task, Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1])]
    }),
  )
}

/** The least of three spans of two seconds, because V8's own threads compile and collect in some. */
async function wakeUpsPerSecond(): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let span = 0; span < 3 && least > MOST; span++) {
    await sleep(500)
    const before = wakeUps()
    await sleep(2000)
    let sum = 0
    for (const [task, n] of wakeUps()) sum += n - (before.get(task) ?? 0)
    least = Math.min(least, sum / 2)
  }
  return least
}

test.for([
  ['native', {}],
  ['native', { credits: true }],
  ['dgram', {}],
  ['native, a group', { endpoints: '239.192.7.7:7148', interface: 'lo' }],
] as const)('idle, %s %j: at most 25 a second', async ([kind, options]) => {
  const backend = kind.split(',')[0] as NonNullable<ReceiverOptions['backend']>
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${await freePort()}`, backend, ...options })
  const heaps = receiver[Symbol.asyncIterator]()
  void heaps.next()
  expect(await wakeUpsPerSecond()).toBeLessThanOrEqual(MOST)
})

test('idle, rdma-ud: at most 25 a second', () =>
  inNamespace(here.ns.name.a, async () => {
    const receiver = await openTaker({ endpoints: `${RX1}:7148` })
    expect(await wakeUpsPerSecond()).toBeLessThanOrEqual(MOST)
    await receiver.close()
  }))
