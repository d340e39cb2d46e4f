/**
 * An HTTP server for scrapes and probes. It cannot be held up: a request must be whole within seconds, connections are few, bodies are not read,
 * and it never keeps the process alive.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { messageOf, shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'
import { checkKeys } from './labels.js'
import { StreamMetrics } from './metrics.js'
import { Readiness } from './readiness.js'

/**
 * Options of `serveMetrics`.
 * @example await serveMetrics(registry, { host: '::1', port: 0 })
 */
export interface ServeOptions {
  /** The address or name to listen on, such as '127.0.0.1' or '::1'. Default: all addresses of the machine. */
  host?: string
  /** The TCP port, from 0 to 65535; 0 takes a free one, which `url` names. */
  port: number
}

/**
 * A server of metrics; made by `serveMetrics`.
 * @example console.log(server.url) // http://127.0.0.1:9400
 */
export interface MetricsServer extends AsyncDisposable {
  /** Where it listens, such as 'http://127.0.0.1:9400': `/metrics`, `/healthz` and `/readyz` stand below it. */
  readonly url: string
  /**
   * Ends it and its connections. Resolves when the port is free. Idempotent.
   * @example await server.close()
   */
  close(): Promise<void>
}

const MOST_CONNECTIONS = 64
const MOST_HEADER_BYTES = 16_384
/** A request must have come within this time. */
const SECONDS = 5
/** A connection on which nothing goes in either direction ends after this time; one that waits for its next request earlier. */
const SILENT_SECONDS = 30
const KEPT_SECONDS = 20
/** More texts than these in a second are copies of the last, so that nobody can keep the event loop busy with making them. */
const TEXTS_A_SECOND = 20

/**
 * Serves `/metrics` for Prometheus, `/healthz`, which answers while the event loop turns, and `/readyz`, which answers with 200 while all
 * streams and receivers are open, else with 503 and the reasons. `/readyz?moved=30` also demands that each has moved a heap within 30 seconds.
 * The first probe starts that count. The server authenticates nobody, and does not keep the process alive.
 * @throws (rejects) ERR_SPEADCAST_CONFIG for what is no registry of `metrics`, or no port; ERR_SPEADCAST_NATIVE where the port is taken or may not be
 *   taken, or this machine has no such address
 * @example
 * const server = await serveMetrics(metrics([stream]), { host: '127.0.0.1', port: 9400 })
 * console.log(`${server.url}/metrics`)
 */
export async function serveMetrics(registry: StreamMetrics, options: ServeOptions): Promise<MetricsServer> {
  const { host, port } = checked(registry, options)
  const answers = new Answers(registry)
  const server = createServer(
    {
      maxHeaderSize: MOST_HEADER_BYTES,
      headersTimeout: SECONDS * 1000,
      requestTimeout: SECONDS * 1000,
      connectionsCheckingInterval: 1000,
      keepAliveTimeout: KEPT_SECONDS * 1000,
      insecureHTTPParser: false,
    },
    (request, response) => void answers.answer(request, response),
  )
  server.maxConnections = MOST_CONNECTIONS
  server.on('connection', (socket) => socket.unref())
  // A client that does not take its answer is cut off.
  server.setTimeout(SILENT_SECONDS * 1000, (socket: { destroy(): void }) => socket.destroy())
  await listen(server, host, port)
  server.unref()
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return { url: urlOf(server), close, [Symbol.asyncDispose]: close }
}

function checked(registry: unknown, options: ServeOptions): ServeOptions {
  ensure(
    registry instanceof StreamMetrics,
    'ERR_SPEADCAST_CONFIG',
    () => `serveMetrics: the registry is ${shown(registry)}; give what metrics([stream]) returns`,
  )
  checkKeys('serveMetrics', options, ['host', 'port'])
  const { host, port } = options
  ensure(
    host === undefined || (typeof host === 'string' && host !== ''),
    'ERR_SPEADCAST_CONFIG',
    () => `serveMetrics: host is ${shown(host)}; give an address such as '127.0.0.1', or leave it out for all`,
  )
  ensure(
    Number.isInteger(port) && port >= 0 && port <= 65535,
    'ERR_SPEADCAST_CONFIG',
    () => `serveMetrics: port is ${shown(port)}; give a whole number from 0 to 65535`,
  )
  return { port, ...(host !== undefined && { host }) }
}

async function listen(server: Server, host: string | undefined, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ port, ...(host !== undefined && { host }) }, resolve)
    })
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new SpeadcastError('ERR_SPEADCAST_NATIVE', `serveMetrics: ${message}${REMEDIES[code ?? ''] ?? ''}`, { cause })
  }
  // What comes later is of single connections.
  server.on('error', () => undefined)
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: '; another program has the port: choose another, or 0 for a free one',
  EACCES: '; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one',
  EADDRNOTAVAIL: '; this machine has no such address: choose one of its own, or leave the host out for all',
  ENOTFOUND: '; the name does not resolve: give an address',
}

function urlOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`
}

/** What is answered to a request. */
class Answers {
  readonly #registry: StreamMetrics
  readonly #readiness: Readiness
  #text: Promise<string> | undefined
  #second = 0
  #made = 0

  constructor(registry: StreamMetrics) {
    this.#registry = registry
    this.#readiness = new Readiness(() => registry.readings())
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#answer(request, response)
    } catch (error) {
      // A metric of a registry that the caller made, for one.
      end(response, 500, `${messageOf(error)}\n`)
    }
  }

  async #answer({ method = '', url = '/', headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    // A body has no meaning here, and the connection ends with it unread.
    if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined)
      response.setHeader('connection', 'close')
    response.setHeader('cache-control', 'no-store').setHeader('x-content-type-options', 'nosniff')
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      return end(response, 405, 'only GET and HEAD\n')
    }
    const [path = '', query = ''] = url.split('?', 2)
    if (path === '/metrics') return end(response, 200, await this.#textNow(), this.#registry.contentType)
    if (path === '/healthz') return end(response, 200, 'the event loop turns\n')
    if (path === '/readyz') {
      const { status, text } = this.#readiness.answer(new URLSearchParams(query).get('moved'))
      return end(response, status, text)
    }
    if (path === '/') return end(response, 200, '/metrics\n/healthz\n/readyz\n')
    end(response, 404, 'not here: /metrics, /healthz, /readyz\n')
  }

  #textNow(): Promise<string> {
    const second = Math.floor(performance.now() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#made = 0
    }
    if (this.#text === undefined || this.#made < TEXTS_A_SECOND) {
      this.#made++
      this.#text = this.#registry.metrics()
    }
    return this.#text
  }
}

function end(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  // HEAD gets the length alone, which Node sees to.
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) }).end(text)
}
