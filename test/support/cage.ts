/** Cages as services run in: a seccomp filter over socket(2), limits of setrlimit(2). */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CAGE = fileURLToPath(new URL('./cage.py', import.meta.url))

/** The words before a command for which socket(2) is to know these address families only. */
export const cage = (...families: readonly string[]): string[] => ['python3', CAGE, families.join()]

/** Why there can be no such cage here; empty where there can. */
export function cageUnavailable(): string {
  if (process.platform !== 'linux') return 'seccomp is Linux’s'
  const { status, error, stderr } = spawnSync('python3', [CAGE, 'AF_UNIX', 'true'], { encoding: 'utf8' })
  return error || status !== 0 ? `a seccomp filter cannot be installed by python3: ${error?.message ?? stderr}` : ''
}
