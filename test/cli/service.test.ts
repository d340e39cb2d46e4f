// What systemd is told by sd_notify(3): a real socket listens, by a path and by an abstract name.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, onTestFinished, type TestContext, test } from 'vitest'
import { serviceNotifier } from '#dist/src/devices/index.js'
import { CLI, freePort, sink } from '../support/cli.js'
import { need } from '../support/need.js'
import { waitForOutput } from '../support/netns.js'
import { peerScript } from '../support/peer.js'

const folder = mkdtempSync(join(tmpdir(), 'speadcast-service-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
let serial = 0
const NAMES = { 'a path': () => join(folder, `${serial++}`), 'an abstract name': () => `@speadcast-${process.pid}-${serial++}` }

interface Manager {
  readonly name: string
  /** What it was told, message by message. */
  readonly told: string[][]
  /** Resolves when it was told a line that matches. */
  heard(pattern: RegExp): Promise<void>
}

async function manager(ctx: TestContext, name = NAMES['a path']()): Promise<Manager> {
  need(ctx, process.platform === 'linux', 'systemd is of Linux')
  const child = spawn('python3', ['-u', peerScript('notify_socket.py'), name], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await waitForOutput(child, /listening\n/)
  const told: string[][] = []
  let rest = ''
  child.stdout!.on('data', (text: string) => {
    const lines = `${rest}${text}`.split('\n')
    rest = lines.pop()!
    for (const line of lines) told.push(JSON.parse(line))
  })
  const heard = async (pattern: RegExp): Promise<void> => {
    for (let waited = 0; !told.flat().some((line) => pattern.test(line)); waited += 20) {
      if (waited > 10_000) throw new Error(`never told ${pattern}: ${JSON.stringify(told)}`)
      await sleep(20)
    }
  }
  return { name, told, heard }
}

function command(args: readonly string[], environment: Record<string, string>) {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stderr = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdout!.resume()
  const done = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, stderr })),
  )
  return { child, done }
}

const pings = ({ told }: Manager): number => told.flat().filter((line) => line === 'WATCHDOG=1').length

describe('serviceNotifier', () => {
  test.for(Object.entries(NAMES))('tells a manager at %s', async ([, name], ctx) => {
    const { name: NOTIFY_SOCKET, told, heard } = await manager(ctx, name())
    const notifier = serviceNotifier({ NOTIFY_SOCKET, WATCHDOG_USEC: '2500000', WATCHDOG_PID: `${process.pid}` })!
    expect(notifier.watchdogSeconds).toBe(2.5)
    notifier.notify({ ready: true, status: 'two\nlines' })
    notifier.notify({ watchdog: true })
    notifier.notify({})
    notifier.notify({ stopping: true, status: 'é'.repeat(5000) })
    await heard(/STOPPING/)
    notifier.close()
    notifier.close()
    expect(() => notifier.notify({ ready: true })).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CLOSED' }))
    expect(told.slice(0, 2)).toEqual([['READY=1', 'STATUS=two\\x0alines'], ['WATCHDOG=1']])
    expect(told[2]![0]).toBe('STOPPING=1')
    expect(told).toHaveLength(3)
  })

  test.for([
    [{}, undefined],
    [{ NOTIFY_SOCKET: '' }, undefined],
    [{ NOTIFY_SOCKET: 'relative' }, /^NOTIFY_SOCKET is 'relative'; it must be an absolute path or '@'/],
    [{ NOTIFY_SOCKET: '@' }, /^NOTIFY_SOCKET is '@'/],
    [{ NOTIFY_SOCKET: `/${'x'.repeat(107)}` }, /^NOTIFY_SOCKET is a string of 108 characters; .* of less than 108 bytes$/],
    [{ NOTIFY_SOCKET: '/a\0b' }, /^NOTIFY_SOCKET is '\/a\\x00b'/],
    [{ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '0' }, /^WATCHDOG_USEC is '0'; it must be a whole number from 1 up$/],
    [{ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1e6' }, /^WATCHDOG_USEC is '1e6'/],
    [{ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1', WATCHDOG_PID: 'me' }, /^WATCHDOG_PID is 'me'/],
  ] as const)('of %j', ([environment, message]) => {
    if (message === undefined) expect(serviceNotifier(environment)).toBeUndefined()
    else
      expect(() => serviceNotifier(environment)).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }),
      )
  })

  test("leaves another process's watchdog alone, and says when nobody listens", (ctx) => {
    need(ctx, process.platform === 'linux', 'systemd is of Linux')
    const environment = { NOTIFY_SOCKET: join(folder, 'nobody'), WATCHDOG_USEC: '1000000', WATCHDOG_PID: `${process.pid + 1}` }
    const notifier = serviceNotifier(environment)!
    expect(notifier.watchdogSeconds).toBeUndefined()
    expect(() => notifier.notify({ ready: true })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_NATIVE', message: expect.stringMatching(/sendto.*ENOENT/) }),
    )
    notifier.close()
  })
})

describe('a service', () => {
  test.for(Object.entries(NAMES))('that sends says so at %s: ready, its rate, well, stopping', async ([, name], ctx) => {
    const systemd = await manager(ctx, name())
    const { to } = await sink()
    const { child, done } = command(['send', to, '--forever', '-H', '8KiB', '--rate', '1MB/s'], {
      NOTIFY_SOCKET: systemd.name,
      WATCHDOG_USEC: '400000',
    })
    await systemd.heard(/^STATUS=sent [\d,]+ heaps, \d/)
    await systemd.heard(/^WATCHDOG=1$/)
    child.kill('SIGTERM')
    expect(await done).toMatchObject({ code: 0 })
    await systemd.heard(/^STOPPING=1$/)
    expect(systemd.told[0]).toEqual(['READY=1', 'STATUS=sent nothing yet'])
    expect(systemd.told.flat().filter((line) => line === 'STOPPING=1')).toHaveLength(1)
  })

  test('that receives is ready when it listens, and well while nothing comes', async (ctx) => {
    const systemd = await manager(ctx)
    const to = `127.0.0.1:${await freePort()}`
    const { child, done } = command(['recv', to], { NOTIFY_SOCKET: systemd.name, WATCHDOG_USEC: '200000' })
    await systemd.heard(/^READY=1$/)
    await command(['send', to, '-n', '10', '-H', '1KiB', '--no-stop'], {}).done
    await systemd.heard(/^STATUS=got 10 heaps, /)
    const before = pings(systemd)
    while (pings(systemd) < before + 3) await sleep(20)
    child.kill('SIGTERM')
    expect(await done).toMatchObject({ code: 0 })
    await systemd.heard(/^STOPPING=1$/)
  })

  test('whose packets are far apart by its rate is well', async (ctx) => {
    const systemd = await manager(ctx)
    const { to, datagrams } = await sink()
    // A packet in three seconds.
    const { child, done } = command(
      ['send', to, '--forever', '-H', '8KiB', '--rate', '500B/s', '--burst', '64', '--deadline', '0'],
      {
        NOTIFY_SOCKET: systemd.name,
        WATCHDOG_USEC: '400000',
      },
    )
    await systemd.heard(/^READY=1$/)
    while (pings(systemd) < 10) await sleep(20)
    // Eight looks at least in which nothing went.
    expect(datagrams.length).toBeLessThan(3)
    child.kill('SIGTERM')
    await done
  })

  test('whose heaps do not move is not well, until they move again', async (ctx) => {
    const systemd = await manager(ctx)
    const peers: Socket[] = []
    const server = createServer((peer) => void peers.push(peer.on('error', () => undefined).resume()))
    onTestFinished(() => void server.close())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const { child, done } = command(['send', `tcp://127.0.0.1:${port}`, '--forever', '-H', '64KiB', '--deadline', '0'], {
      NOTIFY_SOCKET: systemd.name,
      WATCHDOG_USEC: '600000',
    })
    await systemd.heard(/^WATCHDOG=1$/)
    for (const peer of peers) peer.pause()
    await systemd.heard(/; nothing has moved for \d+ s$/)
    const stuck = pings(systemd)
    await sleep(1200)
    expect(pings(systemd)).toBe(stuck)
    for (const peer of peers) peer.resume()
    while (pings(systemd) === stuck) await sleep(20)
    child.kill('SIGTERM')
    await done
    for (const peer of peers) peer.destroy()
    expect(pings(systemd)).toBeGreaterThan(stuck)
  })

  test('goes on when nobody listens, and says so once', async () => {
    const { to } = await sink()
    const { code, stderr } = await command(['send', to, '-n', '3', '-H', '64'], { NOTIFY_SOCKET: join(folder, 'nobody') }).done
    expect(code).toBe(0)
    expect(stderr).toMatch(/^speadcast send: the service manager cannot be told: .*ENOENT.*\n$/)
  })

  test('with a watchdog that is none is bad usage', async () => {
    const environment = { NOTIFY_SOCKET: join(folder, 'nobody'), WATCHDOG_USEC: 'soon' }
    const { code, stderr } = await command(['send', '127.0.0.1:9', '-n', '3', '-H', '64'], environment).done
    expect(code).toBe(2)
    expect(stderr).toContain("WATCHDOG_USEC is 'soon'; it must be a whole number from 1 up")
  })
})
