/** The virtual machine of scripts/vm.mjs: its input and output, what it shows when it fails, and that it leaves nothing behind. */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { need } from '../support/need.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const unavailable = () => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the virtual machine is of linux on x64'
  return spawnSync('apt-get', ['--version']).error ? 'the virtual machine is made of Debian packages' : ''
}

function vm(args: readonly string[], onStderr: (text: string) => void = () => {}) {
  const child = spawn(process.execPath, ['scripts/vm.mjs', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: temporary },
  })
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    onStderr(stderr)
  })
  const end = new Promise<{ code: number | null; stdout: Buffer; stderr: string }>((done) =>
    child.once('close', (code) => done({ code, stdout: Buffer.concat(stdout), stderr })),
  )
  return { child, end }
}

/** Machines of this checkout that run. */
const machines = () =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(join(ROOT, '.cache/vm/host'))
    } catch {
      return false // it ended meanwhile
    }
  })
let temporary = ''
const folders = () => readdirSync(temporary)
let before: string[]

beforeAll(async () => {
  if (unavailable()) return
  temporary = mkdtempSync(join(tmpdir(), 'speadcast-vm-test-'))
  expect((await vm(['--prepare']).end).code).toBe(0)
}, 180_000)

beforeEach((ctx) => {
  const why = unavailable()
  need(ctx, !why, why)
  before = machines()
})

afterEach(() => {
  if (temporary) expect({ machines: machines(), folders: folders() }).toEqual({ machines: before, folders: [] })
})

afterAll(() => {
  if (temporary) rmSync(temporary, { recursive: true })
})

test('arguments, output, errors and exit status pass unchanged; the host stays as it is', { timeout: 60_000 }, async () => {
  const node = `process.stdout.write(Buffer.from(Uint8Array.from({ length: 3e6 }, (_, i) => (i * 31) >> 3))); console.log(process.version)`
  const script = `node -e '${node}' && printf '%s|' "$@"; echo to-stderr >&2; pwd; touch written /etc/written; ls written; exit 42`
  const words = ['a b', "it's", '$HOME `x` "q"', '', 'ü\n2']
  const { code, stdout, stderr } = await vm(['--bare', '--', 'sh', '-c', script, 'sh', ...words]).end
  expect({ code, stderr }).toEqual({ code: 42, stderr: 'to-stderr\n' })
  expect(stdout.subarray(3e6).toString()).toBe(`${process.version}\n${words.join('|')}|${resolve(ROOT)}\nwritten\n`)
  expect(stdout.subarray(0, 3e6).equals(Buffer.from(Uint8Array.from({ length: 3e6 }, (_, i) => (i * 31) >> 3)))).toBe(true)
  expect([existsSync(join(ROOT, 'written')), existsSync('/etc/written')]).toEqual([false, false])
})

test('what hangs is killed at the deadline, and the console is shown', { timeout: 60_000 }, async () => {
  const { code, stdout, stderr } = await vm([
    '--bare',
    '--deadline',
    '20',
    '--',
    'sh',
    '-c',
    'echo on stdout; echo the console speaks >/dev/console; sleep 1000',
  ]).end
  expect({ code, stdout: stdout.toString() }).toEqual({ code: 1, stdout: 'on stdout\n' })
  expect(stderr).toMatch(/no exit status from the VM: no end after 20 s; its console ends with\n.*\| the console speaks/s)
})

test('a kernel that panics is told from a command that fails', { timeout: 60_000 }, async () => {
  const { code, stderr } = await vm(['--bare', '--', 'sh', '-c', 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger']).end
  expect(code).toBe(1)
  expect(stderr).toMatch(/no exit status from the VM: the machine stopped by itself.*Kernel panic/s)
})

test('a signal ends the machine, and so does our own violent death, behind which the next run tidies up', {
  timeout: 90_000,
}, async () => {
  for (const [signal, code] of [
    ['SIGKILL', null],
    ['SIGINT', 130],
  ] as const) {
    let heard = () => {}
    const booted = new Promise<void>((done) => {
      heard = done
    })
    const run = vm(['--bare', '--', 'sh', '-c', 'echo up >&2; sleep 1000'], () => heard())
    await booted
    expect(machines().length).toBe(before.length + 1)
    expect(folders().length).toBe(1)
    run.child.kill(signal)
    expect((await run.end).code).toBe(code)
    await expect.poll(machines, { timeout: 5000 }).toEqual(before)
  }
})

test.for([
  [[], 'which command?'],
  [['--deadline', 'soon', '--', 'true'], "--deadline takes a whole number, not 'soon'"],
  [['--fast', '--', 'true'], '--fast'],
] as const)('bad usage %j: exit 2', async ([args, why]) => {
  const { code, stderr } = await vm(args).end
  expect(code).toBe(2)
  expect(stderr).toContain(why)
})
