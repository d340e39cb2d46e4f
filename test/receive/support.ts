import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { promisify } from 'node:util'
import type { ReceivedHeap } from '#dist/src/receive/index.js'
import { distFile } from '../support/child.js'
import { peerScript, spead2Python } from '../support/peer.js'

/** The input of peers/spead2_sender.py; see its head. */
export interface SenderSpec {
  to: [host: string, port: number][]
  kind: 'types' | 'tutorial'
  heaps: number
  packetSize: number
  wire?: 'stream' | 'tcp' | 'packets'
  flavour?: number
  bugCompat?: number
  heapSize?: number
  rate?: number
  repeatPointers?: boolean
  descriptors?: 'first' | 'each' | 'none'
  stop?: boolean
  firstCnt?: number
  cntStep?: number
  corrupt?: readonly number[]
  roundRobin?: boolean
  ttl?: number
  interface?: string
  interfaceIndex?: number
  seed?: number
  order?: 'reverse' | 'shuffle'
  window?: number
  duplicate?: number
  drop?: [heap: number, packet: number][]
  garbage?: number
  truncate?: number
  gso?: boolean
}

/** A heap as spead2's own receiver saw it. */
export interface ToldHeap {
  cnt: string
  heapAddressBits: number
  start: boolean
  stop: boolean
  packets: number
  items: { id: number; immediate: boolean; bytes: string }[]
  descriptors: {
    id: number
    name: string
    description: string
    shape: (number | null)[]
    order: 'C' | 'F'
    dtype: string | null
    format: [string, number][]
  }[]
}

export interface Sent {
  heaps: ToldHeap[]
  done: { spead2: string; heaps: number; packets: number; udpBytes: number; payloadBytes: number; sha256: string }
}

export const senderArgv = (spec: SenderSpec): [string, string[]] => [
  spead2Python() ?? 'python3',
  ['-u', peerScript('spead2_sender.py'), JSON.stringify(spec)],
]

export function parseSent(stdout: string): Sent {
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { heap?: ToldHeap; done?: Sent['done'] })
  return { heaps: lines.flatMap(({ heap }) => heap ?? []), done: lines.at(-1)!.done! }
}

/** Runs the real spead2 as a sender to its end. */
export async function send(spec: SenderSpec): Promise<Sent> {
  const [python, args] = senderArgv(spec)
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 1 << 28, timeout: 60_000 })
  return parseSent(stdout)
}

/** A UDP port that was free a moment ago. */
export async function freePort(address = '127.0.0.1'): Promise<number> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const port = await new Promise<number>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, address, () => resolve(socket.address().port))
  })
  await new Promise<void>((resolve) => socket.close(resolve))
  return port
}

/** Short enough to read in a diff. */
function brief(bytes: Uint8Array): string {
  return bytes.length <= 24
    ? Buffer.from(bytes).toString('hex')
    : `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex')}`
}

/**
 * A received heap in the form of a told one. Immediates are told in full width, so ours, cut by its descriptor, is compared with the tail.
 * spead2's receiver leaves out addressed items of no bytes; ours has them.
 */
export function comparable(heap: ReceivedHeap, told: ToldHeap): unknown {
  return {
    cnt: `${heap.cnt}`,
    heapAddressBits: heap.flavour.heapAddressBits,
    start: heap.control === 'start',
    stop: heap.control === 'stop',
    packets: heap.packets,
    items: [...heap.items.values()]
      .filter(({ immediate, bytes }) => immediate || bytes.length > 0)
      .map(({ id, immediate, bytes, shape }) => {
        const full = Buffer.from(told.items.find((item) => item.id === id)?.bytes ?? '', 'base64')
        const isTail = full.subarray(full.length - bytes.length).equals(bytes) && (bytes.length > 0 || shape?.includes(0))
        return { id, immediate, bytes: brief(immediate && isTail ? full : bytes) }
      })
      .sort((a, b) => a.id - b.id),
    descriptors: heap.descriptors,
  }
}

/** The told heap with what the receiver states about dtype where there is only a format. */
export function expectedOf(told: ToldHeap): unknown {
  const numpyOf: Record<string, string> = { u16: '>u2', f32: '>f4', c8: '|S1' }
  return {
    ...told,
    items: told.items.map((item) => ({ ...item, bytes: brief(Buffer.from(item.bytes, 'base64')) })).sort((a, b) => a.id - b.id),
    descriptors: told.descriptors.map((descriptor) => {
      const { format } = descriptor
      const dtype = descriptor.dtype ?? (format.length === 1 ? (numpyOf[format[0]!.join('')] ?? null) : null)
      return { ...descriptor, dtype, format: descriptor.dtype === null ? format : [] }
    }),
  }
}

const children = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

export interface Run {
  child: ChildProcess
  /** Resolves once stderr has matched; rejects if the process ends before. */
  said(pattern: RegExp): Promise<void>
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }>
}

/** Starts a process, killed with this one. */
export function start(argv: readonly string[], cwd?: string): Run {
  return watch(spawn(argv[0] === 'node' ? process.execPath : argv[0]!, argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], cwd }))
}

export function watch(child: ChildProcess): Run {
  children.add(child)
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    for (const listener of listeners) listener()
  })
  const ended = new Promise<Awaited<Run['ended']>>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      children.delete(child)
      resolve({ code, signal, stdout, stderr })
    })
  })
  return {
    child,
    ended,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!pattern.test(stderr)) return
          listeners.delete(look)
          resolve()
        }
        listeners.add(look)
        look()
        void ended.then(({ code, stderr: all }) => reject(new Error(`ended with ${code} before ${pattern}: ${all}`)))
      }),
  }
}

/** `speadcast recv …` */
export const recvArgv = (...args: string[]): string[] => ['node', distFile('src/cli/main.js'), 'recv', ...args]
