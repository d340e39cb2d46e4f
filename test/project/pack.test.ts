// The package as a user gets it: packed, installed into an empty project, imported, type-checked, run.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { codeBlocks, page } from '../support/documents.js'
import { installNodeTypes, packedProject } from './packed.js'
import { ROOT, runIn } from './support.js'

const packed = packedProject()
const { directory, installed, remove, ready, manifest, text } = packed
/** Files of the bundle that the tests below look into. */
const FILES = [
  'index',
  'devices',
  'receive',
  'metrics',
  'cli',
  'worker',
  'receiver-worker',
  'errors',
  'io',
  'main',
  'verbs',
  'dgram',
]
/**
 * Bytes that npm unpacks and packs. Two fifths are code, three tenths maps from it to the lines of the TypeScript, a tenth README's figure; the
 * rest are documents and declarations. More than this is a file that was not meant to go along: sources in the maps, say, are 1.8 MB.
 */
const MOST_UNPACKED = 3_600_000
const MOST_PACKED = 1_150_000
const MOST_DECLARATIONS = 220_000

/** Other compilers and settings: pack-types.test.ts. */
const COMPILER_OPTIONS = { strict: true, module: 'nodenext', target: 'es2023', rootDir: '.', outDir: 'out', skipLibCheck: true }

afterAll(remove)

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()

const nodeEval = (code: string) => runIn(directory, process.execPath, ['--input-type=module', '-e', code])
describe('the packed package', { timeout: 120_000 }, () => {
  test('holds what was built from a source that exists, its papers, and nothing else', (ctx) => {
    ready(ctx)
    const built = readdirSync(join(ROOT, 'lib')).map((name) => `lib/${name}`)
    const docs = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'))
    const expected = new Set([
      ...built,
      ...['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs/figures/rate-blackhole-9000.png'],
      ...docs.map((name) => `docs/${name}`),
      ...readdirSync(join(ROOT, 'man')).map((name) => `man/${name}`),
      ...readdirSync(join(ROOT, 'docs/examples')).map((name) => `docs/examples/${name}`),
      ...readdirSync(join(ROOT, 'docs/monitoring')).map((name) => `docs/monitoring/${name}`),
    ])
    const strangers = filesIn(installed).filter((file) => {
      const declared = /^dist\/((?:src|ffi)\/.*)\.d\.c?ts$/.exec(file)
      return declared ? !existsSync(join(ROOT, `${declared[1]}.ts`)) : !expected.has(file)
    })
    expect(strangers).toEqual([])
    expect(filesIn(installed)).toEqual(expect.arrayContaining([...expected, 'dist/src/index.d.ts']))
    expect(built).toEqual(expect.arrayContaining([...FILES.map((name) => `lib/${name}.js`), 'lib/main.js.map']))
    expect(built.filter((name) => !/^lib\/([\w-]+\.js(\.map)?|(index|devices|receive|metrics)\.cjs)$/.test(name))).toEqual([])
  })

  test('is no larger than its papers and its code must be', (ctx) => {
    ready(ctx)
    const bytes = (files: readonly string[]) => files.reduce((sum, file) => sum + statSync(join(installed, file)).size, 0)
    const all = filesIn(installed)
    const declarations = all.filter((file) => file.startsWith('dist/'))
    const sizes = { unpacked: bytes(all), packed: statSync(packed.tarball).size, declarations: bytes(declarations) }
    console.log(`the package: ${JSON.stringify(sizes)} bytes`)
    expect(sizes.unpacked).toBeLessThan(MOST_UNPACKED)
    expect(sizes.packed).toBeLessThan(MOST_PACKED)
    expect(sizes.declarations).toBeLessThan(MOST_DECLARATIONS)
  })

  test('leads stack traces to the lines of the sources, which it leaves to the repository', (ctx) => {
    ready(ctx)
    const maps = filesIn(installed).filter((file) => file.endsWith('.map'))
    const sources = new Set<string>()
    for (const name of maps) {
      const map = JSON.parse(text(name))
      for (const source of map.sources) sources.add(join(dirname(name), source))
      expect({ name, sourcesContent: (map.sourcesContent ?? []).some(Boolean) }).toEqual({ name, sourcesContent: false })
    }
    // The bundler's own code for a package that calls require().
    const ours = [...sources].filter((file) => !file.startsWith('builtin:'))
    expect(ours.filter((file) => !existsSync(join(ROOT, file)))).toEqual([])
    const threads = ['src/engine/worker.ts', 'src/receive/receiver-worker.ts']
    expect([...sources]).toEqual(expect.arrayContaining(['ffi/libc.ts', 'src/cli/main.ts', ...threads]))
    const code = "import { parseRate } from 'speadcast'; try { parseRate('') } catch (error) { console.log(error.stack) }"
    const { stdout } = runIn(directory, process.execPath, ['--enable-source-maps', '--input-type=module', '-e', code])
    const [, line] = /speadcast\/src\/stream\/rate\.ts:(\d+):\d+/.exec(stdout) ?? []
    const lines = readFileSync(join(ROOT, 'src/stream/rate.ts'), 'utf8').split('\n')
    expect(lines[Number(line) - 1], stdout).toMatch(/parseRate|ensure|throw|number/i)
  })

  test('gives the code that it holds of others with their licence', (ctx) => {
    ready(ctx)
    const texts = FILES.map((name) => readFileSync(join(installed, `lib/${name}.js`), 'utf8'))
    for (const [name, file] of Object.entries({ valibot: 'LICENSE.md', 'prom-client': 'LICENSE' })) {
      const licence = readFileSync(join(ROOT, 'node_modules', name, file), 'utf8').trim()
      const holders = texts.filter((text) => text.includes(name))
      expect([name, holders.map((text) => text.includes(licence))]).toEqual([name, [true]])
    }
  })

  // Each module that is loaded costs a millisecond or more, in the main thread and again in the I/O thread.
  test('is loaded as a few files', (ctx) => {
    ready(ctx)
    const loaded = (file: string): string[] =>
      [...readFileSync(join(installed, file), 'utf8').matchAll(/^(?:import|export) (?:[^;]*?\bfrom )?['"](\.[^'"]+)['"];?$/gm)]
        .map(([, from]) => join(dirname(file), from!))
        .flatMap((next) => [next, ...loaded(next)])
    const filesOf = (file: string) => [...new Set(loaded(`lib/${file}.js`))].sort()
    expect(filesOf('index')).toEqual(['lib/errors.js', 'lib/io.js', 'lib/main.js'])
    expect(filesOf('worker')).toEqual(['lib/errors.js', 'lib/io.js'])
    // An I/O thread loads this besides, where there are RDMA devices.
    // Metrics load nothing that sends or receives.
    expect(filesOf('metrics')).toEqual(['lib/errors.js', 'lib/io.js'])
    expect(filesOf('verbs')).toEqual(['lib/errors.js', 'lib/io.js'])
    expect(filesOf('dgram')).toEqual(['lib/errors.js', 'lib/io.js'])
  })

  test('declares nothing internal', (ctx) => {
    ready(ctx)
    const declarations = filesIn(installed).filter((file) => file.startsWith('dist/') && file.endsWith('.d.ts'))
    const members = /@internal|\b(?:setStates|noteFailure|breathe\(\): |setInFlight|template: BatchTemplate)|'valibot'/
    const open = ['stream', 'batch', 'send-promise', 'result'].map((name) => `dist/src/stream/${name}.d.ts`)
    expect(declarations).toEqual(expect.arrayContaining(open))
    expect(declarations.filter((file) => members.test(text(file)))).toEqual([])
    // Nor whole rooms that users see nothing of, or what an open file has besides.
    expect(
      declarations.filter((file) => /dist\/(src\/cli|src\/backend\/(udp|verbs)|ffi\/(socket|verbs|netlink))\//.test(file)),
    ).toEqual([])
    expect(text('dist/src/stream/io-thread.d.ts')).not.toContain('handleOf')
    expect(text('dist/src/stream/io-thread.d.ts')).toContain('export declare class IoThread')
  })

  test('says what it is: ESM, free of side effects, MIT', (ctx) => {
    ready(ctx)
    expect(manifest()).toMatchObject({ name: 'speadcast', type: 'module', sideEffects: false, license: 'MIT' })
    const text = readFileSync(join(installed, 'LICENSE'), 'utf8')
    expect(text).toContain('Permission is hereby granted, free of charge')
  })

  test.for(['speadcast', 'speadcast/devices', 'speadcast/receive', 'speadcast/metrics'])(
    'exports %s, which does nothing on import',
    (name, ctx) => {
      ready(ctx)
      // With nothing left to do the process must end by itself: no timer, worker or handle is made on import.
      const { status, stdout, stderr } = nodeEval(`const names = Object.keys(await import('${name}')); console.log(names.length)`)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(Number(stdout)).toBeGreaterThan(0)
    },
  )

  test.for(['speadcast/lib/index.js', 'speadcast/lib/io.js', 'speadcast/receive/index.js'])('does not export %s', (name, ctx) => {
    ready(ctx)
    const { stdout } = nodeEval(`await import('${name}').catch((error) => console.log(error.code))`)
    expect(stdout.trim()).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED')
  })

  test.for(['speadcast', 'speadcast/devices', 'speadcast/receive', 'speadcast/metrics'])(
    'gives require() of %s what import gives',
    (name, ctx) => {
      ready(ctx)
      writeFileSync(
        join(directory, 'required.cjs'),
        `const required = require('${name}')
import('${name}').then((imported) => {
  const names = Object.keys(imported)
  console.log(names.length > 0, names.filter((name) => required[name] !== imported[name]).join())
})`,
      )
      // Without a warning, too: Node 20 has one for require() of ES modules from outside node_modules.
      const { stdout, stderr } = runIn(directory, process.execPath, ['required.cjs'])
      expect({ stdout: stdout.trim(), stderr }).toEqual({ stdout: 'true', stderr: '' })
    },
  )

  test('has declarations for require() that name every value of the entry', (ctx) => {
    ready(ctx)
    for (const [name, { require: common }] of Object.entries(manifest().exports)) {
      const { stdout } = nodeEval(`console.log(Object.keys(await import('speadcast${name.slice(1)}')).sort().join())`)
      const declared = [...text(common.types).matchAll(/^export declare const (\w+): /gm)].map(([, value]) => value!)
      expect({ name, declared: declared.sort().join() }).toEqual({ name, declared: stdout.trim() })
    }
  })

  test('has a command that runs', (ctx) => {
    ready(ctx)
    const bin = join(installed, manifest().bin.speadcast)
    expect(readFileSync(bin, 'utf8').split('\n')[0]).toBe('#!/usr/bin/env node')
    if (process.platform !== 'win32') expect(statSync(bin).mode & 0o111).toBe(0o111)
    const { status, stdout } = runIn(directory, join(directory, 'node_modules/.bin/speadcast'), ['--help'])
    expect(status).toBe(0)
    for (const command of ['send', 'recv', 'demo']) expect(stdout).toMatch(new RegExp(`^\\s+${command}\\b`, 'm'))
  })
})

test('the README’s runnable blocks compile under strict and run', (ctx) => {
  ready(ctx)
  const blocks = codeBlocks(page('README.md')).filter(({ language, runs }) => runs && language !== 'sh')
  expect(blocks.length, 'README.md must have a block that starts with ```ts run').toBeGreaterThan(0)
  mkdirSync(join(directory, 'out'), { recursive: true })
  const files = blocks.map(({ language, code }, i) => {
    writeFileSync(join(directory, language === 'ts' ? `readme-${i}.ts` : `out/readme-${i}.js`), code)
    return `out/readme-${i}.js`
  })
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions: COMPILER_OPTIONS, include: ['*.ts'] }))
  installNodeTypes(directory)
  const checked = runIn(directory, process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'])
  expect({ status: checked.status, stdout: checked.stdout }).toEqual({ status: 0, stdout: '' })
  for (const file of files) {
    const { status, stderr } = runIn(directory, process.execPath, [file])
    expect({ file, status, stderr }).toEqual({ file, status: 0, stderr: '' })
  }
  console.log(`README.md: ${files.length} block(s) compiled and ran`)
}, 120_000)
