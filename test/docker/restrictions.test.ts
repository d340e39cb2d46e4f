// A container has less than a host: no huge pages, no capabilities, no RDMA devices, a read-only root, a user without a name.
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { buildSoftnic, softnicUnavailable } from '../support/softnic.js'
import { Container, docker, IMAGE, json, Network, needDocker, ok, RECEIVER } from './support.js'

const LEAST = ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '--read-only', '--memory', '512m', '--pids-limit', '64']

test('the image: not root, node as process 1, no shell, stopped by SIGTERM', async (ctx) => {
  needDocker(ctx)
  const [image] = JSON.parse(await ok('image', 'inspect', IMAGE))
  expect(image.Config).toMatchObject({
    User: '65532:65532',
    Entrypoint: ['node', '/opt/speadcast/lib/cli.js'],
    StopSignal: 'SIGTERM',
  })
  expect(image.Config.Healthcheck.Test.slice(0, 2)).toEqual(['CMD', 'node'])
  expect(await ok('run', '--rm', '--entrypoint', 'id', IMAGE)).toMatch(/^uid=65532 /)
  expect(await ok('run', '--rm', '--entrypoint', 'ls', IMAGE, '/opt/speadcast/node_modules')).not.toMatch(/typescript|vitest|zx/)
})

test.for([
  ['as docker starts it', []],
  ['with nothing at all', LEAST],
  ['as root, with what docker gives to root', ['--user', '0:0']],
] as const)('%s: the demo runs, every byte is checked, nothing is said on standard error', async ([, options], ctx) => {
  needDocker(ctx)
  const demo = await docker('run', '--rm', ...options, IMAGE, 'demo', '--bytes', '64MiB', '--json')
  expect({ code: demo.code, stderr: demo.stderr }).toEqual({ code: 0, stderr: '' })
  expect(json(demo)).toMatchObject({
    backend: 'udp',
    heapsSent: 2048,
    heapsReceived: 2048,
    heapsLost: 0,
    heapsCorrupt: 0,
    segmentation: 'on',
  })
})

test('with nothing at all: auto says why it is udp, and ibverbs by name is refused with what is missing', async (ctx) => {
  needDocker(ctx)
  const auto = await docker('run', '--rm', ...LEAST, IMAGE, 'send', '239.10.0.1:7148', '--interface', 'eth0', '-n', '10', '--json')
  expect(auto.code).toBe(0)
  expect(json(auto)).toMatchObject({ backend: 'udp', heaps: 10, heapsFailed: 0, reason: expect.stringMatching(/ibverbs: /) })
  const ibverbs = await docker(
    'run',
    '--rm',
    ...LEAST,
    IMAGE,
    'send',
    '239.10.0.1:7148',
    '--interface',
    'eth0',
    '--backend',
    'ibverbs',
  )
  expect(ibverbs).toMatchObject({ code: 1, stdout: '' })
  expect(ibverbs.stderr).toMatch(/^speadcast send: --backend ibverbs cannot work here: .*(could not be loaded|no RDMA device)/)
  const doctor = await docker('run', '--rm', ...LEAST, IMAGE, 'doctor', '239.10.0.1:7148', '--interface', 'eth0', '--json')
  expect(doctor).toMatchObject({ code: 0, stderr: '' })
  expect(json(doctor)).toMatchObject({ backend: 'udp' })
})

test('past the kernel from a container: NET_RAW and root are what it takes, and auto says so where they are missing', async (ctx) => {
  needDocker(ctx)
  const why = softnicUnavailable()
  need(ctx, !why, why)
  await using network = await Network.make({ x: 5, mtu: 9000 })
  const { directory } = buildSoftnic()
  const nic = ['-v', `${directory}:/softnic:ro`, '-e', 'LD_LIBRARY_PATH=/softnic', '-e', 'SOFTNIC_MODE=wire', ...network.at(12)]
  const least = ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '--read-only']
  const to = `${network.v4(11)}:7148`
  const send = async (...options: string[]) => {
    const args = ['-n', '200', '-H', '32KiB', '-p', '8972', '--rate', '80Mbps', '--json']
    await using receiver = await Container.listening(
      [...RECEIVER, ...network.at(11)],
      IMAGE,
      'recv',
      to,
      '--verify',
      '--json',
      '--timeout',
      '30',
    )
    const sent = await docker('run', '--rm', ...nic, ...least, ...options, IMAGE, 'send', to, ...args)
    return { code: sent.code, sent: json(sent), got: json(await receiver.ended()) }
  }
  const whole = { heaps: 200, heapsIncomplete: 0, heapsCorrupt: 0 }
  expect(await send('--user', '0:0', '--cap-add', 'NET_RAW')).toMatchObject({
    code: 0,
    sent: { backend: 'ibverbs', evidence: 'completed', heaps: 200, heapsFailed: 0 },
    got: whole,
  })
  for (const missing of [
    ['--user', '0:0'],
    ['--cap-add', 'NET_RAW'],
  ])
    expect(await send(...missing), missing.join(' ')).toMatchObject({
      code: 0,
      sent: { backend: 'udp', reason: expect.stringMatching(/ibverbs: .*CAP_NET_RAW/), heaps: 200, heapsFailed: 0 },
      got: whole,
    })
})

test('without a network: the address that cannot be reached is named', async (ctx) => {
  needDocker(ctx)
  const { code, stdout, stderr } = await docker('run', '--rm', '--network', 'none', IMAGE, 'send', '10.1.2.3:7148', '-n', '1')
  expect({ code: code === 1 || code === 2, stdout }).toEqual({ code: true, stdout: '' })
  expect(stderr).toMatch(/no route to 10\.1\.2\.3|there is no route/)
})

test('health: a receiver is healthy once it listens; a container that only sleeps is not', async (ctx) => {
  needDocker(ctx)
  const start = (...args: string[]) =>
    ok('run', '-d', '--health-interval', '1s', '--health-retries', '1', '--health-start-period', '1s', ...args)
  const health = async (id: string): Promise<string> => {
    for (const deadline = Date.now() + 20_000; ; await new Promise((resolve) => setTimeout(resolve, 200))) {
      const state = await ok('inspect', '-f', '{{.State.Health.Status}}', id)
      if (state !== 'starting' || Date.now() > deadline) return state
    }
  }
  const receiving = await start(IMAGE, 'recv', '0.0.0.0:7148')
  const sleeping = await start('--entrypoint', 'sleep', IMAGE, '60')
  try {
    expect([await health(receiving), await health(sleeping)]).toEqual(['healthy', 'unhealthy'])
  } finally {
    await docker('rm', '-f', receiving, sleeping)
  }
})
