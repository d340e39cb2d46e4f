/** Classes that open a descriptor and have memory for its calls give the memory back when no descriptor can be had. */
import { spawnSync } from 'node:child_process'
import { beforeEach, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { dist, runModule } from '../support/child.js'
import { need } from '../support/need.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'native calls are made on Linux only'))

const OPENERS = {
  'wait.js': ['EventFd', ''],
  'socket/udp-socket.js': ['UdpSocket', '4'],
  'netlink/link-watch.js': ['LinkWatch', ''],
  'netlink/link-losses.js': ['LinkLosses', ''],
  'socket/io-uring.js': ['IoUring', '64, 128'],
} as const

test.for(Object.entries(OPENERS))('%s, with all descriptors taken', async ([file, [name, options]], ctx) => {
  need(ctx, spawnSync('prlimit', ['--version']).status === 0, 'limiting descriptors needs prlimit (util-linux)')
  const source = `
    import { openSync, readFileSync } from 'node:fs'
    import { ${name} } from ${dist(`ffi/${file}`)}
    const status = openSync('/proc/self/status')
    const resident = () => Number(/^VmRSS:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    // The first loads what all of them need.
    new ${name}(${options}).close()
    const errors = new Set()
    const taken = []
    const attempt = () => {
      try {
        new ${name}(${options})
      } catch (error) {
        errors.add(error.errnoName)
      }
    }
    const { libc } = await import(${dist('ffi/libc.js')})
    while ((taken.at(-1) ?? 0) >= 0) taken.push(libc().dup(status))
    for (let i = 0; i < 1000; i++) attempt()
    // Reading /proc takes one.
    libc().close(taken.at(-2))
    const before = resident()
    libc().dup(status)
    for (let i = 0; i < 4000; i++) attempt()
    libc().close(taken.at(-2))
    console.log(JSON.stringify({ errors: [...errors], grown: resident() - before }))`
  const { stdout, stderr } = await runModule(source, 20_000, ['prlimit', '--nofile=64:64'])
  expect(stderr).toBe('')
  // In KiB.
  const { errors, grown } = JSON.parse(stdout) as { errors: string[]; grown: number }
  expect(errors).toEqual(['EMFILE'])
  // Leaks of 4000 times 4 KiB or more would all be resident.
  expect(grown).toBeLessThan(8000)
})
