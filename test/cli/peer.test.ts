import { expect, test } from 'vitest'
import { formatPeer, peerList } from '#dist/src/cli/common/peer.js'

test.for([
  ['17/18', { qpn: 17, qkey: 18 }],
  ['0x11/0x01234567', { qpn: 17, qkey: 0x1234567 }],
  ['10.0.0.5/17/0x1234567', { gid: '10.0.0.5', qpn: 17, qkey: 0x1234567 }],
  ['fe80::2:c903:0:1/17/18', { gid: 'fe80::2:c903:0:1', qpn: 17, qkey: 18 }],
  ['fe80::1/17/18/5', { gid: 'fe80::1', qpn: 17, qkey: 18, lid: 5 }],
  ['17/18/5', { qpn: 17, qkey: 18, lid: 5 }],
] as const)('%s', ([text, peer]) => {
  expect(peerList(text)).toEqual([peer])
  expect(peerList(text, peerList('1/2'))).toEqual([{ qpn: 1, qkey: 2 }, peer])
})

test.for(['', '17', '17/', '/17/18', 'host/17/18', '1/2/3/4', 'fe80::1/17', '17/18/0x5', '-1/2'])('%j is no queue pair', (text) => {
  expect(() => peerList(text)).toThrow(/is no queue pair; write \[GID\/\]QPN\/QKEY\[\/LID\], such as 10\.0\.0\.5\/17\/0x1234567/)
})

test('what recv prints is what send takes', () => {
  for (const peer of [
    { gid: '10.0.0.5', qpn: 17, qkey: 0x1234567 },
    { gid: 'fe80::1', qpn: 0xffffff, qkey: 0xffffffff, lid: 9 },
  ])
    expect(peerList(formatPeer(peer))).toEqual([peer])
})
