// `npm test` from nothing, in a small copy of this project: the real packages are installed, the real compiler and vitest run.
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Finished, plainEnv, project, ROOT, runIn } from './support.js'

const GREEN = `import { answer } from '#dist/src/answer.js'
import { expect, test } from 'vitest'
test('the built answer', () => expect(answer).toBe(42))
`
const { directory, remove } = project({
  'src/answer.ts': 'export const answer: number = 42\n',
  'src/old.ts': 'export const old: number = 1\n',
  'test/green.test.ts': GREEN,
  'rolldown.config.mjs': "export default { input: { answer: 'src/answer.ts' } }\n",
})

/** In place of the man pages of a command line, which this project has not. */
const MANUAL = `import { mkdirSync, writeFileSync } from 'node:fs'
mkdirSync(process.argv[2])
writeFileSync(process.argv[2] + '/answer.1', String((await import('../dist/src/answer.js')).answer))
`

/** The peer is left out (SPEADCAST_TEST_PYTHON names one, so none is set up): it is not what is tested here. */
const ENV = { SPEADCAST_TEST_PYTHON: '/nonexistent' }

const npmTest = (...args: string[]) => runIn(directory, process.execPath, ['scripts/bootstrap.mjs', 'test', ...args], ENV)
const lastLine = ({ stdout }: { stdout: string }) => stdout.trimEnd().split('\n').at(-1)

function npmTestConcurrently(): Promise<Finished> {
  const child = spawn(process.execPath, ['scripts/bootstrap.mjs', 'test'], {
    cwd: directory,
    env: plainEnv(ENV),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, stdout, stderr })))
}

/** How often each message was said. */
const count = (runs: readonly Finished[], text: string) =>
  runs.map(({ stderr }) => stderr.split(text).length - 1).reduce((a, b) => a + b)

let fresh: Finished[]

beforeAll(async () => {
  for (const file of ['package.json', 'package-lock.json', 'tsconfig.json', 'vitest.config.ts'])
    cpSync(join(ROOT, file), join(directory, file))
  cpSync(join(ROOT, 'scripts'), join(directory, 'scripts'), { recursive: true })
  writeFileSync(join(directory, 'scripts/man-pages.mjs'), MANUAL)
  mkdirSync(join(directory, 'ffi'))
  // A lock left by a process that is gone must not be waited for.
  mkdirSync(join(directory, '.cache/bootstrap.lock'), { recursive: true })
  writeFileSync(join(directory, '.cache/bootstrap.lock/gone'), 'left by a crash')
  fresh = await Promise.all([npmTestConcurrently(), npmTestConcurrently(), npmTestConcurrently()])
}, 180_000)
afterAll(remove)

describe('the bootstrap', { timeout: 120_000 }, () => {
  test('three at once in a fresh clone: one installs and builds, all pass', () => {
    for (const { status, stdout, stderr } of fresh)
      expect({ status, last: lastLine({ stdout }), stderr: status === 0 ? '' : stderr }).toEqual({
        status: 0,
        last: 'speadcast: 1 passed, 0 failed, 0 skipped',
        stderr: '',
      })
    expect(count(fresh, 'installing packages')).toBe(1)
    expect(count(fresh, 'built dist/ in')).toBe(1)
    expect(count(fresh, 'built lib/ in')).toBe(1)
    expect(count(fresh, 'built man/ in')).toBe(1)
    expect(readFileSync(join(directory, 'lib/answer.js'), 'utf8')).toContain('answer = 42')
    expect(existsSync(join(directory, '.cache/bootstrap.lock'))).toBe(false)
  })

  test('a second run makes nothing', () => {
    const { status, stderr } = npmTest()
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })

  test('an install that npm made itself is taken as it is', () => {
    const stamp = join(directory, 'node_modules/.stamp')
    const before = readFileSync(stamp, 'utf8')
    rmSync(stamp)
    const { status, stderr } = npmTest()
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(readFileSync(stamp, 'utf8')).toBe(before)
  })

  test('an edit is built, what lost its source goes, what did not change stays', () => {
    const unchanged = join(directory, 'dist/src/answer.d.ts')
    const { mtimeMs } = statSync(unchanged)
    writeFileSync(join(directory, 'src/answer.ts'), 'export const answer: number = 43\n')
    rmSync(join(directory, 'src/old.ts'))
    const { status, stdout } = npmTest()
    expect(status).toBe(1)
    expect(lastLine({ stdout })).toBe('speadcast: 0 passed, 1 failed, 0 skipped')
    expect(existsSync(join(directory, 'dist/src/old.js'))).toBe(false)
    expect(statSync(unchanged).mtimeMs).toBe(mtimeMs)
    expect(readFileSync(join(directory, 'lib/answer.js'), 'utf8')).toContain('answer = 43')
    expect(readFileSync(join(directory, 'man/answer.1'), 'utf8')).toBe('43')
  })

  test('what was built by hand since is built again', () => {
    writeFileSync(join(directory, 'src/answer.ts'), 'export const answer: number = 42\n')
    expect(npmTest().status).toBe(0)
    writeFileSync(join(directory, 'dist/src/answer.js'), 'export const answer = 44\n')
    writeFileSync(join(directory, 'lib/answer.js'), 'export const answer = 44\n')
    expect(npmTest().status).toBe(0)
    expect(readFileSync(join(directory, 'lib/answer.js'), 'utf8')).toContain('answer = 42')
  })

  test('SIGTERM in the middle of the setup ends it, gives the lock back and leaves nothing half-made', async () => {
    for (const folder of ['dist', 'lib', 'man']) rmSync(join(directory, folder), { recursive: true })
    const child = spawn(process.execPath, ['scripts/bootstrap.mjs', 'build'], {
      cwd: directory,
      env: plainEnv(ENV),
      stdio: 'ignore',
    })
    const ended = new Promise((resolve) => child.on('close', (status, signal) => resolve(status ?? signal)))
    while (!existsSync(join(directory, '.cache/bootstrap.lock')) && child.exitCode === null) await sleep(5)
    child.kill('SIGTERM')
    expect(await ended).toBe(128 + 15)
    const left = ['.cache/bootstrap.lock', '.dist-next', 'dist', '.lib-next', 'lib', '.man-next', 'man']
    expect(left.filter((name) => existsSync(join(directory, name)))).toEqual([])
    expect(npmTest().status).toBe(0)
  })

  test('a type error ends the run before any test, and leaves dist as it was', () => {
    writeFileSync(join(directory, 'src/answer.ts'), "export const answer: number = 'none'\n")
    const { status, stdout, stderr } = npmTest()
    expect(status).not.toBe(0)
    expect(stdout).not.toContain('passed')
    expect(stderr).toContain('src/answer.ts(1,14)')
    expect(readFileSync(join(directory, 'dist/src/answer.js'), 'utf8')).toContain('42')
    writeFileSync(join(directory, 'src/answer.ts'), 'export const answer: number = 42\n')
    expect(npmTest().status).toBe(0)
  })
})

describe('the closing line', { timeout: 120_000 }, () => {
  const lineFor = (test: string, ...args: string[]) => {
    writeFileSync(join(directory, 'test/other.test.ts'), test)
    const result = npmTest(...args)
    rmSync(join(directory, 'test/other.test.ts'))
    return { status: result.status, last: lastLine(result) }
  }
  const head = "import { afterAll, beforeAll, describe, expect, test } from 'vitest'\n"

  test('counts tests that pass, fail and skip', () => {
    const text = `${head}test('p', () => expect(1).toBe(1))\ntest('f', () => expect(1).toBe(2))\ntest('s', (ctx) => ctx.skip('why'))\ntest.todo('t')\n`
    expect(lineFor(text)).toEqual({ status: 1, last: 'speadcast: 2 passed, 1 failed, 2 skipped' })
  })

  test('a test that asserts nothing fails', () => {
    expect(lineFor(`${head}test('empty', () => {})\n`)).toEqual({ status: 1, last: 'speadcast: 1 passed, 1 failed, 0 skipped' })
  })

  test('a hook, a file that does not load and a stray rejection are failures', () => {
    const hook = `${head}describe('d', () => { beforeAll(() => { throw new Error('no') }); test('x', () => expect(1).toBe(1)) })\n`
    expect(lineFor(hook)).toMatchObject({ status: 1, last: expect.stringMatching(/1 passed, [1-9]\d* failed/) })
    expect(lineFor("import './none.js'\n")).toEqual({ status: 1, last: 'speadcast: 1 passed, 1 failed, 0 skipped' })
    const stray = `${head}test('x', () => { Promise.reject(new Error('stray')); expect(1).toBe(1) })\n`
    expect(lineFor(stray)).toEqual({ status: 1, last: 'speadcast: 2 passed, 1 failed, 0 skipped' })
  })

  test('.only is a failure, so nothing is left out unseen', () => {
    expect(lineFor(`${head}test.only('x', () => expect(1).toBe(1))\n`).status).toBe(1)
  })

  test('arguments reach vitest, and a pattern that matches nothing is a failure', () => {
    expect(lineFor(`${head}test('f', () => expect(1).toBe(2))\n`, 'green')).toEqual({
      status: 0,
      last: 'speadcast: 1 passed, 0 failed, 0 skipped',
    })
    expect(lineFor('', 'no-such-file')).toEqual({ status: 1, last: 'speadcast: 0 passed, 1 failed, 0 skipped' })
  })
})
