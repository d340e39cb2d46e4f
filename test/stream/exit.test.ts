// How a process, or a thread, with an open stream ends: at once when told to, by itself when nothing is under way, never stuck.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { datagramsOf, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { openReceivers } from '../support/receivers.js'

const INDEX = import.meta.resolve('speadcast')
const LINUX = process.platform === 'linux'

/** `now()` tells the parent when: hrtime is CLOCK_MONOTONIC, one for all processes. */
const HEAD = `
  import { readdirSync, writeSync } from 'node:fs'
  import { ItemGroup, openStream } from '${INDEX}'
  const now = () => writeSync(1, 'now ' + process.hrtime.bigint() + '\\n')
  const after = (ms, action) => setTimeout(action, ms)`

/** Twenty batches of a hundred single-packet heaps, 100 bytes of samples each, with `send` to send them all. */
const streamCode = (options: StreamOptions) => `
  const stream = await openStream(${JSON.stringify(options)})
  const items = new ItemGroup().add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [100] })
  const batches = Array.from({ length: 20 }, () => stream.createBatch({ items, heaps: 100 }))
  const send = () => batches.forEach((batch) => stream.send(batch))`

interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** From the last now() to the end of the process. */
  heldMs: number
}

/** Runs a module to its end; one that hangs is killed after ten seconds. `onReady` is called when it has written 'ready'. */
async function run(body: string, onReady?: (pid: number) => void): Promise<Ended> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', `${HEAD}\n${body}`], { stdio: ['ignore', 'pipe', 'pipe'] })
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

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const TO = '127.0.0.1:7148'
/** All that is sent takes three minutes. */
const RATE = { to: TO, rate: '2kB/s', descriptors: 'none' } as const
const STREAMS: readonly [string, StreamOptions, string][] = [
  ['udp, paced by a burst', { ...RATE, backend: 'udp' }, 'send()'],
  ['udp, paced packet by packet', { ...RATE, backend: 'udp', burstBytes: 1 }, 'send()'],
  ['udp, idle', { ...RATE, backend: 'udp' }, ''],
  ['udp, as fast as it can', { to: TO, backend: 'udp' }, 'void (async () => { for (let i = 0; ; i++) { const batch = batches[i % 20]; await batch.free; stream.send(batch) } })()'],
  ['udp inline', { ...RATE, backend: 'udp', thread: 'inline' }, 'send()'],
  ['dgram', { ...RATE, backend: 'dgram' }, 'send()'],
  ['memory', { ...RATE, backend: 'memory' }, 'send()'],
  ['four streams', { ...RATE, backend: 'udp' }, `send(); for (let i = 0; i < 3; i++) await openStream(${JSON.stringify({ ...RATE, backend: 'udp' })})`],
] // biome-ignore format: a table

describe('process.exit', () => {
  test.for(STREAMS)('keeps its code and is not held up: %s', { timeout: 60_000 }, async ([name, options, action], ctx) => {
    need(ctx, LINUX || options.backend !== 'udp', 'backend udp needs Linux')
    const exit = 'after(100, () => { now(); process.exit(7) })'
    const held: number[] = []
    const control: number[] = []
    for (let i = 0; i < 3; i++) {
      const ended = await run(`${streamCode(options)}\n${action}\n${exit}`)
      expect(ended).toMatchObject({ code: 7, signal: null, stdout: '', stderr: '' })
      held.push(ended.heldMs)
      const without = await run(exit)
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
    const ended = await run(`${streamCode(options)}\nsend(); await stream.flush(); now()`)
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
      const ended = await run(`${streamCode(options)}\nsend(); process.on('exit', () => console.log(stream.stats().heapsSent))`)
      expect(ended).toMatchObject({ code: 0, signal: null, stdout: '2000\n', stderr: '' })
      if (kind === 'pcap') expect(datagramsOf(readFileSync(options.pcapPath!))).toHaveLength(2000)
      else expect(await receivers.arrived(2000)).toHaveLength(2000)
    },
  )

  test('a failure that nobody looked at is no unhandled rejection', async () => {
    const refuse = "memory: { failAt: () => 101 }, to: '10.0.0.1:7148', backend: 'memory'"
    const code = streamCode({ to: TO }).replace(/openStream\(.*\)/, `openStream({ ${refuse} })`)
    expect(await run(`${code}\nsend()`)).toMatchObject({ code: 0, stdout: '', stderr: '' })
  })
})

describe('in trouble', () => {
  test.for(STREAMS.slice(0, 2))('an uncaught error ends the process: %s', async ([, options], ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const ended = await run(`${streamCode(options)}\nsend(); after(100, () => { now(); throw new Error('on purpose') })`)
    expect(ended).toMatchObject({ code: 1, signal: null, stderr: expect.stringMatching(/Error: on purpose/) })
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test('an unhandled rejection of the program’s own ends it too', async (ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const ended = await run(
      `${streamCode(STREAMS[0]![1])}\nsend(); after(100, () => { now(); void Promise.reject(new Error('on purpose')) })`,
    )
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/Error: on purpose/) })
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test.for(['SIGTERM', 'SIGINT'] as const)('%s does what it does to any process', async (signal, ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    let sentAt = 0
    const ended = await run(`${streamCode(STREAMS[0]![1])}\nsend(); after(100, () => console.log('ready'))`, (pid) => {
      sentAt = performance.now()
      process.kill(pid, signal)
    })
    expect(ended).toMatchObject({ code: null, signal, stderr: '' })
    expect(performance.now() - sentAt).toBeLessThan(1000)
  })
})

describe('a thread of the program with a stream of its own', () => {
  /** Runs a program whose worker thread has the stream; prints descriptors and threads of the process before and after it. */
  const program = (inWorker: string, inMain: string) => `
    import { Worker } from 'node:worker_threads'
    const descriptors = () => readdirSync('/proc/self/fd').length
    // The first worker costs a descriptor that is kept.
    await new Promise((resolve) => new Worker('', { eval: true }).once('exit', resolve))
    const before = descriptors()
    const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(
      `import { parentPort } from 'node:worker_threads'\n${HEAD}\n${inWorker}`,
    )})))
    worker.on('error', (error) => console.log('error ' + error.message))
    worker.on('exit', (code) => { console.log('ended ' + code + ', ' + (descriptors() - before) + ' descriptors more'); now() })
    ${inMain}`
  const paced = streamCode(STREAMS[0]![1])
  const inline = streamCode({ ...STREAMS[0]![1], thread: 'inline' })
  const busy = `${streamCode({ to: TO, backend: 'udp' })}\nparentPort.postMessage('up'); for (let i = 0; ; i++) { const batch = batches[i % 20]; await batch.free; stream.send(batch) }`
  const stay = "parentPort.postMessage('up'); setInterval(() => {}, 1000)"

  test.for([
    ['ends by itself', paced, /^ended 0, 0 /],
    ['ends by itself, inline', inline, /^ended 0, 0 /],
    ['ends when all is sent', `${streamCode({ to: TO, backend: 'udp', rate: '624kB/s' })}\nsend(); process.on('exit', () => writeSync(1, stream.stats().heapsSent + ' sent\\n'))`, /^20\d\d sent\nended 0, 0 /],
    ['calls process.exit', `${paced}\nsend(); after(100, () => process.exit(3))`, /^ended 3, 0 /],
    ['calls process.exit, inline', `${inline}\nsend(); after(100, () => process.exit(3))`, /^ended 3, 0 /],
    ['throws', `${paced}\nsend(); after(100, () => { throw new Error('on purpose') })`, /^error on purpose\nended 1, 0 /],
  ] as const)('%s: its descriptors are closed, the process goes on and ends', async ([, inWorker, expected], ctx) => {
    need(ctx, LINUX, 'counts through /proc')
    const ended = await run(program(inWorker, ''))
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '', stdout: expect.stringMatching(expected) })
    expect(ended.heldMs).toBeLessThan(1000)
  }) // biome-ignore format: a table

  test.for([
    ['paced', `${paced}\nsend(); ${stay}`],
    ['idle', `${paced}\n${stay}`],
    ['busy', busy],
    ['inline', `${inline}\nsend(); ${stay}`],
  ])('is terminated: %s', async ([name, inWorker], ctx) => {
    need(ctx, LINUX, 'counts through /proc')
    const main = `worker.once('message', () => after(100, async () => {
      const start = performance.now(); await worker.terminate(); console.log('in ' + (performance.now() - start) + ' ms') }))`
    const ended = await run(program(inWorker!, main))
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
    const [, descriptors, ms] = ended.stdout.match(/^ended 1, (\d+) descriptors more\nin ([\d.]+) ms\n$/)!
    console.log(`worker.terminate(), ${name}: ${Number(ms).toFixed(1)} ms, ${descriptors} descriptors left behind`)
    expect(Number(ms)).toBeLessThan(1000)
    expect(ended.heldMs).toBeLessThan(1000)
  })

  test('does not hold up process.exit of the main thread', async (ctx) => {
    need(ctx, LINUX, 'backend udp needs Linux')
    const main = "worker.once('message', () => after(100, () => { now(); process.exit(5) }))"
    const ended = await run(program(`${paced}\nsend(); ${stay}`, main))
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
  ])('waits for a full socket buffer and ends: %s, %s', async ([thread, how], ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    ns.tc('a', 'qdisc add dev v0 root tbf rate 1mbit burst 16000 limit 10000000')
    const options = {
      to: `${ns.addresses.b.v4}:7148`,
      backend: 'udp',
      thread,
      sendBufferBytes: 4608,
      segmentation: 'off',
      descriptors: 'none',
    }
    const action = { terminate: '', exit: 'process.exit(3)', throw: "throw new Error('on purpose')" }[how!]
    const inWorker = `${streamCode(options as StreamOptions)}\nsend(); after(300, () => { parentPort.postMessage(stream.stats().waits); ${action} })`
    const main = `worker.on('message', (waits) => { console.log(waits > 0); ${how === 'terminate' ? 'worker.terminate()' : ''} })`
    const { code, stdout } = await ns.exec('a', ['node', '--input-type=module', '-e', `${HEAD}\n${program(inWorker, main)}`])
    // The thread's message and its error come by different ways: either may be first.
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^true$/m) })
    expect(stdout).toMatch({ terminate: /ended 1/, exit: /ended 3, 0 /, throw: /error on purpose\n(true\n)?ended 1, 0 / }[how!]!)
  })
})
