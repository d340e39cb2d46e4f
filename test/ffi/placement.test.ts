/** CPUs and priorities as users give them, and what the kernel makes of them in a process of their own. */
import { spawnSync } from 'node:child_process'
import { beforeEach, describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { cpuRanges, cpusOf, priorityOf } from '#dist/ffi/placement.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

describe('what is given', () => {
  test.for([
    [-20, -20],
    [0, 0],
    [19, 19],
    ['rr:1', { policy: 'rr', level: 1 }],
    ['fifo:99', { policy: 'fifo', level: 99 }],
    [
      { policy: 'rr', level: 50 },
      { policy: 'rr', level: 50 },
    ],
  ] as const)('%o is a priority', ([given, priority]) => {
    expect(priorityOf(given)).toEqual(priority)
  })

  test.for([
    [-21],
    [20],
    [0.5],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    ['5'],
    ['rr'],
    ['rr:0'],
    ['rr:100'],
    ['rr:1.5'],
    ['rr:-1'],
    ['RR:10'],
    ['other:5'],
    [''],
    [{}],
    [{ policy: 'rr' }],
    [{ policy: 'rr', level: '5' }],
    [{ policy: 'rr', level: 5, nice: 3 }],
    [{ policy: 'batch', level: 5 }],
    [['rr', 5]],
    [null],
    [true],
    [5n],
    [() => 5],
  ])('%o is none', ([given]) => {
    expect(priorityOf(given)).toBeUndefined()
  })

  test('an object whose accessor throws is none', () => {
    const hostile = Object.defineProperty({ level: 5 }, 'policy', {
      enumerable: true,
      get() {
        throw new Error('no')
      },
    })
    expect(priorityOf(hostile)).toBeUndefined()
  })

  test('CPUs come in order, once each', () => {
    expect(cpusOf([3, 0, 3, 1023])).toEqual([0, 3, 1023])
    expect(cpusOf([])).toEqual([])
    for (const list of [[-1], [1024], [1e9], [0.5], [Number.NaN], ['0'], [null], undefined]) expect(cpusOf(list)).toBeUndefined()
  })

  test('and are written as the kernel does', () => {
    expect(cpuRanges([0, 1, 2, 3, 8, 10, 11])).toBe('0-3,8,10-11')
    expect(cpuRanges([])).toBe('')
  })
})

describe('in a process', () => {
  beforeEach((ctx) => {
    need(ctx, process.platform === 'linux' && nativeCallsWork(), 'Linux’s scheduler')
    need(ctx, process.getuid?.() === 0, 'real-time priorities and their loss take root')
  })

  /** Runs the program under a command; what it says, each line an object. */
  function said(under: readonly string[], ...args: readonly unknown[]): unknown[] {
    const [command, ...rest] = [...under, ...programArgv('ffi/placement', ...args)]
    const { stdout, stderr, status } = spawnSync(command!, rest, { encoding: 'utf8' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  }
  const WITHOUT_RIGHT = ['setpriv', '--bounding-set=-sys_nice']

  test.for(['rr', 'fifo'] as const)('%s: the thread has it, and a thread that it starts has not', (policy) => {
    expect(said([], { priority: { policy, level: 7 } })).toEqual([
      { policy, level: 7, resetOnFork: true },
      { policy: 'other', level: 0, resetOnFork: false },
    ])
  })

  test('without CAP_SYS_NICE the error names it, the limit, and what gives them', () => {
    const [refusal] = said(WITHOUT_RIGHT, { priority: { policy: 'rr', level: 10 } })
    expect(refusal).toEqual({
      code: 'ERR_SPEADCAST_CONFIG',
      message: expect.stringMatching(
        /^priority: this process may not have 'rr:10' \(sched_setscheduler failed: EPERM .*CAP_SYS_NICE \(setcap .*AmbientCapabilities.*--cap-add SYS_NICE.*ulimit -r 10.*LimitRTPRIO=10.*--ulimit rtprio=10/,
      ),
    })
  })

  test('CPUs outside are refused with those inside, and nothing has changed; threads of a pinned one keep the rest', (ctx) => {
    const [all] = said([], {}) as [{ cpus: number[] }]
    need(ctx, all.cpus.length > 1, 'takes two CPUs')
    const [first, second] = all.cpus
    const beyond = Math.max(...all.cpus) + 1
    expect(said([], { affinity: [first, beyond] })).toEqual([
      {
        code: 'ERR_SPEADCAST_CONFIG',
        message: `affinity: CPU ${beyond} of ${cpuRanges([first!, beyond])} may not be used here (offline, or not in the cpuset); this process may use CPUs ${cpuRanges(all.cpus)}, as the cpuset of its cgroup says`,
      },
      { cpus: all.cpus },
    ])
    // taskset(1) narrows what a process has, and not what it may have.
    expect(said(['taskset', '-c', `${first}`], { affinity: [second] })).toEqual([{ cpus: [second] }])
    expect(said([], { pinned: [first] })).toEqual([{ cpus: [first] }, { others: all.cpus.slice(1) }])
    expect(said([], { pinned: all.cpus })).toEqual([{ cpus: all.cpus }, { others: all.cpus }])
    // Pinned again, it leaves to the others what it had at first.
    expect(said([], { pinned: [first], again: [second] }).at(-1)).toEqual({ others: all.cpus.filter((cpu) => cpu !== second) })
  })
})
