// A lock between processes: a directory that appears whole, by rename, with its owner's file already in it. Plain node: it runs
// before anything is installed.
//
// The owner's file is named by a random token, so a stale owner is removed by name: a second waiter that judged the same owner
// stale finds the file gone and cannot remove the next owner's by mistake.
import { randomBytes } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const HEARTBEAT_MS = 5_000
/** An owner that cannot be looked up (another host or pid namespace) is stale when its heartbeat stops for this long. */
const SILENT_MS = 60_000

const orElse = (f, otherwise) => {
  try {
    return f()
  } catch {
    return otherwise
  }
}

/** The range within which a pid names one process: this boot of this host, in this pid namespace. */
const place = () =>
  [
    hostname(),
    orElse(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), ''),
    orElse(() => readlinkSync('/proc/self/ns/pid'), ''),
  ].join(' ')

/** State and start time of a process (fields 3 and 22 of /proc/PID/stat); empty where there is no /proc. */
const statOf = (pid) =>
  orElse(() => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state: fields[0], start: fields[19] }
  }, {})

/** The text that names an owner, by which other processes can tell whether it still lives. */
export const identity = (pid = process.pid) => ({ pid, start: statOf(pid).start, place: place() })

function lives(owner, file) {
  if (owner.place !== place()) return Date.now() - orElse(() => statSync(file).mtimeMs, 0) < SILENT_MS
  try {
    process.kill(owner.pid, 0)
  } catch (error) {
    if (error.code === 'ESRCH') return false
  }
  const { state, start } = statOf(owner.pid)
  const reused = owner.start && start && owner.start !== start
  return !reused && state !== 'Z'
}

/**
 * Takes the lock `directory`, waiting for a living owner and replacing a dead one; `onWait(owner)` is called once when it has to
 * wait. Returns the function that gives the lock back. Throws after `timeoutMs`, or when `signal` aborts.
 */
export async function lock(directory, { onWait = () => {}, signal, timeoutMs = 15 * 60_000 } = {}) {
  const token = randomBytes(8).toString('hex')
  const mine = `${directory}.${token}`
  mkdirSync(mine, { recursive: true })
  writeFileSync(join(mine, token), JSON.stringify(identity()))
  const deadline = Date.now() + timeoutMs
  let waited = false
  try {
    while (!takes(mine, directory)) {
      const owner = livingOwner(directory)
      if (owner && !waited) onWait(owner)
      waited ||= owner !== undefined
      if (Date.now() > deadline)
        throw new Error(`${directory} is held for too long by ${owner ? `process ${owner.pid}` : 'nobody'}`)
      await sleep(owner ? 50 + Math.random() * 100 : 1, undefined, { signal })
    }
  } catch (error) {
    rmSync(mine, { recursive: true, force: true })
    throw error
  }
  const file = join(directory, token)
  const beat = setInterval(() => orElse(() => utimesSync(file, new Date(), new Date())), HEARTBEAT_MS).unref()
  return () => {
    clearInterval(beat)
    orElse(() => unlinkSync(file))
    orElse(() => rmdirSync(directory))
  }
}

/** Renames `mine` to `directory`: fails while that has a file in it, replaces it if it is empty (POSIX). */
function takes(mine, directory) {
  try {
    renameSync(mine, directory)
    return true
  } catch (error) {
    const held = ['ENOTEMPTY', 'EEXIST', ...(process.platform === 'win32' ? ['EPERM', 'EACCES'] : [])]
    if (!held.includes(error.code)) throw error
    return false
  }
}

/** The living owner, if there is one; dead ones are removed. */
function livingOwner(directory) {
  for (const name of orElse(() => readdirSync(directory), [])) {
    const file = join(directory, name)
    const owner = orElse(() => JSON.parse(readFileSync(file, 'utf8')), undefined)
    if (typeof owner?.pid === 'number' && lives(owner, file)) return owner
    rmSync(file, { recursive: true, force: true })
  }
  // Windows renames onto no directory, not even an empty one.
  orElse(() => rmdirSync(directory))
  return undefined
}
