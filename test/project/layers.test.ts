/** The rules of .dependency-cruiser.mjs: each has planted imports that it must catch and others that it must not. */
import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { expect, test } from 'vitest'
import { projectOfTest, ROOT, runIn } from './support.js'

/** [file, import specifier, may it?] */
const PLANTED: readonly (readonly [string, string, boolean])[] = [
  ['ffi/a.ts', 'koffi', true],
  ['ffi/a.ts', './libc.js', true],
  ['ffi/a.ts', 'node:fs', true],
  ['ffi/a.ts', '../src/errors.js', false],
  ['ffi/a.ts', 'valibot', false],
  ['src/errors.ts', './stream/stream.js', false],
  ['src/errors.ts', './spead/flavour.js', false],
  ['src/errors.ts', '../ffi/native-error.js', true],
  ['src/errors.ts', '../ffi/printable.js', true],
  ['src/errors.ts', '../ffi/inspect.js', true],
  ['src/checks.ts', './errors.js', true],
  ['src/checks.ts', './stream/stream.js', false],
  ['src/checks.ts', 'valibot', false],
  ['src/stats.ts', './errors.js', true],
  ['src/stats.ts', './histogram.js', true],
  ['src/histogram.ts', './stream/stream.js', false],
  ['src/debug.ts', './errors.js', true],
  ['src/debug.ts', './stream/stream.js', false],
  ['src/topic.ts', './engine/engine.js', false],
  ['src/events.ts', './abort-listeners.js', true],
  ['src/events.ts', './checks.js', true],
  ['src/events.ts', './stream/stream.js', false],
  ['src/abort-listeners.ts', './stream/stream.js', false],
  ['src/spead/a.ts', '../debug.js', false],
  ['src/receive/a.ts', '../topic.js', true],
  ['src/receive/a.ts', '../events.js', true],
  ['src/receive/a.ts', '../stats.js', false],
  ['src/stats.ts', './engine/engine.js', false],
  ['src/stats.ts', 'koffi', false],
  ['ffi/memory/a.ts', '../libc.js', true],
  ['ffi/memory/a.ts', '../inspect.js', true],
  ['ffi/memory/a.ts', '../wait.js', false],
  ['ffi/memory/a.ts', '../socket/udp-socket.js', false],
  ['ffi/netlink/a.ts', '../memory/region.js', true],
  ['ffi/netlink/a.ts', '../socket/udp-socket.js', false],
  ['ffi/socket/a.ts', '../netlink/route.js', true],
  ['ffi/socket/a.ts', '../verbs/context.js', false],
  ['ffi/verbs/a.ts', '../socket/udp-socket.js', true],
  ['ffi/verbs/a.ts', '../netlink/route.js', false],
  ['ffi/verbs/a.ts', '../../src/errors.js', false],
  ['src/index.ts', 'koffi', false],
  ['src/index.ts', './stream/stream.js', true],
  ['src/index.ts', './cli/main.js', false],
  ['src/index.ts', './receive/index.js', false],
  ['src/index.ts', './devices/index.js', false],
  ['src/index.ts', '../ffi/memory/region.js', true],
  ['src/index.ts', '#dist/src/errors.js', false],
  ['src/index.ts', '../lib/io.js', false],
  ['src/index.ts', '../test/support/need.js', false],
  ['src/stream/a.ts', 'koffi', false],
  ['src/stream/a.ts', '../engine/engine.js', true],
  ['src/stream/a.ts', '../batch/compile.js', true],
  ['src/stream/a.ts', '../../ffi/memory/region.js', false],
  ['src/stream/a.ts', '../../ffi/memory/budget.js', true],
  ['src/stream/a.ts', '../../ffi/placement.js', true],
  ['src/adapters/a.ts', '../../ffi/memory/budget.js', false],
  ['src/stream/a.ts', '../adapters/send-all.js', false],
  ['src/stream/a.ts', '../devices/index.js', false],
  ['src/stream/a.ts', '../index.js', false],
  ['src/adapters/a.ts', '../stream/stream.js', true],
  ['src/adapters/a.ts', '../engine/engine.js', false],
  ['src/adapters/a.ts', '../index.js', false],
  ['src/devices/a.ts', '../rdma/devices.js', true],
  ['src/devices/a.ts', '../backend/select.js', true],
  ['src/devices/a.ts', '../stream/stream.js', false],
  ['src/rdma/a.ts', '../net/address.js', true],
  ['src/rdma/a.ts', '../../ffi/verbs/context.js', true],
  ['src/rdma/a.ts', '../backend/backend.js', false],
  ['src/net/a.ts', '../rdma/fabric.js', false],
  ['src/backend/a.ts', '../rdma/fabric.js', true],
  ['src/backend/udp/a.ts', '../../net/endpoint.js', true],
  ['src/backend/udp/a.ts', '../../stream/options.js', false],
  ['src/receive/a.ts', '../rdma/groups.js', true],
  ['src/spead/a.ts', './plan.js', true],
  ['src/spead/a.ts', '../errors.js', true],
  ['src/spead/a.ts', '../checks.js', true],
  ['src/spead/a.ts', 'node:buffer', false],
  ['src/spead/a.ts', 'koffi', false],
  ['src/spead/a.ts', 'valibot', false],
  ['src/spead/a.ts', '../net/endpoint.js', false],
  ['src/spead/a.ts', '../batch/table.js', false],
  ['src/spead/a.ts', '../../ffi/memory/region.js', false],
  ['src/spead/a.ts', '../stats.js', false],
  ['src/net/a.ts', '../../ffi/netlink/route.js', true],
  ['src/net/a.ts', '../errors.js', true],
  ['src/net/a.ts', 'koffi', false],
  ['src/net/a.ts', '../spead/flavour.js', false],
  ['src/net/a.ts', '../backend/backend.js', false],
  ['src/net/a.ts', '../index.js', false],
  ['src/batch/a.ts', '../spead/plan.js', true],
  ['src/batch/a.ts', '../../ffi/memory/region.js', true],
  ['src/batch/a.ts', '../../ffi/memory/loans.js', true],
  ['src/batch/a.ts', '../../ffi/memory/mapping.js', false],
  ['src/batch/a.ts', '../errors.js', true],
  ['src/batch/a.ts', '../../ffi/libc.js', false],
  ['src/batch/a.ts', 'koffi', false],
  ['src/batch/a.ts', '../net/endpoint.js', false],
  ['src/batch/a.ts', '../backend/backend.js', false],
  ['src/batch/a.ts', '../engine/engine.js', false],
  ['src/batch/a.ts', '../stream/stream.js', false],
  ['src/backend/a.ts', '../net/endpoint.js', true],
  ['src/backend/a.ts', '../../ffi/socket/udp-socket.js', true],
  ['src/backend/a.ts', '../stats.js', true],
  ['src/backend/a.ts', 'koffi', false],
  ['src/backend/a.ts', '../spead/flavour.js', false],
  ['src/backend/a.ts', '../batch/compile.js', false],
  ['src/backend/a.ts', '../engine/engine.js', false],
  ['src/backend/a.ts', '../stream/stream.js', false],
  ['src/engine/a.ts', '../backend/backend.js', true],
  ['src/engine/a.ts', 'koffi', false],
  ['src/engine/a.ts', '../spead/flavour.js', false],
  ['src/engine/a.ts', '../batch/layout.js', false],
  ['src/engine/a.ts', '../stream/stream.js', false],
  ['src/engine/a.ts', '../index.js', false],
  ['src/receive/a.ts', '../spead/flavour.js', true],
  ['src/receive/a.ts', '../net/endpoint.js', true],
  ['src/receive/a.ts', '../../ffi/socket/udp-socket.js', true],
  ['src/receive/a.ts', '../errors.js', true],
  ['src/receive/a.ts', 'koffi', false],
  ['src/receive/a.ts', '../checks.js', true],
  ['src/receive/a.ts', '../stream/arguments.js', false],
  ['src/receive/a.ts', '../batch/compile.js', false],
  ['src/receive/a.ts', '../engine/engine.js', false],
  ['src/receive/a.ts', '../index.js', false],
  ['src/cli/a.ts', '../index.js', true],
  ['src/cli/a.ts', '../receive/index.js', true],
  ['src/cli/a.ts', '../receive/credit-gate.js', true],
  ['src/cli/a.ts', '../receive/credits.js', false],
  ['src/cli/a.ts', '../devices/index.js', true],
  ['src/cli/a.ts', '../metrics/index.js', true],
  ['src/cli/a.ts', '../metrics/table.js', false],
  ['src/cli/a.ts', '../errors.js', true],
  ['src/metrics/a.ts', '../checks.js', true],
  ['src/metrics/a.ts', 'prom-client/lib/registry.js', true],
  ['src/metrics/a.ts', '../stream/stream.js', false],
  ['src/metrics/a.ts', '../devices/index.js', false],
  ['src/metrics/a.ts', 'koffi', false],
  ['src/stream/a.ts', '../metrics/index.js', false],
  ['src/cli/a.ts', './send.js', true],
  ['src/cli/a.ts', 'commander', true],
  ['src/cli/a.ts', 'koffi', false],
  ['src/cli/a.ts', '../stream/stream.js', false],
  ['src/cli/a.ts', '../receive/native-receiver.js', false],
  ['src/cli/a.ts', '../devices/doctor.js', false],
  ['src/cli/a.ts', '../engine/engine.js', false],
  ['src/cli/a.ts', '../../ffi/libc.js', false],
]

const CRUISER = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs')
const CONFIG = '.dependency-cruiser.mjs'

interface Violation {
  readonly from: string
  readonly to: string
  readonly rule: { readonly name: string }
}

/** Looks at files with the project's own rules. Files that these import are there too, and empty. */
function violations(files: Readonly<Record<string, string>>): Violation[] {
  const all: Record<string, string> = { 'tsconfig.json': '{}', [CONFIG]: readFileSync(join(ROOT, CONFIG), 'utf8') }
  for (const [file, text] of Object.entries(files))
    for (const [, specifier] of text.matchAll(/'(\.[^']*)\.js'/g)) all[`${posix.join(posix.dirname(file), specifier!)}.ts`] = ''
  const directory = projectOfTest({ ...all, ...files })
  const { stdout, stderr } = runIn(directory, process.execPath, [CRUISER, '--output-type', 'json', 'src', 'ffi'])
  try {
    return JSON.parse(stdout).summary.violations
  } catch {
    throw new Error(`dependency-cruiser did not run: ${stderr}`)
  }
}

test('every planted import against the layers is caught, and nothing else', () => {
  const files: Record<string, string> = { 'ffi/none.ts': '' }
  const expected = new Set<string>()
  for (const [file, specifier, allowed] of PLANTED) {
    files[file] = `${files[file] ?? ''}import '${specifier}'\n`
    const target = specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts') : specifier
    if (!allowed) expected.add(`${file} → ${target.replace(/^node:/, '')}`)
  }
  const found = violations(files).filter(({ rule }) => rule.name !== 'no-circular')
  expect(new Set(found.map(({ from, to }) => `${from} → ${to}`))).toEqual(expected)
})

/** Each file with its text and the rules that it breaks. The cruiser takes a second for each run, so one run looks at all. */
const FORMS: Readonly<Record<string, readonly [text: string, rules: readonly string[]]>> = {
  'src/backend/export.ts': ["export { step } from '../engine/engine.js'", ['layer-backend']],
  'src/backend/type.ts': ["import type { Engine } from '../engine/engine.js'\n\nexport type E = Engine", ['layer-backend']],
  'src/backend/call.ts': ["export const load = () => import('../engine/engine.js')", ['layer-backend']],
  'src/backend/type-of.ts': ["export type E = import('../engine/engine.js').Engine", ['layer-backend']],
  // Of the batch, others know types only.
  'src/backend/value.ts': ["import { x } from '../batch/table.js'", ['types-only']],
  'src/backend/export-value.ts': ["export { x } from '../batch/table.js'", ['types-only']],
  'src/backend/call-value.ts': ["export const t = () => import('../batch/table.js')", ['types-only']],
  'src/engine/value.ts': ["import { compile } from '../batch/compile.js'", ['types-only']],
  'src/backend/types.ts': [
    "import type { PacketTable } from '../batch/table.js'\nexport type { TableRegion } from '../batch/table.js'",
    [],
  ],
  'src/metrics/value.ts': ["import { openStream } from '../index.js'", ['metrics-types-only']],
  'src/metrics/types.ts': ["import type { Stream } from '../index.js'\nimport type { Receiver } from '../receive/index.js'", []],
  // A cycle is told once.
  'src/spead/one.ts': ["import { b } from './other.js'\nexport const a = () => b", ['no-circular']],
  'src/spead/other.ts': ["import { a } from './one.js'\nexport const b = () => a", []],
}

test('every form of import is seen, values of the batch are told from types, and a cycle is caught', () => {
  const files = Object.fromEntries(Object.entries(FORMS).map(([file, [text]]) => [file, `${text}\n`]))
  const found = violations({ ...files, 'ffi/none.ts': '' })
  const rulesOf = (file: string) => [...new Set(found.filter(({ from }) => from === file).map(({ rule }) => rule.name))]
  const expected = Object.fromEntries(Object.entries(FORMS).map(([file, [, rules]]) => [file, rules]))
  expect(Object.fromEntries(Object.keys(FORMS).map((file) => [file, rulesOf(file)]))).toEqual(expected)
})

test('no code is named in a way that hides it: by a URL of another room, or by an expression', async () => {
  const { glob } = await import('zx')
  for (const file of await glob(['src/**/*.ts', 'ffi/**/*.ts'], { cwd: ROOT })) {
    const text = readFileSync(join(ROOT, file), 'utf8')
    const urls = [...text.matchAll(/new URL\(\s*'([^']*)',\s*import\.meta\.url/g)].map(([, url]) => url!)
    expect([file, urls.filter((url) => /\.[cm]?[jt]s$/.test(url) && !/^\.\/[^/]*$/.test(url))]).toEqual([file, []])
    expect([file, text.match(/\bimport\((?!')[^)]*\)/g)]).toEqual([file, null])
  }
})
