/**
 * Nobody answers for 10.88.0.2 at d0; d0 goes down, the route leads to d1, and d1 is removed. Prints the interface of the path before and
 * behind, and what suspicion says at each look.
 */
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { openUdpPath } from '#dist/src/backend/udp/open.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { COUNTER_NAMES } from '#dist/src/stats.js'
import { print } from '../support/print.js'

const ip = (args: string) => execFileSync('ip', args.split(' '), { stdio: 'inherit' })
for (const [metric, [device, type]] of Object.entries({ d0: 'veth peer p0', d1: 'ifb' }).entries()) {
  ip(`link add ${device} type ${type}`)
  ip(`link set ${device} up`)
  ip(`route add 10.88.0.0/24 dev ${device} metric ${metric + 1}`)
}
const options = {
  endpoints: await resolveEndpoints(parseEndpoints(['10.88.0.2:7148'])),
  sourcePort: 0,
  multicastLoop: false,
  sendBufferBytes: 0,
  packetSizeBytes: 1000,
  allowFragmentation: false,
  segmentation: 'auto',
  udpPath: 'sendmmsg',
  neighbourTimeoutMs: 0,
} as const
const path = await openUdpPath(options, new Float64Array(COUNTER_NAMES.length))
const interfaces = [path.states.read().interface]
const suspicions = [path.suspicion(true)]
ip('link set d0 down')
// Once a second a gate that is shut looks for another route.
await sleep(1100)
path.gates.open(Uint16Array.of(0), undefined, 0, 1)
suspicions.push(path.suspicion(true))
interfaces.push(path.states.read().interface)
ip('link del d1')
suspicions.push(path.suspicion(true))
path.close()
print({ interfaces, suspicions })
