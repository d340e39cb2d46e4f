import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { BatchOutcome, BatchResult, CloseReport, GroupMode, ItemInit, StreamOptions, StreamStats } from '#dist/src/index.js'
import { type Netns, waitForOutput } from './netns.js'
import { peerScript } from './peer.js'
import { programArgv } from './program.js'

export interface CapturedPacket {
  address: string
  port: number
  /** UDP payload. */
  bytes: number
  /** −1 for a packet that is not SPEAD. */
  cnt: number
  payloadOffset: number
  sha1: string
  fragment: boolean
}

export interface Capture {
  /** Takes the packets still on their way, ends the capture and returns all. Throws if the capture itself missed packets. */
  stop(): Promise<CapturedPacket[]>
}

/** Captures UDP packets to `ports` at an interface; `direction` 'in' is the wire as the other end sees it. */
export async function capture(
  ns: Netns,
  where: 'a' | 'b',
  options: { device?: string; direction?: 'in' | 'out'; ports?: string } = {},
): Promise<Capture> {
  const { device = where === 'a' ? 'v0' : 'v1', direction = 'in', ports = '7148' } = options
  const child = ns.spawn(where, ['python3', '-u', peerScript('capture.py'), device, direction, ports], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await waitForOutput(child, /ready\n/)
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  return {
    async stop() {
      child.stdin!.end()
      await ended
      const { packets, drops } = JSON.parse(text) as {
        packets: [string, number, number, number, number, string, boolean][]
        drops: number
      }
      if (drops > 0) throw new Error(`the capture missed ${drops} packets`)
      return packets.map(([address, port, bytes, cnt, payloadOffset, sha1, fragment]) => ({
        address,
        port,
        bytes,
        cnt,
        payloadOffset,
        sha1,
        fragment,
      }))
    },
  }
}

export interface PlainError {
  code: string
  message: string
  outcome?: BatchOutcome
  cause?: string
  stack?: string
}
export interface RunReport {
  sent: number
  suspect: number
  /** Number of the send, and its error. */
  failed: [number, PlainError][]
  /** Per sent batch: number of the send, first heap cnt, suspect. */
  statuses: [number, number, boolean][]
}
export interface BatchRequest {
  name?: string
  heaps: number
  /** Bytes of item adc_samples (u1); or give items. */
  bytes?: number
  items?: ItemInit[]
  groupMode?: GroupMode
  substreams?: number | number[]
  rates?: number[]
}
export interface SendRequest {
  name?: string
  heaps?: number
  cnt?: number
}
/** `bytes` as in BatchRequest. */
export interface BurstRequest {
  heaps: number
  bytes: number
  batches: number
  sends: number
}
export interface RunRequest {
  name?: string
  seconds: number
  gapMs?: number
}

/** A stream in a process of its own inside a namespace; see remote-stream.program.ts. It dies with the namespace. */
export class RemoteStream {
  readonly #waiting = new Map<number, (answer: unknown) => void>()
  #next = 0
  #stderr = ''
  #ended: PlainError | undefined
  readonly #child

  private constructor(ns: Netns, prefix: readonly string[]) {
    this.#child = ns.spawn('a', [...prefix, ...programArgv('support/remote-stream')], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stderr!.on('data', (chunk) => {
      this.#stderr += chunk
    })
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      if (!line.startsWith('{')) return
      const { id, ...answer } = JSON.parse(line)
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    })
    this.#child.once('close', (code, signal) => {
      this.#ended = { code: 'ENDED', message: `the sender ended with ${signal ?? code}\n${this.#stderr}` }
      for (const settle of this.#waiting.values()) settle({ error: this.#ended })
      this.#waiting.clear()
    })
    this.#child.stdin!.on('error', () => {})
  }

  /** Opens a stream in namespace a; `prefix` is a command to run it under. @throws what openStream rejects with */
  static async open(ns: Netns, options: StreamOptions, prefix: readonly string[] = []): Promise<RemoteStream> {
    const stream = new RemoteStream(ns, prefix)
    await stream.reopen(options)
    return stream
  }

  /** Closes the stream and opens another in the same process. */
  reopen(options: StreamOptions): Promise<{ states: StreamStats['states'] }> {
    return this.#ask('open', { options: { backend: 'udp', descriptors: 'none', ...options } })
  }

  #request<T>(op: string, request: object = {}): Promise<T & { error?: PlainError }> {
    const id = this.#next++
    return new Promise((resolve) => {
      if (this.#ended) return resolve({ error: this.#ended } as T & { error: PlainError })
      this.#waiting.set(id, resolve as (answer: unknown) => void)
      this.#child.stdin!.write(`${JSON.stringify({ id, op, ...request })}\n`)
    })
  }

  async #ask<T>(op: string, request: object = {}): Promise<T> {
    const answer = await this.#request<T>(op, request)
    if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error)
    return answer
  }

  batch(request: BatchRequest): Promise<{ packetsPerHeap: number }> {
    return this.#ask('batch', request)
  }

  send(request: SendRequest = {}): Promise<{ ok?: BatchResult; error?: PlainError }> {
    return this.#request('send', request)
  }

  /** Sends the batch again and again. */
  run(request: RunRequest): Promise<RunReport> {
    return this.#ask('run', request)
  }

  /** Sends `sends` batches, `batches` of them under way at a time. */
  burst(request: BurstRequest): Promise<RunReport> {
    return this.#ask('burst', request)
  }

  async stop(): Promise<void> {
    await this.#ask('stop')
  }

  stats(): Promise<StreamStats> {
    return this.#ask('stats')
  }

  /** The packets that backend 'memory' got so far. */
  async packets(): Promise<{ substream: number; bytes: Buffer; sha1: string }[]> {
    const packets = Object.values(await this.#ask<Record<string, [number, string]>>('packets'))
    return packets.map(([substream, text]) => {
      const bytes = Buffer.from(text, 'base64')
      return { substream, bytes, sha1: createHash('sha1').update(bytes).digest('hex') }
    })
  }

  async close(): Promise<CloseReport> {
    return (await this.#ask<{ report: CloseReport }>('close')).report
  }
}

/** Packets on the wire of every heap cnt; throws if any packet was there twice. */
export function packetsOfHeaps(packets: CapturedPacket[]): Map<number, number> {
  const seen = new Set<string>()
  const heaps = new Map<number, number>()
  for (const { address, port, cnt, payloadOffset } of packets) {
    const key = `${address} ${port} ${cnt} ${payloadOffset}`
    if (seen.has(key)) throw new Error(`twice on the wire: ${key}`)
    seen.add(key)
    heaps.set(cnt, (heaps.get(cnt) ?? 0) + 1)
  }
  return heaps
}

/** A UDP socket of both families in namespace b that nobody reads: datagrams to its port draw no ICMP answers. */
export async function listen(ns: Netns, port: number): Promise<void> {
  await waitForOutput(
    ns.spawn('b', ['python3', peerScript('listen.py'), `${port}`], { stdio: ['ignore', 'pipe', 'inherit'] }),
    /ready/,
  )
}
