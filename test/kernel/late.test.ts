/** Answers that come back late, about the path that packets took before: what goes the new way does not fail for it. */
import { expect } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture, listen, packetsOfHeaps } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

/** Answers three times to a UDP packet of the stream, by ICMP from a source address, as a router or the sender itself does. */
const ANSWER = `
import socket, struct, sys
source, to, port, kind, code = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
def sum16(b):
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
a, b = socket.inet_aton('10.77.0.1'), socket.inet_aton(to)
inner = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 36, 1, 0x4000, 64, 17, 0, a, b) + struct.pack('!HHHH', port, 7148, 16, 0) + bytes(8)
icmp = struct.pack('!BBHI', kind, code, 0, 0) + inner
icmp = struct.pack('!BBHI', kind, code, sum16(icmp), 0) + inner
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for i in range(3):
    s.sendto(struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, socket.inet_aton(source), a) + icmp, ('10.77.0.1', 0))
`

for (const [what, where, source, code] of [
  ['a router', 'b', '10.77.0.2', 10],
  ['this host', 'a', '10.77.0.1', 1],
] as const)
  testOnPaths(`an answer of ${what} about the path before`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1, b: ['10.77.0.2/24', '10.77.0.3/24'] } })
    ns.ip('b', 'address add 10.99.0.1/32 dev lo')
    ns.ip('a', 'route add 10.99.0.0/24 via 10.77.0.2')
    await listen(ns, 7148)
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: ['10.99.0.1:7148', '10.99.0.1:7148'], packetSizeBytes: 1400, sourcePort: 7000 })
    const { packetsPerHeap } = await stream.batch({ heaps: 4, bytes: 7000 })
    expect((await stream.send()).ok).toMatchObject({ suspect: false })
    ns.ip('a', 'route replace 10.99.0.0/24 via 10.77.0.3')
    const results = [await stream.send()]
    await ns.exec(where, ['python3', '-c', ANSWER, source, '10.99.0.1', '7000', '3', `${code}`])
    for (let i = 0; i < 20; i++) {
      results.push(await stream.send())
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    const { states, queuedErrors } = await stream.stats()
    await stream.close()
    const heaps = packetsOfHeaps((await wire.stop()).map((packet, i) => ({ ...packet, address: `${i}` })))
    console.log(
      `late answer of ${what}: ${queuedErrors} entries; ${results.map(({ ok, error }) => (ok ? `${Number(ok.suspect)}` : error!.message))}; ${states.lastPathChange}`,
    )
    expect(queuedErrors).toBe(3)
    expect(states.pathChanges).toBe(1)
    expect(results.filter(({ error }) => error)).toEqual([])
    // Nobody knows which packets a router means. This host knows its own next hops.
    expect(results.slice(1).map(({ ok }) => ok!.suspect)).toEqual(Array(20).fill(where === 'b'))
    for (let cnt = 1; cnt <= 88; cnt++) expect(heaps.get(cnt)).toBe(packetsPerHeap)
  })
