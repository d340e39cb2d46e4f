// What a bundler makes of a program that uses the packed and installed package: a copy that says what is wrong, or, where speadcast is left
// out of the bundle as the message says, a program that works.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { packedProject } from './packed.js'
import { ROOT, runIn } from './support.js'

const APP = `import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { ItemGroup, openStream } from 'speadcast'
import { listRdmaDevices } from 'speadcast/devices'
import { metrics } from 'speadcast/metrics'
import { openReceiver } from 'speadcast/receive'

const send = (options) => async () => {
  const stream = await openStream({ to: '127.0.0.1:7148', packetSizeBytes: 1472, ...options })
  const batch = stream.createBatch({ items: new ItemGroup().add({ name: 'samples', dtype: 'i1', shape: [8192] }), heaps: 2 })
  const { heaps } = await stream.send(batch)
  await stream.close()
  return stream.backend + ' ' + heaps
}
const receive = (options) => async () => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  const receiver = await openReceiver({ endpoints: '127.0.0.1:' + port, ...options })
  await receiver.close()
  return 'opened'
}
const ATTEMPTS = {
  auto: send({}),
  inline: send({ thread: 'inline' }),
  dgram: send({ backend: 'dgram' }),
  pcap: send({ backend: 'pcap', pcapPath: process.argv[2] }),
  receive: receive({}),
  receiveDgram: receive({ backend: 'dgram' }),
  devices: async () => listRdmaDevices({ library: 'libibverbs.so.1' }),
  metrics: async () => (/process_cpu_seconds_total \\d/.test(await metrics([], { process: true }).metrics()) ? 'read' : 'nothing'),
}
const run = async () => {
  const answers = {}
  let message
  for (const [name, attempt] of Object.entries(ATTEMPTS))
    answers[name] = await attempt().catch((error) => {
      if (error.code === 'ERR_SPEADCAST_BUNDLED') message ??= error.message
      return error.code
    })
  console.log(JSON.stringify({ answers, message }))
}
run()
`
const { directory, remove, ready, installed } = packedProject({ 'app.mjs': APP })
afterAll(remove)

const REFUSED = 'ERR_SPEADCAST_BUNDLED'
/** Where koffi is not found. The backends that need nothing beside them work. */
const NOTHING_BESIDE = {
  auto: REFUSED,
  inline: REFUSED,
  dgram: 'dgram 2',
  pcap: 'pcap 2',
  receive: REFUSED,
  receiveDgram: 'opened',
  devices: REFUSED,
  metrics: 'read',
}
/** ES modules find koffi in node_modules, and the files of threads nowhere. */
const KOFFI_FOUND = { ...NOTHING_BESIDE, inline: 'udp 2', devices: expect.not.stringContaining(REFUSED) }
const WORKS = { ...KOFFI_FOUND, auto: 'udp 2', receive: 'opened' }

type Format = 'esm' | 'cjs'

const BUNDLERS = {
  esbuild: (format: Format, out: string, more: readonly string[]) => [
    join(ROOT, 'node_modules/.bin/esbuild'),
    ...['app.mjs', '--bundle', '--platform=node', `--format=${format}`, '--log-level=error', `--outfile=${out}`, ...more],
  ],
  rolldown: (format: Format, out: string, more: readonly string[]) => [
    join(ROOT, 'node_modules/.bin/rolldown'),
    ...['app.mjs', '--platform=node', `--format=${format}`, '--entry-file-names', '[name].js', '--dir', join(out, '..'), ...more],
  ],
} as const
/** As the message says it, for the command line of each. */
const EXTERNAL = {
  esbuild: ['--external:speadcast'],
  rolldown: ['speadcast', 'speadcast/devices', 'speadcast/receive', 'speadcast/metrics'].flatMap((name) => ['--external', name]),
}

/** Bundles the program; returns the file that is made. */
function bundle(bundler: keyof typeof BUNDLERS, format: Format, more: readonly string[] = []): string {
  const folder = mkdtempSync(join(directory, 'out-'))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: format === 'esm' ? 'module' : 'commonjs' }))
  const out = join(folder, 'app.js')
  const [command, ...args] = BUNDLERS[bundler](format, out, more)
  const { status, stderr } = runIn(directory, command!, args)
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' })
  return out
}

function run(file: string): { answers: Record<string, string>; message?: string; said: string[] } {
  const { stdout, stderr } = runIn(join(file, '..'), process.execPath, [file, join(file, '../packets.pcap')])
  const said = stdout.trim().split('\n')
  expect(stderr).not.toContain('Invalid URL')
  return { ...JSON.parse(said.at(-1)!), said }
}

describe('a bundle', { timeout: 120_000 }, () => {
  test.for([
    ['esbuild', 'esm', KOFFI_FOUND],
    ['esbuild', 'cjs', NOTHING_BESIDE],
    ['rolldown', 'esm', KOFFI_FOUND],
    ['rolldown', 'cjs', KOFFI_FOUND],
  ] as const)('by %s as %s, with a copy of speadcast, says that it is one', ([bundler, format, answers], ctx) => {
    ready(ctx)
    need(ctx, process.platform === 'linux', 'elsewhere a sender needs nothing beside it')
    const said = run(bundle(bundler, format))
    expect(said.answers).toEqual(answers)
    expect(said.message).toContain('--external:speadcast')
    expect(said.message).toContain('the file that the I/O thread starts from')
    expect(said.message).toContain('docs/bundlers.md')
    expect(existsSync(join(installed, 'docs/bundlers.md'))).toBe(true)
  })

  test.for(['esbuild', 'rolldown'] as const)('by %s, carried to where nothing is installed, says so', (bundler, ctx) => {
    ready(ctx)
    need(ctx, process.platform === 'linux', 'elsewhere a sender needs nothing beside it')
    const elsewhere = mkdtempSync(join(tmpdir(), 'speadcast-carried-'))
    try {
      cpSync(join(bundle(bundler, 'esm'), '..'), elsewhere, { recursive: true })
      expect(run(join(elsewhere, 'app.js')).answers).toEqual(NOTHING_BESIDE)
    } finally {
      rmSync(elsewhere, { recursive: true })
    }
  })

  test.for([
    ['esbuild', 'esm'],
    ['esbuild', 'cjs'],
    ['rolldown', 'esm'],
    ['rolldown', 'cjs'],
  ] as const)('by %s as %s that leaves speadcast out works', ([bundler, format], ctx) => {
    ready(ctx)
    need(ctx, process.platform === 'linux', 'backend udp is for Linux')
    expect(run(bundle(bundler, format, EXTERNAL[bundler]))).toMatchObject({ answers: WORKS })
  })

  test('starts no file of the program that is called as one of ours', (ctx) => {
    ready(ctx)
    need(ctx, process.platform === 'linux', 'there are no threads elsewhere')
    const file = bundle('esbuild', 'esm')
    for (const name of ['worker.js', 'receiver-worker.js'])
      writeFileSync(join(file, '..', name), "console.log('a worker of the program')")
    const { answers, said } = run(file)
    expect({ auto: answers.auto, receive: answers.receive, lines: said.length }).toEqual({
      auto: REFUSED,
      receive: REFUSED,
      lines: 1,
    })
  })

  // webpack 5.113 does this to createRequire(import.meta.url)('koffi').
  test('with koffi’s code and without its binary says so', (ctx) => {
    ready(ctx)
    need(ctx, process.platform === 'linux', 'koffi is not used elsewhere')
    mkdirSync(join(directory, 'shim'), { recursive: true })
    writeFileSync(
      join(directory, 'shim/module.mjs'),
      "import * as koffi from 'koffi/indirect'\nexport const createRequire = () => () => ({ default: koffi.default })\n",
    )
    const more = ['--alias:node:module=./shim/module.mjs', '--external:koffi']
    const { answers } = run(bundle('esbuild', 'esm', more))
    expect(answers).toMatchObject({ inline: REFUSED, dgram: 'dgram 2', receive: REFUSED, devices: REFUSED })
  })
})
