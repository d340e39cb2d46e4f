// docker/systemd: the unit by systemd's own checker, its arguments by speadcast, and the page that explains each line.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { CLI, run } from '../support/cli.js'
import { need } from '../support/need.js'
import { ROOT } from './support.js'

const UNIT = readFileSync(join(ROOT, 'docker/systemd/speadcast-send@.service'), 'utf8')
const ENVIRONMENT = readFileSync(join(ROOT, 'docker/systemd/send.env'), 'utf8')

/** What systemd says of a unit. Its program is this one, because it looks whether there is one; the manual is not installed. */
function verify(ctx: TestContext, unit: string): { status: number | null; said: string } {
  const { error } = spawnSync('systemd-analyze', ['--version'])
  need(ctx, error === undefined, 'systemd-analyze is not here (Debian package systemd)')
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-unit-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'speadcast-send@.service')
  writeFileSync(path, unit.replace('/usr/local/bin/speadcast', `${process.execPath} ${CLI}`))
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  return { status, said: stdout + stderr }
}

test('systemd takes the unit', (ctx) => {
  expect(verify(ctx, UNIT)).toEqual({ status: 0, said: '' })
})

test.for([
  ['WatchdogSec=30', 'WatchdogSecs=30', /Unknown key( name)? 'WatchdogSecs'/],
  ['Type=notify', 'Type=notice', /Type|service type/],
  ['/usr/local/bin/speadcast', '/nowhere/speadcast', /nowhere\/speadcast/],
] as const)('systemd sees what is wrong: %s as %s', ([right, wrong, message], ctx) => {
  expect(verify(ctx, UNIT.replace(right, wrong)).said).toMatch(message)
})

test('docs/systemd.md explains each line', () => {
  const keys = [...UNIT.matchAll(/^(\w+)=/gm)].map(([, key]) => key)
  const page = readFileSync(join(ROOT, 'docs/systemd.md'), 'utf8')
  const rows = [...page.matchAll(/^\| (`\w+=`.*?) \|/gm)].flatMap(([, names]) =>
    [...names!.matchAll(/`(\w+)=`/g)].map(([, key]) => key),
  )
  expect(keys.length).toBeGreaterThan(30)
  const explained = rows.filter((key) => !['READY', 'STATUS', 'WATCHDOG', 'STOPPING'].includes(key!))
  expect(explained.toSorted()).toEqual([...new Set(keys)].toSorted())
})

test('the unit stops a sender later than the sender stops itself, and takes the arguments of the file', async () => {
  const of = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(ENVIRONMENT)![1]!
  const args = of('SPEADCAST_ARGS').split(' ')
  const deadline = Number(args[args.indexOf('--deadline') + 1])
  expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(UNIT)![1])).toBeGreaterThan(deadline)
  expect(UNIT).toMatch(/^Environment=SPEADCAST_INDEX=%i$/m)
  const local = args.filter(
    (arg, i) =>
      !['--interface', '--ttl', '--forever'].some((flag) => arg === flag || (args[i - 1] === flag && flag !== '--forever')),
  )
  const { code, stderr } = await run(['send', ...local, '-n', '3', '-H', '64', '--backend', 'memory'], undefined, {
    SPEADCAST_INDEX: '3',
    SPEADCAST_SENDERS: of('SPEADCAST_SENDERS'),
  })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})
