// Programs of this machine that a plain Debian has not. The suite removes them from the guest's root, which lies over this
// machine's, because a test that runs one of them would pass here and fail on the next machine. A test may run what Debian's
// required packages have, this node, and what image.mjs fetches.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { read } from '../lib/process.mjs'

const LISTS = '/var/lib/dpkg/info'
const PROGRAM = /^(?:\/usr)?\/s?bin\/[^/]+$/

/** Names of the packages that every Debian has. */
function required() {
  const format = `\${Package} \${Priority} \${Essential}\n`
  const { stdout } = spawnSync('dpkg-query', ['-W', '-f', format], { encoding: 'utf8', maxBuffer: 1 << 26 })
  const lines = (stdout ?? '').split('\n').map((line) => line.split(' '))
  return new Set(lines.flatMap(([name, priority, essential]) => (priority === 'required' || essential === 'yes' ? [name] : [])))
}

/** @param guest the folder that the guest's root has on top: its own programs stay */
export function extraPrograms(guest) {
  if (!existsSync(LISTS)) return []
  const keep = required()
  const lists = readdirSync(LISTS).filter((name) => name.endsWith('.list') && !keep.has(name.replace(/(:\w+)?\.list$/, '')))
  const node = realpathSync(process.execPath)
  return lists
    .flatMap((name) => read(join(LISTS, name)).split('\n'))
    .filter((path) => PROGRAM.test(path) && existsSync(path) && realpathSync(path) !== node && !existsSync(join(guest, path)))
}
