/** The command line and `auto` report a real RDMA device without raw packets, soft-RoCE's, and send by udp. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStream } from '#dist/src/index.js'
import { openReceiver } from '#dist/src/receive/index.js'
import { sendTutorial, sh, speadcast } from './support.js'

const REFUSAL =
  /the device has no raw packet queue pairs: ibv_create_qp failed: EOPNOTSUPP \(rxe0\), errno 95; soft-RoCE and InfiniBand links have none, use backend 'udp'/

test('speadcast devices --json lists both devices as sysfs and ip know them', async () => {
  const { code, stdout, stderr } = await speadcast('devices', '--json')
  assert.deepEqual([code, stderr], [0, ''])
  const { devices } = JSON.parse(stdout)
  assert.equal(devices.length, 2)
  for (const [i, device] of devices.entries()) {
    const netdev = sh(`cat /sys/class/infiniband/${device.name}/ports/1/gid_attrs/ndevs/0`).trim()
    assert.deepEqual([device.name, netdev], [`rxe${i}`, `rx${i}`])
    assert.equal(device.rawPackets, false)
    assert.match(device.refused, new RegExp(REFUSAL.source.replace('rxe0', device.name)))
    assert.deepEqual([device.datagrams, device.datagramsRefused], [true, ''])
    assert.equal(device.checksumOffload, false)
    assert.equal(device.pacing, undefined)
    assert.equal(device.ports.length, 1)
    const [{ addr_info }] = JSON.parse(sh(`ip -json address show ${netdev}`))
    const addresses = (addr_info as { local: string }[]).map(({ local }) => local)
    const { gids, ...port } = device.ports[0]
    assert.deepEqual(port, {
      port: 1,
      linkLayer: 'Ethernet',
      active: true,
      // 1X of 10 Gb/s, as ibv_devinfo says.
      gigabitsPerSecond: 10,
      mtuBytes: 4200,
      datagramBytes: 4096,
      interfaces: [netdev],
    })
    assert.deepEqual([...new Set(gids)].sort(), addresses.sort())
  }
})

test('speadcast devices shows the same as a table', async () => {
  const { code, stdout, stderr } = await speadcast('devices')
  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, /^rxe0 +firmware 0\.0\.0$/m)
  assert.match(stdout, new RegExp(`^ +raw packets +no: ${REFUSAL.source}$`, 'm'))
  assert.match(stdout, /^ +port 1 +Ethernet, active, 10 Gb\/s, MTU 4200, datagrams of 4096 bytes, interface rx1$/m)
  assert.match(stdout, /^ +(GIDs +)?10\.98\.0\.2$/m)
})

test('speadcast doctor takes udp and says why ibverbs cannot', async () => {
  const { code, stdout, stderr } = await speadcast('doctor', '239.10.0.1:7148', '--interface', 'rx0', '--json')
  assert.deepEqual([code, stderr], [0, ''])
  const { backend, backends } = JSON.parse(stdout) as { backend: string; backends: Record<string, string | boolean>[] }
  assert.equal(backend, 'udp')
  const ibverbs = backends.find((verdict) => verdict.backend === 'ibverbs')!
  assert.equal(ibverbs.works, false)
  assert.match(`${ibverbs.reason}`, REFUSAL)
  const rdmaUd = backends.find((verdict) => verdict.backend === 'rdma-ud')!
  assert.equal(rdmaUd.works, true)
  assert.match(`${rdmaUd.reason}`, /so auto never takes it$/)
})

test('backend ibverbs is refused with the errno; auto sends by udp, with the errno and the device in its reason', async () => {
  const to = '239.10.0.1:7148'
  const options = { to, interface: 'rx0', ttl: 1, packetSizeBytes: 1472 } as const
  await assert.rejects(
    openStream({ ...options, backend: 'ibverbs' }),
    (error: Error & { code: string; cause: { errno: number } }) => {
      assert.equal(error.code, 'ERR_SPEADCAST_BACKEND')
      assert.match(error.message, new RegExp(`^backend 'ibverbs' cannot work here: ${REFUSAL.source}$`))
      assert.equal(error.cause.errno, 95)
      return true
    },
  )
  const wanted = 5
  await using receiver = await openReceiver({
    endpoints: to,
    interface: 'rx1',
    verify: true,
    heaps: wanted,
    timeoutSeconds: 60,
    backend: 'dgram',
  })
  await using stream = await openStream(options)
  const report = await sendTutorial(stream, wanted, 8192)
  assert.deepEqual([report.backend, report.evidence], ['udp', 'accepted'])
  assert.match(report.reason, REFUSAL)
  const { heaps, heapsCorrupt, reason } = await receiver.done
  assert.deepEqual([heaps, heapsCorrupt, reason], [wanted, 0, 'heaps'])
})
