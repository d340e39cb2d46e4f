import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { peerScript, spead2Python } from './peer.js'

/** The four ways a value travels to the peer; see the head of test/peers/spead2_packets.py. Integers may be decimal strings. */
export type PeerValue =
  | { raw: string; dtype: string; shape: number[] }
  | { text: string }
  | { bytes: string }
  | { list: PeerLeaf | readonly unknown[] }
type PeerLeaf = string | number | boolean

export interface PeerItem {
  id: number | string
  name: string
  description: string
  shape: (number | null)[]
  dtype?: string | undefined
  format?: [string, number][] | undefined
  order?: 'C' | 'F' | undefined
  value: PeerValue | null
}

export interface PeerFlavour {
  heapAddressBits: number
  bugCompat: number
}

export type PeerPart = { descriptor: PeerItem } | { item: PeerItem } | { start: true } | { end: true }

export interface EncodeCase {
  flavour: PeerFlavour
  repeatPointers?: boolean
  cnt: number | string
  packetSizes: number[]
  parts: PeerPart[]
}

/** Groups of heaps sent one after another on one stream; a heap without cnt takes the sequence's next (default 1, 2, …). */
export interface GroupsCase {
  flavour: PeerFlavour
  repeatPointers?: boolean
  packetSize: number
  sequence?: [next: string, step: string]
  groups: { mode: 'serial' | 'round-robin'; heaps: { cnt?: string; parts: PeerPart[] }[] }[]
}

export type SequenceStep =
  | { add: PeerItem & { autoId?: boolean } }
  | { set: string; item: PeerItem }
  | { touch: string }
  | { heap: { descriptors: string; data: string }; cnt: number | string; packetSize: number }

export interface SequenceCase {
  flavour: PeerFlavour
  descriptorFrequency?: number | undefined
  steps: SequenceStep[]
}

/** One heap as spead2's receiver sees it. `values` are in a form that compares exactly (floats by their bits). */
export interface DecodedHeap {
  error?: string
  cnt: string
  complete: boolean
  packets: number
  heapAddressBits: number
  start: boolean
  end: boolean
  items: { id: string; immediate: boolean; bytes: string }[]
  descriptors?: {
    id: string
    name: string
    description: string
    shape: (string | null)[]
    format: [string, number][]
    dtype: string
  }[]
  values?: Record<string, unknown>
  valueError?: string
  heapBytes?: string
  receivedBytes?: string
}

export type EncodeResult = { error: string } | { packets: (string[] | { error: string })[] }
export type GroupsResult = { error: string } | { packets: string[] }
export type SequenceResult = { error: string } | { heaps: string[][] }

const live = new Set<ChildProcessByStdio<Writable, Readable, Readable>>()
process.once('exit', () => {
  for (const child of live) child.kill('SIGKILL')
})

/** A Python process that answers JSON lines with the real spead2; `close()` in afterAll, killed anyway when this process exits. */
export class PythonPeer {
  private readonly pending = new Map<number, { resolve: (v: never) => void; reject: (e: Error) => void }>()
  private nextId = 1
  private stderr = ''
  private gone: Error | undefined

  private constructor(private readonly child: ChildProcessByStdio<Writable, Readable, Readable>) {
    live.add(child)
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-4000)
    })
    createInterface({ input: child.stdout }).on('line', (line) => this.answer(line))
    const end = (why: string) => {
      live.delete(child)
      this.gone ??= new Error(`the spead2 peer ended (${why})\n${this.stderr}`)
      for (const p of this.pending.values()) p.reject(this.gone)
      this.pending.clear()
    }
    child.on('error', (e) => end(e.message))
    child.on('close', (code, signal) => end(signal ?? `exit ${code}`))
    child.stdin.on('error', () => undefined)
  }

  /** Starts `test/peers/<script>` in the venv, or returns undefined where the venv is missing (tests then call `need`). */
  static start(script = 'spead2_packets.py'): PythonPeer | undefined {
    const python = spead2Python()
    if (python === undefined) return undefined
    return new PythonPeer(spawn(python, ['-u', peerScript(script)], { stdio: ['pipe', 'pipe', 'pipe'] }))
  }

  private answer(line: string): void {
    const message = JSON.parse(line) as { id: number; ok: boolean; result?: unknown; error?: string }
    const waiting = this.pending.get(message.id)
    this.pending.delete(message.id)
    if (message.ok) waiting?.resolve(message.result as never)
    else waiting?.reject(new Error(`spead2 peer: ${message.error}`))
  }

  private request<T>(op: string, body: object): Promise<T> {
    if (this.gone) return Promise.reject(this.gone)
    const id = this.nextId++
    return new Promise<T>((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as (v: never) => void, reject })
      this.child.stdin.write(`${JSON.stringify({ id, op, ...body })}\n`)
    })
  }

  versions(): Promise<{ spead2: string; numpy: string }> {
    return this.request('versions', {})
  }

  /** spead2's own packets of each heap, once per packet size. */
  encode(cases: EncodeCase[]): Promise<EncodeResult[]> {
    return this.request('encode', { cases })
  }

  /** All packets in the order in which spead2's own stream writes them. */
  groups(cases: GroupsCase[]): Promise<GroupsResult[]> {
    return this.request('groups', { cases })
  }

  /** spead2's ItemGroup taken through the same steps; the packets of every heap it made. */
  sequence(cases: SequenceCase[]): Promise<SequenceResult[]> {
    return this.request('sequence', { cases })
  }

  /**
   * The heaps that spead2's receiver decodes, one from each list of packets; `items` give values to heaps that carry no
   * descriptors.
   */
  decode(heaps: { packets: string[]; bugCompat?: number; items?: PeerItem[] }[]): Promise<DecodedHeap[]> {
    return this.request('decode', { heaps })
  }

  async close(): Promise<void> {
    if (!live.has(this.child)) return
    const closed = new Promise((resolve) => this.child.once('close', resolve))
    this.child.stdin.end()
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 2000)
    await closed
    clearTimeout(timer)
  }
}
