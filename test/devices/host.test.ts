/** The host's settings, of hosts that a folder describes: what is in order, what is not, and what is not told. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_SYS_NICE } from '#dist/ffi/capabilities.js'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { checkHost, type Host, type HostCheck } from '#dist/src/devices/host.js'
import { need } from '../support/need.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'what is told is Linux’s'))

const folder = mkdtempSync(join(tmpdir(), 'speadcast-host-'))
afterAll(() => rmSync(folder, { recursive: true }))
let hosts = 0

interface Told {
  readonly files?: Readonly<Record<string, string>>
  readonly cpus?: readonly number[]
  readonly clock?: Partial<ReturnType<Host['clock']>> | 'untold'
  readonly has?: readonly number[]
  readonly rtprio?: number
  readonly memlock?: number
  readonly interfaces?: readonly string[]
}

function look(told: Told): Record<string, HostCheck> {
  const root = join(folder, `${hosts++}`)
  for (const [name, text] of Object.entries(told.files ?? {})) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  const host: Host = {
    sysfs: join(root, 'sys'),
    sysctl: join(root, 'sysctl'),
    cpus: () => told.cpus ?? [0, 1],
    clock: () => {
      if (told.clock === 'untold') throw new Error('adjtimex failed')
      return { synchronised: true, taiOffsetSeconds: 37, maxErrorSeconds: 0.0005, leapSeconds: 0, ...told.clock }
    },
    has: (capability) => told.has?.includes(capability) ?? false,
    limit: (name) => (name === 'Max locked memory' ? told.memlock : told.rtprio),
  }
  return Object.fromEntries(checkHost(told.interfaces ?? [], host).map((check) => [check.name, check]))
}

const CPU = 'sys/devices/system/cpu'
const governors = (...names: string[]) =>
  Object.fromEntries(names.map((name, cpu) => [`${CPU}/cpu${cpu}/cpufreq/scaling_governor`, `${name}\n`]))
const TWO_NODES = {
  'sys/devices/system/node/online': '0-1\n',
  'sys/devices/system/node/node0/cpulist': '0-3\n',
  'sys/devices/system/node/node1/cpulist': '4-7\n',
  'sys/class/net/eth0/device/numa_node': '0\n',
  'sys/class/net/eth1/device/numa_node': '1\n',
  'sys/class/net/eth2/device/numa_node': '-1\n',
}
const ONE_GIB = 'sys/kernel/mm/hugepages/hugepages-1048576kB'
const TWO_MIB = 'sys/kernel/mm/hugepages/hugepages-2048kB'
const THP = 'sys/kernel/mm/transparent_hugepage/enabled'
const pool = (name: string, all: number, free: number) => ({
  [`${name}/nr_hugepages`]: `${all}\n`,
  [`${name}/free_hugepages`]: `${free}\n`,
})

const CASES: readonly (readonly [what: string, check: string, told: Told, state: HostCheck['state'], value: RegExp, remedy: RegExp])[] = [
  ['a fast governor', 'CPU governor', { files: governors('performance', 'performance') }, 'ok', /^performance$/, /^$/],
  ['a slow one', 'CPU governor', { files: governors('performance', 'powersave') }, 'warn', /^powersave on 1 of 2 CPUs$/, /^cpupower frequency-set -g performance$/],
  ['a slow one of a CPU that is not ours', 'CPU governor', { files: governors('performance', 'powersave'), cpus: [0] }, 'ok', /^performance$/, /^$/],
  ['no governor', 'CPU governor', {}, 'unknown', /^none$/, /^$/],
  ['no isolated CPU', 'isolated CPUs', { files: { [`${CPU}/isolated`]: '\n' } }, 'ok', /^none$/, /isolcpus=/],
  ['isolated CPUs', 'isolated CPUs', { files: { [`${CPU}/isolated`]: '2-3,6\n', [`${CPU}/nohz_full`]: '3\n' }, cpus: [0, 1, 2, 3] }, 'ok', /^isolcpus 2-3,6, nohz_full 3$/, /^give affinity 2-3$/],
  ['one node', 'NUMA nodes', { files: { 'sys/devices/system/node/online': '0\n' } }, 'ok', /^one$/, /^$/],
  ['the NIC’s node', 'NUMA nodes', { files: TWO_NODES, cpus: [4, 5], interfaces: ['eth1'] }, 'ok', /^eth1 on node 1; this process may run on node 1 of 0-1$/, /^$/],
  ['another node', 'NUMA nodes', { files: TWO_NODES, cpus: [0, 1], interfaces: ['eth1'] }, 'warn', /^eth1 on node 1; this process may run on node 0 of 0-1$/, /^give affinity 4-7, the CPUs of node 1; or numactl --cpunodebind=1 COMMAND$/],
  ['both nodes', 'NUMA nodes', { files: TWO_NODES, cpus: [0, 4], interfaces: ['eth0'] }, 'warn', /may run on node 0-1 of 0-1$/, /--cpunodebind=0/],
  ['a NIC without a node', 'NUMA nodes', { files: TWO_NODES, interfaces: ['eth2'] }, 'unknown', /may run on node 0 of 0-1$/, /^$/],
  ['NICs of two nodes', 'NUMA nodes', { files: TWO_NODES, interfaces: ['eth0', 'eth1'] }, 'unknown', /may run on node 0/, /^$/],
  ['huge pages', 'huge pages', { files: { ...pool(TWO_MIB, 512, 100), ...pool(ONE_GIB, 0, 0), [THP]: 'always madvise [never]\n' } }, 'ok', /^100 of 512 free, 2 MiB each; transparent ones: never$/, /^$/],
  ['transparent ones', 'huge pages', { files: { ...pool(TWO_MIB, 0, 0), [THP]: 'always [madvise] never\n' } }, 'ok', /^transparent ones: madvise$/, /^$/],
  ['huge pages all in use', 'huge pages', { files: { ...pool(TWO_MIB, 512, 0), [THP]: 'always madvise [never]\n' } }, 'warn', /^0 of 512 free/, /^sysctl -w vm\.nr_hugepages=/],
  ['huge pages of another size', 'huge pages', { files: { ...pool(ONE_GIB, 4, 4), [THP]: '[never]\n' } }, 'warn', /^4 of 4 free, 1024 MiB each; transparent ones: never$/, /nr_hugepages/],
  ['a large send buffer', 'net.core.wmem_max', { files: { 'sysctl/net/core/wmem_max': '4194304\n' } }, 'ok', /^4194304 bytes$/, /^$/],
  ['a small one', 'net.core.wmem_max', { files: { 'sysctl/net/core/wmem_max': '212992\n' } }, 'warn', /^212992 bytes$/, /^sysctl -w net\.core\.wmem_max=1048576$/],
  ['a small one with the right to more', 'net.core.wmem_max', { files: { 'sysctl/net/core/wmem_max': '212992\n' }, has: [CAP_NET_ADMIN] }, 'ok', /^212992 bytes$/, /^$/],
  ['none', 'net.core.wmem_max', {}, 'unknown', /^unknown$/, /^$/],
  ['a small receive buffer', 'net.core.rmem_max', { files: { 'sysctl/net/core/rmem_max': '4194304\n' } }, 'warn', /^4194304 bytes$/, /^sysctl -w net\.core\.rmem_max=67108864$/],
  ['a clock in step', 'clock', {}, 'ok', /^synchronised, off by 0\.5 ms at most$/, /^$/],
  ['a leap second', 'clock', { clock: { leapSeconds: 1 } }, 'ok', /; a leap second more at the end of the day$/, /^$/],
  ['a clock that nobody keeps', 'clock', { clock: { synchronised: false } }, 'warn', /^not synchronised$/, /timedatectl set-ntp true/],
  ['a clock that is not told', 'clock', { clock: 'untold' }, 'unknown', /^unknown$/, /^$/],
  ['TAI', 'TAI offset', {}, 'ok', /^37 s$/, /^$/],
  ['no TAI', 'TAI offset', { clock: { taiOffsetSeconds: 0 } }, 'warn', /^0 s$/, /leapsectz.*phc2sys/],
  ['TAI that is not told', 'TAI offset', { clock: 'untold' }, 'unknown', /^unknown$/, /^$/],
  ['the right to real time', 'real-time priority', { has: [CAP_SYS_NICE] }, 'ok', /^allowed by CAP_SYS_NICE$/, /^$/],
  ['a limit of it', 'real-time priority', { rtprio: 20 }, 'ok', /^allowed up to rr:20$/, /^$/],
  ['no limit to it', 'real-time priority', { rtprio: Number.POSITIVE_INFINITY }, 'ok', /^allowed up to rr:99$/, /^$/],
  ['no right', 'real-time priority', { rtprio: 0 }, 'warn', /^not allowed$/, /LimitRTPRIO.*SYS_NICE/],
  ['a right that is not told', 'real-time priority', {}, 'unknown', /^unknown$/, /^$/],
  ['memory that may be locked', 'locked memory', { memlock: Number.POSITIVE_INFINITY }, 'ok', /^any$/, /^$/],
  ['by right', 'locked memory', { memlock: 0, has: [CAP_IPC_LOCK] }, 'ok', /CAP_IPC_LOCK/, /^$/],
  ['little', 'locked memory', { memlock: 8 << 20 }, 'warn', /^8388608 bytes$/, /^ulimit -l unlimited/],
  ['not told', 'locked memory', {}, 'unknown', /^unknown$/, /^$/],
] // biome-ignore format: a table

test.for(CASES)('%s: %s', ([, name, told, state, value, remedy]) => {
  expect(look(told)[name]).toEqual({
    name,
    state,
    value: expect.stringMatching(value),
    reason: expect.any(String),
    remedy: expect.stringMatching(remedy),
  })
})

test('real-time threads are told the share of a CPU that the kernel leaves them', () => {
  const files = { 'sysctl/kernel/sched_rt_runtime_us': '950000\n', 'sysctl/kernel/sched_rt_period_us': '1000000\n' }
  expect(look({ files, rtprio: 5 })['real-time priority']!.reason).toBe('such threads get 95 % of a CPU at most')
  expect(look({ files: { ...files, 'sysctl/kernel/sched_rt_runtime_us': '-1\n' }, rtprio: 5 })['real-time priority']!.reason).toBe(
    '',
  )
})
