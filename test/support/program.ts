/**
 * Programs that tests run in processes and threads of their own: `test/ROOM/NAME.program.ts`, checked as the tests are.
 *
 *     const { stdout } = await runProgram('stream/reopen', 'opened')
 *     new Worker(programFile('batch/fill'), { workerData })
 *
 * Node 20 runs no TypeScript, and a loader would be a thread more in processes whose threads are counted. So a program is transpiled
 * before it starts, into a tree of the same shape, where `#dist/…` means what it means here.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Ended, runToEnd } from './child.js'

const TESTS = fileURLToPath(new URL('..', import.meta.url))
const OUT = fileURLToPath(new URL('../../.cache/programs', import.meta.url))
/** Modules of the tests that a transpiled one imports or starts a thread of. */
const LOCAL = /(?:\bfrom |\bimport |new URL\()'(\.[^']*)\.js'/g

const ready = new Set<string>()

function transpile(source: string): string {
  // It takes 0.3 s to load, which a test whose programs are unchanged does not need.
  const ts = createRequire(import.meta.url)('typescript') as typeof import('typescript')
  const compilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true }
  return ts.transpileModule(source, { compilerOptions }).outputText
}

/** Several test files may do it at once, so it is renamed into place. */
function emit(name: string): void {
  if (ready.has(name)) return
  ready.add(name)
  const source = readFileSync(join(TESTS, `${name}.ts`), 'utf8')
  const stamp = `// ${createHash('sha256').update(source).digest('hex')}\n`
  const file = join(OUT, `${name}.js`)
  let code = existsSync(file) ? readFileSync(file, 'utf8') : ''
  if (!code.endsWith(stamp)) {
    code = transpile(source) + stamp
    mkdirSync(dirname(file), { recursive: true })
    const temporary = `${file}.${process.pid}`
    writeFileSync(temporary, code)
    renameSync(temporary, file)
  }
  for (const [, local] of code.matchAll(LOCAL)) emit(join(dirname(name), local!))
}

/** The file that node runs for `test/NAME.program.ts`. */
export function programFile(name: string): string {
  emit(`${name}.program`)
  return join(OUT, `${name}.program.js`)
}

/** The command that runs a program. Arguments that are no strings are handed over as JSON. */
export const programArgv = (name: string, ...args: readonly unknown[]): string[] => [
  process.execPath,
  programFile(name),
  ...args.map((arg) => (typeof arg === 'string' ? arg : JSON.stringify(arg))),
]

/** Runs a program to its end; it is killed after ten seconds. */
export const runProgram = (name: string, ...args: readonly unknown[]): Promise<Ended> => runToEnd(programArgv(name, ...args))
