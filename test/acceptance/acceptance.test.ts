// scripts/acceptance.mjs from end to end on the software NIC, with the other end of a veth pair as second host: it finds what
// softnic does.

import { type ChildProcess, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns } from '../support/netns.js'
import { Nic, type NicOptions, needNic, sleep } from '../support/nic.js'

const SCRIPT = join(import.meta.dirname, '../../scripts/acceptance.mjs')
const CAPTURE = (name: string) =>
  `exec ip netns exec ${name} timeout $SECONDS tcpdump -i v1 -U -s 0 -B 65536 -c $COUNT -w - "$FILTER"`

interface Step {
  readonly name: string
  readonly result: 'passed' | 'failed' | 'measured' | 'not done'
  readonly found: string
}

interface Run extends NicOptions {
  readonly args?: readonly string[]
  /** The other end of the pair captures: by a command, behind a program called ssh, or beside (`--by-hand`). */
  readonly second?: 'command' | 'ssh' | 'hand'
  /** /sys/class/net/v0 has the switch of MLNX_OFED. */
  readonly withSwitch?: boolean
  /** A folder of programs in front of the others. */
  readonly path?: string
}

const SWITCHED = [
  'set -e',
  'files=$(mktemp -d)',
  'for file in address mtu ifindex uevent; do cat /sys/class/net/v0/$file > $files/$file; done',
  'mount -t tmpfs none /sys/class/net',
  'mkdir -p /sys/class/net/v0/settings',
  'cp $files/* /sys/class/net/v0/',
  'rm -r $files',
  'echo Force local loopback disable is OFF > /sys/class/net/v0/settings/force_local_lb_disable',
  '"$@"',
  'cat /sys/class/net/v0/settings/force_local_lb_disable >&2',
].join('\n')

async function accept({ args = [], second, withSwitch, path = '', ...nicOptions }: Run) {
  await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 1 } })
  const out = mkdtempSync(join(tmpdir(), 'speadcast-acceptance-'))
  onTestFinished(() => rmSync(out, { recursive: true, force: true }))
  const nic = new Nic({ netdevs: ['v0'], ...nicOptions })
  const { SOFTNIC_REPORT: _, SOFTNIC_CONTROL: __, ...environment } = nic.environment
  const common = ['--interface', 'v0', '--to', '239.10.0.1:7148', '--seconds', '1', '--rates', '100Mbps', '--out', out]
  const capture = {
    command: ['--capture-command', CAPTURE(ns.name.b)],
    ssh: ['--second-host', 'nobody@nowhere', '--second-interface', 'v1'],
    hand: ['--by-hand'],
  }
  // ssh -o BatchMode=yes HOST COMMAND, to a host that is a namespace here.
  writeFileSync(join(out, 'ssh'), `#!/bin/sh\nshift 3\nexec ip netns exec ${ns.name.b} sh -c "$*"\n`, { mode: 0o755 })
  const under = withSwitch ? ['unshare', '--mount', 'sh', '-c', SWITCHED, 'sh'] : []
  const child = ns.spawn('a', [...under, process.execPath, SCRIPT, ...common, ...(second ? capture[second] : []), ...args], {
    env: { ...process.env, ...environment, PATH: `${out}:${path}:${process.env.PATH}` },
  })
  let stderr = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdout!.resume()
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  if (second === 'hand') await captureByHand(ns, join(out, 'hand.pcap'), child, () => stderr)
  const code = await ended
  const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'))
  const steps = Object.fromEntries((report.steps as Step[]).map((step) => [step.name, step]))
  return { code, stderr, steps, markdown: readFileSync(join(out, 'report.md'), 'utf8') }
}

/** Does what the script asks its user for. */
async function captureByHand(ns: Netns, pcap: string, script: ChildProcess, said: () => string): Promise<void> {
  const asked = async (what: RegExp) => {
    while (!what.test(said()) && script.exitCode === null) await sleep(20)
  }
  await asked(/Enter when it listens/)
  const tcpdump = ns.spawn('b', ['tcpdump', '-i', 'v1', '-U', '-s', '0', '-B', '65536', '-w', pcap, 'udp'], { stdio: 'ignore' })
  const over = new Promise((resolve) => tcpdump.once('close', resolve))
  while (!existsSync(pcap) && tcpdump.exitCode === null) await sleep(20)
  script.stdin!.write('\n')
  await asked(/Its path: $/)
  // Time for frames that the kernel has not handed over yet.
  await sleep(1500)
  tcpdump.kill('SIGINT')
  await over
  script.stdin!.write(`${pcap}\n`)
}

const results = (steps: Record<string, Step>) => Object.fromEntries(Object.values(steps).map(({ name, result }) => [name, result]))

test('every step, with a second host', { timeout: 120_000 }, async (ctx) => {
  needNic(ctx)
  for (const tool of ['tcpdump', 'raw_ethernet_bw']) need(ctx, !spawnSync(tool, ['--version']).error, `needs ${tool}`)
  const { code, steps, markdown, stderr } = await accept({ second: 'command', args: ['--disturb'] })
  // How well a rate is kept depends on the rest of the machine, so these steps only say what they measured.
  const { 'rate sw': sw, 'rate hw': hw, ...others } = steps
  for (const rate of [sw!, hw!]) expect(rate.found).toMatch(/^100Mbps: 0\.\d+ Gb\/s \([+-]/)
  expect(results(others), stderr).toEqual({
    device: 'passed',
    choice: 'passed',
    throughput: 'measured',
    capture: 'passed',
    checksums: 'passed',
    'over the MTU': 'measured',
    flush: 'passed',
    'slow pacing': 'passed',
    loopback: 'measured',
    memory: 'measured',
    'link down': 'passed',
  })
  expect(code).toBe([sw!, hw!].some(({ result }) => result === 'failed') ? 1 : 0)
  // softnic loses a frame above the MTU, and its work request succeeds (test/softnic/README.md).
  expect(steps['over the MTU']!.found).toMatch(/8972 bytes: completion 0, arrived; 8973 bytes: completion 0, did not arrive/)
  // Local protection error, and a flush for each that was behind it.
  expect(steps.flush!.found).toMatch(/number 20 failed \(row 20: status 4.*43 flush completions for the 43 behind it/)
  expect(steps.throughput!.found).toMatch(/raw_ethernet_bw [\d.]+ Mpps/)
  expect(steps.device!.found).toMatch(/softnic0.*MTU 9000, behind v0; no port_xmit_wait tells when it is held up/)
  expect(hw!.found).toMatch(/; 100Mbps in bursts of one frame: 0\.\d+ Gb\/s/)
  expect(steps['slow pacing']!.found).toMatch(/^\d+ packets at 6\.0 Mb\/s in [678]\.\d s, 0 heaps failed, 0 recoveries$/)
  // softnic's devices do not hear their own frames (test/softnic/README.md).
  for (const how of ['once', 'twice'])
    expect(steps.loopback!.found).toMatch(
      new RegExp(
        `no /sys/class/net/v0/settings/force_local_lb_disable, device open ${how}: [\\d.]+ Gb/s, a receiver of this host heard 0 of \\d+ packets`,
      ),
    )
  expect(steps.memory!.found).toMatch(
    /^\d+ MiB of small pages pinned in [\d.]+ ms; \d+ MiB of \w+ pages pinned in .*; the kernel copies pinned pages on fork; [\d.]+ Mpps of 9014 bytes with relaxed ordering, [\d.]+ % of those without$/,
  )
  for (const name of Object.keys(steps)) expect(markdown).toContain(`| ${name} |`)
})

test('raw_ethernet_bw is told the frame, where it clips to the MTU', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  // A program of that name first in PATH, which says what it was told.
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-perftest-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'raw_ethernet_bw'), `#!/bin/sh\necho "$*" >> ${folder}/told\n`, { mode: 0o755 })
  const { steps } = await accept({ mode: 'null', args: ['--only', 'throughput'], path: folder })
  expect(steps.throughput!.found).toMatch(/raw_ethernet_bw failed/)
  const told = readFileSync(join(folder, 'told'), 'utf8')
    .trim()
    .split('\n')
    .filter((line) => line.includes('-m'))
  // Ethernet 14, IPv4 20, UDP 8, frame check sequence 4: the largest frame of an MTU of 9000 has 9018 bytes.
  expect(told.map((line) => /-m (\d+)/.exec(line)![1])).toEqual(['9018', '9018'])
  const sizes = told.map((line) => Number(/-s (\d+)/.exec(line)![1]))
  expect(sizes[1]).toBeGreaterThan(8900)
  expect(sizes[1]).toBeLessThanOrEqual(9018)
})

test('loopback with the driver’s switch: measured both ways, and the switch left as it was', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  const run = { mode: 'null', withSwitch: true } as const
  const { steps, stderr } = await accept({ ...run, args: ['--only', 'loopback', '--disturb'] })
  for (const value of ['0', '1'])
    expect(steps.loopback!.found).toMatch(new RegExp(`force_local_lb_disable set to ${value}, device open once: [\\d.]+ Gb/s`))
  expect(stderr.trimEnd().split('\n').at(-1)).toBe('0')
  const told = await accept({ ...run, args: ['--only', 'loopback'] })
  expect(told.steps.loopback!.found).toMatch(
    /says "Force local loopback disable is OFF" \(as root, --disturb tries both\), device open once/,
  )
})

test.for(['ssh', 'hand'] as const)('a capture by %s', { timeout: 60_000 }, async (second, ctx) => {
  needNic(ctx)
  need(ctx, !spawnSync('tcpdump', ['--version']).error, 'needs tcpdump')
  const { steps, stderr } = await accept({ second, args: ['--only', 'capture,checksums'] })
  expect(results(steps), stderr).toEqual({ device: 'passed', capture: 'passed', checksums: 'passed' })
  if (second === 'hand') expect(stderr).toMatch(/tcpdump -i eth0 .* > acceptance\.pcap/)
})

test('without second host, pacing and checksums of the device: what cannot be done says why', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  const { code, steps } = await accept({ mode: 'null', faults: ['limit pacing 0', 'limit checksum 0'] })
  expect(results(steps)).toMatchObject({
    device: 'passed',
    choice: 'passed',
    capture: 'not done',
    checksums: 'not done',
    'over the MTU': 'measured',
    flush: 'passed',
    'rate hw': 'not done',
    'link down': 'not done',
  })
  expect(code).toBe(steps['rate sw']!.result === 'failed' ? 1 : 0)
  expect(steps.capture!.found).toMatch(/no second host/)
  expect(steps['rate hw']!.found).toMatch(/no rate limit/)
  expect(steps['link down']!.found).toMatch(/--disturb/)
})

test('a device that says sent of what never leaves does not pass', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  need(ctx, !spawnSync('tcpdump', ['--version']).error, 'needs tcpdump')
  const lost = await accept({ mode: 'copy', second: 'command', args: ['--only', 'capture,checksums'] })
  expect(lost.code).toBe(1)
  expect(results(lost.steps)).toEqual({ device: 'passed', capture: 'failed', checksums: 'failed' })
  expect(lost.steps.capture!.found).toMatch(/, 0 captured; 0 of 50 heaps whole/)
})

test('no RDMA device, and bad usage', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  const none = await accept({ netdevs: [] })
  expect(none.code).toBe(1)
  expect(results(none.steps)).toMatchObject({ device: 'failed', flush: 'not done', 'rate sw': 'not done' })
  for (const args of [[], ['--interface', 'v0'], ['--interface', 'v0', '--to', '10.0.0.1:1'], ['--nonsense']]) {
    const { status, stdout } = spawnSync(process.execPath, [SCRIPT, ...args], { encoding: 'utf8' })
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  }
})
