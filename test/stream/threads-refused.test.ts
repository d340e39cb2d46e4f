// Threads that cannot be had: limits of setrlimit(2), Node's permission model. Every error has our code, nothing is left open.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

type Result = {
  name?: string
  code?: string
  message?: string
  backend?: string
  reason?: string
  bytes?: number
  backendReason?: string
}
type Told = Record<string, Result> & { leaked: number }

function limited(before: readonly string[], flags: readonly string[], calls: readonly string[]): Told {
  const [node, ...program] = programArgv('stream/threads-refused', ...calls)
  const [command, ...args] = [...before, node!, ...flags, ...program]
  const { stdout, stderr, status, signal } = spawnSync(command!, args, { encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL' })
  if (status !== 0) throw new Error(`ended with ${status ?? signal}: ${stderr}${stdout}`)
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Told
}

/** A user of its own, so that nobody else's threads count against the limit that the script sets itself. */
function fewThreads(): readonly string[] {
  const uid = 2_000_000 + process.pid
  return ['env', 'NO_MORE_THREADS=1', 'setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
}

const CALLS = ['auto', 'paced', 'worker', 'affinity', 'dgram', 'ioThread', 'receive', 'receiveNative', 'receiveDgram']

function expectRefusal(told: Told, why: RegExp): void {
  const refused = (instead: RegExp) => ({
    name: 'SpeadcastError',
    code: 'ERR_SPEADCAST_WORKER',
    message: expect.stringMatching(new RegExp(`${why.source}.*${instead.source}`)),
  })
  const inline = /or send from this one \(thread: 'inline', --thread inline\)/
  expect(told).toEqual({
    auto: {
      backend: 'udp',
      evidence: 'accepted',
      reason: expect.stringMatching(new RegExp(`; sent from the event loop: an I/O ${why.source}`)),
    },
    paced: {
      backend: 'udp',
      evidence: 'accepted',
      reason: expect.stringMatching(new RegExp(`; sent from the event loop: an I/O ${why.source}`)),
    },
    worker: refused(inline),
    affinity: refused(inline),
    dgram: { backend: 'dgram', evidence: 'accepted', reason: 'asked for' },
    ioThread: refused(inline),
    receive: { backend: 'dgram', backendReason: expect.stringMatching(why), bytes: 1024 },
    receiveNative: refused(/or receive in this one \(backend 'dgram', --backend dgram\)/),
    receiveDgram: { backend: 'dgram', backendReason: 'asked for', bytes: 1024 },
    leaked: 0,
  })
}

test('no thread more (RLIMIT_NPROC): auto sends and receives in the event loop, by name it says what to raise', (ctx) => {
  need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'takes root, to be a user of its own')
  const told = limited(fewThreads(), [], CALLS)
  expectRefusal(told, /thread cannot be started \(ERR_WORKER_INIT_FAILED: EAGAIN\); raise the limit of threads \(ulimit -u/)
})

test('Node’s permission model without --allow-worker', (ctx) => {
  const flag = ['--permission', '--experimental-permission'].find((name) => process.allowedNodeEnvironmentFlags.has(name))
  need(ctx, flag, 'this Node has no permission model')
  const allowed = ['--allow-fs-read=*', '--allow-fs-write=*', '--allow-addons', '--allow-net'].filter((name) =>
    process.allowedNodeEnvironmentFlags.has(name.split('=')[0]!),
  )
  const told = limited([], [flag, ...allowed], CALLS)
  if (told.auto!.backend === 'udp') expectRefusal(told, /thread cannot be started \(.*\); start node with --allow-worker/)
  // Node 20 has no --allow-addons at first: then koffi cannot be loaded.
  else expect(told).toMatchObject({ auto: { backend: 'dgram' }, receive: { backend: 'dgram', bytes: 1024 }, leaked: 0 })
})
