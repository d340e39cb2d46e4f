/**
 * Sends to two endpoints by a socket that is connected to the first, as backend udp does where fq keeps the rate, and prints what
 * became of the posts to each: the first errno that refused a packet, in words, and the ICMP answers counted. The argument has
 * the endpoints.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { POST_OK, POST_SKIP, type PostResult } from '#dist/src/backend/backend.js'
import { Gates } from '#dist/src/backend/gates.js'
import { findPath } from '#dist/src/backend/paths.js'
import { States } from '#dist/src/backend/states.js'
import { UdpBackend } from '#dist/src/backend/udp/backend.js'
import { Bearings } from '#dist/src/backend/udp/bearings.js'
import { UdpPath } from '#dist/src/backend/udp/path.js'
import { UdpSockets } from '#dist/src/backend/udp/sockets.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { waitForNeighbours } from '#dist/src/net/route.js'
import { COUNTER } from '#dist/src/stats.js'
import { environment, handTable, pattern } from '../support/hand-table.js'
import { print } from '../support/print.js'

const { to, bytes } = JSON.parse(process.argv[2]!) as { to: string[]; bytes: number }
const options = {
  endpoints: await resolveEndpoints(parseEndpoints(to)),
  sourcePort: 0,
  multicastLoop: false,
  sendBufferBytes: 0,
  packetSizeBytes: bytes,
  allowFragmentation: false,
  segmentation: 'auto',
  udpPath: 'sendmmsg',
  neighbourTimeoutMs: 1000,
} as const
const { counters, wake } = environment()
const bearings = new Bearings(options)
const states = new States()
const paths = bearings.endpoints.map((endpoint) => findPath(endpoint, undefined))
await waitForNeighbours(paths, 1000)
const gates = new Gates({ paths, timeoutMs: 1000, find: (i) => bearings.find(i), states })
const sockets = new UdpSockets(options, bearings, 'first')
const path = new UdpPath({ sockets, options, bearings, gates, pace: undefined, states, counters })
const backend = new UdpBackend(path, { counters, wake })
const { table } = handTable(Array.from({ length: 20 }, (_, i) => ({ substream: i % 2, segments: [pattern(i, bytes)] })))
const posting = backend.compile(table, { maxMessageBytes: 65507 })
const out: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
const accepted = [0, 0]
const refused: (string | undefined)[] = [undefined, undefined]
const suspicions = [backend.suspicion(true)]
for (let round = 0; round < 10; round++) {
  for (let row = 0; row < table.rows; ) {
    backend.post(posting, row, table.rows, out)
    for (let i = 0; i < out.accepted; i++) accepted[table.substream[row + i]!]!++
    if (out.kind === POST_SKIP) refused[out.substream] = backend.explain(out.errno, out.substream, bytes)
    row += out.accepted + out.skipped
  }
  await sleep(20)
  suspicions.push(backend.suspicion(true))
}
// A path that is made anew keeps its port, and hears as before.
const port = sockets.main.localPort()
sockets.remake()
const samePort = sockets.all.map((socket) => socket.localPort() === port)
backend.close()
print({
  accepted,
  refused,
  suspicions,
  samePort,
  queuedErrors: counters[COUNTER.queuedErrors],
  portUnreachable: counters[COUNTER.portUnreachable],
})
