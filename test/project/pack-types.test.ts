// The declarations of the packed and installed package, for every compiler that README names and with the settings that users have.
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { codeBlocks, page } from '../support/documents.js'
import { installNodeTypes, packedProject } from './packed.js'
import { ROOT, runIn } from './support.js'

/** TypeScript 5.7, the oldest that README names; 5.9; 6.0, the project's own; 7.0. */
const COMPILERS = ['typescript-oldest', 'typescript-5.9', 'typescript', 'typescript-7'] as const

/** What is not named is the compiler's default: target, lib (with the DOM), and which packages of types it takes by itself. */
const SETTINGS = {
  'the default settings': { module: 'nodenext' },
  'no DOM, no types, all checks': {
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2022'],
    types: [],
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
  },
  // Compilers do not take ES modules in a CommonJS file then (TS1479).
  'node16, unchecked declarations': { module: 'node16', target: 'es2022', types: ['node'], skipLibCheck: true },
} as const

const { directory, remove, ready, installed } = packedProject({
  'consumer.ts': `import * as devices from 'speadcast/devices'
import * as metrics from 'speadcast/metrics'
import * as receive from 'speadcast/receive'
import * as speadcast from 'speadcast'
export const stream: Promise<speadcast.Stream> = speadcast.openStream({ to: ['127.0.0.1:7148'] })
export const receiver: Promise<receive.Receiver> = receive.openReceiver({ endpoints: '127.0.0.1:7148' })
export const reports: readonly devices.RdmaDeviceReport[] = devices.listRdmaDevices()
export const registry: metrics.StreamMetrics = metrics.metrics([await stream, await receiver])
export const server: Promise<metrics.MetricsServer> = metrics.serveMetrics(registry, { port: 0 })
// @ts-expect-error: what the package does not export has no type, so nothing above is quietly any
speadcast.noSuchExport
// @ts-expect-error
devices.noSuchExport
// @ts-expect-error
receive.noSuchExport
// @ts-expect-error
metrics.noSuchExport
`,
  'common.cts': `import { AttachedBatch, ItemGroup, openStream, SpeadcastError, type Stream } from 'speadcast'
import devices = require('speadcast/devices')
import metrics = require('speadcast/metrics')
import receive = require('speadcast/receive')
import { stream } from './both.cjs'
export const opened: Promise<Stream> = openStream({ to: '127.0.0.1:7148' })
export const receiver: Promise<receive.Receiver> = receive.openReceiver({ endpoints: '127.0.0.1:7148' })
export const reports: readonly devices.RdmaDeviceReport[] = devices.listRdmaDevices()
export const items: ItemGroup = new ItemGroup()
export const registry: metrics.StreamMetrics = metrics.metrics()
export const codeOf = (error: unknown): string => (error instanceof SpeadcastError ? error.code : '')
export type Attached = AttachedBatch<{ samples: Int8Array }>
// A Stream is the same type, whichever kind of file names it.
export const same: Stream = stream
// @ts-expect-error
devices.noSuchExport
// @ts-expect-error
export const wrong: Promise<Stream> = openStream({})
`,
  'both.cts': `import type { Stream } from 'speadcast' with { 'resolution-mode': 'import' }
export declare const stream: Stream
`,
})
afterAll(remove)

const BLOCKS = codeBlocks(page('README.md')).filter(({ runs, language }) => runs && language === 'ts')

function compile(compiler: (typeof COMPILERS)[number], compilerOptions: object) {
  installNodeTypes(directory)
  for (const [i, { code }] of BLOCKS.entries()) writeFileSync(join(directory, `readme-${i}.ts`), code)
  writeFileSync(
    join(directory, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: { strict: true, noEmit: true, ...compilerOptions }, include: ['*.ts', '*.cts'] }),
  )
  return runIn(directory, process.execPath, [join(ROOT, 'node_modules', compiler, 'bin/tsc'), '-p', '.'])
}

describe('the declarations of the packed package', { timeout: 120_000 }, () => {
  describe.for(COMPILERS)('by %s', (compiler) => {
    test.for(Object.keys(SETTINGS) as (keyof typeof SETTINGS)[])('compile with README’s example: %s', (name, ctx) => {
      ready(ctx)
      expect(BLOCKS.length, 'README.md must have a block that starts with ```ts run').toBeGreaterThan(0)
      const { status, stdout } = compile(compiler, SETTINGS[name])
      expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
    })
  })

  test('name @types/node where it is missing', (ctx) => {
    ready(ctx)
    const bare = join(directory, 'bare')
    mkdirSync(bare)
    cpSync(installed, join(bare, 'node_modules/speadcast'), { recursive: true })
    writeFileSync(join(bare, 'index.ts'), "import 'speadcast'\n")
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
    rmSync(join(directory, 'node_modules/@types'), { recursive: true, force: true })
    writeFileSync(join(bare, 'tsconfig.json'), JSON.stringify({ compilerOptions: { noEmit: true, module: 'nodenext' } }))
    const { stdout } = runIn(bare, process.execPath, [tsc, '-p', '.'])
    expect(stdout).toContain("Cannot find type definition file for 'node'")
  })
})
