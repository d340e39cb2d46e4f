/**
 * Options of backend rdma-ud and its receiver: how to name receivers, sizes of packets and queues, and refusals. The software NIC
 * brings datagrams from one of its devices to another inside this process. test/vm tests the same on a real kernel's device.
 */
import { beforeEach, expect, test } from 'vitest'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { across, checkHeaps, collect, openSender, openTaker, RX0, RX1, sendHeaps } from '../support/datagrams.js'
import { inNamespace, needNic, nicHere, sleep } from '../support/nic.js'

const here = nicHere({}, { mode: 'null', netdevs: ['rx0', 'rx1'] }, ({ ns, nic }) => {
  // The same names as in the virtual machine.
  ns.ip('a', 'link add rx0 address 02:00:00:00:98:01 type veth peer name rx1 address 02:00:00:00:98:02')
  for (const [i, peer] of [2, 1].entries()) {
    ns.ip('a', `link set rx${i} mtu 4200 up`)
    ns.ip('a', `address add 10.98.0.${i + 1}/24 dev rx${i}`)
    ns.ip('a', `address add fd98::${i + 1}/64 dev rx${i} nodad`)
    ns.ip('a', `neighbour add 10.98.0.${peer} lladdr 02:00:00:00:98:0${peer} dev rx${i}`)
    ns.ip('a', `neighbour add fd98::${peer} lladdr 02:00:00:00:98:0${peer} dev rx${i}`)
  }
  process.env.SPEADCAST_VERBS_LIBRARY = nic.library
  return inside(async () => void listRdmaDevices())
})

beforeEach(needNic)

/** Runs `body` with this thread, and threads that it starts, in the namespace. */
const inside = (body: () => Promise<void>) => inNamespace(here.ns.name.a, body)

const TO = `${RX1}:7148`
const NO_INTERFACE = { interface: undefined as never }

test.for([
  ['from one device to another by a thread', [TO], { heaps: 40, bytes: 40_001 }, { thread: 'worker' }],
  [
    'three substreams, eight batches under way',
    [TO, `${RX1}:7149`, `${RX1}:7150`],
    { heaps: 240, perBatch: 6, inFlight: 8, bytes: 1000 },
    {},
  ],
  [
    'more packets than the queue has room for',
    [TO],
    { heaps: 16, bytes: 20_000 },
    { packetSizeBytes: 256, ibverbs: { queueDepth: 32 } },
  ],
  ['from a device to itself, by the address', [`${RX0}:7148`], { heaps: 20, bytes: 10_000 }, NO_INTERFACE],
  ['over IPv6', ['[fd98::2]:7148'], { heaps: 20, bytes: 10_000 }, {}],
  ['by the device', [TO], { heaps: 8, bytes: 5000 }, { ...NO_INTERFACE, rdmaUd: { device: 'softnic0:1' } }],
  ['by the device, over IPv6', ['[fd98::2]:7148'], { heaps: 8, bytes: 5000 }, { ...NO_INTERFACE, rdmaUd: { device: 'softnic0' } }],
  ['packets of full size', [TO], { heaps: 8, bytes: 40_000 }, { packetSizeBytes: 4096, split: 'greedy' }],
  ['noticed by event alone', [TO], { heaps: 12, bytes: 10_000 }, { ibverbs: { poll: 'event' } }],
] as const)('%s', ([, endpoints, sending, options]) =>
  inside(async () => {
    await across(endpoints, sending, options)
    expect(here.nic.report().leaked).toMatchObject({ qps: 0, ahs: 0, mrs: 0 })
  }),
)

test('round trips of the ring: the receives are given back, many times over', () =>
  inside(async () => {
    const receiver = await openTaker({ endpoints: TO, receiveBufferBytes: 64 * 4160 })
    expect(receiver.stats().receiveBufferBytes).toBe(64 * 4160)
    const got = collect(receiver)
    // At a low rate, because a datagram is lost when no receive is posted for it.
    const stream = await openSender({ to: TO, rate: '1MB/s', burstBytes: 2048, packetSizeBytes: 1024 })
    const sending = { heaps: 120, perBatch: 4, bytes: 5000 }
    await sendHeaps(stream, sending)
    await stream.sendEnd()
    await stream.close()
    checkHeaps(await got, sending)
    expect((await receiver.done).packets).toBeGreaterThan(10 * 64)
  }))

test('the queue pair by name: nobody is asked', () =>
  inside(async () => {
    const receiver = await openTaker({ endpoints: TO })
    const got = collect(receiver)
    const [peer] = receiver.peers
    expect(peer).toMatchObject({ gid: RX1, lid: 0, mtuBytes: 4096, qkey: 0x1234567 })
    // Nobody listens on that port.
    const stream = await openSender({ to: `${RX1}:9`, rdmaUd: { peers: receiver.peers } })
    expect(stream.stats().states.peer).toBe(`${RX1}/${peer!.qpn}/0x1234567`)
    const sending = { heaps: 8, bytes: 5000 }
    await sendHeaps(stream, sending)
    await stream.sendEnd()
    await stream.close()
    checkHeaps(await got, sending)
  }))

test('a wrong key, and a queue pair that is gone: sent as far as the device knows, and not received', () =>
  inside(async () => {
    const receiver = await openTaker({ endpoints: TO, stops: 0 })
    const [peer] = receiver.peers
    for (const wrong of [
      { ...peer!, qkey: 1 },
      { ...peer!, qpn: peer!.qpn + 99 },
    ]) {
      const stream = await openSender({ to: TO, rdmaUd: { peers: [wrong] } })
      expect((await sendHeaps(stream, { heaps: 4, bytes: 5000 }))[0]!.status).toBe('fulfilled')
      await stream.close()
    }
    await sleep(50)
    expect((await receiver.close()).messages).toBe(0)
  }))

test('two senders are told apart, and their heaps of one cnt', () =>
  inside(async () => {
    const receiver = await openTaker({ endpoints: TO, stops: 2 })
    const got = collect(receiver)
    const streams = await Promise.all([openSender({ to: TO }), openSender({ to: TO, interface: 'rx1' })])
    const sending = { heaps: 8, bytes: 20_000 }
    await Promise.all(streams.map((stream, i) => sendHeaps(stream, { ...sending, seed: i + 1 })))
    for (const stream of streams) {
      await stream.sendEnd()
      await stream.close()
    }
    const heaps = await got
    const senders = [...new Set(heaps.map(({ sender }) => sender))]
    expect(senders).toHaveLength(2)
    const bySender = senders.map((sender) => heaps.filter((heap) => heap.sender === sender))
    const first = Buffer.compare(
      bySender[0]![0]!.items.get(0x3300)!.bytes.subarray(0, 16),
      (await import('../support/datagrams.js')).samplesOf(1, 0, 16),
    )
    const inOrder = first === 0 ? bySender : bySender.toReversed()
    for (const [i, own] of inOrder.entries()) checkHeaps(own, { ...sending, seed: i + 1 })
  }))

test('the receiver’s MTU counts too', () =>
  inside(async () => {
    here.ns.ip('a', 'link set rx1 mtu 2200')
    try {
      const receiver = await openTaker({ endpoints: TO })
      await expect(openSender({ to: TO, packetSizeBytes: 4096 })).rejects.toMatchObject({
        code: 'ERR_SPEADCAST_PACKET_SIZE',
        message: expect.stringMatching(/exceeds the 2048 bytes .* the receiver 10\.98\.0\.2:7148; pass packetSizeBytes ≤ 2048/),
      })
      await receiver.close()
    } finally {
      here.ns.ip('a', 'link set rx1 mtu 4200')
    }
  }))

test('refusals say what is wrong and what to do', () =>
  inside(async () => {
    const refused = (code: string, message: RegExp) => ({ code: `ERR_SPEADCAST_${code}`, message: expect.stringMatching(message) })
    await expect(openSender({ to: TO })).rejects.toMatchObject(
      refused('UNREACHABLE', /ECONNREFUSED.*start `speadcast recv --backend rdma-ud`/),
    )
    for (const [options, code, message] of [
      [{ rdmaUd: { peers: [{ gid: 'rx1', qpn: 17 }] } }, 'CONFIG', /gid 'rx1' of a peer is neither/],
      [{ rdmaUd: { device: 'softnic1' } }, 'BACKEND', /10\.98\.0\.1 is no GID of port 1 of softnic1; there are: .*10\.98\.0\.2/],
      [{ rdmaUd: { device: 'mlx5_0' } }, 'BACKEND', /ibv_open_device failed: ENODEV \(mlx5_0\)/],
      [{ rdmaUd: { device: 'softnic0:2' } }, 'BACKEND', /ibv_query_port failed: EINVAL \(softnic0 port 2\)/],
      [{ rdmaUd: { device: ':1' } }, 'CONFIG', /device is ':1'; write its name, or name and port: mlx5_0:1/],
      [
        { to: '127.0.0.1:7148', interface: 'lo' },
        'BACKEND',
        /no RDMA device is behind interface lo; there are: softnic0 \(rx0\), softnic1 \(rx1\)/,
      ],
    ] as const)
      await expect(openSender({ to: TO, ...options } as never), JSON.stringify(options)).rejects.toMatchObject(
        refused(code, message),
      )
    await expect(openTaker({ endpoints: '0.0.0.0:7148' })).rejects.toMatchObject(
      refused('BACKEND', /needs to know its port: give interface/),
    )
    await expect(openTaker({ endpoints: '127.0.0.1:7148' })).rejects.toMatchObject(refused('BACKEND', /give interface/))
    await expect(openTaker({ endpoints: '239.98.0.1:7148' })).rejects.toMatchObject({
      message: expect.stringMatching(/give interface/),
    })
    const receiver = await openTaker({ endpoints: TO })
    await expect(openTaker({ endpoints: TO })).rejects.toMatchObject(refused('ENDPOINT', /over TCP: .*EADDRINUSE/))
    await receiver.close()
  }))

test('a machine without an RDMA CM has no groups', () =>
  inside(async () => {
    process.env.SPEADCAST_RDMACM_LIBRARY = '/nonexistent/librdmacm.so.1'
    try {
      for (const opening of [openSender({ to: '239.98.0.1:7148' }), openTaker({ endpoints: '239.98.0.1:7148', interface: 'rx1' })])
        await expect(opening).rejects.toMatchObject({
          code: 'ERR_SPEADCAST_BACKEND',
          message: expect.stringMatching(
            /cannot use multicast here: .*it takes librdmacm \(Debian: librdmacm1\), \/dev\/infiniband\/rdma_cm/,
          ),
        })
    } finally {
      delete process.env.SPEADCAST_RDMACM_LIBRARY
    }
  }))

test('and nothing of the device is left', () => {
  expect(here.nic.cleanReport().received).toBeGreaterThan(1000)
})
