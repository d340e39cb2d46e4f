import { describe, expect, test } from 'vitest'
import { heedsHeaps, parsePeer, peerCommand, peerRate } from '../../scripts/bench/peers.mjs'

const point = { heapSizeBytes: 8192, packetSizeBytes: 9000, batches: 4, heaps: 1000, address: '10.99.0.2', port: 7148 }

describe('--peer', () => {
  test('the first = ends the name', () => {
    expect(parsePeer('cpp=env A=1 ./program', [])).toEqual({ name: 'cpp', command: 'env A=1 ./program' })
  })

  test.each([
    ['cpp', 'name=command'],
    ['cpp= ', 'name=command'],
    ['=./program', 'nothing is not a name'],
    ['2fast=./program', '2fast is not a name'],
    ['a b=./program', 'a b is not a name'],
    ['floor=./program', 'there is a floor already'],
    ['cpp=./program -n {heap}', '{heap} is not one of heapSize, packetSize, batches, heaps, address, port'],
  ])('%s is refused', (text, why) => {
    expect(() => parsePeer(text, ['floor', 'ours'])).toThrow(why)
  })

  test('words in braces are replaced wherever they stand; the environment has the same', () => {
    const { text, env } = peerCommand('p -H {heapSize} -n {heaps} -p {packetSize} -b {batches} {address}:{port} {port}', point)
    expect(text).toBe('p -H 8192 -n 1000 -p 9000 -b 4 10.99.0.2:7148 7148')
    expect(env).toEqual({
      HEAP_SIZE: '8192',
      PACKET_SIZE: '9000',
      BATCHES: '4',
      HEAPS: '1000',
      ADDRESS: '10.99.0.2',
      PORT: '7148',
    })
  })

  test.each([
    ['p -n {heaps}', true],
    ['p -n $HEAPS', true],
    ['p -n 1000', false],
  ])('%s says whether its length can be chosen: %s', (command, heeds) => {
    expect(heedsHeaps(command)).toBe(heeds)
  })
})

describe("a peer's rate", () => {
  test.each([
    ['1234.5 MB/s\n', 1234.5e6],
    // As the tutorial's programs of spead2 print it.
    ['Elapsed: 1.2 s\n7148.31MB/s', 7148.31e6],
    ['10 MB/s\n20 MB/s\n30 MB/s (0.24 Gb/s)\n', 30e6],
    ['950\n', 950e6],
    ['10 MB/s so far\n1.5e3\n', 1500e6],
    ['done in 3 s\n12.25  MB/s\n\n', 12.25e6],
  ])('%j is %d bytes a second', (stdout, bytes) => {
    expect(peerRate(stdout)).toBeCloseTo(bytes, 3)
  })

  test.each(['', 'hello', '10 Gb/s', '0 MB/s', '1,234.5 MB/s', '12 packets', 'nan', '-3'])('%j is none', (stdout) => {
    expect(() => peerRate(stdout)).toThrow('a peer must end with its rate in MB/s')
  })
})
