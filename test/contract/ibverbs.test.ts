/**
 * The contract of backend ibverbs on the software NIC, in this process. Its thread enters a namespace to open the backend, and the
 * receivers are kernel sockets in the peer's namespace.
 */
import { expect, test } from 'vitest'
import { openIbverbs } from '#dist/src/backend/verbs/raw.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { openStream } from '#dist/src/index.js'
import { IBVERBS_DEFAULTS } from '#dist/src/stream/config.js'
import { environment } from '../support/hand-table.js'
import { inNamespace, needNic, nicHere, nicUnavailable } from '../support/nic.js'
import { openReceivers } from '../support/receivers.js'
import { backendContract } from './backend-contract.js'
import { streamContract } from './stream-contract.js'

const here = nicHere({ veth: { mtu: 9000 } }, {}, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

const PACKET_BYTES = 1472
const PASSES = [
  { what: 'ibverbs', address: '10.77.0.2', commands: ['limit checksum 1', 'limit max_sge 30'] },
  { what: 'ibverbs over IPv6', address: 'fd77::2', commands: ['limit checksum 1', 'limit max_sge 30'] },
  {
    what: 'ibverbs on a device with one segment and no checksums',
    address: '10.77.0.2',
    commands: ['limit checksum 0', 'limit max_sge 1'],
  },
  {
    what: 'ibverbs over IPv6 on a device with one segment and no checksums',
    address: 'fd77::2',
    commands: ['limit checksum 0', 'limit max_sge 1'],
  },
]

for (const { what, address, commands } of PASSES)
  backendContract({
    name: 'ibverbs',
    what,
    evidence: 'completed',
    largestPacketBytes: PACKET_BYTES,
    wireOverheadBytes: address.includes(':') ? 86 : 66,
    unavailable: nicUnavailable,
    open: async (substreams) => {
      const receivers = await inNamespace(here.ns.name.b, () => openReceivers(substreams, address))
      const { poll: _, pollMicroseconds, ...options } = IBVERBS_DEFAULTS
      await here.nic.command(...commands)
      const backend = await inNamespace(here.ns.name.a, () =>
        openIbverbs(
          {
            ...options,
            endpoints: receivers.endpoints,
            sourcePort: 0,
            packetSizeBytes: PACKET_BYTES,
            neighbourTimeoutMs: 1000,
            pollNanoseconds: pollMicroseconds * 1000,
            verbsLibrary: here.nic.library,
          },
          environment(),
        ),
      )
      return {
        backend,
        arrived: receivers.arrived,
        close: async () => {
          backend.close()
          await receivers.close()
        },
      }
    },
  })

for (const address of ['10.77.0.2', 'fd77::2'])
  streamContract({
    what: `ibverbs to ${address}`,
    backend: 'ibverbs',
    evidence: 'completed',
    states: ['interface', 'sourceAddress', 'portActive'],
    unavailable: nicUnavailable,
    open: async (substreams, options) => {
      const receivers = await inNamespace(here.ns.name.b, () => openReceivers(substreams, address))
      await here.nic.command('limit checksum 1', 'limit max_sge 30')
      // With an I/O thread the device is opened by a thread that is in no namespace of ours.
      const stream = await inNamespace(here.ns.name.a, () =>
        openStream({
          to: receivers.endpoints.map(({ text }) => text),
          backend: 'ibverbs',
          interface: 'v0',
          packetSizeBytes: PACKET_BYTES,
          thread: 'inline',
          ibverbs: { library: here.nic.library },
          ...options,
        }),
      )
      return {
        stream,
        arrived: receivers.arrived,
        close: async () => {
          await stream.destroy()
          await receivers.close()
        },
      }
    },
  })

test('and nothing of the device is left', (ctx) => {
  needNic(ctx)
  const report = here.nic.cleanReport()
  expect(report.frames).toBeGreaterThan(PASSES.length * 50)
})
