// `speadcast bench --agent` and `bench agent`: the rate of a shaper, losses and who made them, strangers on the control connection.
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { CLI, freePort, run, start, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

interface Step extends Record<string, unknown> {
  readonly rateAsked: number
  readonly rateReached: number
  readonly rateReceived: number
  readonly packetsSent: number
  readonly packetsReceived: number
  readonly packetsLost: number
  readonly droppedByReceiverSocket: number
  readonly heapsSent: number
  readonly heapsComplete: number
  readonly passed: boolean
  readonly cause: string
  readonly why: string
}
interface Found extends Record<string, unknown> {
  readonly heapSizeBytes: number
  readonly rate: number | null
  readonly payloadRate: number
  readonly frameRate: number
  readonly wireRate: number
  readonly confirmed: boolean
  readonly steps: readonly Step[]
}
interface Report {
  readonly transport: string
  readonly interrupted: boolean
  readonly sizes: readonly Found[]
}

/** Starts an agent on loopback and waits until it listens. */
async function startAgent(args: readonly string[] = []) {
  const port = await freePort()
  const agent = start(['bench', 'agent', '--listen', `127.0.0.1:${port}`, ...args])
  await agent.saw(/listening on/)
  return { agent, port, to: `127.0.0.1:${port}` }
}
const SHORT = ['--agent', '--seconds', '0.2', '--confirm', '1', '--sizes', '8KiB', '--rate', '80Mbps']
const report = (stdout: string) => JSON.parse(stdout) as Report

describe.for([
  ['IPv4', 'v4'],
  ['IPv6', 'v6'],
] as const)('behind a shaper, by %s', ([, family]) => {
  test('its rate is found within 5 %, in frames as it counts them', { timeout: 240_000 }, async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    const shaped = 50e6 / 8
    ns.tc('a', 'qdisc add dev v0 root tbf rate 50mbit burst 64kb limit 600kb')
    const agent = ns.spawn('b', ['node', CLI, 'bench', 'agent'], { stdio: ['ignore', 'pipe', 'pipe'] })
    await new Promise<void>((resolve) => agent.stderr!.once('data', () => resolve()))
    // A sender that does not get a CPU makes up for it in bursts, for which the shaper's queue has room.
    const sizes = [family === 'v4' ? 8192 : 262144]
    const args = [ns.addresses.b[family], '--agent', '--sizes', sizes.join(), '--burst', '256KiB', '--confirm', '1', '--json']
    const { stdout, stderr } = await ns.exec('a', ['node', CLI, 'bench', ...args], { timeoutMs: 200_000 })
    const { sizes: found, transport } = report(stdout)
    expect(transport).toBe('udp')
    expect(found.map(({ heapSizeBytes }) => heapSizeBytes)).toEqual(sizes)
    for (const { frameRate, wireRate, rate, payloadRate, confirmed, steps } of found) {
      expect(confirmed).toBe(true)
      expect(Math.abs(frameRate / shaped - 1), stderr).toBeLessThan(0.05)
      // Packets of 1472 or 1452 bytes: Ethernet, IP and UDP headers; FCS, preamble and gap.
      expect(frameRate / rate!).toBeCloseTo(1514 / (family === 'v4' ? 1472 : 1452), 2)
      expect(wireRate / frameRate).toBeCloseTo(1538 / 1514, 2)
      expect(payloadRate).toBeLessThan(rate!)
      expect(payloadRate).toBeGreaterThan(rate! * 0.93)
      const [first] = steps
      expect(first).toMatchObject({ rateAsked: 0, passed: false })
      expect(first!.packetsLost).toBe(first!.packetsSent - first!.packetsReceived)
      expect(first!.packetsLost).toBeGreaterThan(0)
      // Every run says what it came to.
      for (const step of steps) expect(step.passed || step.why !== '').toBe(true)
    }
    expect(stderr).toMatch(/asked +sent +received +lost +reordered +drops\n/)
  })
})

test("a receiver without room in its socket is told as the receiver's drops", { timeout: 120_000 }, async () => {
  const { to, agent } = await startAgent(['--buffer', '4096'])
  // Takes the CPU from the receiver.
  const hog = start(['send', '127.0.0.1:9', '--backend', 'memory', '-n', '1000000000', '-H', '64KiB'])
  const args = ['bench', to, '--agent', '--sizes', '64KiB', '--seconds', '0.3', '--confirm', '0', '--accuracy', '30', '--json']
  const bench = start(args)
  await bench.saw(/not whole/)
  bench.child.kill('SIGINT')
  const { stdout } = await bench.done
  hog.child.kill('SIGKILL')
  const [first] = report(stdout).sizes[0]!.steps
  expect(first).toMatchObject({
    passed: false,
    cause: 'receiver-socket',
    why: expect.stringMatching(/^the receiver's socket was full/),
  })
  expect(first!.droppedByReceiverSocket).toBeGreaterThan(0)
  expect(first!.packetsLost).toBeGreaterThan(0)
  agent.child.kill('SIGINT')
  expect(await agent.done).toMatchObject({ code: 0 })
})

test('an agent with --json prints an object for each run, and at Ctrl-C one of all', async () => {
  const { agent, to } = await startAgent(['--json'])
  expect(await run(['bench', to, ...SHORT])).toMatchObject({ code: 0 })
  agent.child.kill('SIGINT')
  const { code, stdout } = await agent.done
  expect(code).toBe(0)
  const objects = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>)
  const runs = objects.slice(0, -1)
  expect(runs.length).toBeGreaterThan(0)
  const sum = (name: string) => runs.reduce((all, one) => all + one[name]!, 0)
  expect(objects.at(-1)).toEqual({
    reason: 'interrupted',
    masters: 1,
    runs: runs.length,
    ...Object.fromEntries(['packets', 'bytes', 'heaps', 'heapsIncomplete', 'payloadBytes'].map((name) => [name, sum(name)])),
  })
  expect(sum('heaps')).toBeGreaterThan(0)
  const idle = (await startAgent(['--json'])).agent
  idle.child.kill('SIGINT')
  expect(JSON.parse((await idle.done).stdout)).toMatchObject({ reason: 'interrupted', masters: 0, runs: 0 })
})

test('TCP is measured at full speed, once a size', async () => {
  const { to } = await startAgent()
  const { code, stdout, stderr } = await run([
    'bench',
    `tcp://${to}`,
    '--agent',
    '--sizes',
    '1KiB,1MiB',
    '--seconds',
    '0.3',
    '--json',
  ])
  expect({ code, stderr }).toMatchObject({ code: 0 })
  const { transport, sizes } = report(stdout)
  expect(transport).toBe('tcp')
  for (const { rate, frameRate, steps } of sizes) {
    expect(steps).toHaveLength(1)
    expect(steps[0]).toMatchObject({ rateAsked: 0, passed: true, packetsLost: 0 })
    expect(steps[0]!.heapsComplete).toBe(steps[0]!.heapsSent)
    expect(rate).toBeGreaterThan(0)
    expect(frameRate).toBeNull()
  }
})

test('--json-stream has the start, an object for each run, and the end', async () => {
  const { to } = await startAgent()
  const { code, stdout } = await run(['bench', to, ...SHORT, '--json-stream'])
  expect(code).toBe(0)
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const summary = lines.pop()
  expect(lines.shift()).toMatchObject({ kind: 'start', command: 'bench', agent: to, sizes: [8192] })
  expect(summary).toMatchObject({ kind: 'end', sizes: [{ heapSizeBytes: 8192 }] })
  expect(lines).toEqual(summary.sizes[0].steps.map((step: Step) => ({ kind: 'step', ...step })))
})

/** Connects, writes, and resolves with all that came until the other side closed. */
async function speak(port: number, text: string | Buffer): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  let got = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    got += chunk
  })
  socket.on('error', () => undefined)
  socket.write(text)
  await new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return got
}
const HELLO = '{"type":"hello","version":1}\n'
const open = (fields: object) =>
  `${HELLO}${JSON.stringify({ type: 'open', transport: 'udp', heapSizeBytes: 8192, seconds: 1, ...fields })}\n`

describe('strangers', () => {
  const HOSTILE: readonly (readonly [string, string | Buffer, RegExp])[] = [
    ['no JSON', 'GET / HTTP/1.1\r\n\r\n', /"why":"a line that is no JSON"/],
    ['bytes', Buffer.from([0, 255, 10, 128, 10]), /no JSON/],
    ['an array', '[]\n', /no JSON object/],
    ['null', 'null\n', /no JSON object/],
    ['deep', `${'['.repeat(2000)}\n`, /no JSON/],
    ['an endless line', 'x'.repeat(1_000_000), /^$/],
    ['many lines', HELLO.repeat(1000), /^$/],
    ['another version', '{"type":"hello","version":2}\n', /speaks version 1, the master 2/],
    ['no version', '{"type":"hello"}\n', /'version' is no number/],
    ['no hello', '{"type":"collect","packets":1}\n', /the first line must be a hello/],
    ['a prototype', '{"__proto__":{"type":"hello"},"type":"constructor"}\n', /no message of a master's has this 'type'/],
    ['heaps without end', `${open({ heapSizeBytes: 2 ** 31 })}x\n`, /too large for this agent's memory.*no JSON/s],
    ['heaps of half a byte', open({ heapSizeBytes: 0.5 }), /'heapSizeBytes' is no number from 1/],
    ['time without end', `${open({ seconds: 1e9 })}x\n`, /a run of 1000000000 s is too long.*no JSON/s],
    ['negative time', open({ seconds: -1 }), /'seconds' is no number from 0/],
    ['another transport', open({ transport: 'sctp' }), /'transport' is neither udp nor tcp/],
    [
      'a run that ends as another begins',
      open({}) + open({}).slice(HELLO.length),
      /'opened?'.*'open' where a run should end|"opened".*where a run should end/s,
    ],
    ['an end without a number', `${open({})}{"type":"collect","packets":-1}\n`, /'packets' is no number from 0/],
  ]
  test('none of them ends the agent, and the next master is served', { timeout: 60_000 }, async () => {
    const { agent, port, to } = await startAgent()
    for (const [what, text, answer] of HOSTILE) expect(await speak(port, text), what).toMatch(answer)
    // Ten that say nothing take no place from a master.
    const silent = Array.from({ length: 10 }, () => connect(port, '127.0.0.1'))
    for (const socket of silent) socket.on('error', () => undefined)
    await sleep(200)
    const { code, stderr } = await run(['bench', to, ...SHORT])
    for (const socket of silent) socket.destroy()
    expect({ code, stderr }).toMatchObject({ code: 0 })
    agent.child.kill('SIGTERM')
    expect(await agent.done).toMatchObject({ code: 0, stderr: expect.not.stringMatching(/\n\s+at /) })
  })

  test('a second master is refused politely, and the first goes on', async () => {
    const { to } = await startAgent()
    const first = start([
      'bench',
      to,
      '--agent',
      '--seconds',
      '3',
      '--sizes',
      '8KiB',
      '--rate',
      '8Mbps',
      '--confirm',
      '0',
      '--json',
    ])
    await first.saw(/asked +sent/)
    await sleep(300)
    const second = await run(['bench', to, ...SHORT])
    expect(second).toMatchObject({ code: 1, stderr: expect.stringMatching(/refused: this agent serves another master; try again/) })
    const { code, stdout } = await first.done
    expect(code).toBe(0)
    expect(report(stdout).sizes[0]!.steps[0]).toMatchObject({ passed: true })
  })

  const AGENTS: readonly (readonly [string, (socket: Socket) => void, RegExp])[] = [
    ['closes at once', (socket) => socket.destroy(), /closed the connection|ECONNRESET|EPIPE/],
    [
      'speaks another language',
      (socket) => socket.end('220 mail.example ESMTP\r\n'),
      /a line that is no JSON; is it a speadcast bench agent/,
    ],
    ['sends a line without end', (socket) => socket.write('x'.repeat(1e6)), /a line of more than 4096 bytes/],
    ['sends escapes', (socket) => socket.write('{"type":"refused","why":"\\u001b[2J\\u202e"}\n'), /refused: \\x1b\[2J\\u202e/],
    ['sends a port that is none', (socket) => socket.write('{"type":"opened","port":0}\n'), /'port' is no number from 1 to 65535/],
  ]
  test.for(AGENTS)('an agent that %s', async ([, act, message]) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      act(socket)
    })
    onTestFinished(() => void server.close())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
    const { port } = server.address() as { port: number }
    const { code, stdout, stderr } = await run(['bench', `127.0.0.1:${port}`, ...SHORT])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n\s+at /)
    expect(stderr).not.toContain('\x1b')
  })

  test.for([
    ['no-such-host.invalid:7150', /(ENOTFOUND|EAI_AGAIN) no-such-host\.invalid/],
    [
      '203.0.113.77:7150',
      /EADDRNOTAVAIL.*; no interface here has this address: let --listen have one of this machine, or the port alone for all/,
    ],
  ] as const)('an agent that cannot listen at %s: what to do', async ([listen, message]) => {
    const { code, stderr } = await run(['bench', 'agent', '--listen', listen])
    expect(code).toBe(1)
    expect(stderr).toMatch(message)
  })

  test('no agent: where to start one', async () => {
    const { code, stderr } = await run(['bench', `127.0.0.1:${await freePort()}`, ...SHORT])
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /no agent at 127\.0\.0\.1, port \d+: .*ECONNREFUSED.*start one there: speadcast bench agent --listen \d+/,
    )
  })
})

/** How many UDP sockets a process has. */
function udpSockets(pid: number): number {
  const udp = new Set(
    [...readFileSync(`/proc/${pid}/net/udp`, 'utf8').matchAll(/(\d+) \d+ [\da-f]+ \d+ *$/gm)].map(
      ([, inode]) => `socket:[${inode}]`,
    ),
  )
  const fds = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      // Closed since.
      return ''
    }
  })
  return fds.filter((link) => udp.has(link)).length
}

describe('ends', () => {
  const LONG = ['--agent', '--seconds', '20', '--sizes', '8KiB', '--rate', '8Mbps', '--json']
  async function during(signal: NodeJS.Signals) {
    const { agent, to } = await startAgent()
    const master = start(['bench', to, ...LONG])
    await master.saw(/asked +sent/)
    await sleep(1000)
    expect(udpSockets(agent.child.pid!)).toBe(1)
    master.child.kill(signal)
    const done = await master.done
    await agent.saw(/went away|connection from .* closed/)
    await sleep(300)
    // The run's receiver is gone with its master.
    expect(udpSockets(agent.child.pid!)).toBe(0)
    expect(await run(['bench', to, ...SHORT])).toMatchObject({ code: 0 })
    return done
  }

  test('Ctrl-C at the master: it prints what it found, and the agent serves the next', { timeout: 60_000 }, async () => {
    const { code, stdout, stderr } = await during('SIGINT')
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/^interrupted: /m) })
    expect(report(stdout)).toMatchObject({ interrupted: true, sizes: [] })
  })

  test('a master that is killed: the agent serves the next', { timeout: 60_000 }, async () => {
    expect(await during('SIGKILL')).toMatchObject({ signal: 'SIGKILL' })
  })

  test('Ctrl-C at the agent: the master prints the runs that it had, and fails', { timeout: 60_000 }, async () => {
    const { agent, to } = await startAgent()
    const master = start([
      'bench',
      to,
      '--agent',
      '--seconds',
      '1',
      '--sizes',
      '8KiB',
      '--rate',
      '8Mbps',
      '--confirm',
      '50',
      '--json',
    ])
    await master.saw(/well, again/)
    agent.child.kill('SIGINT')
    expect(await agent.done).toMatchObject({ code: 0 })
    const { code, stdout, stderr } = await master.done
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/speadcast bench: the agent at .* closed the connection/),
    })
    const [found] = report(stdout).sizes
    expect(found).toMatchObject({ confirmed: false })
    expect(found!.steps.length).toBeGreaterThanOrEqual(2)
    expect(found!.rate! * 8).toBeGreaterThan(5e6)
  })
})

const CHROMIUM = '/usr/bin/chromium'
const LOOK = `({
  over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ground: getComputedStyle(document.body).backgroundColor,
  svgs: document.querySelectorAll('svg').length,
  rows: document.querySelectorAll('tbody tr').length,
  texts: [...document.querySelectorAll('svg text')].filter((text) => text.getBoundingClientRect().right > innerWidth).length,
  smallest: Math.min(...[...document.querySelectorAll('svg')].map((svg) => 11 * svg.getBoundingClientRect().width / 400)),
})`

test('the page opens without a network, light and dark, on a phone and on a desk', { timeout: 90_000 }, async (ctx) => {
  const folder = temporaryFolder()
  const page = join(folder, 'report.html')
  const { to } = await startAgent()
  const { code, stderr } = await run(['bench', to, ...SHORT.map((arg) => (arg === '8KiB' ? '8KiB,256KiB' : arg)), '--html', page])
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining(`the page is in ${page}`) })
  const text = readFileSync(page, 'utf8')
  expect(text).not.toMatch(/<script|https?:|src=|@import|url\(/)
  const browser = await chromium
    .launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] })
    .catch((error) => `${error}`)
  need(ctx, typeof browser !== 'string', `no Chromium: ${browser}`)
  if (typeof browser === 'string') return
  try {
    const looks = []
    for (const width of [390, 1280])
      for (const colorScheme of ['light', 'dark'] as const) {
        const tab = await browser.newPage({ viewport: { width, height: 900 }, colorScheme, offline: true })
        const complaints: string[] = []
        tab.on('console', (message) => complaints.push(message.text()))
        tab.on('request', (request) => request.url() === pathToFileURL(page).href || complaints.push(request.url()))
        await tab.goto(pathToFileURL(page).href)
        expect(complaints).toEqual([])
        looks.push(
          (await tab.evaluate(LOOK)) as {
            over: number
            ground: string
            svgs: number
            rows: number
            texts: number
            smallest: number
          },
        )
      }
    for (const look of looks) expect(look).toMatchObject({ over: 0, svgs: 3, texts: 0 })
    // Two sizes, and two runs of each at least.
    for (const { rows, smallest } of looks) {
      expect(rows).toBeGreaterThanOrEqual(2 + 4)
      expect(smallest).toBeGreaterThan(9)
    }
    expect(new Set(looks.map(({ ground }) => ground)).size).toBe(2)
  } finally {
    await browser.close()
  }
})

test('a page that cannot be written is told, and the table is printed all the same', async () => {
  const { to } = await startAgent()
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'file'), '')
  const { code, stdout, stderr } = await run(['bench', to, ...SHORT, '--html', join(folder, 'file', 'page.html')])
  expect(code).toBe(1)
  expect(stdout).toMatch(/^8 KiB /m)
  expect(stderr).toMatch(/cannot write .*page\.html: ENOTDIR/)
})
