/** Runs `speadcast bench agent`: takes masters one after the other. */
import { createServer, type Server, type Socket } from 'node:net'
import { SpeadcastError } from '../../../errors.js'
import { complain } from '../../common/exit.js'
import { onInterrupt } from '../../common/interrupt.js'
import { printJson, say } from '../../common/print.js'
import { waitForTerminal } from '../../common/terminal.js'
import type { AgentFlags } from './flags.js'
import { LineChannel } from './line-channel.js'
import { bareAddress, endpointOf, parseListen } from './place.js'
import { messageOf, PROTOCOL_VERSION, ProtocolError, parseFromMaster, type Refused } from './protocol.js'
import { type AgentLimits, type Served, serveMaster } from './serve.js'

/** Connections at once, the master's among them; the kernel's answer to more is the end of the connection. */
const MOST_CONNECTIONS = 16
/** A connection that does not say what it is by then is closed. */
const HELLO_SECONDS = 5
const DEFAULT_MEMORY_BYTES = 256 << 20

export async function runAgent(flags: AgentFlags): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => stopping.abort())
  waitForTerminal(false)
  try {
    const { host, port } = parseListen(flags.listen)
    const agent = new Agent(limitsOf(flags), stopping.signal)
    await agent.run(host, port)
    if (flags.json) printJson({ reason: 'interrupted', ...agent.served })
  } catch (error) {
    complain('bench agent', error)
  } finally {
    waitForTerminal(true)
    undo()
  }
}

function limitsOf({ memory, buffer, dataPort, mostSeconds, json }: AgentFlags): AgentLimits {
  const most = process.constrainedMemory?.() || Number.POSITIVE_INFINITY
  return {
    memoryBytes: memory ?? Math.max(1 << 20, Math.min(DEFAULT_MEMORY_BYTES, Math.floor(most / 4))),
    bufferBytes: buffer,
    dataPort,
    mostSeconds,
    json: json ?? false,
  }
}

class Agent {
  /** The address of the master that is served; undefined: none is. */
  #master: string | undefined
  readonly served: Served = { masters: 0, runs: 0, packets: 0, bytes: 0, heaps: 0, heapsIncomplete: 0, payloadBytes: 0 }
  readonly #channels = new Set<LineChannel>()
  readonly #limits: AgentLimits
  readonly #stopping: AbortSignal

  constructor(limits: AgentLimits, stopping: AbortSignal) {
    this.#limits = limits
    this.#stopping = stopping
  }

  /** Listens until `stopping` aborts and what it serves has ended. */
  async run(host: string | undefined, port: number): Promise<void> {
    const serving = new Set<Promise<void>>()
    const server = createServer((socket) => {
      const done = this.#take(socket).finally(() => serving.delete(done))
      serving.add(done)
    })
    server.maxConnections = MOST_CONNECTIONS
    await listen(server, host, port)
    say(
      `speadcast bench agent: listening on ${host === undefined ? `port ${port} of all addresses` : endpointOf(host, port, 'udp')}; Ctrl-C ends it`,
    )
    await new Promise<void>((resolve) => {
      if (this.#stopping.aborted) resolve()
      this.#stopping.addEventListener('abort', () => resolve())
    })
    server.close()
    for (const channel of this.#channels) channel.close()
    await Promise.all(serving)
  }

  /** Never rejects: whatever a connection does, the next is served. */
  async #take(socket: Socket): Promise<void> {
    const from = bareAddress(socket.remoteAddress ?? '?')
    const address = bareAddress(socket.localAddress ?? '')
    const channel = new LineChannel(socket)
    this.#channels.add(channel)
    const refuse = (why: string): void => channel.send({ type: 'refused', why } satisfies Refused)
    try {
      const line = await channel.next(HELLO_SECONDS)
      if (line === undefined) return
      const hello = parseFromMaster(line)
      if (hello.type !== 'hello') return refuse('the first line must be a hello')
      if (hello.version !== PROTOCOL_VERSION)
        return refuse(
          `this agent speaks version ${PROTOCOL_VERSION}, the master ${hello.version}; install the same speadcast on both hosts`,
        )
      if (this.#master !== undefined) return refuse('this agent serves another master; try again when that has ended')
      this.#master = from
      say(`speadcast bench agent: master ${from} connected`)
      try {
        this.served.masters++
        await serveMaster(channel, { address, from, served: this.served }, this.#limits)
        say(`speadcast bench agent: master ${from} went away`)
      } finally {
        this.#master = undefined
      }
    } catch (error) {
      if (error instanceof ProtocolError) refuse(error.message)
      if (!this.#stopping.aborted) say(`speadcast bench agent: connection from ${from} closed: ${messageOf(error)}`)
    } finally {
      this.#channels.delete(channel)
      channel.close()
    }
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: '; another program has the port: choose one with --listen',
  EACCES: '; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one with --listen',
  EADDRNOTAVAIL: '; no interface here has this address: let --listen have one of this machine, or the port alone for all',
  ENOTFOUND: '; no host has this name: let --listen have an address of this machine, or the port alone for all',
}

function listen(server: Server, host: string | undefined, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const remedy = REMEDIES[cause.code ?? ''] ?? ''
      reject(new SpeadcastError('ERR_SPEADCAST_NATIVE', `cannot listen on port ${port}: ${cause.message}${remedy}`, { cause }))
    })
    server.listen({ port, ...(host !== undefined && { host }) }, () => {
      // A connection that cannot be accepted, for want of descriptors, is no end.
      server.removeAllListeners('error').on('error', (error) => say(`speadcast bench agent: ${messageOf(error)}`))
      resolve()
    })
  })
}
