// Random samples through a sender's container to a receiver's: they arrive bit for bit, at speadcast's receiver and at spead2's.
import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  Container,
  command,
  docker,
  type Ended,
  IMAGE,
  json,
  Network,
  needDocker,
  needSpead2,
  RECEIVER,
  SPEAD2_IMAGE,
} from './support.js'

const HEAP_BYTES = 40_000
const HEAPS = 100
/** A last heap that is not full. */
const SAMPLES = randomBytes(HEAPS * HEAP_BYTES + 12_345)
const SHA256 = createHash('sha256').update(SAMPLES).digest('hex')

let network: Network | undefined
beforeAll(async () => {
  if (!process.env.SPEADCAST_DOCKER_UNAVAILABLE) network = await Network.make({ x: 3, mtu: 9000 })
})
afterAll(async () => network?.[Symbol.asyncDispose]())

const WAYS = {
  'unicast IPv4': { to: '10.79.3.11:7148', listen: '0.0.0.0:7148', jumbo: 8972 },
  'unicast IPv6': { to: '[fd79:3::11]:7148', listen: '[::]:7148', jumbo: 8952 },
  'multicast IPv4': { to: '239.10.0.1:7148', listen: '239.10.0.1:7148', jumbo: 8972 },
  'multicast IPv6': { to: '[ff15::10:1]:7148', listen: '[ff15::10:1]:7148', jumbo: 8952 },
} as const

const LISTEN = ['--interface', 'eth0', '--timeout', '60']
const receivers = {
  speadcast: (host: number, listen: string) =>
    Container.listening([...RECEIVER, ...network!.at(host)], IMAGE, 'recv', listen, ...LISTEN, '--json'),
  spead2: (host: number, listen: string) =>
    Container.listening([...RECEIVER, ...network!.at(host)], SPEAD2_IMAGE, listen, ...LISTEN, '--hash'),
} as const
type Receiver = keyof typeof receivers

async function send(to: string, packetSize: number): Promise<Ended> {
  const options = ['run', '--rm', '-i', '--no-healthcheck', ...network!.at(20), IMAGE]
  const pace = ['--rate', '200Mbps', '--burst', '16KiB', '--interface', 'eth0', '--json']
  const args = ['send', to, '--input', '-', '-H', `${HEAP_BYTES}`, '-p', `${packetSize}`, ...pace]
  return command(['docker', ...options, ...args], { input: SAMPLES })
}

async function deliver(way: keyof typeof WAYS, names: readonly Receiver[], packetSize: number): Promise<void> {
  const { to, listen } = WAYS[way]
  const listening = await Promise.all(names.map((name, i) => receivers[name](11 + i, listen)))
  try {
    const sent = await send(to, packetSize)
    expect(sent).toMatchObject({ code: 0 })
    expect(json(sent)).toMatchObject({
      backend: 'udp',
      heaps: HEAPS + 1,
      heapsFailed: 0,
      payloadBytes: SAMPLES.length,
      packetSizeBytes: packetSize,
    })
    for (const [i, name] of names.entries()) {
      const got = await listening[i]!.ended()
      const summary = json(got)
      expect({ code: got.code, ...summary }, name).toMatchObject({
        code: 0,
        heaps: HEAPS + 1,
        heapsIncomplete: 0,
        payloadBytes: SAMPLES.length,
        sha256: SHA256,
      })
      // As many packets as were sent: none was fragmented or cut on the way.
      if (name === 'speadcast') expect(summary.packets).toBe(json(sent).packets)
    }
  } finally {
    await Promise.all(listening.map((container) => container[Symbol.asyncDispose]()))
  }
}

const SMALL = 1452
test.for(['multicast IPv4', 'multicast IPv6'] as const)(
  '%s: every bit arrives at both receivers, in small packets and jumbo frames',
  async (way, ctx) => {
    needDocker(ctx)
    needSpead2(ctx)
    for (const packetSize of [SMALL, WAYS[way].jumbo]) await deliver(way, ['speadcast', 'spead2'], packetSize)
  },
)

// compose.test.ts sends unicast jumbo frames to either receiver over both families.
test.for([
  ['unicast IPv4', 'speadcast', SMALL],
  ['unicast IPv4', 'spead2', WAYS['unicast IPv4'].jumbo],
  ['unicast IPv6', 'speadcast', WAYS['unicast IPv6'].jumbo],
  ['unicast IPv6', 'spead2', SMALL],
] as const)('%s: every bit arrives at %s, in packets of %i bytes', async ([way, receiver, packetSize], ctx) => {
  needDocker(ctx)
  if (receiver === 'spead2') needSpead2(ctx)
  await deliver(way, [receiver], packetSize)
})

test('a packet larger than the network carries is refused, with the size that fits', async (ctx) => {
  needDocker(ctx)
  const large = await docker('run', '--rm', ...network!.at(20), IMAGE, 'send', '239.10.0.1:7148', '-p', '9000')
  expect(large).toMatchObject({ code: 2, stdout: '' })
  expect(large.stderr).toMatch(/exceeds MTU 9000 of eth0; pass -p 8972/)
})
