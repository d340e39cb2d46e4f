import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Python of the venv that holds spead2 4.5.1 and numpy (made by scripts/bootstrap.mjs), or undefined where there is none. */
export function spead2Python(): string | undefined {
  const python = process.env.SPEADCAST_TEST_PYTHON ?? fileURLToPath(new URL('../../.cache/venv/bin/python', import.meta.url))
  return existsSync(python) ? python : undefined
}

export const peerScript = (name: string): string => fileURLToPath(new URL(`../peers/${name}`, import.meta.url))
