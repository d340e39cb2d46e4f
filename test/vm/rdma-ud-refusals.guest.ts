/** What backend rdma-ud and its receiver refuse on soft-RoCE, and what they say; what the command line makes of it all. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { listRdmaDevices } from '#dist/src/devices.js'
import { checkHeaps, collect, eventually, held, NOTHING, numberOf, openSender, openTaker, RX1, sendHeaps, sh } from './datagrams.js'

const CLI = 'dist/src/cli/main.js'

test('what exceeds the MTU is refused with the largest size that fits', async () => {
  await assert.rejects(openSender({ to: `${RX1}:7148`, packetSizeBytes: 4097 }), {
    code: 'ERR_SPEADCAST_PACKET_SIZE',
    message:
      'packetSizeBytes 4097 exceeds the 4096 bytes that a datagram may carry through port 1 of rxe0; pass packetSizeBytes ≤ 4096',
  })
  sh('ip link set rx0 mtu 1500')
  try {
    await assert.rejects(openSender({ to: `${RX1}:7148`, packetSizeBytes: 1472 }), {
      code: 'ERR_SPEADCAST_PACKET_SIZE',
      message: /packetSizeBytes 1472 exceeds the 1024 bytes .* of rxe0; pass packetSizeBytes ≤ 1024 or raise the MTU/,
    })
    // What fits goes, to the last byte.
    const receiver = await openTaker({ endpoints: `${RX1}:7148` })
    const got = collect(receiver)
    const stream = await openSender({ to: `${RX1}:7148`, packetSizeBytes: 1024 })
    await sendHeaps(stream, { heaps: 4, bytes: 9000 })
    await stream.sendEnd()
    await stream.close()
    checkHeaps(await got, { heaps: 4, bytes: 9000 })
  } finally {
    sh('ip link set rx0 mtu 4200')
  }
  // And the receiver's, which it tells.
  sh('ip link set rx1 mtu 2200')
  try {
    const receiver = await openTaker({ endpoints: `${RX1}:7148` })
    await assert.rejects(openSender({ to: `${RX1}:7148`, packetSizeBytes: 4096 }), {
      code: 'ERR_SPEADCAST_PACKET_SIZE',
      message: /exceeds the 2048 bytes .* the receiver 10\.98\.0\.2:7148; pass packetSizeBytes ≤ 2048/,
    })
    await receiver.close()
  } finally {
    sh('ip link set rx1 mtu 4200')
  }
})

test('an MTU that shrinks under a stream: nothing is called sent that the device would drop', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, heaps: 8 })
  const got = collect(receiver)
  const stream = await openSender({ to: `${RX1}:7148` })
  const before = await sendHeaps(stream, { heaps: 4, bytes: 9000 })
  assert.equal(before[0]!.status, 'fulfilled')
  sh('ip link set rx0 mtu 1500')
  assert.equal(listRdmaDevices()[0]!.ports[0]!.datagramBytes, 1024)
  const during = await sendHeaps(stream, { first: 4, heaps: 8, bytes: 9000 })
  for (const result of during) {
    assert.equal(result.status, 'rejected')
    assert.match(String((result as PromiseRejectedResult).reason), /EMSGSIZE|exceeds the 1024 bytes .*pass packetSizeBytes ≤ 1024/)
  }
  sh('ip link set rx0 mtu 4200')
  await sleep(100)
  const after = await sendHeaps(stream, { first: 12, heaps: 4, bytes: 9000 })
  assert.equal(after[0]!.status, 'fulfilled')
  await stream.close().catch(() => undefined)
  assert.deepEqual((await got).map(numberOf), [0, 1, 2, 3, 12, 13, 14, 15])
  const { reason, heapsIncomplete } = await receiver.done
  assert.deepEqual([reason, heapsIncomplete], ['heaps', 0])
})

test('refusals say what is wrong and what to do', async () => {
  const to = `${RX1}:7148`
  await assert.rejects(openSender({ to }), {
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: /ECONNREFUSED.*start `speadcast recv --backend rdma-ud`/,
  })
  await assert.rejects(openSender({ to, rdmaUd: { peers: [{ gid: '10.98.0.77', qpn: 17 }] } }), {
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: /no way from 10\.98\.0\.1 of port 1 of rxe0 to GID 10\.98\.0\.77 \(ibv_create_ah failed: E\w+/,
  })
  await assert.rejects(openSender({ to, rdmaUd: { peers: [{ gid: 'rx1', qpn: 17 }] } }), {
    code: 'ERR_SPEADCAST_CONFIG',
    message: /gid 'rx1'/,
  })
  await assert.rejects(openSender({ to, rdmaUd: { device: 'rxe1' } }), {
    code: 'ERR_SPEADCAST_BACKEND',
    message: /10\.98\.0\.1 is no GID of port 1 of rxe1; there are: .*10\.98\.0\.2/,
  })
  await assert.rejects(openSender({ to, rdmaUd: { device: 'mlx5_0' } }), {
    code: 'ERR_SPEADCAST_BACKEND',
    message: /ENODEV.*mlx5_0|mlx5_0.*ENODEV/,
  })
  await assert.rejects(openSender({ to: '127.0.0.1:7148', interface: 'lo' }), {
    code: 'ERR_SPEADCAST_BACKEND',
    message: /no RDMA device is behind interface lo; there are: rxe0 \(rx0\), rxe1 \(rx1\)/,
  })
  await assert.rejects(openTaker({ endpoints: '0.0.0.0:7148' }), {
    code: 'ERR_SPEADCAST_BACKEND',
    message: /needs to know its port: give interface/,
  })
  await assert.rejects(openTaker({ endpoints: '239.98.0.1:7148' }), { message: /give interface/ })
  await assert.rejects(openTaker({ endpoints: '127.0.0.1:7148' }), { message: /give interface|no RDMA device/ })
  const receiver = await openTaker({ endpoints: to })
  await assert.rejects(openTaker({ endpoints: to }), { code: 'ERR_SPEADCAST_ENDPOINT', message: /over TCP: .*EADDRINUSE/ })
  await receiver.close()
  assert.deepEqual(held(), NOTHING)
})

test('a wrong queue key, and a queue pair that is gone: sent, for the device has done its part, and not received', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, stops: 0 })
  const [peer] = receiver.peers
  for (const wrong of [
    { ...peer!, qkey: 1 },
    { ...peer!, qpn: peer!.qpn + 99 },
  ]) {
    const stream = await openSender({ to: `${RX1}:7148`, rdmaUd: { peers: [wrong] } })
    const results = await sendHeaps(stream, { heaps: 4, bytes: 5000 })
    assert.equal(results[0]!.status, 'fulfilled')
    await stream.close()
  }
  await sleep(200)
  assert.equal((await receiver.close()).messages, 0)
})

test('from the command line, with doctor and devices', async () => {
  const run = (...args: string[]) => {
    const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (text) => (stdout += text))
    child.stderr.on('data', (text) => (stderr += text))
    const ended = once(child, 'close').then(([code]) => ({ code, stdout, stderr }))
    return { ended, said: () => stderr }
  }
  const recv = run('recv', `${RX1}:7148`, '--backend', 'rdma-ud', '--verify', '--json', '--timeout', '40')
  await eventually('recv listens', () => /--peer 10\.98\.0\.2\/\d+\/0x1234567, datagrams of 4096 bytes/.test(recv.said()), 30_000)
  const send = await run(
    'send',
    `${RX1}:7148`,
    '--backend',
    'rdma-ud',
    '--interface',
    'rx0',
    '-n',
    '30',
    '-H',
    '32KiB',
    '-p',
    '4096',
    '--json',
  ).ended
  assert.deepEqual([send.code, send.stderr], [0, ''])
  const sent = JSON.parse(send.stdout)
  assert.deepEqual([sent.backend, sent.evidence, sent.heaps, sent.stats.mtuBytes], ['rdma-ud', 'completed', 30, 4096])
  const received = await recv.ended
  assert.equal(received.code, 0, received.stderr)
  const { heaps, heapsIncomplete, heapsCorrupt, packets, reason } = JSON.parse(received.stdout)
  assert.deepEqual(
    { heaps, heapsIncomplete, heapsCorrupt, packets, reason },
    { heaps: 30, heapsIncomplete: 0, heapsCorrupt: 0, packets: sent.packets, reason: 'stop' },
  )
  const doctor = await run('doctor', `${RX1}:7148`, '--interface', 'rx0', '--json').ended
  const report = JSON.parse(doctor.stdout)
  assert.equal(report.backend, 'udp')
  assert.deepEqual(
    report.backends.map(({ backend, works }: { backend: string; works: boolean }) => [backend, works]),
    [
      ['ibverbs', false],
      ['udp', true],
      ['dgram', true],
      ['rdma-ud', true],
    ],
  )
  assert.match(report.backends[3].reason, /so auto never takes it/)
  for (const device of listRdmaDevices()) assert.deepEqual([device.datagrams, device.rawPackets], [true, false])
})

test('and the kernel holds nothing of ours', () => {
  assert.deepEqual(held(), NOTHING)
})
