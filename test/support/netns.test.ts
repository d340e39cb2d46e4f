import { spawn, spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { need } from './need.js'
import { makeNetns, netnsUnavailable, waitForOutput } from './netns.js'
import { programArgv } from './program.js'

const list = () => spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout

test('a veth pair carries traffic and everything is gone behind it', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  let name = ''
  let pid = 0
  {
    await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
    name = ns.name.a
    const server = ns.spawn('b', programArgv('support/print-datagram', ns.addresses.b.v4, '5000'))
    pid = server.pid!
    await waitForOutput(server, /ready/)
    const got = waitForOutput(server, /got .*/)
    await ns.exec('a', programArgv('support/send-datagram', 'hello', ns.addresses.b.v4, '5000'))
    expect((await got)[0]).toBe(`got hello from ${ns.addresses.a.v4}`)
    expect(ns.ip('a', '-d link show v0')).toMatch(/mtu 9000 .*gso_max_segs 1 /s)
    await expect(ns.exec('a', ['sh', '-c', 'echo no >&2; exit 3'])).rejects.toThrow(/exit 3\s+no/)
    await expect(ns.exec('a', ['sleep', '10'], { timeoutMs: 50 })).rejects.toThrow(/no end after 50 ms/)
  }
  expect(list()).not.toContain(name)
  expect(() => process.kill(pid, 0)).toThrow(/ESRCH/)
})

test('namespaces of a process killed hard are swept by the next one', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const dead = spawn('sleep', ['100'])
  const leftover = `spc-${dead.pid}-0-a`
  expect(spawnSync('ip', ['netns', 'add', leftover]).status).toBe(0)
  {
    await using _ns = await makeNetns({ sink: {} })
    expect(list()).toContain(leftover) // its owner is alive
  }
  const gone = new Promise((resolve) => dead.once('close', resolve))
  dead.kill('SIGKILL')
  await gone
  await using ns = await makeNetns({ sink: {} })
  expect(list()).not.toContain(leftover)
  expect(ns.ip('a', '-s link show ifb9')).toContain('NOARP')
})
