// Tests the effects of transport flags of `speadcast send` on a wire, a thread and a connection. `send --pcap` shows none of them.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CLI, run, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { buildSoftnic, softnicUnavailable } from '../support/softnic.js'
import { silentReceiver } from '../support/tcp-receivers.js'

const GROUP = '239.77.0.1'
const send = (...args: string[]) => [process.execPath, CLI, 'send', ...args]
const THREE = ['-n', '3', '-H', '64']

/** Prints how many datagrams came before the one that says `mark`, of a group that it joins on an interface of address ADDRESS. */
const LISTENER = `
  const socket = require('dgram').createSocket({ type: 'udp4', reuseAddr: true })
  let heard = 0
  socket.on('message', (message) => {
    if (message.toString() !== 'mark') return void heard++
    console.log('heard ' + heard)
    process.exit()
  })
  socket.bind(7148, () => {
    socket.addMembership('${GROUP}', process.argv[1])
    console.log('ready')
  })`
/** The socket's queue has it behind all that was sent before. */
const MARK = `require('dgram').createSocket('udp4').send('mark', 7148, process.argv[1], () => process.exit())`

async function heardOnThisHost(...flags: string[]): Promise<string> {
  await using ns = await makeNetns({ veth: {} })
  const { v4 } = ns.addresses.a
  const child = ns.spawn('a', [process.execPath, '-e', LISTENER, v4], { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let said = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await once(child.stdout!, 'data')
  await ns.exec('a', send(`${GROUP}:7148`, '--interface', 'v0', '--backend', 'udp', ...THREE, ...flags))
  await ns.exec('a', [process.execPath, '-e', MARK, v4])
  await closed
  return said
}

test('--multicast-loop', { timeout: 60_000 }, async (ctx) => {
  need(ctx, !netnsUnavailable(), netnsUnavailable())
  expect(await heardOnThisHost('--no-multicast-loop', '--multicast-loop')).toContain('heard 5\n')
})

test('--no-multicast-loop', { timeout: 60_000 }, async (ctx) => {
  need(ctx, !netnsUnavailable(), netnsUnavailable())
  expect(await heardOnThisHost('--no-multicast-loop')).toContain('heard 0\n')
})

test('--allow-fragmentation sends what is beyond the MTU', { timeout: 60_000 }, async (ctx) => {
  need(ctx, !netnsUnavailable(), netnsUnavailable())
  await using ns = await makeNetns({ veth: {} })
  const argv = send(`${ns.addresses.b.v4}:7148`, '--backend', 'udp', '-p', '4000', '-n', '2', '-H', '3000', '--json')
  const refused = await ns.exec('a', argv, { check: false })
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/MTU/) })
  const { stdout } = await ns.exec('a', [...argv, '--allow-fragmentation'], { check: false })
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 2, heapsFailed: 0 })
})

test('--vlan tags the frames, --verbs-library and --queue-depth reach the device', { timeout: 120_000 }, async (ctx) => {
  const why = netnsUnavailable() || softnicUnavailable()
  need(ctx, !why, why)
  const nic = buildSoftnic()
  const pcap = join(temporaryFolder(), 'frames.pcap')
  await using ns = await makeNetns({ veth: {} })
  const env = nic.environment({ mode: 'pcap', pcap })
  const verbs = ['--backend', 'ibverbs', '--interface', 'v0', '--queue-depth', '64', '--completion-vector', '0']
  const { stdout } = await ns.exec('a', send(`${GROUP}:7148`, ...verbs, ...THREE, '--vlan', '5:3', '--dscp', '46', '--json'), {
    env,
  })
  expect(JSON.parse(stdout)).toMatchObject({ backend: 'ibverbs', heaps: 3 })
  const records = readFileSync(pcap)
  const frames: Buffer[] = []
  for (let at = 24; at < records.length; at += 16 + records.readUInt32LE(at + 8)) frames.push(records.subarray(at + 16))
  expect(frames).toHaveLength(5)
  // IEEE 802.1Q: the tag's ethertype, then priority (3 bits), drop eligibility (1) and id (12).
  for (const frame of frames) expect([frame.readUInt16BE(12), frame.readUInt16BE(14)]).toEqual([0x8100, (3 << 13) | 5])
  for (const frame of frames) expect(frame[19]! >> 2).toBe(46)
})

test.for(['--io-cpu', '--affinity'])('%s holds the I/O thread on its CPUs', { timeout: 60_000 }, async (flag) => {
  const args = ['239.77.0.1:7148', '--interface', '127.0.0.1', '--backend', 'udp', ...THREE, flag, '0-0']
  const child = spawn(process.execPath, [CLI, 'send', ...args], {
    env: { ...process.env, NODE_DEBUG: 'speadcast' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const said = await child.stderr.toArray()
  expect(Buffer.concat(said).toString()).toMatch(/I\/O thread 1: runs on CPUs 0\n/)
})

test('--connect-timeout bounds the wait for a receiver that does not answer', { timeout: 60_000 }, async () => {
  const to = await silentReceiver()
  const { code, stderr } = await run(['send', to, ...THREE, '--connect-timeout', '50'])
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('did not answer in 50 ms') })
})
