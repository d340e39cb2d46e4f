// Takes as long as the server's patience with a request.
import { connect } from 'node:net'
import { metrics, serveMetrics } from 'speadcast/metrics'
import { expect, onTestFinished, test } from 'vitest'

test('a request that does not come to its end is ended, whatever trickles in', { timeout: 30_000 }, async () => {
  const server = await serveMetrics(metrics(), { host: '127.0.0.1', port: 0 })
  onTestFinished(() => server.close())
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  let text = ''
  socket.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  const closed = new Promise((resolve) => socket.on('error', () => undefined).on('close', resolve))
  socket.write('GET /metrics HTTP/1.1\r\nhost: x\r\nx: ')
  const trickle = setInterval(() => socket.write('y'), 200)
  onTestFinished(() => clearInterval(trickle))
  await closed
  expect(text).toMatch(/^(HTTP\/1\.1 408 |$)/)
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
})
