/** `recv --output` as a program: several senders, runs, slow packets and SIGKILL, disks and limits that are full. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { openReceiver, type ReceiveSummary } from '#dist/src/receive/index.js'
import { need } from '../support/need.js'
import { freePort, type Run, recvArgv, start } from './support.js'

const BACKENDS = ['native', 'dgram'] as const
const STREAM_CONTROL = 6
const STOP = 2

/** A packet of SPEAD-64-48 that is its whole heap, by the document's section 8: data of item 0x3300, or stream control. */
function heap(cnt: number, data: Uint8Array | 'stop'): Buffer {
  const payload = data === 'stop' ? new Uint8Array() : data
  const words: [immediate: boolean, id: number, value: number][] = [
    [true, 1, cnt],
    [true, 2, payload.length],
    [true, 3, 0],
    [true, 4, payload.length],
    data === 'stop' ? [true, STREAM_CONTROL, STOP] : [false, 0x3300, 0],
  ]
  const packet = Buffer.alloc(8 + 8 * words.length)
  packet.set([0x53, 4, 2, 6, 0, 0, 0, words.length])
  for (const [i, [immediate, id, value]] of words.entries()) {
    packet.writeUInt16BE((immediate ? 0x8000 : 0) | id, 8 + 8 * i)
    packet.writeUIntBE(value, 10 + 8 * i, 6)
  }
  return Buffer.concat([packet, payload])
}

class Engine {
  constructor(
    readonly socket: Socket,
    readonly port: number,
  ) {}
  send(packet: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => this.socket.send(packet, this.port, '127.0.0.1', (e) => (e ? reject(e) : resolve())))
  }
}

async function engines(n: number, port: number): Promise<Engine[]> {
  return Promise.all(
    Array.from({ length: n }, async () => {
      const socket = createSocket('udp4')
      onTestFinished(() => void socket.close())
      socket.bind(0, '127.0.0.1')
      await once(socket, 'listening')
      return new Engine(socket, port)
    }),
  )
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'speadcast-output-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

async function recv(
  ...args: string[]
): Promise<{ run: Run; port: number; ended(): Promise<{ code: number | null; out: ReceiveSummary; stderr: string }> }> {
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--json', ...args))
  await run.said(/^listening on /m)
  const ended = async () => {
    const { code, stdout, stderr } = await run.ended
    expect(stdout).toMatch(/^\{.*\}\n$/)
    return { code, out: JSON.parse(stdout), stderr }
  }
  return { run, port, ended }
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const block = (engine: number, cnt: number) => Buffer.alloc(1000, (engine << 6) | cnt)

test.for(BACKENDS)('four engines of equal cnts: all 160,000 bytes, each in its order: %s', async (backend) => {
  const file = join(folder(), 'four')
  const { port, ended } = await recv('--output', file, '--item', '0x3300', '--stops', '4', '--backend', backend)
  const four = await engines(4, port)
  for (let cnt = 1; cnt <= 40; cnt++) for (const [e, engine] of four.entries()) await engine.send(heap(cnt, block(e, cnt)))
  for (const engine of four) await engine.send(heap(41, 'stop'))
  const { code, out } = await ended()
  expect([code, out.outputBytes, out.outputLeftOut]).toEqual([0, 160_000, 0])
  const bytes = readFileSync(file)
  expect([bytes.length, sha256(bytes)]).toEqual([160_000, out.sha256])
  for (let e = 0; e < 4; e++) {
    const its = Array.from({ length: 160 }, (_, i) => bytes[i * 1000]!).filter((byte) => byte >> 6 === e)
    expect(its.map((byte) => byte & 63)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
  }
})

test.for(BACKENDS)('--order sender: a file for each: %s', async (backend) => {
  const path = folder()
  const file = join(path, 'of')
  const { port, ended } = await recv(
    '--output',
    file,
    '--order',
    'sender',
    '--item',
    '0x3300',
    '--stops',
    '3',
    '--backend',
    backend,
  )
  const three = await engines(3, port)
  for (let cnt = 40; cnt > 0; cnt--) for (const [e, engine] of three.entries()) await engine.send(heap(cnt, block(e, cnt)))
  for (const engine of three) await engine.send(heap(41, 'stop'))
  const { code, out } = await ended()
  expect(readdirSync(path).sort()).toEqual(['of.0', 'of.1', 'of.2'])
  expect([out.outputBytes, out.sha256]).toEqual([out.outputFiles.reduce((sum, { bytes }) => sum + bytes, 0), null])
  expect(out.outputFiles.map(({ path: name }) => name)).toEqual([`${file}.0`, `${file}.1`, `${file}.2`])
  const seen = new Set<number>()
  for (const { path: name, bytes, sha256: digest, sender } of out.outputFiles) {
    const content = readFileSync(name)
    expect([content.length, sha256(content)]).toEqual([bytes, digest])
    const engine = content[0]! >> 6
    expect(sender).toBe(`127.0.0.1:${three[engine]!.socket.address().port}`)
    seen.add(engine)
    const cnts = Array.from({ length: bytes / 1000 }, (_, i) => content[i * 1000]! & 63)
    expect(cnts).toEqual([...cnts].sort((a, b) => a - b))
  }
  // In reverse order the window is too small for the last to come, and what is left out is told.
  expect([seen.size, code, out.outputLeftOut]).toEqual([3, 1, 120 - out.outputBytes / 1000])
})

test.for(BACKENDS)('two recordings in turn, with --stops 2: both are there: %s', async (backend) => {
  const file = join(folder(), 'two')
  const { port, ended } = await recv('--output', file, '--item', '0x3300', '--stops', '2', '--backend', backend)
  const [engine] = await engines(1, port)
  const lengths = [40, 30]
  for (const [run, length] of lengths.entries()) {
    for (let cnt = 1; cnt <= length; cnt++) await engine!.send(heap(cnt, block(run, cnt)))
    await engine!.send(heap(length + 1, 'stop'))
  }
  const { code, out } = await ended()
  const wanted = Buffer.concat(lengths.flatMap((length, run) => Array.from({ length }, (_, i) => block(run, i + 1))))
  expect([code, out.outputLeftOut, out.sha256]).toEqual([0, 0, sha256(wanted)])
  expect(readFileSync(file).equals(wanted)).toBe(true)
})

test.for(BACKENDS)(
  'packets that come slowly, one lost: SIGKILL leaves in the file what came more than two seconds before: %s',
  async (backend) => {
    const file = join(folder(), 'slow')
    const { run, port } = await recv('--output', file, '--item', '0x3300', '--backend', backend)
    const [engine] = await engines(1, port)
    const wanted: Buffer[] = []
    for (let cnt = 1; cnt <= 8; cnt++) {
      if (cnt === 3) continue
      await engine!.send(heap(cnt, block(0, cnt)))
      wanted.push(block(0, cnt))
      await sleep(200)
    }
    await expect.poll(() => statSync(file).size, { timeout: 10_000 }).toBe(7000)
    run.child.kill('SIGKILL')
    await run.ended
    expect(readFileSync(file).equals(Buffer.concat(wanted))).toBe(true)
  },
)

function tmpfs(ctx: { skip(note?: string): never }, bytes: number): string {
  need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'mounting a tmpfs needs root')
  const path = folder()
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'none', path])
  onTestFinished(() => void execFileSync('umount', [path]))
  return path
}

test.for(BACKENDS)('a disk that is full: one object, exit 1, and the file ends behind a heap: %s', async (backend, ctx) => {
  const file = join(tmpfs(ctx, 1 << 20), 'full')
  const { port, ended } = await recv('--output', file, '--item', '0x3300', '--backend', backend)
  const [engine] = await engines(1, port)
  for (let cnt = 1; cnt <= 60; cnt++) await engine!.send(heap(cnt, Buffer.alloc(30_000, cnt)))
  const { code, out, stderr } = await ended()
  const bytes = readFileSync(file)
  expect([code, out.reason, bytes.length % 30_000, bytes.length, out.sha256]).toEqual([1, 'output', 0, out.outputBytes, null])
  expect(bytes.length).toBe(Math.floor((1 << 20) / 30_000) * 30_000)
  expect(bytes.equals(Buffer.concat(Array.from({ length: bytes.length / 30_000 }, (_, i) => Buffer.alloc(30_000, i + 1))))).toBe(
    true,
  )
  expect(out.outputError).toBe(
    `cannot write ${file}: ENOSPC: no space left on device, write; it ends behind its last whole heap, ${bytes.length} bytes`,
  )
  expect(stderr).toContain(out.outputError)
})

test.for(BACKENDS)(
  'a disk that is full, by the API: done resolves, the iteration throws, the port is free: %s',
  async (backend, ctx) => {
    const output = join(tmpfs(ctx, 1 << 20), 'full')
    const port = await freePort()
    const receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, output, item: 0x3300, deliver: true, backend })
    const [engine] = await engines(1, port)
    const sending = (async () => {
      for (let cnt = 1; cnt <= 60; cnt++) await engine!.send(heap(cnt, Buffer.alloc(30_000, cnt)))
    })()
    let heaps = 0
    const taking = (async () => {
      for await (const _ of receiver) heaps++
    })()
    await expect(taking).rejects.toMatchObject({ code: 'ERR_SPEADCAST_NATIVE', message: expect.stringMatching(/ENOSPC/) })
    await sending
    const summary = await receiver.done
    expect(summary).toMatchObject({ reason: 'output', outputError: expect.stringMatching(/ENOSPC/), outputBytes: 34 * 30_000 })
    expect(heaps).toBe(summary.heaps)
    const again = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend })
    await again.close()
  },
)

test('a limit of the size of files (ulimit -f): the same', async (ctx) => {
  need(ctx, existsSync('/bin/sh'), 'needs a shell')
  const file = join(folder(), 'limited')
  const port = await freePort()
  const argv = recvArgv(`127.0.0.1:${port}`, '--json', '--output', file, '--item', '0x3300')
  // POSIX: in blocks of 512 bytes.
  const run = start(['sh', '-c', 'ulimit -f 100; exec "$@"', 'sh', process.execPath, ...argv.slice(1)])
  await run.said(/^listening on /m)
  const [engine] = await engines(1, port)
  for (let cnt = 1; cnt <= 60; cnt++) await engine!.send(heap(cnt, block(0, cnt)))
  const { code, stdout } = await run.ended
  const out = JSON.parse(stdout)
  expect([code, out.reason, statSync(file).size, out.outputBytes]).toEqual([1, 'output', 51_000, 51_000])
  expect(out.outputError).toMatch(/EFBIG/)
})

test.each(['without a reader', 'with a reader'])('a FIFO %s is refused', async (reader) => {
  const fifo = join(folder(), 'fifo')
  execFileSync('mkfifo', [fifo])
  if (reader === 'with a reader') {
    const cat = start(['cat', fifo])
    onTestFinished(() => void cat.child.kill('SIGKILL'))
    await sleep(200)
  }
  const { code, stdout, stderr } = await start(recvArgv(`127.0.0.1:${await freePort()}`, '--output', fifo, '--json')).ended
  expect([code, JSON.parse(stdout)]).toMatchObject([1, { error: { code: 'ERR_SPEADCAST_INPUT', exitStatus: 1 } }])
  expect(stderr).toContain(`cannot write ${fifo}: it must be a file, not a pipe or socket`)
})
