/** With --json standard output has one object, of an error too, and the exit status is the one that it names. */
import { createSocket } from 'node:dgram'
import { expect, test } from 'vitest'
import { freePort, run, sink, start } from '../support/cli.js'

const TO = '127.0.0.1:7148'

/** Arguments, and parts of the error that they lead to. */
const USAGE: readonly (readonly [readonly string[], string, RegExp])[] = [
  [[], '', /^no command is given$/],
  [['nonsense'], '', /^unknown command 'nonsense'/],
  [['help', 'nonsense'], '', /^unknown command 'nonsense'$/],
  [['help', 'sned'], '', /^unknown command 'sned' \(Did you mean send\?\)$/],
  [['--nonsense'], '', /^unknown option '--nonsense'/],
  [['send'], 'send', /^missing required argument 'HOST:PORT'$/],
  [['send', TO, '--heapz', '3'], 'send', /^unknown option '--heapz' \(Did you mean --heaps\?\)$/],
  [['send', TO, '-n'], 'send', /argument '--json' is invalid/],
  [['send', TO, '-n', 'many'], 'send', /argument 'many' is invalid\. It must be a whole number/],
  [['send', TO, '--backend', 'smtp'], 'send', /Allowed choices are auto/],
  [['send', '127.0.0.1'], 'send', /^endpoint '127\.0\.0\.1': the port is missing: add one, 127\.0\.0\.1:7148/],
  [['send', TO, '--rate', '-5Gbps'], 'send', /^--rate '-5Gbps' is negative/],
  [['send', TO, '--split', 'exact'], 'send', /^--split exact needs --payload-bytes/],
  [['recv'], 'recv', /^missing required argument 'HOST:PORT': say where to receive/],
  [['send', '[fe80::1]:7148'], 'send', /is link-local, it needs an interface: give --interface/],
  [['send', 'tcp://[fe80::1]:7148'], 'send', /is link-local, it needs an interface: give --interface/],
  [['recv', '192.0.2.1:7148'], 'recv', /192\.0\.2\.1/],
  [['recv', TO, '--heaps', '0'], 'recv', /argument '0' is invalid/],
  [['doctor'], 'doctor', /^missing required argument/],
  [['doctor', 'no-such-host.invalid:7148'], 'doctor', /'no-such-host\.invalid' did not resolve/],
  [['bench', 'agent', 'extra'], 'bench agent', /^too many arguments for 'agent'/],
  [['send', TO, '--timestamp-step', '99999999999999999999'], 'send', /must be a whole number from 1 to 9007199254740991/],
  [['demo', 'extra'], 'demo', /^too many arguments for 'demo'/],
  [['demo', '-H', '16MiB', '--buffer', '4096'], 'demo', /^--heap-size 16777216: such a heap is \d+ bytes/],
  [['explain', 'unreachable-or-so'], 'explain', /^there is no code 'unreachable-or-so'/],
  [['devices', '--nonsense'], 'devices', /^unknown option/],
  [['bench', '--to', TO, '--sizes', '8k'], 'bench', /k may be 1000 or 1024, write 8kB or 8KiB/],
]

test.concurrent.for(USAGE)('bad usage: %j', { timeout: 60_000 }, async ([args, command, message], { expect }) => {
  const { code, stdout, stderr } = await run([...args, '--json'])
  expect(code).toBe(2)
  expect(stdout).toMatch(/^\{.*\}\n$/)
  const { error, ...rest } = JSON.parse(stdout)
  expect(rest).toEqual({})
  expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_SPEADCAST_/), command, exitStatus: 2 })
  expect(error.message).toMatch(message)
  expect(error.help).toMatch(/^speadcast (explain ERR_SPEADCAST_\w+|(\w+ ){0,2}--help)$/)
  // A person is told the same, or what commands there are.
  expect(stderr.replaceAll('\n', ' ')).toContain(args.length === 0 ? 'Usage: speadcast' : error.message)
})

test('what the system refuses, with the call and its errno', async () => {
  const taken = createSocket('udp4')
  await new Promise<void>((bound) => taken.bind(0, '127.0.0.1', bound))
  try {
    const { code, stdout } = await run(['recv', `127.0.0.1:${taken.address().port}`, '--json'])
    expect(code).toBe(1)
    expect(JSON.parse(stdout).error).toMatchObject({
      command: 'recv',
      exitStatus: 1,
      call: 'bind',
      errno: 'EADDRINUSE',
      help: expect.stringMatching(/^speadcast explain ERR_SPEADCAST_/),
    })
  } finally {
    taken.close()
  }
  const { code, stdout } = await run(['send', TO, '--input', '/no/such/file', '--json'])
  expect(code).toBe(1)
  expect(JSON.parse(stdout).error).toMatchObject({ code: 'ERR_SPEADCAST_INPUT', message: expect.stringContaining('/no/such/file') })
})

test('an error after heaps have gone stands in the one object, the summary', async () => {
  const to = `127.0.0.1:${await freePort()}`
  const { code, stdout } = await run(['send', to, '--input', '-', '--dtype', '<i4', '-H', '64', '--json'], Buffer.alloc(67))
  expect(code).toBe(1)
  expect(stdout.split('\n')).toHaveLength(2)
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 1, error: { code: 'ERR_SPEADCAST_INPUT', command: 'send', exitStatus: 1 } })
})

test('a stream of objects has the error as one more', async () => {
  const { code, stdout } = await run(['send', '127.0.0.1', '--json-stream'])
  expect({ code, json: JSON.parse(stdout) }).toMatchObject({ code: 2, json: { kind: 'error', error: { command: 'send' } } })
})

test('behind -- the word is an argument', async () => {
  expect(await run(['send', '127.0.0.1', '--', '--json'])).toMatchObject({ code: 2, stdout: '' })
})

test('heaps that Ctrl-C leaves behind make the exit status 1, at a rate of nearly nothing too', async () => {
  const { to, got } = await sink()
  const sending = start(['send', to, '-n', '1000', '--rate', '1kB/s', '--deadline', '0', '--json'])
  await got(1)
  sending.child.kill('SIGINT')
  const { code, stdout, stderr } = await sending.done
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/\d+ heaps? (was|were) dropped at the deadline/),
  })
  expect(JSON.parse(stdout).heapsDropped).toBeGreaterThan(0)
})

test('a port where nobody listens is named with its refusals, in words and in JSON', async () => {
  const to = `127.0.0.1:${await freePort()}`
  const { heard } = { heard: await sink() }
  const args = ['send', to, heard.to, '-n', '40', '-H', '1KiB', '--rate', '200kB/s']
  const text = await run(args)
  expect(text.code).toBe(0)
  const [, times] = new RegExp(`unreachable +nobody listens: (\\d+) ICMP port unreachable \\(${to}: \\1\\)\\n`).exec(text.stdout)!
  expect(Number(times)).toBeGreaterThan(0)
  const { stdout } = await run([...args, '--json'])
  const { stats } = JSON.parse(stdout)
  expect(stats.portUnreachable).toBeGreaterThan(0)
  expect(stats.portUnreachableAt).toBe(`${to}: ${stats.portUnreachable}`)
})

test('a machine without RDMA devices has a list of none', async () => {
  const none = await run(['devices'])
  const json = await run(['devices', '--json'])
  expect(none.code).toBe(0)
  expect(json.code).toBe(0)
  const { devices } = JSON.parse(json.stdout)
  if (devices.length === 0) {
    expect(none.stdout).toBe('')
    expect(none.stderr).toBe('speadcast devices: this machine has no RDMA devices; backends udp and dgram need none\n')
  } else expect(none.stdout).toContain(devices[0].name)
  // A library that is named has to be there.
  expect(await run(['devices', '--verbs-library', '/nonexistent.so'])).toMatchObject({ code: 1, stdout: '' })
})

test('a backend that cannot work is followed by those that can, and the command that says more', async () => {
  const { code, stderr } = await run(['send', TO, '--backend', 'ibverbs', '--verbs-library', '/nonexistent.so'])
  expect(code).toBe(1)
  expect(stderr).toMatch(
    /^speadcast send: --backend ibverbs cannot work here: .*; --backend udp and --backend dgram can send there: leave --backend out, or see `speadcast doctor 127\.0\.0\.1:7148`/,
  )
})
