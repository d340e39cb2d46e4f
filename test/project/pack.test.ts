// The package as a user gets it: packed, installed into an empty project, imported, type-checked, run.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { codeBlocks, page } from '../support/documents.js'
import { need } from '../support/need.js'
import { project, ROOT, runIn } from './support.js'

const { directory, remove } = project({
  'package.json': JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  'tsconfig.json': JSON.stringify({
    compilerOptions: {
      target: 'es2023',
      // Not skipLibCheck: our own declarations are what is checked here.
      skipLibCheck: false,
      lib: ['es2023', 'esnext.disposable'],
      module: 'nodenext',
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      types: ['node'],
      typeRoots: [join(ROOT, 'node_modules/@types')],
      rootDir: '.',
      outDir: 'out',
    },
    include: ['*.ts'],
  }),
})
const installed = join(directory, 'node_modules/speadcast')
/** Files of the bundle that the tests below look into. */
const FILES = ['index', 'devices', 'receive', 'cli', 'worker', 'receiver-worker', 'errors', 'io', 'main', 'verbs', 'dgram']
let unreachable = ''

beforeAll(() => {
  const packed = runIn(ROOT, 'npm', ['pack', '--pack-destination', directory, '--loglevel=error'])
  if (packed.status !== 0) throw new Error(`npm pack failed: ${packed.stderr}`)
  const tarball = readdirSync(directory).find((name) => name.endsWith('.tgz'))
  const install = ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', `./${tarball}`]
  const { status, stderr } = runIn(directory, 'npm', install)
  if (status === 0) return
  if (/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH/.test(stderr))
    unreachable = `no package registry to install the dependencies from: ${stderr}`
  else throw new Error(`npm install of the packed package failed: ${stderr}`)
}, 120_000)
afterAll(remove)

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()

const manifest = () => JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'))
const nodeEval = (code: string) => runIn(directory, process.execPath, ['--input-type=module', '-e', code])
/** The project's own, and the oldest that README names. */
const COMPILERS = ['typescript', 'typescript-oldest'] as const
const typeCheck = (compiler: (typeof COMPILERS)[number] = 'typescript') =>
  runIn(directory, process.execPath, [join(ROOT, 'node_modules', compiler, 'bin/tsc'), '-p', '.'])

describe('the packed package', { timeout: 120_000 }, () => {
  test('holds what was built from a source that exists, its papers, and nothing else', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const built = readdirSync(join(ROOT, 'lib')).map((name) => `lib/${name}`)
    const docs = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'))
    const expected = new Set([
      ...built,
      ...['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs/figures/rate-blackhole-9000.png'],
      ...docs.map((name) => `docs/${name}`),
    ])
    const strangers = filesIn(installed).filter((file) => {
      const declared = /^dist\/((?:src|ffi)\/.*)\.d\.ts$/.exec(file)
      return declared ? !existsSync(join(ROOT, `${declared[1]}.ts`)) : !expected.has(file)
    })
    expect(strangers).toEqual([])
    expect(filesIn(installed)).toEqual(expect.arrayContaining([...expected, 'dist/src/index.d.ts']))
    expect(built).toEqual(expect.arrayContaining([...FILES.map((name) => `lib/${name}.js`), 'lib/main.js.map']))
    expect(built.filter((name) => !/^lib\/[\w-]+\.js(\.map)?$/.test(name))).toEqual([])
  })

  test('carries its sources in its source maps, so that stack traces can be read', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const maps = filesIn(installed).filter((file) => file.endsWith('.map'))
    const sources = new Map<string, string>()
    for (const name of maps) {
      const map = JSON.parse(readFileSync(join(installed, name), 'utf8'))
      for (const [i, source] of map.sources.entries()) sources.set(join(dirname(name), source), map.sourcesContent[i])
    }
    const behind = [...sources].filter(([file, text]) => text !== readFileSync(join(ROOT, file), 'utf8'))
    expect(behind.map(([file]) => file)).toEqual([])
    const threads = ['src/engine/worker.ts', 'src/receive/receiver-worker.ts']
    expect([...sources.keys()]).toEqual(
      expect.arrayContaining(['src/stream/stream.ts', 'ffi/libc.ts', 'src/cli/main.ts', ...threads]),
    )
  })

  test('gives the code that it holds of others with their licence', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const licence = readFileSync(join(ROOT, 'node_modules/valibot/LICENSE.md'), 'utf8').trim()
    const texts = FILES.map((name) => readFileSync(join(installed, `lib/${name}.js`), 'utf8'))
    expect(texts.filter((text) => text.includes('valibot')).map((text) => text.includes(licence))).toEqual([true])
  })

  // Each module that is loaded costs a millisecond or more, in the main thread and again in the I/O thread.
  test('is loaded as a few files', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const loaded = (file: string): string[] =>
      [...readFileSync(join(installed, file), 'utf8').matchAll(/^(?:import|export) (?:[^;]*?\bfrom )?['"](\.[^'"]+)['"];?$/gm)]
        .map(([, from]) => join(dirname(file), from!))
        .flatMap((next) => [next, ...loaded(next)])
    const filesOf = (file: string) => [...new Set(loaded(`lib/${file}.js`))].sort()
    expect(filesOf('index')).toEqual(['lib/errors.js', 'lib/io.js', 'lib/main.js'])
    expect(filesOf('worker')).toEqual(['lib/errors.js', 'lib/io.js'])
    // An I/O thread loads this besides, where there are RDMA devices.
    expect(filesOf('verbs')).toEqual(['lib/errors.js', 'lib/io.js'])
    expect(filesOf('dgram')).toEqual(['lib/errors.js', 'lib/io.js'])
  })

  test('declares nothing internal', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const declarations = filesIn(installed).filter((file) => file.startsWith('dist/') && file.endsWith('.d.ts'))
    const members = /@internal|\b(?:setStates|noteFailure|breathe\(\): |setInFlight|template: BatchTemplate)|from 'valibot'/
    const open = ['stream', 'batch', 'send-promise', 'config'].map((name) => `dist/src/stream/${name}.d.ts`)
    expect(declarations).toEqual(expect.arrayContaining(open))
    expect(declarations.filter((file) => members.test(readFileSync(join(installed, file), 'utf8')))).toEqual([])
  })

  test('says what it is: ESM, free of side effects, MIT', (ctx) => {
    need(ctx, !unreachable, unreachable)
    expect(manifest()).toMatchObject({ name: 'speadcast', type: 'module', sideEffects: false, license: 'MIT' })
    const text = readFileSync(join(installed, 'LICENSE'), 'utf8')
    expect(text).toContain('Permission is hereby granted, free of charge')
  })

  test.for(['speadcast', 'speadcast/devices', 'speadcast/receive'])('exports %s, which does nothing on import', (name, ctx) => {
    need(ctx, !unreachable, unreachable)
    // With nothing left to do the process must end by itself: no timer, worker or handle is made on import.
    const { status, stdout, stderr } = nodeEval(`const names = Object.keys(await import('${name}')); console.log(names.length)`)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(Number(stdout)).toBeGreaterThan(0)
  })

  test.for(['speadcast/lib/index.js', 'speadcast/lib/io.js', 'speadcast/receive/index.js'])('does not export %s', (name, ctx) => {
    need(ctx, !unreachable, unreachable)
    const { stdout } = nodeEval(`await import('${name}').catch((error) => console.log(error.code))`)
    expect(stdout.trim()).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED')
  })

  test('has a command that runs', (ctx) => {
    need(ctx, !unreachable, unreachable)
    const bin = join(installed, manifest().bin.speadcast)
    expect(readFileSync(bin, 'utf8').split('\n')[0]).toBe('#!/usr/bin/env node')
    if (process.platform !== 'win32') expect(statSync(bin).mode & 0o111).toBe(0o111)
    const { status, stdout } = runIn(directory, join(directory, 'node_modules/.bin/speadcast'), ['--help'])
    expect(status).toBe(0)
    for (const command of ['send', 'recv', 'demo']) expect(stdout).toMatch(new RegExp(`^\\s+${command}\\b`, 'm'))
  })

  test.for(COMPILERS)('has declarations that a strict consumer can check whole, by %s', (compiler, ctx) => {
    need(ctx, !unreachable, unreachable)
    writeFileSync(
      join(directory, 'consumer.ts'),
      `import * as receive from 'speadcast/receive'
import * as speadcast from 'speadcast'
export const stream: ReturnType<typeof speadcast.openStream> = speadcast.openStream({ to: ['127.0.0.1:7148'] })
// @ts-expect-error: what the package does not export has no type, so nothing above is quietly any
speadcast.noSuchExport
// @ts-expect-error
receive.noSuchExport
`,
    )
    const { status, stdout } = typeCheck(compiler)
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
  })
})

test('the README’s runnable blocks compile under strict and run', (ctx) => {
  need(ctx, !unreachable, unreachable)
  const blocks = codeBlocks(page('README.md')).filter(({ language, runs }) => runs && language !== 'sh')
  expect(blocks.length, 'README.md must have a block that starts with ```ts run').toBeGreaterThan(0)
  mkdirSync(join(directory, 'out'), { recursive: true })
  const files = blocks.map(({ language, code }, i) => {
    writeFileSync(join(directory, language === 'ts' ? `readme-${i}.ts` : `out/readme-${i}.js`), code)
    return `out/readme-${i}.js`
  })
  const checked = typeCheck()
  expect({ status: checked.status, stdout: checked.stdout }).toEqual({ status: 0, stdout: '' })
  for (const file of files) {
    const { status, stderr } = runIn(directory, process.execPath, [file])
    expect({ file, status, stderr }).toEqual({ file, status: 0, stderr: '' })
  }
  console.log(`README.md: ${files.length} block(s) compiled and ran`)
}, 120_000)
