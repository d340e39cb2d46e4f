// Captures of real programs, and files that are drawn: those damaged, lying and cut.
import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { CLI, run } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { Conversation, Draw } from './fuzz/conversation.js'
import { file, folder, fresh, read } from './pcap-support.js'
import { ethernet, ipv4, ipv6, pcapOf, udp } from './pcap-write.js'

const SEED = Number(process.env.FUZZ_SEED ?? 1)
test('drawn files: damaged, lying, cut; each ends with a summary or an error, and every frame is counted', {
  timeout: 60_000,
}, async () => {
  let read_ = 0
  for (let seed = SEED; seed < SEED + 60; seed++) {
    const draw = new Draw(seed)
    const wrap = (bytes: Buffer): Buffer => {
      const datagram = udp(
        bytes,
        { fromPort: draw.below(4), toPort: 7148 + draw.below(2) },
        draw.chance(0.95) ? undefined : draw.below(65536),
      )
      const ip = draw.chance(0.5)
        ? ipv4(datagram.subarray(0, 65515), { fragment: draw.chance(0.95) ? 0 : draw.below(65536), options: 4 * draw.below(3) })
        : ipv6(datagram)
      return ethernet(ip, undefined, draw.chance(0.1) ? [0x8100] : [])
    }
    const packets = new Conversation(seed).grow(300).packets.map(({ bytes }) => {
      const whole = wrap(Buffer.from(bytes))
      if (draw.chance(0.02)) whole[draw.below(Math.min(60, whole.length))] = draw.below(256)
      const frame = draw.chance(0.05) ? whole.subarray(0, draw.below(whole.length)) : whole
      return { frame, original: whole.length, at: draw.chance(0.05) ? draw.below(2 ** 32) : 1000 }
    })
    const pcap = pcapOf(packets, { bigEndian: draw.chance(0.5), nanoseconds: draw.chance(0.5) })
    const damaged = draw.chance(0.3)
    if (damaged) for (let n = draw.below(20); n >= 0; n--) pcap[24 + draw.below(pcap.length - 24)] = draw.below(256)
    const given = draw.chance(0.5) ? {} : { endpoints: '0.0.0.0:7148' }
    const { summary } = await read(draw.chance(0.2) ? pcap.subarray(0, 24 + draw.below(pcap.length)) : pcap, {
      ...given,
      verify: true,
      deliver: true,
      hash: true,
    })
    JSON.parse(JSON.stringify(summary))
    const { messages, framesIgnored, inputError } = summary
    expect(messages + framesIgnored).toBeLessThanOrEqual(packets.length)
    if (inputError === null && !damaged && summary.reason === 'end') read_++
  }
  expect(read_).toBeGreaterThan(20)
})

test('headers of random bytes are refused or read to their end', async () => {
  const draw = new Draw(SEED)
  for (let i = 0; i < 200; i++) {
    const bytes = Buffer.concat([pcapOf([]).subarray(0, draw.below(25)), draw.bytes(draw.below(200))])
    const outcome = await openReceiver({ pcapPath: file(bytes), deliver: false }).then(
      async (receiver) => (await receiver.done).reason,
      ({ code }) => code,
    )
    expect(['end', 'ERR_SPEADCAST_INPUT']).toContain(outcome)
  }
})

test.for([
  ['four endpoints, a VLAN tag', ['239.10.0.1+3:7148', '--backend', 'pcap']],
  ['IPv6', ['[fd77::2]:7148']],
  ['large packets', ['10.0.0.5:7148', '-p', '60000', '--heap-address-bits', '40']],
] as const)('what send --pcap writes, recv --pcap verifies: %s', async ([, args]) => {
  const path = fresh()
  const sent = await run(['send', ...args, '-n', '500', '-H', '20000', '--pcap', path])
  expect(sent).toMatchObject({ code: 0 })
  const received = await run(['recv', '--pcap', path, '--verify', '--json'])
  expect(received.code).toBe(0)
  expect(JSON.parse(received.stdout)).toMatchObject({
    backend: 'pcap',
    heaps: 500,
    heapsMissing: 0,
    verifyMissing: 0,
    heapsCorrupt: 0,
    malformed: 0,
    framesIgnored: 0,
    reason: 'end',
  })
})

test('tcpdump captures what we send, before and after its segmentation, and we read it', async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with spead2')
  const unavailable = netnsUnavailable()
  need(ctx, !unavailable, unavailable)
  need(ctx, has('tcpdump'), 'needs tcpdump')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  for (const any of [false, true]) {
    const path = join(folder, `tcpdump-${any}.pcap`)
    // 'any' gives frames of link type Linux cooked, version 2.
    const tcpdump = ns.spawn('b', ['tcpdump', '-i', any ? 'any' : 'v1', '-w', path, '-U', '-B', '65536', 'udp port 7148'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    await new Promise<void>((resolve) => tcpdump.stderr!.on('data', (text) => /listening on/.test(`${text}`) && resolve()))
    const command = [
      process.execPath,
      join(process.cwd(), 'lib/cli.js'),
      'send',
      `${ns.addresses.b.v4}:7148`,
      '-n',
      '200',
      '-H',
      '30000',
      '-p',
      '1472',
      '--rate',
      '50MB/s',
    ]
    await ns.exec('a', command, { check: false })
    // The kernel hands packets over a block at a time, after a second or more, and tcpdump ends without those that it was not handed.
    const captured = async () => (await read(path, { verify: true, deliver: false })).summary.heaps
    for (let tries = 0; tries < 50 && (await captured()) < 200; tries++) await new Promise((done) => setTimeout(done, 200))
    tcpdump.kill('SIGINT')
    await new Promise((done) => tcpdump.once('close', done))
    const { summary } = await read(path, { verify: true, deliver: false })
    expect(summary).toMatchObject({
      heaps: 200,
      heapsMissing: 0,
      verifyMissing: 0,
      heapsCorrupt: 0,
      malformed: 0,
      inputError: null,
    })
  }
})

function has(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('spead2 reads the pcap file that we write', async (ctx) => {
  const python = spead2Python()
  need(ctx, python, 'needs the venv with spead2')
  const path = fresh()
  await run(['send', '10.0.0.5:7148', '-n', '50', '-H', '1000', '--pcap', path])
  const code = `
import sys, spead2, spead2.recv
stream = spead2.recv.Stream(spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=4))
stream.add_udp_pcap_file_reader(sys.argv[1])
group = spead2.ItemGroup()
total = 0
for heap in stream:
    changed = group.update(heap)
    if 'adc_samples' in changed: total += 1
print(total)`
  expect(execFileSync(python!, ['-c', code, path], { encoding: 'utf8' })).toBe('50\n')
})

test.for([
  ['a capture', ['--pcap']],
  ['node:dgram', ['--backend', 'dgram', '127.0.0.1:9']],
] as const)('%s where addresses are short (ulimit -v): the error names the limit', ([what, args], ctx) => {
  need(ctx, process.platform === 'linux', 'needs Linux')
  const all = [CLI, 'recv', '--memory', '3900MiB', ...args, ...(what === 'a capture' ? [file(pcapOf([]))] : [])]
  const { status, stderr } = spawnSync('sh', ['-c', 'ulimit -v 3500000; exec "$@"', 'sh', process.execPath, ...all], {
    encoding: 'utf8',
  })
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringMatching(/ENOMEM \(\d+ bytes beside the \d+ in use, and RLIMIT_AS is 3584000000; raise it \(ulimit -v/),
  })
})
