// A flag for one backend is refused with another, because that would ignore it: in a run, by the table of all flags.
import { createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { checkTransportOptions, type TransportFlags } from '#dist/src/cli/common/transport-options.js'
import { run } from '../support/cli.js'

type Flags = Partial<TransportFlags>
const check = (flags: Flags, backend: TransportFlags['backend'], to: string) => () =>
  checkTransportOptions({ backend, udpPath: 'auto', multicastLoop: true, ...flags }, backend, [to])

const OF_OTHERS: readonly Flags[] = [
  { multicastLoop: false },
  { sourcePort: 4000, reusePort: true },
  { broadcast: true },
  { udpPath: 'sendmmsg' },
  { segmentation: 'off' },
  { allowFragmentation: true },
  { neighbourTimeout: 100 },
  { vlan: { id: 5 } },
  { queueDepth: 64 },
  { poll: 'busy' },
  { pollMicroseconds: 5 },
  { completionVector: 1 },
  { completionTimeout: 100 },
  { verbsLibrary: 'x' },
  { device: 'mlx5_0' },
  { peer: [{ qpn: 17, qkey: 18 }] },
]

test.for(OF_OTHERS)('%j is refused with TCP, however that is chosen', (flags) => {
  const says = /^--[a-z-]+ is for --backend .*, not tcp$/
  expect(check(flags, 'auto', 'tcp://127.0.0.1:7148')).toThrow(says)
  expect(check(flags, 'auto', 'TCP://127.0.0.1:7148')).toThrow(says)
  expect(check(flags, 'tcp', '127.0.0.1:7148')).toThrow(says)
})

test.for([
  [{ ttl: 3, dscp: 3, sourcePort: 4000, sendBuffer: 65536 }, 'tcp'],
  [{ multicastLoop: false, sourcePort: 4000, reusePort: true, broadcast: true, ttl: 3, sendBuffer: 65536 }, 'dgram'],
  [{ segmentation: 'off', neighbourTimeout: 1, dscp: 3, allowFragmentation: true, udpPath: 'sendmmsg' }, 'udp'],
  [{ vlan: { id: 5 }, queueDepth: 64, segmentation: 'off', reconnect: 'fail' }, 'auto'],
  [{ ttl: 3, dscp: 3, sourcePort: 4000 }, 'pcap'],
] as const)('%j goes with %s', ([flags, backend]) => {
  expect(check(flags as Flags, backend, '127.0.0.1:7148')).not.toThrow()
})

test.for([
  [{ segmentation: 'off' }, 'dgram', '--segmentation is for --backend udp, not dgram'],
  [{ dscp: 3 }, 'dgram', '--dscp is for --backend udp, ibverbs, rdma-ud, tcp and pcap, not dgram'],
  [{ sendBuffer: 1 }, 'pcap', '--send-buffer is for --backend udp, dgram and tcp, not pcap'],
  [{ ttl: 1 }, 'memory', '--ttl is for --backend udp, dgram, ibverbs, rdma-ud, tcp and pcap, not memory'],
  [{ sourcePort: 1 }, 'rdma-ud', '--source-port is for --backend udp, dgram, ibverbs, tcp and pcap, not rdma-ud'],
] as const)('%j with %s: %s', ([flags, backend, says]) => {
  expect(check(flags as Flags, backend, '127.0.0.1:7148')).toThrow(says)
})

test.for([
  ['send', '10.0.0.5:7148', '--pcap', '-'],
  ['bench', '10.0.0.5', '--agent', '--html', '-'],
])('%j writes no file of that name', async (args) => {
  expect(await run(args)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/writes a file.* write \.\/-/) })
})

test('a source port that another TCP socket has: no advice that TCP refuses', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const { code, stderr } = await run(['send', 'tcp://127.0.0.1:9', '--interface', '127.0.0.1', '--source-port', `${port}`])
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringContaining(`another socket has source port ${port}; take another --source-port (`),
  })
})
