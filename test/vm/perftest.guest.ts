/** Other programs on the same devices: where perftest and ibverbs-utils fail, we may fail too. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended, sh, started, until } from './support.js'

test('perftest sends datagrams of the path MTU from one device to the other', async () => {
  const iterations = 500
  const options = ['-c', 'UD', '-x', '1', '-s', '4096', '-n', `${iterations}`, '--output=message_rate']
  const server = started(['ib_send_bw', '-d', 'rxe1', ...options])
  await until(
    () => sh('ss -Hltn'),
    (text) => text.includes(':18515'),
  )
  const client = await ended(['ib_send_bw', '-d', 'rxe0', ...options, '10.98.0.2'])
  assert.equal(client.code, 0, client.stdout + client.stderr)
  assert.equal(await server.end, 0, server.text())
  assert.ok(Number(client.stdout.trim()) > 0, client.stdout)
})

test('perftest cannot make a raw packet queue pair here either', async () => {
  const { code, stdout, stderr } = await ended([
    ...['raw_ethernet_bw', '--client', '-d', 'rxe0', '-n', '10'],
    ...['-B', '02:00:00:00:98:01', '-E', '02:00:00:00:98:02'],
  ])
  assert.notEqual(code, 0)
  assert.match(stdout + stderr, /raw ?eth|create QP|not supported/i)
})
