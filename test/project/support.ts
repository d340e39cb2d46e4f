import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export interface Finished {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The environment without what npm and vitest put into it for their own children. */
export function plainEnv(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const env = { ...process.env, ...extra }
  for (const name of Object.keys(env))
    if (
      /^(npm_(package|lifecycle|config_local_prefix|config_prefix|command|execpath)|VITEST|TEST$|NODE_ENV$|INIT_CWD$|SPEADCAST_)/.test(
        name,
      ) &&
      !(name in extra)
    )
      delete env[name]
  return env
}

export function runIn(cwd: string, command: string, args: readonly string[], env: Record<string, string> = {}): Finished {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env: plainEnv(env),
    encoding: 'utf8',
    timeout: 110_000,
  })
  if (error) throw error
  return { status, stdout, stderr }
}

/** Writes files below a new temporary folder, which goes away with the test (or, outside one, by `remove`). */
export function project(files: Record<string, string>): { directory: string; remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'speadcast-project-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), text)
  }
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) }
}

export function projectOfTest(files: Record<string, string>): string {
  const { directory, remove } = project(files)
  onTestFinished(remove)
  return directory
}
