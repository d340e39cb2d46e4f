// `speadcast recv` over TCP, from captures, and the values that it prints.
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ethernet, ipv4, pcapOf, udp } from '../receive/pcap-write.js'
import { freePort, run, start, temporaryFolder } from '../support/cli.js'
import { header, packet, payloadOf, pointer } from '../tcp/receiver-support.js'

const frame = (payload: Uint8Array) => ({ frame: ethernet(ipv4(udp(payload))) })

test('recv tcp:// with --verify, --output, --json, --heaps and --timeout', async () => {
  const folder = temporaryFolder()
  const to = `tcp://127.0.0.1:${await freePort()}`
  const output = join(folder, 'samples')
  const receiver = start(['recv', to, '--verify', '--output', output, '--json', '--timeout', '20'])
  await receiver.saw(/^listening on tcp:\/\/127\.0\.0\.1:\d+; tcp$/m)
  expect(await run(['send', to, '-n', '50', '-H', '3000'])).toMatchObject({ code: 0 })
  const { code, stdout } = await receiver.done
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({
    backend: 'tcp', heaps: 50, reason: 'stop', heapsMissing: 0, verifyMissing: 0, outputBytes: 150_000, connections: 1, connectionsRefused: 0, acceptsFailed: 0,
  }) // biome-ignore format: a list
  const few = start(['recv', to, '-n', '2'])
  await few.saw(/listening/)
  await run(['send', to, '-n', '5', '-H', '100'])
  const ended = await few.done
  expect(ended).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ended by +heaps\nheaps +2$/m) })
  expect(ended.stdout).toMatch(/^connections +1$/m)
  expect(ended.stdout).toMatch(/^ {2}dropped +none, TCP holds senders back$/m)
  expect(await run(['recv', to, '--timeout', '0.2'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('did not come in 0.2 s'),
  })
})

test('recv --values prints heaps and items before the summary; with --json on standard error', async () => {
  const file = join(temporaryFolder(), 'heaps.pcap')
  await run(['send', '10.0.0.5:7148', '-n', '2', '-H', '2000', '--pcap', file])
  const lines = [
    'heap 1 of sender 0 to 10.0.0.5:7148: 0 bytes in 1 packet',
    '  descriptor of timestamp (0x1600): u48 [], Index of the first sample',
    '  descriptor of adc_samples (0x3300): |i1 [2000], ADC converter output',
    'heap 2 of sender 0 to 10.0.0.5:7148: 2000 bytes in 2 packets',
    '  timestamp = 0',
    '  adc_samples = [0 0 0 ... 0 0 0]',
    'heap 3 of sender 0 to 10.0.0.5:7148: 2000 bytes in 2 packets',
    '  timestamp = 2000',
    '  adc_samples = [1 1 1 ... 1 1 1]',
    'stop heap 4 of sender 0 to 10.0.0.5:7148: 0 bytes in 1 packet',
  ]
  const { code, stdout } = await run(['recv', '--pcap', file, '--values', '--descriptors'])
  expect(code).toBe(0)
  expect(stdout.split('\n').slice(0, lines.length + 1)).toEqual([...lines, 'ended by      end'])
  const both = await run(['recv', '--pcap', file, '--values', '--descriptors', '--json'])
  expect(JSON.parse(both.stdout)).toMatchObject({ heaps: 2 })
  expect(both.stderr.split('\n').slice(1, lines.length + 1)).toEqual(lines)
})

test('what a sender says is escaped and short', async () => {
  const hostile = '\x1b]0;owned\x07\x1b[2J\nall heaps verified\r\x9b31m'
  const text = Buffer.from(hostile, 'latin1')
  // A descriptor by hand (SPEAD, section 9): name, shape of one that varies, format of characters, id.
  const name = Buffer.concat([text, Buffer.from('name')])
  const shape = Buffer.from([1, 0, 0, 0, 0, 0, 0])
  const format = Buffer.from([0x63, 0, 8])
  const fields = [pointer(0x10, 0, false), pointer(0x12, name.length, false), pointer(0x13, name.length + shape.length, false)]
  const payload = Buffer.concat([name, shape, format])
  const inner = Buffer.concat([
    header(7),
    pointer(1, 1),
    pointer(2, payload.length),
    pointer(4, payload.length),
    pointer(0x14, 0x3300),
    ...fields,
    payload,
  ])
  const outer = [pointer(1, 1), pointer(2, inner.length), pointer(3, 0), pointer(4, inner.length), pointer(5, 0, false)]
  const file = join(temporaryFolder(), 'hostile.pcap')
  const frames = [Buffer.concat([header(5), ...outer, inner]), packet(2, text), packet(3, Buffer.alloc(50_000, text))]
  writeFileSync(file, pcapOf(frames.map(frame)))
  for (const json of [[], ['--json']]) {
    const { stdout, stderr } = await run(['recv', '--pcap', file, '--values', '--descriptors', ...json])
    const all = stdout + stderr
    expect(all).not.toMatch(/[^\P{Cc}\n]|^all heaps verified/mu)
    expect(all).toContain('\\x1b')
    expect(all).toContain(String.raw`= '\x1b]0;owned\x07\x1b[2J\nall heaps verified`)
    const values = (json.length > 0 ? stderr : stdout).split('\n').filter((line) => line.startsWith('  '))
    for (const line of values) expect(line.length).toBeLessThan(6000)
  }
})

test('recv --pcap: nothing of the endpoints, a damaged file, fragments and a file of another kind say so', async () => {
  const folder = temporaryFolder()
  const write = (name: string, bytes: Uint8Array) => {
    writeFileSync(join(folder, name), bytes)
    return join(folder, name)
  }
  const good = pcapOf([1, 2, 3].map((cnt) => frame(packet(cnt, payloadOf(cnt, 100)))))
  const none = await run(['recv', '--pcap', write('good', good), '10.0.0.6:7148'])
  expect(none).toMatchObject({ code: 1, stderr: expect.stringMatching(/no SPEAD packet for these endpoints is in .*good/) })
  expect(none.stdout).toMatch(/^ignored +3 frames$/m)
  const cut = await run(['recv', '--pcap', write('cut', good.subarray(0, good.length - 1)), '--json'])
  expect(cut).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/cut is damaged at byte \d+: it ends in the middle of a frame/),
  })
  expect(JSON.parse(cut.stdout)).toMatchObject({ heaps: 2, droppedByKernel: null })
  const fragment = { frame: ethernet(ipv4(udp(packet(4, payloadOf(4, 100))), { fragment: 0x2000 })) }
  const parts = await run(['recv', '--pcap', write('fragments', pcapOf([frame(packet(1, payloadOf(1, 9))), fragment]))])
  expect(parts).toMatchObject({ code: 0, stderr: expect.stringMatching(/1 IP fragment ignored: datagrams larger than the MTU/) })
  const few = await run(['recv', '--pcap', join(folder, 'good'), '-n', '4'])
  expect(few).toMatchObject({ code: 1, stderr: expect.stringContaining('the file ended after 3 of 4 heaps') })
  const text = await run(['recv', '--pcap', write('text', Buffer.from('no capture at all'))])
  expect(text).toMatchObject({ code: 1, stderr: expect.stringContaining('it is no pcap file') })
  const nothing = await run(['recv'])
  expect(nothing).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/missing required argument 'HOST:PORT': say where to receive, or what to read, with --pcap FILE/),
  })
})

test('a crowd over TCP is told once', async () => {
  const port = await freePort()
  const receiver = start(['recv', `tcp://127.0.0.1:${port}`, '--timeout', '20'])
  await receiver.saw(/listening/)
  const sockets = Array.from({ length: 80 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
  await receiver.saw(/turns 127\.0\.0\.1:\d+ away: 64 of its address are open/)
  await new Promise((done) => setTimeout(done, 300))
  for (const socket of sockets) socket.destroy()
  receiver.child.kill('SIGINT')
  const { stdout, stderr } = await receiver.done
  expect(stderr.match(/turns/g)).toHaveLength(1)
  expect(stdout).toMatch(/^connections +64, 16 turned away$/m)
})

const AT = '127.0.0.1:7148'
test.concurrent.for([
  [['--pcap', '-'], /^speadcast recv: --pcap '-': standard input .*; name a file, or \.\/-/],
  [[AT, '--output', '-'], /^speadcast recv: --output '-': standard output .*; name a file, or \.\/-/],
  [[AT, '--device', 'mlx5_0'], /^speadcast recv: --device is for --backend rdma-ud/],
  [[AT, '--backend', 'tcp', '--credits'], /^speadcast recv: --credits are of UDP/],
  [
    [AT, '[::1]:7148'],
    /mix IPv4 and IPv6 .*; all endpoints of a receiver are of one family, so run the command once for each family/,
  ],
  [['lo:7148'], /'lo' is an interface of this machine, not a host; give an address, and set --interface to lo/],
  [['tcp:127.0.0.1:7148'], /two slashes go behind the transport: tcp:\/\/127\.0\.0\.1:7148/],
  [['UDP:/[::1]:7148'], /two slashes go behind the transport: udp:\/\/\[::1\]:7148/],
  [['[fe80::1]:7148'], /is link-local, it needs an interface: give --interface, or as zone, such as \[fe80::1%eth0\]:7148/],
  [['tcp://[fe80::1]:7148'], /is link-local, it needs an interface: give --interface/],
  [['[fe80::1]:7148', '--backend', 'dgram'], /is link-local, it needs an interface: give --interface/],
  [[AT, '--bug-compat', 'nonsense'], /'nonsense' is invalid.* from 0 to 7, or some of descriptor-widths/],
] as const)('bad usage of recv: %j', { timeout: 60_000 }, async ([args, message], { expect }) => {
  const { code, stdout, stderr } = await run(['recv', ...args])
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(message)
})

test('recv takes the names of bug-compat flags, as send does', async () => {
  const file = join(temporaryFolder(), 'pyspead.pcap')
  await run(['send', '10.0.0.5:7148', '-n', '1', '-H', '64', '--dtype', '<i2', '--bug-compat', 'pyspead', '--pcap', file])
  const dtype = async (flags: string) =>
    JSON.parse((await run(['recv', '--pcap', file, '--bug-compat', flags, '--json'])).stdout).items.at(-1).dtype
  expect([await dtype('pyspead'), await dtype('descriptor-widths,shape-bit-1,swap-endian')]).toEqual(['<i2', '<i2'])
  expect(await dtype('descriptor-widths,shape-bit-1')).toBe('>i2')
})

test.for([false, true])('Ctrl-C ends reception as interrupted (--json %s)', async (json) => {
  const receiver = start(['recv', `127.0.0.1:${await freePort()}`, ...(json ? ['--json'] : [])])
  await receiver.saw(/^listening on/m)
  receiver.child.kill('SIGINT')
  const { code, stdout } = await receiver.done
  expect(code).toBe(0)
  if (json) expect(JSON.parse(stdout)).toMatchObject({ reason: 'interrupted', heaps: 0 })
  else expect(stdout).toMatch(/^ended by +interrupted$/m)
})
