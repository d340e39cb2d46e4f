import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

/** The command that the package installs. */
export const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url))

export interface Run {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  /** Resolves when the child has ended and its output is closed. */
  readonly done: Promise<Run>
  /** Resolves with the first match in what it wrote to standard error; rejects if it ends, or after ten seconds, without. */
  saw(pattern: RegExp): Promise<RegExpMatchArray>
}

/** Starts the command line as users do, in a process of its own, which is killed when the test ends. Not for concurrent tests. */
export function start(args: readonly string[], options: { stdin?: 'pipe' | 'ignore' } = {}): Running {
  const running = launch(args, options.stdin ?? 'ignore')
  onTestFinished(() => void running.child.kill('SIGKILL'))
  return running
}

function launch(args: readonly string[], stdin: 'pipe' | 'ignore', environment: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: [stdin, 'pipe', 'pipe'], env: { ...process.env, ...environment } })
  let stdout = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    for (const watch of watchers) watch()
  })
  const done = new Promise<Run>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  const saw = (pattern: RegExp) =>
    new Promise<RegExpMatchArray>((resolve, reject) => {
      const watch = (): void => {
        const match = stderr.match(pattern)
        if (!match) return
        watchers.delete(watch)
        clearTimeout(timer)
        resolve(match)
      }
      const timer = setTimeout(() => reject(new Error(`no ${pattern} in 10 s: ${stderr}`)), 10_000)
      void done.then((run) => {
        clearTimeout(timer)
        reject(new Error(`ended with ${run.code} before ${pattern}: ${stderr}`))
      })
      watchers.add(watch)
      watch()
    })
  return { child, done, saw }
}

/** Runs it to its end, for half a minute at most. */
export async function run(
  args: readonly string[],
  input?: string | Uint8Array,
  environment: Record<string, string> = {},
): Promise<Run> {
  const { child, done } = launch(args, input === undefined ? 'ignore' : 'pipe', environment)
  if (input !== undefined) {
    child.stdin!.on('error', () => undefined)
    child.stdin!.end(input)
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000)
  return done.finally(() => clearTimeout(timer))
}

/** Runs it with --json; fails unless standard output is one JSON object on one line. */
export async function runJson(args: readonly string[], input?: string | Uint8Array) {
  const result = await run([...args, '--json'], input)
  const lines = result.stdout.split('\n')
  if (lines.length !== 2 || lines[1] !== '') throw new Error(`not one line: '${result.stdout}' ${result.stderr}`)
  return { ...result, json: JSON.parse(lines[0]!) }
}

/** Starts `recv` and waits until it listens. */
export async function startReceiver(args: readonly string[]): Promise<{ to: string; done: Promise<Run & { json: Received }> }> {
  const to = `127.0.0.1:${await freePort()}`
  const receiver = start(['recv', to, '--json', '--timeout', '20', ...args])
  await receiver.saw(/listening on/)
  // A receiver killed with its test has no JSON, and nobody waits for it.
  const done = receiver.done.then((result) => ({ ...result, json: JSON.parse(result.stdout || 'null') as Received }))
  return { to, done }
}

export interface Received {
  readonly heaps: number
  readonly heapsIncomplete: number
  readonly heapsCorrupt: number
  readonly payloadBytes: number
  readonly packets: number
  readonly items: { readonly id: number; readonly name: string; readonly dtype: string; readonly shape: number[] }[]
  readonly sha256: string
  readonly reason: string
}

export async function freePort(): Promise<number> {
  const socket = createSocket('udp4')
  const port = await new Promise<number>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, '127.0.0.1', () => resolve(socket.address().port))
  })
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return port
}

export interface Sink {
  /** Where to send. */
  readonly to: string
  /** Payloads so far. */
  readonly datagrams: Buffer[]
  /** Resolves when this number of them has come. */
  got(count: number): Promise<void>
}

/** A socket that keeps what it gets; closed when the test ends. */
export async function sink(): Promise<Sink> {
  // The kernel doubles the size that one asks for (socket(7)), which makes room for two bursts.
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
  onTestFinished(() => void socket.close())
  const datagrams: Buffer[] = []
  socket.on('message', (message) => datagrams.push(message))
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  const got = async (count: number): Promise<void> => {
    for (let waited = 0; datagrams.length < count; waited += 10) {
      if (waited > 10_000) throw new Error(`${datagrams.length} of ${count} datagrams came`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
  return { to: `127.0.0.1:${socket.address().port}`, datagrams, got }
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-cli-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export interface Datagram {
  readonly from: string
  readonly to: string
  /** IP total length and what Ethernet adds in front. */
  readonly frameBytes: number
  /** Time to live, or hop limit of IPv6. */
  readonly ttl: number
  /** Differentiated services code point (RFC 2474). */
  readonly dscp: number
  readonly payload: Buffer
}

/** The UDP datagrams of an Ethernet pcap file (IPv4 or IPv6 without options), read by the file format's own description. */
export function datagramsOf(pcap: Buffer): Datagram[] {
  if (pcap.readUInt32LE(0) !== 0xa1b23c4d || pcap.readUInt32LE(20) !== 1) throw new Error('no nanosecond Ethernet pcap')
  const all: Datagram[] = []
  for (let at = 24; at < pcap.length; ) {
    const length = pcap.readUInt32LE(at + 8)
    const frame = pcap.subarray(at + 16, at + 16 + length)
    const v6 = frame.readUInt16BE(12) === 0x86dd
    const udp = v6 ? 54 : 34
    const address = (from: number) => frame.subarray(from, from + (v6 ? 16 : 4)).join('.')
    const ends = v6 ? [22, 38] : [26, 30]
    all.push({
      from: `${address(ends[0]!)}:${frame.readUInt16BE(udp)}`,
      to: `${address(ends[1]!)}:${frame.readUInt16BE(udp + 2)}`,
      frameBytes: length,
      ttl: frame[v6 ? 21 : 22]!,
      dscp: ((v6 ? frame.readUInt16BE(14) >> 4 : frame[15]!) >> 2) & 0x3f,
      payload: frame.subarray(udp + 8, udp + frame.readUInt16BE(udp + 4)),
    })
    at += 16 + length
  }
  return all
}

/** The item pointers of a SPEAD-64-N packet (SPEAD, packet header and item pointers): id, immediate bit, value. */
export function pointersOf(packet: Uint8Array): { id: number; immediate: boolean; value: number }[] {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const addressBits = BigInt(8 * packet[3]!)
  return Array.from({ length: view.getUint16(6) }, (_, i) => {
    const word = view.getBigUint64(8 + 8 * i)
    return {
      id: Number((word >> addressBits) & ((1n << (63n - addressBits)) - 1n)),
      immediate: word >> 63n === 1n,
      value: Number(word & ((1n << addressBits) - 1n)),
    }
  })
}
