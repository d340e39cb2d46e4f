// The bootstrap's lock, between real processes.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { identity, lock, type Owner } from '../../scripts/lib/mutex.mjs'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'
import { projectOfTest, ROOT, runIn } from './support.js'

const MUTEX = pathToFileURL(join(ROOT, 'scripts/lib/mutex.mjs')).href

/** A lock as another process would have left it. */
function held(owner: Owner | string): string {
  const directory = join(projectOfTest({}), 'lock')
  mkdirSync(directory)
  writeFileSync(join(directory, 'token'), typeof owner === 'string' ? owner : JSON.stringify(owner))
  return directory
}

function deadPid(): number {
  const { stdout } = runIn(ROOT, process.execPath, ['-p', 'process.pid'])
  return Number(stdout)
}

const QUICK = { timeoutMs: 300 }

test('eight processes take turns, twenty times each, however the lock was left', async () => {
  const directory = projectOfTest({ counter: '0', 'lock/left-behind': JSON.stringify({ ...identity(), pid: deadPid() }) })
  const [command, ...args] = programArgv('project/take-turns', MUTEX)
  const statuses = await Promise.all(
    Array.from({ length: 8 }, () => {
      const child = spawn(command!, args, { cwd: directory, stdio: 'inherit' })
      return new Promise((resolve) => child.on('close', resolve))
    }),
  )
  expect(statuses).toEqual(Array(8).fill(0))
  expect(readFileSync(join(directory, 'counter'), 'utf8')).toBe('160')
  expect(readdirSync(directory)).toEqual(['counter'])
})

test('a living owner is waited for, named, and not replaced', async () => {
  const directory = held(identity(process.ppid))
  const seen: number[] = []
  await expect(lock(directory, { ...QUICK, onWait: ({ pid }) => seen.push(pid) })).rejects.toThrow(
    `held for too long by process ${process.ppid}`,
  )
  expect(seen).toEqual([process.ppid])
  expect(readdirSync(join(directory, '..'))).toEqual(['lock'])
})

test('waiting can be aborted and leaves nothing behind', async () => {
  const directory = held(identity(process.ppid))
  await expect(lock(directory, { signal: AbortSignal.timeout(50) })).rejects.toThrow(/abort/i)
  expect(readdirSync(join(directory, '..'))).toEqual(['lock'])
})

test.for([
  ['a process that has ended', () => ({ ...identity(), pid: deadPid() })],
  ['a process whose pid another one has now', () => ({ ...identity(process.ppid), start: '1' })],
  ['a file that is no owner', () => 'not JSON'],
] as [string, () => Owner | string][])('the lock of %s is taken over', async ([, owner], ctx) => {
  need(ctx, process.platform === 'linux', 'a process is told from a later one of the same pid by /proc')
  const directory = held(owner())
  const release = await lock(directory, QUICK)
  expect(readdirSync(directory)).toHaveLength(1)
  expect(existsSync(join(directory, 'token'))).toBe(false)
  release()
  expect(existsSync(directory)).toBe(false)
})

test('an owner has a start time where there is /proc to tell it', () => {
  expect(typeof identity().start).toBe(process.platform === 'linux' ? 'string' : 'undefined')
})

test('an owner on another machine is believed while its heartbeat is young', async () => {
  const directory = held({ pid: 1, place: 'another machine' })
  await expect(lock(directory, QUICK)).rejects.toThrow('held for too long by process 1')
  const old = new Date(Date.now() - 10 * 60_000)
  utimesSync(join(directory, 'token'), old, old)
  const release = await lock(directory, QUICK)
  release()
  expect(existsSync(directory)).toBe(false)
})

test('an empty directory is nobody’s lock', async () => {
  const directory = join(projectOfTest({}), 'lock')
  mkdirSync(directory)
  const release = await lock(directory, QUICK)
  expect(readdirSync(directory)).toHaveLength(1)
  release()
})
