/**
 * Programs that we did not write run on the software NIC unmodified, which shows that its ABI is right: ibv_devinfo, perftest's
 * raw_ethernet_bw, and spead2's own ibverbs sender and receiver from the PyPI wheel, against each other and against the kernel.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { peerScript, spead2Python } from '../support/peer.js'
import { buildSoftnic, NOTHING_LEAKED, readReport, softnicUnavailable } from '../support/softnic.js'

const directory = mkdtempSync(join(tmpdir(), 'speadcast-softnic-'))
const file = (name: string) => join(directory, name)

beforeAll(() => {
  if (!softnicUnavailable()) buildSoftnic()
}, 120_000)
afterAll(() => rmSync(directory, { recursive: true }))

/** Returns what is missing to run these tests; empty when nothing is. */
function missing(...programs: string[]): string {
  const absent = programs.filter((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
  return (
    softnicUnavailable() ||
    netnsUnavailable() ||
    (absent.length ? `needs ${absent.join(', ')} (Debian: perftest, ibverbs-utils)` : '')
  )
}

const veth = () => makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
const mac = (ns: Netns, where: 'a' | 'b', device: string) => ns.ip(where, `-br link show ${device}`).split(/\s+/)[2]!

test('ibv_devinfo -v shows the device, its port and its GIDs', async (ctx) => {
  const why = missing('ibv_devinfo')
  need(ctx, !why, why)
  await using ns = await veth()
  const nic = buildSoftnic()
  const report = file('devinfo.json')
  const { stdout } = await ns.exec('a', ['ibv_devinfo', '-v'], { env: nic.environment({ report }) })
  for (const pattern of [
    /hca_id:\s+softnic0\n/,
    /max_sge:\s+30\n/,
    /raw packet caps:\s+IP csum offload\n/,
    /MANAGED_FLOW_STEERING/,
    /qp_rate_limit_max:\s+100000000kbps\s+supported_qp:\s+SUPPORT_RAW_PACKET\n/,
    /state:\s+PORT_ACTIVE/,
    /link_layer:\s+Ethernet/,
    /GID\[\s+\d+\]:\s+::ffff:10\.77\.0\.1, RoCE v2/,
    /GID\[\s+\d+\]:\s+fd77::1, RoCE v2/,
  ])
    expect(stdout).toMatch(pattern)
  expect(readReport(report).leaked).toEqual(NOTHING_LEAKED)
  ns.ip('a', 'link set v0 down')
  const down = await ns.exec('a', ['ibv_devinfo', '-v'], {
    env: nic.environment({ faults: ['limit checksum 0', 'limit max_sge 7'] }),
  })
  expect(down.stdout).toMatch(/state:\s+PORT_DOWN/)
  expect(down.stdout).toMatch(/max_sge:\s+7\n/)
  expect(down.stdout).not.toContain('IP csum offload')
})

const FRAMES = 6400
const perftest = (ns: Netns, role: 'server' | 'client', ...more: string[]) => {
  const [own, other] = role === 'client' ? [mac(ns, 'a', 'v0'), mac(ns, 'b', 'v1')] : [mac(ns, 'b', 'v1'), mac(ns, 'a', 'v0')]
  const addresses = ['-B', own, '-E', other, '-j', ns.addresses.a.v4, '-J', ns.addresses.b.v4, '-k', '7001', '-K', '7000']
  return ['raw_ethernet_bw', `--${role}`, ...addresses, '-n', String(FRAMES), '-s', '1024', '-m', '9000', ...more]
}

/** Resolves when a program in namespace b reads all frames there, because then it has made its flow rule. */
async function listening(ns: Netns): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    // The columns are sk, RefCnt, Type, Proto, …; this line is a packet socket for every protocol.
    if (/^\S+\s+\d+\s+3\s+0003\s/m.test((await ns.exec('b', ['cat', '/proc/net/packet'])).stdout)) return
    await sleep(20)
  }
  throw new Error('no flow rule was made')
}

for (const [how, flags, posts] of [
  ['as it comes', [], FRAMES],
  ['--use_old_post_send', ['--use_old_post_send'], FRAMES],
  ['-l 64', ['-l', '64', '-t', '256'], FRAMES / 64],
] as const)
  test(`raw_ethernet_bw ${how}: the server gets every frame of the client`, async (ctx) => {
    const why = missing('raw_ethernet_bw')
    need(ctx, !why, why)
    await using ns = await veth()
    const nic = buildSoftnic()
    const settings = (role: string) => ({ env: nic.environment({ mode: 'wire' as const, report: file(`${role}.json`) }) })
    // The queue has room for all frames, because on two cores a polling server does not keep up with a polling client.
    const server = ns.exec('b', perftest(ns, 'server', '-r', '8192'), settings('server'))
    server.catch(() => {})
    await listening(ns)
    const client = await ns.exec('a', perftest(ns, 'client', ...flags), settings('client'))
    expect(client.stdout).toMatch(new RegExp(`^ 1024\\s+${FRAMES}\\s`, 'm'))
    expect((await server).stdout).toMatch(new RegExp(`^ 1024\\s+${FRAMES}\\s`, 'm'))
    const sent = readReport(file('client.json'))
    // The 1024 bytes that perftest counts include the frame check sequence, which a NIC adds.
    expect(sent).toMatchObject({ posts, posted: FRAMES, frames: FRAMES, refused: 0, errors: 0, bytes: FRAMES * 1020 })
    // The client of perftest 4.5 forgets its receive CQ; a later one may not.
    expect({ ...sent.leaked, cqs: 0 }).toEqual(NOTHING_LEAKED)
    expect(sent.leaked.cqs).toBeLessThanOrEqual(1)
    const got = readReport(file('server.json'))
    expect(got).toMatchObject({ received: FRAMES, droppedNoBuffer: 0, droppedOversizeIn: 0, leaked: NOTHING_LEAKED })
  })

test('raw_ethernet_bw notices a WR that fails', async (ctx) => {
  const why = missing('raw_ethernet_bw')
  need(ctx, !why, why)
  await using ns = await veth()
  const env = buildSoftnic().environment({ faults: ['fail 1000 LOC_PROT_ERR'] })
  const { code, stdout, stderr } = await ns.exec('a', perftest(ns, 'client'), { env, check: false })
  expect(code).not.toBe(0)
  expect(stdout + stderr).toMatch(/Failed status 4/)
})

const GROUP = '239.1.2.3'
interface Told {
  heaps: number
  packets: number
  sha256: string
  incomplete: number
  ended: boolean
}
const lastLine = (text: string): Told => (JSON.parse(text.trimEnd().split('\n').at(-1)!) as { done: Told }).done

interface Exchange {
  sender: 'ibverbs' | 'kernel'
  receiver: 'ibverbs' | 'kernel'
  packetSize: number
}

async function exchange(ns: Netns, { sender, receiver, packetSize }: Exchange): Promise<void> {
  const nic = buildSoftnic()
  const python = spead2Python()!
  const envOf = (kind: string, name: string) => (kind === 'ibverbs' ? nic.environment({ mode: 'wire', report: file(name) }) : {})
  const request = {
    endpoints: [[GROUP, 7148, 'v1']],
    file: 'adc_samples',
    seconds: 20,
    ...(receiver === 'ibverbs' && { ibverbs: ns.addresses.b.v4 }),
  }
  const receiving = ns.spawn('b', [python, '-u', peerScript('spead2_receiver.py'), JSON.stringify(request)], {
    env: { ...process.env, ...envOf(receiver, 'receiver.json') },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  receiving.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const ended = new Promise((resolve) => receiving.once('close', resolve))
  await waitForOutput(receiving, /"ready"/)
  const heaps = 120
  const send = {
    to: [[GROUP, 7148]],
    kind: 'tutorial',
    heapSize: 40_000,
    heaps,
    packetSize,
    interface: ns.addresses.a.v4,
    ttl: 2,
    rate: 50e6,
    wire: sender === 'ibverbs' ? 'ibverbs' : 'stream',
  }
  const { stdout } = await ns.exec('a', [python, '-u', peerScript('spead2_sender.py'), JSON.stringify(send)], {
    env: envOf(sender, 'sender.json'),
  })
  const sent = lastLine(stdout)
  await ended
  const got = lastLine(text)
  expect(got).toMatchObject({ ended: true, heaps, incomplete: 0, sha256: sent.sha256 })
  expect(sent.heaps).toBe(heaps)
  if (sender === 'ibverbs') {
    const { packets } = sent
    const report = readReport(file('sender.json'))
    expect(report).toMatchObject({
      posted: packets,
      frames: packets,
      errors: 0,
      refused: 0,
      droppedOversize: 0,
      leaked: NOTHING_LEAKED,
    })
  }
  if (receiver === 'ibverbs') {
    const report = readReport(file('receiver.json'))
    expect(report).toMatchObject({ received: sent.packets, droppedNoBuffer: 0, droppedOversizeIn: 0, leaked: NOTHING_LEAKED })
  }
  console.log(
    `peer spead2: ${heaps} heaps in ${sent.packets} packets, ${sender} to ${receiver}, sha256 ${got.sha256.slice(0, 12)} on both sides`,
  )
}

for (const [sender, receiver] of [
  ['ibverbs', 'kernel'],
  ['kernel', 'ibverbs'],
  ['ibverbs', 'ibverbs'],
] as const)
  for (const packetSize of [1472, 8900])
    test(`spead2 ${sender} sender, spead2 ${receiver} receiver, packets of ${packetSize}: every byte`, async (ctx) => {
      const why = missing()
      need(ctx, !why, why)
      need(ctx, spead2Python(), 'needs the spead2 peer (npm test sets it up)')
      await using ns = await veth()
      await exchange(ns, { sender, receiver, packetSize })
    })

/** The lines of tcpdump -vv, two for each packet. */
async function dump(ns: Netns, faults: string[]): Promise<{ sent: Told; text: string }> {
  const pcap = file('frames.pcap')
  const send = { to: [[GROUP, 7148]], kind: 'tutorial', heapSize: 8192, heaps: 50, packetSize: 1472, interface: ns.addresses.a.v4 }
  const argv = [spead2Python()!, '-u', peerScript('spead2_sender.py'), JSON.stringify({ ...send, wire: 'ibverbs' })]
  const { stdout } = await ns.exec('a', argv, { env: buildSoftnic().environment({ mode: 'pcap', pcap, faults }) })
  const { stdout: text } = await ns.exec('a', ['tcpdump', '-nn', '-vv', '-r', pcap])
  return { sent: lastLine(stdout), text }
}

test('mode pcap: tcpdump finds the frames of spead2 and both their checksums right', async (ctx) => {
  const why = missing('tcpdump')
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs the spead2 peer (npm test sets it up)')
  await using ns = await veth()
  const { sent, text } = await dump(ns, [])
  expect(text.match(/\[udp sum ok\]/g)?.length).toBe(sent.packets)
  expect(text.match(/> 239\.1\.2\.3\.7148: /g)?.length).toBe(sent.packets)
  expect(text).not.toMatch(/bad/)
})

test('mode pcap without checksum offload: spead2 sees it, and sends UDP without a checksum', async (ctx) => {
  const why = missing('tcpdump')
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs the spead2 peer (npm test sets it up)')
  await using ns = await veth()
  const { sent, text } = await dump(ns, ['limit checksum 0'])
  expect(text.match(/\[no cksum\]/g)?.length).toBe(sent.packets)
  expect(text).not.toMatch(/bad/)
})
