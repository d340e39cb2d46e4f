/** Where threads run and when their turn comes: of processes of their own, as the kernel tells of each thread. */
import { spawnSync } from 'node:child_process'
import { getPriority } from 'node:os'
import { beforeEach, expect, test } from 'vitest'
import { getAffinity } from '#dist/ffi/affinity.js'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { cpuRanges } from '#dist/ffi/placement.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

beforeEach((ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'Linux’s scheduler')
  need(ctx, process.getuid?.() === 0, 'a priority takes root')
})

const SCHED_OTHER = 0
const SCHED_FIFO = 1
const SCHED_RR = 2

interface Said {
  readonly heaps: number
  readonly received: number
  readonly threads: readonly { name: string; nice: number; policy: number; level: number; cpus: string }[]
}

function send(how: { stream: object; receiver?: object; pin?: readonly number[]; hog?: number; batches: number }): Said {
  const [node, ...args] = programArgv('stream/placement', how)
  const { stdout, stderr, status } = spawnSync(node!, args, { encoding: 'utf8', timeout: 60_000 })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const said = JSON.parse(stdout) as Said
  expect(said.heaps).toBeGreaterThanOrEqual(8 * how.batches)
  expect(said.received).toBe(said.heaps)
  return said
}

const IO = 'speadcast I/O'
const RECEIVING = 'speadcast recv'

test('the I/O thread has a real-time priority, the receiving thread another, and no thread else has one', () => {
  const { threads } = send({ stream: { priority: 'rr:10' }, receiver: { priority: { policy: 'fifo', level: 20 } }, batches: 5 })
  expect(threads).toContainEqual(expect.objectContaining({ name: IO, policy: SCHED_RR, level: 10 }))
  expect(threads.filter(({ policy }) => policy !== SCHED_OTHER)).toHaveLength(2)
  expect(threads).toContainEqual(expect.objectContaining({ name: RECEIVING, policy: SCHED_FIFO, level: 20 }))
})

test('a nice value is of the I/O thread alone', () => {
  const { threads } = send({ stream: { priority: -7 }, receiver: { priority: 4 }, batches: 1 })
  const nice = Object.fromEntries(threads.map((thread) => [thread.name, thread.nice]))
  expect(nice).toEqual({ main: getPriority(), [IO]: -7, [RECEIVING]: 4 })
})

test('a pinned main thread leaves the other CPUs to the threads that it starts', (ctx) => {
  const cpus = getAffinity()
  need(ctx, cpus.length > 1, 'takes two CPUs')
  const rest = cpuRanges(cpus.slice(1))
  const { threads } = send({ stream: {}, pin: cpus.slice(0, 1), batches: 1 })
  expect(threads.find(({ name }) => name === 'main')!.cpus).toBe(`${cpus[0]}`)
  expect(threads.filter(({ name }) => name !== 'main').map((thread) => thread.cpus)).toEqual([rest, rest])
  const chosen = send({
    stream: { affinity: cpus.slice(0, 1) },
    receiver: { affinity: cpus.slice(1) },
    pin: cpus.slice(0, 1),
    batches: 1,
  })
  expect(chosen.threads.find(({ name }) => name === IO)!.cpus).toBe(`${cpus[0]}`)
  expect(chosen.threads).toContainEqual(expect.objectContaining({ name: RECEIVING, cpus: rest }))
})

test.for([{ rate: 0 }, { rate: '200Mbps' }])(
  'with a real-time priority, $rate, a hog and the main thread on its only CPU get on, and all heaps arrive',
  { timeout: 90_000 },
  ({ rate }) => {
    const [cpu] = getAffinity()
    const here = { affinity: [cpu!], priority: 'rr:10' }
    const { threads } = send({ stream: { ...here, rate }, receiver: { affinity: [cpu!] }, pin: [cpu!], hog: cpu!, batches: 200 })
    expect(threads).toContainEqual(expect.objectContaining({ name: IO, policy: SCHED_RR, cpus: `${cpu}` }))
  },
)
