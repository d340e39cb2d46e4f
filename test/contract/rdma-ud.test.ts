/**
 * The contract of backend rdma-ud on the software NIC, in this process. A datagram has arrived when a receiving queue pair of ours
 * took it.
 */
import { expect, test } from 'vitest'
import { mapReceiveMemory, recycleReceiveMemory } from '#dist/ffi/socket/recvmmsg.js'
import { openRdmaUd } from '#dist/src/backend/verbs/datagrams.js'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import { openStream } from '#dist/src/index.js'
import { formatGid } from '#dist/src/net/address.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { arenaBytes, RdmaSource } from '#dist/src/receive/rdma-source.js'
import type { ReceiveSession } from '#dist/src/receive/session.js'
import { IBVERBS_DEFAULTS, RDMA_UD_DEFAULTS } from '#dist/src/stream/config.js'
import { environment } from '../support/hand-table.js'
import { inNamespace, needNic, nicHere, nicUnavailable } from '../support/nic.js'
import type { Arrival } from '../support/receivers.js'
import { backendContract } from './backend-contract.js'
import { streamContract } from './stream-contract.js'

const here = nicHere({ veth: { mtu: 9000 } }, { mode: 'null' }, ({ ns, nic }) =>
  inNamespace(ns.name.a, async () => listRdmaDevices({ library: nic.library })),
)

const SLOTS = 128
const PASSES = [
  // RoCE version 2 puts 12 + 8 + 4 bytes behind UDP's header (IBTA annex A17).
  { what: 'rdma-ud', host: '10.77.0.1', wireOverheadBytes: 90, commands: ['limit max_sge 30'] },
  { what: 'rdma-ud over IPv6', host: '[fd77::1]', wireOverheadBytes: 110, commands: ['limit max_sge 30'] },
  { what: 'rdma-ud on a device with one segment', host: '10.77.0.1', wireOverheadBytes: 90, commands: ['limit max_sge 1'] },
]

/** Opens a receiver that takes datagrams in slices of the event loop. */
async function openTaker(host: string, substreams: number) {
  const resolved = await resolveEndpoints(parseEndpoints(Array.from({ length: substreams }, (_, i) => `${host}:${7148 + i}`)))
  const endpoints = resolved.map((endpoint) => ({ ...endpoint, interfaceIndex: 0, interfaceName: undefined, joinedOn: undefined }))
  const memory = mapReceiveMemory(4096, arenaBytes(substreams, SLOTS))
  const source = await RdmaSource.open({ kind: 'rdma-ud', endpoints, verbsLibrary: here.nic.library, slots: SLOTS }, memory)
  const arrivals: Arrival[] = []
  const senders = new Set<number>()
  const session = {
    message() {},
    packet(at: number, length: number, sender: number, substream: number) {
      senders.add(sender)
      arrivals.push({ substream, bytes: new Uint8Array(source.buffer.slice(at, at + length)) })
    },
  } as unknown as ReceiveSession
  const takeAll = (): void => {
    for (let endpoint = 0; endpoint < substreams; endpoint++) while (source.take(endpoint, session) > 0);
  }
  const timer = setInterval(takeAll, 1)
  return {
    endpoints: resolved,
    peers: source.peers.map(({ gid, ...peer }) => ({ ...peer, gid: formatGid({ bytes: gid }) })),
    senders,
    async arrived(count: number) {
      for (let tries = 0; arrivals.length < count && tries < 500; tries++) await new Promise((resolve) => setTimeout(resolve, 5))
      await new Promise((resolve) => setTimeout(resolve, 20)) // duplicates would come now
      takeAll()
      return arrivals
    },
    close() {
      clearInterval(timer)
      source.close()
      recycleReceiveMemory(memory)
    },
  }
}

for (const { what, host, commands, wireOverheadBytes } of PASSES)
  backendContract({
    name: 'rdma-ud',
    what,
    evidence: 'completed',
    largestPacketBytes: 4096,
    wireOverheadBytes,
    unavailable: nicUnavailable,
    open: async (substreams) => {
      await here.nic.command(...commands)
      const taker = await inNamespace(here.ns.name.a, () => openTaker(host, substreams))
      const { poll: _, pollMicroseconds, ...queue } = IBVERBS_DEFAULTS
      const backend = await inNamespace(here.ns.name.a, () =>
        openRdmaUd(
          {
            ...queue,
            ...RDMA_UD_DEFAULTS,
            endpoints: taker.endpoints,
            peers: taker.peers,
            packetSizeBytes: 4096,
            neighbourTimeoutMs: 1000,
            pollNanoseconds: pollMicroseconds * 1000,
            verbsLibrary: here.nic.library,
          },
          environment(),
        ),
      )
      return {
        backend,
        arrived: taker.arrived,
        close: async () => {
          backend.close()
          // All of it came from one queue pair.
          expect(taker.senders.size).toBeLessThanOrEqual(1)
          taker.close()
        },
      }
    },
  })

streamContract({
  what: 'rdma-ud',
  backend: 'rdma-ud',
  evidence: 'completed',
  states: ['device', 'port', 'gid', 'mtuBytes', 'portActive', 'queueDepth'],
  unavailable: nicUnavailable,
  open: async (substreams, options) => {
    await here.nic.command('limit max_sge 30')
    const taker = await inNamespace(here.ns.name.a, () => openTaker('10.77.0.1', substreams))
    const stream = await inNamespace(here.ns.name.a, () =>
      openStream({
        to: taker.endpoints.map(({ text }) => text),
        backend: 'rdma-ud',
        interface: 'v0',
        packetSizeBytes: 1472,
        thread: 'inline',
        ibverbs: { library: here.nic.library },
        rdmaUd: { peers: taker.peers.map(({ gid, lid, qpn, qkey }) => ({ gid, lid, qpn, qkey })) },
        ...options,
      }),
    )
    return {
      stream,
      arrived: taker.arrived,
      close: async () => {
        await stream.destroy()
        taker.close()
      },
    }
  },
})

test('and nothing of the device is left', (ctx) => {
  needNic(ctx)
  const report = here.nic.cleanReport()
  expect(report.received).toBeGreaterThan(PASSES.length * 50)
  expect(report).toMatchObject({ receivedUnmatched: 0, droppedNoBuffer: 0, droppedOversize: 0 })
})
