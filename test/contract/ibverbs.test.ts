/**
 * The contract on the software NIC, in this process: its thread goes into a namespace to open the backend, and the receivers are kernel
 * sockets in the peer's.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openIbverbs } from '#dist/src/backend/ibverbs.js'
import { IBVERBS_DEFAULTS } from '#dist/src/config.js'
import { listRdmaDevices } from '#dist/src/devices.js'
import { inNamespace, Nic, needNic, nicUnavailable } from '../ibverbs/support.js'
import { makeNetns, type Netns } from '../support/netns.js'
import { backendContract, environment } from './backend-contract.js'
import { openReceivers } from './receivers.js'

let ns: Netns
let nic: Nic
let removeFiles: () => void

beforeAll(async () => {
  if (nicUnavailable()) return
  ns = await makeNetns({ veth: { mtu: 9000 } })
  nic = new Nic({}, (remove) => {
    removeFiles = remove
  })
  // The library reads them once.
  Object.assign(process.env, nic.environment)
  // With the first device it begins to take commands.
  await inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library }))
})

afterAll(async () => {
  removeFiles?.()
  await ns?.[Symbol.asyncDispose]()
})

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
    unavailable: nicUnavailable,
    open: async (substreams) => {
      const receivers = await inNamespace(ns.name.b, () => openReceivers(substreams, address))
      const { poll: _, pollMicroseconds, ...options } = IBVERBS_DEFAULTS
      await nic.command(...commands)
      const backend = await inNamespace(ns.name.a, () =>
        openIbverbs(
          {
            ...options,
            endpoints: receivers.endpoints,
            sourcePort: 0,
            packetSizeBytes: PACKET_BYTES,
            neighbourTimeoutMs: 1000,
            pollNanoseconds: pollMicroseconds * 1000,
            verbsLibrary: nic.library,
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

test('and nothing of the device is left', (ctx) => {
  needNic(ctx)
  const report = nic.cleanReport()
  expect(report.frames).toBeGreaterThan(PASSES.length * 50)
})
