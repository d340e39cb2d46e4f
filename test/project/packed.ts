/** The package as a user gets it: packed, and installed into an empty project. */
import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, type TestContext } from 'vitest'
import { need } from '../support/need.js'
import { project, ROOT, runIn } from './support.js'

export interface Packed {
  /** The project's folder. */
  readonly directory: string
  /** Where the package was installed in it. */
  readonly installed: string
  readonly tarball: string
  readonly remove: () => void
  /** Skips the test where no registry gives the dependencies. */
  readonly ready: (ctx: TestContext) => void
  readonly manifest: () => {
    readonly bin: { readonly speadcast: string }
    readonly exports: Record<string, Record<'require' | 'default', { readonly types: string; readonly default: string }>>
  }
  readonly text: (file: string) => string
}

/** Installs before the tests of the calling file; the file removes it. */
export function packedProject(files: Record<string, string> = {}): Packed {
  const { directory, remove } = project({
    'package.json': JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
    ...files,
  })
  const installed = join(directory, 'node_modules/speadcast')
  const text = (file: string) => readFileSync(join(installed, file), 'utf8')
  let unreachable = ''
  let tarball = ''
  beforeAll(() => {
    const packed = runIn(ROOT, 'npm', ['pack', '--pack-destination', directory, '--loglevel=error'])
    if (packed.status !== 0) throw new Error(`npm pack failed: ${packed.stderr}`)
    tarball = readdirSync(directory).find((name) => name.endsWith('.tgz'))!
    const install = [
      'install',
      '--ignore-scripts',
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
      `./${tarball}`,
    ]
    const { status, stderr } = runIn(directory, 'npm', install)
    if (status !== 0) {
      if (!/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH/.test(stderr))
        throw new Error(`npm install of the packed package failed: ${stderr}`)
      unreachable = `no package registry to install the dependencies from: ${stderr}`
    }
  }, 120_000)
  return {
    directory,
    installed,
    remove,
    text,
    get tarball() {
      return join(directory, tarball)
    },
    ready: (ctx) => need(ctx, !unreachable, unreachable),
    manifest: () => JSON.parse(text('package.json')),
  }
}

/** What `npm install --save-dev @types/node` gives. */
export function installNodeTypes(directory: string): void {
  for (const name of ['@types/node', 'undici-types'])
    cpSync(join(ROOT, 'node_modules', name), join(directory, 'node_modules', name), { recursive: true })
}
