// The HTTP server as Prometheus, Kubernetes and strangers meet it.
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { openStream } from 'speadcast'
import { type MetricsServer, metrics, type StreamMetrics, serveMetrics } from 'speadcast/metrics'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runProgram } from '../support/program.js'
import { pair, sampleOf, sendHeaps, until } from './support.js'

async function serve(registry: StreamMetrics = metrics(), host = '127.0.0.1'): Promise<MetricsServer> {
  const server = await serveMetrics(registry, { host, port: 0 })
  onTestFinished(() => server.close())
  return server
}

async function get(url: string, method = 'GET'): Promise<{ status: number; text: string; headers: Headers }> {
  const response = await fetch(url, { method })
  return { status: response.status, text: await response.text(), headers: response.headers }
}

/** Opens a connection and says something on it. @returns what came back until it was closed */
function talk(url: string, say: string): { socket: Socket; answer: Promise<string> } {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  onTestFinished(() => void socket.destroy())
  let text = ''
  socket.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  const answer = new Promise<string>((resolve) => {
    socket.on('error', () => undefined).on('close', () => resolve(text))
  })
  socket.on('connect', () => socket.write(say))
  return { socket, answer }
}

describe('serveMetrics', () => {
  test('gives the metrics, with the content type that Prometheus reads', async () => {
    const { stream } = await pair()
    const { url } = await serve(metrics(stream))
    await sendHeaps(stream, 7)
    const { status, text, headers } = await get(`${url}/metrics`)
    expect([status, sampleOf(text, 'speadcast_heaps_sent_total')]).toEqual([200, 8])
    expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    const head = await get(`${url}/metrics`, 'HEAD')
    expect([head.status, head.text]).toEqual([200, ''])
    expect((await get(`${url}/metrics?name=x`)).status).toBe(200)
  })

  test('listens on IPv6, and says where', async () => {
    const { url } = await serve(metrics(), '::1')
    expect(url).toMatch(/^http:\/\/\[::1\]:\d+$/)
    expect((await get(`${url}/healthz`)).status).toBe(200)
  })

  test('is ready while all are open, and says what is not', async () => {
    const { stream, receiver } = await pair()
    const registry = metrics()
    const { url } = await serve(registry)
    const ready = async (query = '') => {
      const { status, text } = await get(`${url}/readyz${query}`)
      return [status, text]
    }
    expect(await ready()).toEqual([503, 'nothing is open yet\n'])
    registry.add(stream, { name: 'beam' }).add(receiver)
    expect(await ready()).toEqual([200, '2 sources open\n'])
    expect(await ready('?moved=0')).toEqual([503, expect.stringMatching(/^stream beam has moved no heap for \d/)])
    expect(await ready('?moved=soon')).toEqual([400, expect.stringContaining('/readyz?moved=30')])
    await sendHeaps(stream, 1)
    await until(() => receiver.stats().heaps === 1)
    expect(await ready('?moved=60')).toEqual([200, '2 sources open\n'])
    await stream.close()
    expect(await ready()).toEqual([503, 'stream beam is not open\n'])
    await receiver.close()
    expect(await ready()).toEqual([503, 'stream beam is not open\nreceiver 1 is not open\n'])
    expect((await get(`${url}/healthz`)).status).toBe(200)
  })

  test.for([
    ['POST', '/metrics', 405],
    ['DELETE', '/metrics', 405],
    ['OPTIONS', '/', 405],
    ['GET', '/metrics/', 404],
    ['GET', '//metrics', 404],
    ['GET', '/%2e%2e/etc/passwd', 404],
    ['GET', '/favicon.ico', 404],
    ['GET', '/', 200],
  ] as const)('answers %s %s with %i', async ([method, path, status]) => {
    const { url } = await serve()
    const answer = await new Promise<number | undefined>((resolve, reject) => {
      request(`${url}/`, { path, method }, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end()
    })
    expect(answer).toBe(status)
  })

  test('refuses headers without end and what is no HTTP, and goes on', async () => {
    const { url } = await serve()
    expect(await talk(url, `GET /metrics HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`).answer).toMatch(
      /^HTTP\/1\.1 431 /,
    )
    expect(await talk(url, '\x16\x03\x01 this is no HTTP\r\n\r\n').answer).toMatch(/^HTTP\/1\.1 400 /)
    // A body is not read: the connection ends with the answer.
    expect(await talk(url, 'GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc').answer).toMatch(
      /^HTTP\/1\.1 200 /,
    )
    expect((await get(`${url}/healthz`)).status).toBe(200)
  })

  test('takes no more connections than it can hold, and serves again when they have gone', async () => {
    const { url } = await serve()
    const held = Array.from({ length: 200 }, () => talk(url, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'))
    let closed = 0
    for (const { answer } of held) void answer.then(() => closed++)
    await until(() => closed >= 200 - 64)
    for (const { socket } of held) socket.destroy()
    await until(async () => (await get(`${url}/healthz`).catch(() => undefined))?.status === 200)
    expect(closed).toBeGreaterThanOrEqual(136)
  })

  test('makes the text a few times a second at most, however many ask', async () => {
    const stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory' })
    let asked = 0
    const counted = new Proxy(stream, {
      get: (target, key) => {
        if (key === 'stats') asked++
        const value = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const { url } = await serve(metrics(counted))
    asked = 0
    const from = performance.now()
    for (let i = 0; i < 40; i++) await Promise.all(Array.from({ length: 10 }, () => get(`${url}/metrics`)))
    const seconds = Math.ceil((performance.now() - from) / 1000) + 1
    expect(asked).toBeLessThanOrEqual(20 * seconds)
    await stream.close()
  })

  test('answers with 500 where a metric cannot be read, and goes on', async () => {
    const { Registry } = await import('prom-client')
    const registry = new Registry()
    const made = metrics([], { registry })
    const { url } = await serve(made)
    registry.registerMetric({
      name: 'broken',
      get: () => {
        throw new Error('it is broken')
      },
    } as never)
    expect(await get(`${url}/metrics`)).toMatchObject({ status: 500, text: 'it is broken\n' })
    registry.removeSingleMetric('broken')
    await until(async () => (await get(`${url}/metrics`)).status === 200)
    expect((await get(`${url}/healthz`)).status).toBe(200)
  })

  test('does not keep the process alive, with a connection open or without', async () => {
    const { code, stdout, stderr } = await runProgram('metrics/serve-and-end')
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'connected\n', stderr: '' })
  })

  test('ends with its connections, once', async () => {
    const server = await serveMetrics(metrics(), { host: '127.0.0.1', port: 0 })
    const { answer, socket } = talk(server.url, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n')
    await new Promise((resolve) => socket.once('data', resolve))
    await Promise.all([server.close(), server.close()])
    expect(await answer).toContain('the event loop turns')
    await expect(get(`${server.url}/healthz`)).rejects.toThrow()
  })

  test.for([
    ['a port that another has', { host: '127.0.0.1' }, 'ERR_SPEADCAST_NATIVE', /EADDRINUSE.*another program has the port/],
    ['an address of another machine', { host: '203.0.113.1', port: 0 }, 'ERR_SPEADCAST_NATIVE', /EADDRNOTAVAIL.*no such address/],
    ['a port that is none', { port: 65536 }, 'ERR_SPEADCAST_CONFIG', /port is 65536; give a whole number from 0 to 65535/],
    ['no port', {}, 'ERR_SPEADCAST_CONFIG', /port is undefined/],
    ['a host that is none', { host: 7 as never, port: 0 }, 'ERR_SPEADCAST_CONFIG', /host is 7/],
    ['an unknown option', { port: 0, path: '/x' } as never, 'ERR_SPEADCAST_CONFIG', /unknown option 'path'/],
  ] as const)('refuses %s', async ([what, options, code, message]) => {
    const taken = await serve()
    const port = what.includes('another has') ? { port: Number(new URL(taken.url).port) } : {}
    const opening = serveMetrics(metrics(), { ...options, ...port } as never)
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  test('refuses a registry that is none', async () => {
    await expect(serveMetrics({} as never, { port: 0 })).rejects.toThrow(/the registry is an Object; give what metrics/)
  })
})
