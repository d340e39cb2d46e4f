// Memory that cannot be had: a cgroup's limit, RLIMIT_AS and RLIMIT_DATA. Nothing is killed, every error has our code and names the limit.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { type Ended, runToEnd } from '../support/child.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { programArgv } from '../support/program.js'

const MIB = 2 ** 20
/** The folders of the two kinds of memory cgroups, and the files of their limits. */
const CGROUPS = [
  ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
  ['/sys/fs/cgroup', 'memory.max'],
] as const

/** A command to run others under, in a cgroup of so much memory; undefined where none can be made. */
function cgroup(bytes: number): readonly string[] | undefined {
  for (const [root, limit] of CGROUPS) {
    const folder = `${root}/speadcast-${process.pid}`
    try {
      mkdirSync(folder)
    } catch {
      continue
    }
    onTestFinished(() => rmdirSync(folder))
    if (!existsSync(`${folder}/${limit}`)) continue
    writeFileSync(`${folder}/${limit}`, `${bytes}`)
    return ['sh', '-c', `echo $$ > ${folder}/cgroup.procs && exec "$0" "$@"`]
  }
  return undefined
}

type Result = { code?: string; message?: string; made?: number }

async function wants(before: readonly string[], how = ''): Promise<Record<string, Result>> {
  const ended = await runToEnd([...before, ...programArgv('stream/memory-wanted', how)], 30_000)
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' } satisfies Partial<Ended>)
  return JSON.parse(ended.stdout)
}

const refused = (why: RegExp) => ({ code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(why) })

test('a cgroup of 400 MiB: 1 GiB is refused, whoever asks; little is had', async (ctx) => {
  const before = cgroup(400 * MIB)
  need(ctx, before, 'no memory cgroup can be made')
  const why = refused(/the cgroup's memory limit is 419430400; raise it \(MemoryMax=/)
  expect(await wants(before, 'many')).toEqual({
    batch: refused(/the cgroup's memory limit is 419430400; raise it \(MemoryMax=.*; use fewer or smaller heaps/),
    ring: refused(/64 batches of 1 heap .* more than half of the cgroup's memory/),
    region: why,
    many: why,
    receiver: why,
    little: { made: 1 },
    littleReceiver: { made: 1 },
  })
  // The command says so too, in one line.
  const sent = await runToEnd([...before, process.execPath, CLI, 'send', '127.0.0.1:7148', '-H', '1GiB', '-n', '1'], 20_000)
  expect(sent).toMatchObject({
    code: 1,
    signal: null,
    stdout: '',
    stderr: expect.stringMatching(/^speadcast send: [^\n]*cgroup[^\n]*\n$/),
  })
})

test.for([
  // Node 20 takes some 800 MiB of address space before it does anything, a worker as much again, and some 100 MiB of data. Node 24 takes 1310
  // MiB and 560 of data before it does anything, so that the least sizes leave no room.
  ['RLIMIT_AS', 'as', 'ulimit -v', [1300, 1500, 1700, 1900], [1700, 1900]],
  ['RLIMIT_DATA', 'data', 'ulimit -d', [700, 900, 1100], [1300]],
] as const)(
  '%s: 1 GiB is refused with its name, as long as Node itself has room',
  async ([name, option, shell, on20, on24], ctx) => {
    need(ctx, process.platform === 'linux', 'limits of setrlimit(2)')
    for (const mebibytes of Number(process.versions.node.split('.')[0]) >= 24 ? on24 : on20) {
      const told = await wants(['prlimit', `--${option}=${mebibytes * MIB}`])
      const why = refused(new RegExp(`${name} is ${mebibytes * MIB}; raise it \\(${shell}`))
      expect({ mebibytes, ...told }).toMatchObject({ mebibytes, batch: why, region: why, little: { made: 1 } })
      expect(told.receiver).toMatchObject({ code: expect.stringMatching(/^ERR_SPEADCAST_(MEMORY|WORKER)$/) })
    }
  },
)
