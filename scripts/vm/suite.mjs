// The tests that need a kernel with RDMA: test/vm/*.guest.ts, by node's own runner, which starts in a tenth of vitest's time under
// emulation. They are compiled here and laid beside their sources in the guest, so that relative paths hold.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import ts from 'typescript'
import { at, Quit, ROOT, readJson, say, watchSignals } from '../lib/process.mjs'
import { extraPrograms } from './extras.mjs'
import { image } from './image.mjs'
import { inMachine } from './session.mjs'

const GUEST = '.guest.ts'
/** Timeout of a file, because node takes a file for a test too. */
const FILE_TIMEOUT_MS = 300_000
const DEADLINE_MS = 420_000

const files = (room, fits) =>
  readdirSync(at(room))
    .filter(fits)
    .map((name) => join(room, name))

function chosen(args) {
  const all = files('test/vm', (name) => name.endsWith(GUEST))
  const mine = args.length === 0 ? all : all.filter((file) => args.some((arg) => file.includes(relative(ROOT, join(ROOT, arg)))))
  if (mine.length > 0) return mine
  say(`none of test/vm/*${GUEST} matches ${args.join(' ')}`)
  throw new Quit(2)
}

function compiled(file) {
  const { compilerOptions } = ts.parseConfigFileTextToJson('tsconfig.json', readFileSync(at('tsconfig.json'), 'utf8')).config
  const options = {
    ...ts.convertCompilerOptionsFromJson(compilerOptions, ROOT).options,
    module: ts.ModuleKind.ESNext,
    sourceMap: false,
    inlineSourceMap: true,
  }
  return ts.transpileModule(readFileSync(at(file), 'utf8'), { compilerOptions: options, fileName: basename(file) }).outputText
}

/** Divides files into parts of about the same size, the largest file first: the time of a file goes roughly with its length. */
function divided(tests, parts) {
  const all = Array.from({ length: parts }, () => ({ bytes: 0, tests: [] }))
  const sized = tests.map((file) => ({ file, bytes: statSync(at(file)).size })).sort((a, b) => b.bytes - a.bytes)
  for (const { file, bytes } of sized) {
    const least = all.reduce((a, b) => (b.bytes < a.bytes ? b : a))
    least.bytes += bytes
    least.tests.push(file)
  }
  return all.map((part) => part.tests.sort())
}

/** One machine's run. Its output is held back until `turn`, so that the output of two machines does not mix. */
async function runTests({ guest }, tests, flags, turn) {
  const helper = (name) => name.endsWith('.ts') && !name.endsWith(GUEST) && !name.endsWith('.test.ts')
  const helpers = [...files('test/vm', helper), ...files('test/support', helper)]
  const js = (file) => file.replace(/\.ts$/, '.js')
  let counts = { passed: 0, failed: 0, skipped: 0 }
  const held = []
  let mayWrite = false
  const write = (stream) => (bytes) => (mayWrite ? stream.write(bytes) : held.push([stream, bytes]))
  const talking = turn.then(() => {
    mayWrite = true
    for (const [stream, bytes] of held) stream.write(bytes)
  })
  const status = await inMachine({
    argv: [
      'node',
      '--enable-source-maps',
      '--test',
      '--test-concurrency=1',
      `--test-timeout=${FILE_TIMEOUT_MS}`,
      '--test-reporter=./scripts/vm/reporter.mjs',
      ...flags,
      ...tests.map(js),
    ],
    prepare: ['cp -r /run/vm/compiled/. .', 'xargs rm -f </run/vm/extras', 'rxe up || exit 125'].join('\n'),
    deadlineMs: DEADLINE_MS,
    onStdout: write(process.stdout),
    onStderr: write(process.stderr),
    fill(folder) {
      writeFileSync(
        join(folder, 'extras'),
        extraPrograms(guest)
          .map((path) => `${path}\n`)
          .join(''),
      )
      for (const file of [...tests, ...helpers]) {
        const target = join(folder, 'compiled', js(file))
        mkdirSync(dirname(target), { recursive: true })
        writeFileSync(target, compiled(file))
      }
    },
    drain(folder) {
      const file = join(folder, 'counts.json')
      if (existsSync(file)) counts = readJson(file)
    },
  })
  await talking
  // A run that ended with no failed test (a hang, a crash of the kernel) must not read as a success.
  return { status, ...counts, failed: counts.failed || (status === 0 ? 0 : 1) }
}

/** The software NIC, for tests of what soft-RoCE has not: raw packets. Where it cannot be built they are skipped. */
function buildSoftnic() {
  const folder = at('.cache/vm-softnic')
  const { status } = spawnSync('make', ['-s', '-C', at('test/softnic'), `OUT=${folder}`], { stdio: 'ignore' })
  if (status !== 0) rmSync(folder, { recursive: true, force: true })
}

async function main(args) {
  const flags = args.filter((arg) => arg.startsWith('--'))
  const tests = chosen(args.filter((arg) => !arg.startsWith('--')))
  const made = await image()
  buildSoftnic()
  const parts = divided(tests, Math.min(tests.length, availableParallelism() > 1 ? 2 : 1))
  const runs = []
  for (const part of parts) runs.push(runTests(made, part, flags, runs.at(-1)?.catch(() => {}) ?? Promise.resolve()))
  const results = await Promise.all(runs)
  const sum = (name) => results.reduce((total, result) => total + result[name], 0)
  const counts = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') }
  if (process.env.SPEADCAST_COUNTS) writeFileSync(process.env.SPEADCAST_COUNTS, JSON.stringify(counts))
  console.log(`speadcast: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  const status = results.find((result) => result.status !== 0)?.status ?? 0
  return status || (counts.failed > 0 || counts.passed === 0 ? 1 : 0)
}

watchSignals()
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Quit)) throw error
  process.exitCode = error.status
}
