/**
 * Names of libraries out of the environment, by the rule of secure_getenv(3): not where the process has rights that whoever set the
 * environment may lack, because the library's code would get them. That is a set-user-id or set-group-id program or one with file
 * capabilities (AT_SECURE of getauxval(3)); and one with ambient capabilities (capabilities(7)), for which the kernel does not set
 * AT_SECURE.
 */
import { readFileSync } from 'node:fs'
import { libc } from './libc.js'

/** linux/auxvec.h */
const AT_SECURE = 23

let raised: boolean | undefined

function hasRaisedRights(): boolean {
  raised ??= process.platform === 'linux' && (libc().getauxval(AT_SECURE) !== 0 || ambientCapabilities())
  return raised
}

function ambientCapabilities(): boolean {
  try {
    return /^CapAmb:\s*0*[1-9a-f]/m.test(readFileSync('/proc/self/status', 'latin1'))
  } catch {
    return false
  }
}

/** A variable's value; undefined where it is empty, not set, or not to be trusted. */
export function trustedVariable(name: string): string | undefined {
  return process.env[name] && !hasRaisedRights() ? process.env[name] : undefined
}

/** Says that a variable is set and not used; empty where that is not so. */
export function distrusted(name: string): string {
  if (!process.env[name] || !hasRaisedRights()) return ''
  return `; ${name} is not used, because this process has rights that whoever set it may lack`
}
