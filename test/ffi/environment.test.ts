/** The name of a library in the environment is taken from whoever may do what the process may, as secure_getenv(3) does. */
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { runToEnd } from '../support/child.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

const NAME = '/nonexistent.so'
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
const [node, file] = programArgv('ffi/environment') as [string, string]

async function answer(under: readonly string[], binary = node): Promise<{ value: string | null; said: string }> {
  const argv = [...under, 'env', `SPEADCAST_VERBS_LIBRARY=${NAME}`, binary, file]
  const { stdout, stderr } = await runToEnd(argv)
  expect(stderr).toBe('')
  return JSON.parse(stdout)
}

const needRoot = (ctx: { skip(note?: string): never }) =>
  need(
    ctx,
    process.platform === 'linux' && process.getuid!() === 0 && !spawnSync('setpriv', ['--version']).error,
    'becoming another user needs root and setpriv (util-linux)',
  )

/** A copy of node with rights that whoever starts it may lack. */
function privileged(give: (binary: string) => void): string {
  const folder = mkdtempSync('/tmp/speadcast-node-')
  onTestFinished(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o755)
  const binary = join(folder, 'node')
  copyFileSync(process.execPath, binary)
  chmodSync(binary, 0o755)
  give(binary)
  return binary
}

const TAKEN = { value: NAME, said: expect.stringContaining(`${NAME} could not be loaded`) }
const IGNORED = { value: null, said: expect.not.stringContaining(NAME) }

test('taken: by root, by another user, by a user whose rights came with the process alone', async (ctx) => {
  needRoot(ctx)
  for (const under of [[], NOBODY, [...NOBODY, '--inh-caps=+net_raw']]) expect(await answer(under), under.join(' ')).toEqual(TAKEN)
})

test('ignored: with ambient capabilities', async (ctx) => {
  needRoot(ctx)
  expect(await answer([...NOBODY, '--inh-caps=+net_raw', '--ambient-caps=+net_raw'])).toEqual(IGNORED)
})

test('ignored: set-user-id, set-group-id, file capabilities', async (ctx) => {
  needRoot(ctx)
  for (const mode of [0o4755, 0o2755]) {
    const binary = privileged((file) => chmodSync(file, mode))
    expect(await answer(NOBODY, binary), mode.toString(8)).toEqual(IGNORED)
  }
  need(ctx, !spawnSync('setcap', ['-h']).error, 'file capabilities need setcap (libcap2-bin)')
  const binary = privileged((file) => expect(spawnSync('setcap', ['cap_net_raw+ep', file]).status).toBe(0))
  expect(await answer(NOBODY, binary)).toEqual(IGNORED)
})
