// Busy neighbours are there while the command runs, and gone afterwards.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { beside, compileBeside } from '../../scripts/bench/hogs.mjs'
import { need } from '../support/need.js'

const gcc = process.platform === 'linux' && spawnSync('gcc', ['--version']).status === 0

beforeAll(async () => {
  if (gcc) await compileBeside()
})

const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
/** Clock ticks of the children that this process has waited for: cutime and cstime, proc(5). */
function ticksOfChildren(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[13]) + Number(fields[14])
}
const run = (hogs: number, command: string[]) => {
  const [program, ...args] = beside(hogs, command)
  return spawnSync(program!, args, { encoding: 'utf8' })
}

test('with no neighbours a command stays what it is', () => {
  expect(beside(0, ['true', 'x'])).toEqual(['true', 'x'])
})

test('the command keeps its output and status, and the CPU time of its neighbours is that of children', (ctx) => {
  need(ctx, gcc, 'needs Linux and gcc')
  const before = ticksOfChildren()
  expect(run(1, ['sh', '-c', 'echo out; sleep 1; exit 7'])).toMatchObject({ status: 7, stdout: 'out\n' })
  // The shell and sleep take none that shows; a loop of a second has a hundred ticks, fewer where others run too.
  expect(ticksOfChildren() - before).toBeGreaterThan(5)
  expect(run(0, ['sh', '-c', 'exit 7'])).toMatchObject({ status: 7 })
  expect(run(2, ['sh', '-c', 'kill -9 $$'])).toMatchObject({ status: 137 })
  expect(run(1, ['/no/such/program'])).toMatchObject({ status: 127 })
})

test('neighbours end with what started them, even if it is killed', async (ctx) => {
  need(ctx, gcc, 'needs Linux and gcc')
  const [program, ...args] = beside(2, ['sleep', '30'])
  const child = spawn(program!, args, { stdio: 'ignore' })
  const exited = once(child, 'exit')
  let family: number[] = []
  for (let i = 0; i < 500 && family.length < 3; i++) {
    await sleep(10)
    family = childrenOf(child.pid!)
  }
  expect(family).toHaveLength(3)
  child.kill('SIGKILL')
  await exited
  const alive = () => family.filter((pid) => existsSync(`/proc/${pid}`))
  for (let i = 0; i < 500 && alive().length > 0; i++) await sleep(10)
  expect(alive()).toEqual([])
})
