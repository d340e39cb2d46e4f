import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { projectOfTest, ROOT, runIn } from './support.js'

/** [file, import specifier, may it?]: one planted line each; every rule of biome.json has one that must be caught and one that must not. */
const PLANTED: readonly (readonly [string, string, boolean])[] = [
  ['ffi/a.ts', 'koffi', true],
  ['ffi/a.ts', './libc.js', true],
  ['ffi/a.ts', 'node:fs', true],
  ['ffi/a.ts', '../src/errors.js', false],
  ['ffi/a.ts', 'valibot', false],
  ['src/errors.ts', './stream.js', false],
  ['src/errors.ts', './spead/flavour.js', false],
  ['src/errors.ts', '../ffi/native-error.js', true],
  ['src/stats.ts', './errors.js', true],
  ['src/stats.ts', './engine/engine.js', false],
  ['src/stats.ts', 'koffi', false],
  ['src/stream.ts', 'koffi', false],
  ['src/stream.ts', './engine/engine.js', true],
  ['src/stream.ts', './batch/compile.js', true],
  ['src/stream.ts', '../ffi/region.js', true],
  ['src/stream.ts', './cli/main.js', false],
  ['src/stream.ts', './receive/index.js', false],
  ['src/stream.ts', '#dist/src/errors.js', false],
  ['src/stream.ts', '../test/support/need.js', false],
  ['src/spead/a.ts', './plan.js', true],
  ['src/spead/a.ts', '../errors.js', true],
  ['src/spead/a.ts', 'node:buffer', false],
  ['src/spead/a.ts', 'koffi', false],
  ['src/spead/a.ts', 'valibot', false],
  ['src/spead/a.ts', '../net/endpoint.js', false],
  ['src/spead/a.ts', '../batch/table.js', false],
  ['src/spead/a.ts', '../../ffi/region.js', false],
  ['src/spead/a.ts', '../stats.js', false],
  ['src/net/a.ts', '../../ffi/netlink.js', true],
  ['src/net/a.ts', '../errors.js', true],
  ['src/net/a.ts', 'koffi', false],
  ['src/net/a.ts', '../spead/flavour.js', false],
  ['src/net/a.ts', '../backend/backend.js', false],
  ['src/net/a.ts', '../index.js', false],
  ['src/batch/a.ts', '../spead/plan.js', true],
  ['src/batch/a.ts', '../../ffi/region.js', true],
  ['src/batch/a.ts', '../errors.js', true],
  ['src/batch/a.ts', '../../ffi/libc.js', false],
  ['src/batch/a.ts', 'koffi', false],
  ['src/batch/a.ts', '../net/endpoint.js', false],
  ['src/batch/a.ts', '../backend/backend.js', false],
  ['src/batch/a.ts', '../engine/engine.js', false],
  ['src/batch/a.ts', '../stream.js', false],
  ['src/backend/a.ts', '../net/endpoint.js', true],
  ['src/backend/a.ts', '../../ffi/udp-socket.js', true],
  ['src/backend/a.ts', '../stats.js', true],
  ['src/backend/a.ts', 'koffi', false],
  ['src/backend/a.ts', '../spead/flavour.js', false],
  ['src/backend/a.ts', '../batch/compile.js', false],
  ['src/backend/a.ts', '../engine/engine.js', false],
  ['src/backend/a.ts', '../stream.js', false],
  ['src/engine/a.ts', '../backend/backend.js', true],
  ['src/engine/a.ts', 'koffi', false],
  ['src/engine/a.ts', '../spead/flavour.js', false],
  ['src/engine/a.ts', '../batch/layout.js', false],
  ['src/engine/a.ts', '../stream.js', false],
  ['src/engine/a.ts', '../index.js', false],
  ['src/receive/a.ts', '../spead/flavour.js', true],
  ['src/receive/a.ts', '../net/endpoint.js', true],
  ['src/receive/a.ts', '../../ffi/udp-socket.js', true],
  ['src/receive/a.ts', '../errors.js', true],
  ['src/receive/a.ts', 'koffi', false],
  ['src/receive/a.ts', '../batch/compile.js', false],
  ['src/receive/a.ts', '../engine/engine.js', false],
  ['src/receive/a.ts', '../index.js', false],
  ['src/cli/a.ts', '../index.js', true],
  ['src/cli/a.ts', '../receive/index.js', true],
  ['src/cli/a.ts', '../devices.js', true],
  ['src/cli/a.ts', '../errors.js', true],
  ['src/cli/a.ts', './send.js', true],
  ['src/cli/a.ts', 'commander', true],
  ['src/cli/a.ts', 'koffi', false],
  ['src/cli/a.ts', '../stream.js', false],
  ['src/cli/a.ts', '../receive/socket.js', false],
  ['src/cli/a.ts', '../engine/engine.js', false],
  ['src/cli/a.ts', '../../ffi/libc.js', false],
]

const BIOME = join(ROOT, 'node_modules/@biomejs/biome/bin/biome')

interface BiomeReport {
  readonly diagnostics: readonly {
    readonly category: string
    readonly location: { readonly path: unknown; readonly start: { readonly line: number } }
  }[]
}

/** Lints with the project's own biome.json; returns `category path:line` of each complaint. */
function biomeLint(directory: string): string[] {
  copyFileSync(join(ROOT, 'biome.json'), join(directory, 'biome.json'))
  const { stdout, stderr } = runIn(directory, process.execPath, [BIOME, 'lint', '--reporter=json', '--max-diagnostics=500', '.'])
  let report: BiomeReport
  try {
    report = JSON.parse(stdout)
  } catch {
    throw new Error(`biome did not run: ${stderr}`)
  }
  return report.diagnostics.map(({ category, location }) => `${category} ${location.path}:${location.start.line}`)
}

test('biome catches every planted import against the layers, and nothing else', (ctx) => {
  need(
    ctx,
    existsSync(BIOME) && runIn(ROOT, process.execPath, [BIOME, '--version']).status === 0,
    'biome has no binary for this machine',
  )
  const lines = new Map<string, string[]>()
  const expected: string[] = []
  for (const [file, specifier, allowed] of PLANTED) {
    const text = lines.get(file) ?? []
    lines.set(file, text)
    text.push(`import '${specifier}'`)
    if (!allowed) expected.push(`lint/style/noRestrictedImports ${file}:${text.length}`)
  }
  const found = biomeLint(projectOfTest(Object.fromEntries([...lines].map(([file, text]) => [file, `${text.join('\n')}\n`]))))
  expect(found.filter((line) => line.includes('noRestrictedImports')).sort()).toEqual(expected.sort())
})

test.for([
  "export { step } from '../engine/engine.js'",
  "import type { Engine } from '../engine/engine.js'\n\nexport type E = Engine",
  "export const load = () => import('../engine/engine.js')",
])('biome sees every form of import: %s', (text, ctx) => {
  need(
    ctx,
    existsSync(BIOME) && runIn(ROOT, process.execPath, [BIOME, '--version']).status === 0,
    'biome has no binary for this machine',
  )
  expect(biomeLint(projectOfTest({ 'src/backend/a.ts': `${text}\n` }))).toContain(
    'lint/style/noRestrictedImports src/backend/a.ts:1',
  )
})

test('biome catches an import cycle', (ctx) => {
  need(
    ctx,
    existsSync(BIOME) && runIn(ROOT, process.execPath, [BIOME, '--version']).status === 0,
    'biome has no binary for this machine',
  )
  const directory = projectOfTest({
    'src/config.ts': "import { b } from './b.js'\nexport const a = () => b\n",
    'src/b.ts': "import { a } from './config.js'\nexport const b = () => a\n",
  })
  expect(biomeLint(directory)).toContain('lint/suspicious/noImportCycles src/b.ts:1')
})

const LAYERS = join(ROOT, 'scripts/layers.mjs')

/** [file, what biome cannot see]: each stands on a line of its own. */
const HIDDEN: readonly (readonly [string, string])[] = [
  ['src/backend/a.ts', "import { x } from '../batch/table.js'"],
  ['src/backend/a.ts', "import { type PacketTable } from '../batch/table.js'"],
  ['src/backend/a.ts', "export { x } from '../batch/table.js'"],
  ['src/backend/a.ts', "export const t = () => import('../batch/table.js')"],
  ['src/engine/a.ts', "import { compile } from '../batch/compile.js'"],
  ['src/engine/a.ts', "export const w = new Worker(new URL('../backend/worker.js', import.meta.url))"],
  ['src/stream.ts', "export const w = new URL('./engine/worker.js', import.meta.url)"],
  ['src/net/a.ts', "export type E = import('../engine/engine.js').Engine"],
  ['src/net/a.ts', "export const hidden = (name: string) => import('../engine/' + name)"],
]

test('scripts/layers.mjs catches each planted line that biome cannot see', () => {
  const files: Record<string, string> = {}
  const expected = HIDDEN.map(([file, text]) => {
    files[file] = `${files[file] ?? ''}${text}\n`
    return `${file}:${files[file].split('\n').length - 1}`
  })
  const { status, stderr } = runIn(ROOT, process.execPath, [LAYERS, projectOfTest(files)])
  const found = stderr
    .trim()
    .split('\n')
    .map((line) => line.split(': ')[0])
  expect(found.sort()).toEqual(expected.sort())
  expect(status).toBe(1)
})

test('scripts/layers.mjs lets type imports and workers of the own room pass', () => {
  const directory = projectOfTest({
    'src/backend/a.ts':
      "import type { PacketTable } from '../batch/table.js'\nexport type { TableRegion } from '../batch/table.js'\n",
    'src/engine/a.ts':
      "import { errnoName } from '../../ffi/native-error.js'\nexport const w = new Worker(new URL('./worker.js', import.meta.url))\n",
    'src/cli/a.ts': "export const about = new URL('../../../package.json', import.meta.url)\n",
  })
  expect(runIn(ROOT, process.execPath, [LAYERS, directory])).toEqual({ status: 0, stdout: '', stderr: '' })
})
