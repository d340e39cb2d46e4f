// The tests that need a kernel with RDMA: test/vm/*.guest.ts, by node's own runner, which starts in a tenth of vitest's time under
// emulation. They are compiled here and laid beside their sources in the guest, so that relative paths hold.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import ts from 'typescript'
import { at, Quit, ROOT, readJson, say, watchSignals } from '../lib/process.mjs'
import { inMachine } from './session.mjs'

const GUEST = '.guest.ts'
/** Of a file: node takes it for a test too. */
const TEST_TIMEOUT_MS = 120_000
const DEADLINE_MS = 200_000

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

async function main(args) {
  const flags = args.filter((arg) => arg.startsWith('--'))
  const tests = chosen(args.filter((arg) => !arg.startsWith('--')))
  const helper = (name) => name.endsWith('.ts') && !name.endsWith(GUEST) && !name.endsWith('.test.ts')
  const helpers = [...files('test/vm', helper), ...files('test/support', helper)]
  const js = (file) => file.replace(/\.ts$/, '.js')
  let counts = { passed: 0, failed: 0, skipped: 0 }
  const status = await inMachine({
    argv: [
      'node',
      '--enable-source-maps',
      '--test',
      '--test-concurrency=1',
      `--test-timeout=${TEST_TIMEOUT_MS}`,
      '--test-reporter=./scripts/vm/reporter.mjs',
      ...flags,
      ...tests.map(js),
    ],
    prepare: `cp -r /run/vm/compiled/. .\nrxe up || exit 125`,
    deadlineMs: DEADLINE_MS,
    fill(folder) {
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
  if (process.env.SPEADCAST_COUNTS) writeFileSync(process.env.SPEADCAST_COUNTS, JSON.stringify(counts))
  console.log(`speadcast: ${counts.passed} passed, ${counts.failed || (status === 0 ? 0 : 1)} failed, ${counts.skipped} skipped`)
  return status || (counts.failed > 0 || counts.passed === 0 ? 1 : 0)
}

watchSignals()
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Quit)) throw error
  process.exitCode = error.status
}
