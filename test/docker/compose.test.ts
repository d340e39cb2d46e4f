// docker/compose.yaml as it stands, in each of its ways: two senders, both receivers, every heap there and every byte right.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { command, HOST_IMAGE, json, needDocker, needSpead2, ROOT } from './support.js'

const HEAPS = 500
const FOLDER = join(ROOT, 'docker')
const WAYS = ['', ...readdirSync(FOLDER).filter((name) => name.endsWith('.env'))]

interface Service {
  readonly ID: string
  readonly Service: string
}

test('all ways of sending have an env file', () => {
  expect(WAYS).toEqual(['', 'multicast-ipv6.env', 'unicast-ipv6.env', 'unicast.env'])
})

test.for(WAYS)('compose.yaml %s', async (way, ctx) => {
  needDocker(ctx)
  needSpead2(ctx)
  const project = `spc-${process.pid}`
  const options = ['--project-name', project, '-f', 'docker/compose.yaml', ...(way ? ['--env-file', `docker/${way}`] : [])]
  const env = { SPEADCAST_HEAPS: String(HEAPS), BASE_IMAGE: process.env.SPEADCAST_DOCKER_BASE!, PYTHON_IMAGE: HOST_IMAGE }
  const compose = (...args: string[]) => command(['docker', 'compose', ...options, ...args], { env })
  try {
    const up = await compose('up', '--detach', way ? '--no-build' : '--build')
    expect(up, up.stderr).toMatchObject({ code: 0 })
    const listed = (await compose('ps', '--all', '--format', 'json')).stdout.trim()
    const services = (listed.startsWith('[') ? JSON.parse(listed) : listed.split('\n').map((line) => JSON.parse(line))) as Service[]
    expect(services.map(({ Service }) => Service).sort()).toEqual(['receive', 'receive-spead2', 'send-1', 'send-2'])
    // One destination for all: everything reaches both receivers.
    const each = way.startsWith('unicast') ? HEAPS : 2 * HEAPS
    for (const { ID, Service } of services.sort((a, b) => (a.Service < b.Service ? 1 : -1))) {
      const code = Number((await command(['docker', 'wait', ID])).stdout)
      const logs = await command(['docker', 'logs', ID])
      const expected = Service.startsWith('send')
        ? { heaps: HEAPS, heapsFailed: 0, heapsSuspect: 0, packetSizeBytes: 8952, backend: 'udp' }
        : { heaps: each, heapsIncomplete: 0, heapsCorrupt: 0, payloadBytes: each * 32_768 }
      const told = json({ ...logs, code })
      expect({ code, ...told }, `${Service}: ${JSON.stringify(told)}`).toMatchObject({ code: 0, ...expected })
    }
  } finally {
    await compose('down', '--volumes', '--timeout', '1')
  }
})

test('compose.fleet.yaml: three senders by their index', async (ctx) => {
  needDocker(ctx)
  needSpead2(ctx)
  const options = ['--project-name', `spc-${process.pid}`, '-f', 'docker/compose.fleet.yaml']
  const env = { SPEADCAST_HEAPS: String(HEAPS), BASE_IMAGE: process.env.SPEADCAST_DOCKER_BASE!, PYTHON_IMAGE: HOST_IMAGE }
  const compose = (...args: string[]) => command(['docker', 'compose', ...options, ...args], { env })
  try {
    const up = await compose('up', '--detach', '--no-build')
    expect(up, up.stderr).toMatchObject({ code: 0 })
    for (const service of ['send-0', 'send-1', 'send-2', 'receive-spead2']) {
      const id = (await compose('ps', '--all', '--quiet', service)).stdout.trim()
      const code = Number((await command(['docker', 'wait', id])).stdout)
      const told = json({ ...(await command(['docker', 'logs', id])), code })
      const all = 3 * HEAPS
      // Heaps of equal cnts would have been put together.
      const expected = service.startsWith('send')
        ? { heaps: HEAPS, heapsFailed: 0, heapsSuspect: 0 }
        : { heaps: all, heapsIncomplete: 0, heapsCorrupt: 0, payloadBytes: all * 32_768 }
      expect({ code, ...told }, `${service}: ${JSON.stringify(told)}`).toMatchObject({ code: 0, ...expected })
    }
  } finally {
    await compose('down', '--volumes', '--timeout', '1')
  }
})

test('compose.rdma.yaml is what compose understands', async (ctx) => {
  needDocker(ctx)
  const { code, stdout, stderr } = await command([
    'docker',
    'compose',
    '-f',
    'docker/compose.rdma.yaml',
    'config',
    '--format',
    'json',
  ])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout).services.send).toMatchObject({
    network_mode: 'host',
    cap_drop: ['ALL'],
    cap_add: ['NET_RAW', 'IPC_LOCK', 'SYS_NICE'],
    ulimits: { memlock: { soft: -1, hard: -1 } },
    devices: [{ source: '/dev/infiniband/uverbs0' }, { source: '/dev/infiniband/rdma_cm' }],
  })
})
