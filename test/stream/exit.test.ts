// How a process, or a thread, with an open stream ends: at once when told to, by itself when nothing is under way, never stuck.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { datagramsOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'
import { openReceivers } from '../support/receivers.js'
import type { Plan } from './exit.program.js'
import type { How } from './exit-thread.program.js'

const LINUX = process.platform === 'linux'

interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** From the last now() to the end of the process. */
  heldMs: number
}

/** Runs a program to its end; one that hangs is killed after ten seconds. `onReady` is called when it has written 'ready'. */
async function run([command, ...args]: readonly string[], onReady?: (pid: number) => void): Promise<Ended> {
  const child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
  let stdout = ''
  let stderr = ''
  let told = false
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    if (told || !stdout.includes('ready')) return
    told = true
    onReady?.(child.pid!)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  let endedAt = 0n
  child.once('exit', () => {
    endedAt = process.hrtime.bigint()
  })
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (...how) => resolve(how))
  })
  clearTimeout(timer)
  const saidAt = [...stdout.matchAll(/^now (\d+)$/gm)].at(-1)?.[1]
  const heldMs = saidAt === undefined ? Number.NaN : Number(endedAt - BigInt(saidAt)) / 1e6
  return { code, signal, stdout: stdout.replace(/^now \d+\n/gm, ''), stderr, heldMs }
}

const runPlan = (plan: Plan, onReady?: (pid: number) => void): Promise<Ended> => run(programArgv('stream/exit', plan), onReady)

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const TO = '127.0.0.1:7148'
/** All that is sent takes three minutes. */
const RATE = { to: TO, rate: '2kB/s', descriptors: 'none' } as const
const PACED: Plan = { options: { ...RATE, backend: 'udp' }, send: 'once' }
const STREAMS: readonly (readonly [string, Plan])[] = [
  ['udp, paced by a burst', PACED],
  ['udp, paced packet by packet', { options: { ...RATE, backend: 'udp', burstBytes: 1 }, send: 'once' }],
  ['udp, idle', { options: { ...RATE, backend: 'udp' } }],
  ['udp, as fast as it can', { options: { to: TO, backend: 'udp' }, send: 'forever' }],
  ['udp inline', { options: { ...RATE, backend: 'udp', thread: 'inline' }, send: 'once' }],
  ['dgram', { options: { ...RATE, backend: 'dgram' }, send: 'once' }],
  ['memory', { options: { ...RATE, backend: 'memory' }, send: 'once' }],
  ['four streams', { options: { ...RATE, backend: 'udp' }, send: 'once', streams: 4 }],
]

describe('process.exit', () => {
  test.for(STREAMS)('keeps its code and is not held up: %s', { timeout: 60_000 }, async ([name, plan], ctx) => {
    need(ctx, LINUX || plan.options!.backend !== 'udp', 'backend udp needs Linux')
    const held: number[] = []
    const control: number[] = []
    for (let i = 0; i < 3; i++) {
      const ended = await runPlan({ ...plan, end: 'exit' })
      expect(ended).toMatchObject({ code: 7, signal: null, stdout: '', stderr: '' })
      held.push(ended.heldMs)
      const without = await runPlan({ end: 'exit' })
      expect(without).toMatchObject({ code: 7, stderr: '' })
      control.push(without.heldMs)
    }
    console.log(
      `process.exit, ${name}: ${median(held).toFixed(1)} ms (at most ${Math.max(...held).toFixed(1)}), ` +
        `without a stream ${median(control).toFixed(1)} ms`,
    )
    expect(Math.max(...held)).toBeLessThan(1000)
  })
})

describe('by itself', () => {
  test.for(['udp', 'udp inline', 'dgram', 'memory'])('a process with an idle open stream ends: %s', async (kind, ctx) => {
    need(ctx, LINUX || !kind.startsWith('udp'), 'backend udp needs Linux')
    const [backend, thread] = kind.split(' ') as ['udp', 'inline' | undefined]
    const options = { to: TO, backend, ...(thread && { thread }) }
    const ended = await runPlan({ options, send: 'once', end: 'flush' })
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: '', stderr: '' })
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test.for(['udp', 'udp inline', 'dgram', 'pcap'])(
    'a process ends when all it sent is out, though nobody waits: %s',
    async (kind, ctx) => {
      need(ctx, LINUX || !kind.startsWith('udp'), 'backend udp needs Linux')
      const receivers = await openReceivers(1)
      onTestFinished(() => receivers.close())
      const [backend, thread] = kind.split(' ') as ['udp', 'inline' | undefined]
      const options = {
        to: receivers.endpoints[0]!.text,
        backend,
        // 2000 packets of 156 bytes: a second.
        rate: '312kB/s',
        burstBytes: 1560,
        descriptors: 'none',
        ...(thread && { thread }),
        ...(kind === 'pcap' && { pcapPath: join(temporaryFolder(), 'x.pcap') }),
      } as const
      const ended = await runPlan({ options, send: 'once', end: 'count' })
      expect(ended).toMatchObject({ code: 0, signal: null, stdout: '2000 sent\n', stderr: '' })
      if (kind === 'pcap') expect(datagramsOf(readFileSync(options.pcapPath!))).toHaveLength(2000)
      else expect(await receivers.arrived(2000)).toHaveLength(2000)
    },
  )

  test('a failure that nobody looked at is no unhandled rejection', async () => {
    const plan: Plan = { options: { to: '10.0.0.1:7148', backend: 'memory' }, errno: 101, send: 'once' }
    expect(await runPlan(plan)).toMatchObject({ code: 0, stdout: '', stderr: '' })
  })
})

describe('in trouble', () => {
  test.for(STREAMS.slice(0, 2))('an uncaught error ends the process: %s', async ([, plan], ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const ended = await runPlan({ ...plan, end: 'throw' })
    expect(ended).toMatchObject({ code: 1, signal: null, stderr: expect.stringMatching(/Error: on purpose/) })
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test('an unhandled rejection of the program’s own ends it too', async (ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const ended = await runPlan({ ...PACED, end: 'reject' })
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/Error: on purpose/) })
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test.for(['SIGTERM', 'SIGINT'] as const)('%s does what it does to any process', async (signal, ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    let sentAt = 0
    const ended = await runPlan({ ...PACED, end: 'stay' }, (pid) => {
      sentAt = performance.now()
      process.kill(pid, signal)
    })
    expect(ended).toMatchObject({ code: null, signal, stderr: '' })
    expect(performance.now() - sentAt).toBeLessThan(1000)
  })
})

describe('a thread of the program with a stream of its own', () => {
  const program = (plan: Plan, how: How) => programArgv('stream/exit-thread', plan, how)
  const idle: Plan = { options: PACED.options! }
  const inline: Plan = { options: { ...PACED.options!, thread: 'inline' }, send: 'once' }
  const all: Plan = { options: { to: TO, backend: 'udp', rate: '624kB/s' }, send: 'once' }
  const busy: Plan = { options: { to: TO, backend: 'udp' }, send: 'forever' }

  test.for([
    ['ends by itself', idle, /^ended 0, 0 /],
    ['ends by itself, inline', { options: inline.options! }, /^ended 0, 0 /],
    ['ends when all is sent', { ...all, end: 'count' }, /^20\d\d sent\nended 0, 0 /],
    ['calls process.exit', { ...PACED, end: 'exit', code: 3 }, /^ended 3, 0 /],
    ['calls process.exit, inline', { ...inline, end: 'exit', code: 3 }, /^ended 3, 0 /],
    ['throws', { ...PACED, end: 'throw' }, /^error on purpose\nended 1, 0 /],
  ] as [string, Plan, RegExp][])(
    '%s: its descriptors are closed, the process goes on and ends',
    async ([, plan, expected], ctx) => {
      need(ctx, LINUX, 'counts through /proc')
      const ended = await run(program(plan, 'wait'))
      expect(ended).toMatchObject({ code: 0, signal: null, stderr: '', stdout: expect.stringMatching(expected) })
      expect(ended.heldMs).toBeLessThan(1000)
    },
  )

  test.for([
    ['paced', PACED],
    ['idle', idle],
    ['busy', busy],
    ['inline', inline],
  ] as const)('is terminated: %s', async ([name, plan], ctx) => {
    need(ctx, LINUX, 'counts through /proc')
    const ended = await run(program({ ...plan, end: 'stay', afterMs: 0 }, 'terminate'))
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
    const [, descriptors, ms] = ended.stdout.match(/^waited: (?:true|false)\nended 1, (\d+) descriptors more\nin ([\d.]+) ms\n$/)!
    console.log(`worker.terminate(), ${name}: ${Number(ms).toFixed(1)} ms, ${descriptors} descriptors left behind`)
    expect(Number(ms)).toBeLessThan(1000)
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test('does not hold up process.exit of the main thread', async (ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const ended = await run(program({ ...PACED, end: 'stay', afterMs: 0 }, 'exit'))
    expect(ended).toMatchObject({ code: 5, signal: null, stderr: '' })
    console.log(`process.exit, stream in a worker: ${ended.heldMs.toFixed(1)} ms`)
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test.for([
    ['worker', 'terminate'],
    ['worker', 'exit'],
    ['inline', 'terminate'],
    ['inline', 'exit'],
    ['inline', 'throw'],
  ] as const)('waits for a full socket buffer and ends: %s, %s', async ([thread, how], ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    ns.tc('a', 'qdisc add dev v0 root tbf rate 1mbit burst 16000 limit 10000000')
    const options: StreamOptions = {
      to: `${ns.addresses.b.v4}:7148`,
      backend: 'udp',
      thread,
      sendBufferBytes: 4608,
      segmentation: 'off',
      descriptors: 'none',
    }
    const plan: Plan = {
      options,
      send: 'once',
      end: how === 'terminate' ? 'stay' : how,
      onceWaiting: true,
      code: 3,
    }
    const { code, stdout } = await ns.exec('a', program(plan, how === 'terminate' ? how : 'tell'))
    // The thread's message and its error come by different ways: either may be first.
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^waited: true$/m) })
    expect(stdout).toMatch(
      { terminate: /ended 1/, exit: /ended 3, 0 /, throw: /error on purpose\n(waited: true\n)?ended 1, 0 / }[how],
    )
  })
})
