import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { parseAddress } from '#dist/src/net/address.js'
import { addToSum, copyAndSum, type FrameOptions, FrameTemplate, fold, multicastMac, placeholderMac } from '#dist/src/net/frame.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { peerScript } from '../support/peer.js'
import { programArgv } from '../support/program.js'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const unhex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex'))
const ip = (text: string) => parseAddress(text)!

/** The whole frame as a backend would make it. */
function frame(options: FrameOptions, payload: Uint8Array, checksum = true): Uint8Array {
  const template = new FrameTemplate(options)
  const out = new Uint8Array(template.headerBytes + payload.length + 6).fill(0xee)
  const sum = copyAndSum(0, payload, 0, payload.length, false, out, 3 + template.headerBytes)
  expect(template.write(out, 3, payload.length, checksum ? sum : -1)).toBe(template.headerBytes)
  expect([...out.subarray(0, 3), ...out.subarray(-3)]).toEqual([0xee, 0xee, 0xee, 0xee, 0xee, 0xee])
  return out.slice(3, -3)
}

test('one’s complement sums: the example of RFC 1071 §3, however the bytes are cut', () => {
  const bytes = unhex('0001 f203 f4f5 f6f7')
  expect(addToSum(0, bytes, 0, 8)).toBe(0x2ddf0)
  expect(fold(0x2ddf0)).toBe(0xddf2)
  expect(fold(0xffff)).toBe(0xffff)
  expect(fold(0x1fffe)).toBe(0xffff)
  expect(fold(0xffffffff)).toBe(0xffff)
  for (let cut = 0; cut <= 8; cut++) {
    expect(fold(addToSum(addToSum(0, bytes, 0, cut), bytes, cut, 8, cut % 2 === 1))).toBe(0xddf2)
    const target = new Uint8Array(8)
    const first = copyAndSum(0, bytes, 0, cut, false, target, 0)
    expect(fold(copyAndSum(first, bytes, cut, 8, cut % 2 === 1, target, cut))).toBe(0xddf2)
    expect(target).toEqual(bytes)
  }
  // The last odd byte is padded with a zero behind it (RFC 1071 §1): 0001 + f203 + f400.
  expect(fold(addToSum(0, bytes, 0, 5))).toBe(fold(0x0001 + 0xf203 + 0xf400))
  // 65,535 bytes of 0xff: 32,767 words of ffff and ff00, too large for a signed 32-bit sum.
  const most = new Uint8Array(65535).fill(0xff)
  expect(addToSum(0, most, 0, 65535)).toBe(32767 * 0xffff + 0xff00)
  expect(fold(addToSum(0, most, 0, 65535))).toBe(0xff00)
})

test('multicast MACs: RFC 1112 §6.4 keeps 23 bits, RFC 2464 §7 keeps 32', () => {
  const macs = {
    '224.0.0.1': '01005e000001',
    '239.129.2.3': '01005e010203',
    '239.255.255.255': '01005e7fffff',
    '255.255.255.255': 'ffffffffffff',
  }
  for (const [address, mac] of Object.entries(macs)) expect(hex(multicastMac(ip(address))!)).toBe(mac)
  expect(hex(multicastMac(ip('ff02::1:ff28:9c5a'))!)).toBe('3333ff289c5a')
  for (const address of ['10.0.0.1', '240.0.0.1', '2001:db8::1']) expect(multicastMac(ip(address))).toBe(undefined)
  expect(hex(placeholderMac(ip('10.1.2.3')))).toBe('02000a010203')
  expect(hex(placeholderMac(ip('2001:db8::a:b')))).toBe('0200000a000b')
})

test('an IPv4 frame byte by byte', () => {
  // IP header: the worked example of Wikipedia's "IPv4 header checksum" page, 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
  const payload = new Uint8Array(0x73 - 28)
  const bytes = frame(
    {
      sourceMac: unhex('02:00:00:00:00:01'),
      destinationMac: unhex('02:00:00:00:00:02'),
      source: ip('192.168.0.1'),
      destination: ip('192.168.0.199'),
      sourcePort: 0x1234,
      destinationPort: 0x5678,
    },
    payload,
  )
  expect(hex(bytes.subarray(0, 14))).toBe('0200000000020200000000010800')
  expect(hex(bytes.subarray(14, 34))).toBe('450000730000400040 11b861 c0a80001 c0a800c7'.replaceAll(' ', ''))
  // c0a8+0001+c0a8+00c7 + 0011 + 005f (pseudo header) + 1234+5678+005f = 1eb93 → eb94 → complement 146b
  expect(hex(bytes.subarray(34, 42))).toBe('12345678005f146b')
})

test('VLAN tag, hop limit, DSCP, and no checksum when the NIC is to fill it', () => {
  const options = {
    sourceMac: unhex('02:00:00:00:00:01'),
    destinationMac: multicastMac(ip('ff15::1234:5678'))!,
    source: ip('fd00::1'),
    destination: ip('ff15::1234:5678'),
    sourcePort: 7,
    destinationPort: 8,
    ttl: 5,
    dscp: 46,
    vlan: { id: 0xabc, priority: 5 },
  }
  const bytes = frame(options, Uint8Array.of(1, 2, 3), false)
  // 46 << 2 = b8 in the traffic class: 6|b|8|00000
  expect(hex(bytes)).toBe(
    `333312345678 020000000001 8100aabc 86dd 6b800000 000b 11 05 ${'fd000000000000000000000000000001'} ${'ff150000000000000000000012345678'} 0007 0008 000b 0000 010203`.replaceAll(
      ' ',
      '',
    ),
  )
  const template = new FrameTemplate(options)
  expect([template.ipAt, template.udpAt, template.headerBytes]).toEqual([18, 58, 66])
  // IEEE 802.1Q, 9.5: a service tag's EtherType is 88a8, and it stands in front of the customer's.
  const stacked = {
    ...options,
    vlan: [
      { id: 0x123, protocol: 0x88a8 },
      { id: 0xabc, priority: 5 },
    ],
  }
  const tagged = '33331234567802000000000188a801238100aabc86dd'
  expect(hex(frame(stacked, Uint8Array.of(1, 2, 3), false)).slice(0, tagged.length)).toBe(tagged)
  expect(new FrameTemplate(stacked).headerBytes).toBe(70)
  // Multicast is not forwarded unless asked for, unicast is: 1 and 64, as sockets have it.
  const { ttl: _, ...noTtl } = options
  expect(new FrameTemplate(noTtl).header[18 + 7]).toBe(1)
  expect(new FrameTemplate({ ...noTtl, destination: ip('fd00::2') }).header[18 + 7]).toBe(64)
})

test('a checksum of zero is sent as all ones (RFC 768, RFC 8200 §8.1)', () => {
  const options = {
    sourceMac: new Uint8Array(6),
    destinationMac: new Uint8Array(6),
    source: ip('fd00::1'),
    destination: ip('fd00::2'),
    sourcePort: 1,
    destinationPort: 2,
  }
  const checksumOf = (payload: Uint8Array) => new DataView(frame(options, payload).buffer).getUint16(54 + 6)
  const plain = checksumOf(Uint8Array.of(0, 0))
  expect(plain).not.toBe(0xffff)
  // Adding the checksum itself to the payload makes the sum ffff, whose complement is 0.
  expect(checksumOf(Uint8Array.of(plain >> 8, plain & 0xff))).toBe(0xffff)
})

test('fields that do not fit are refused', () => {
  const good = {
    sourceMac: new Uint8Array(6),
    destinationMac: new Uint8Array(6),
    source: ip('10.0.0.1'),
    destination: ip('10.0.0.2'),
    sourcePort: 1,
    destinationPort: 2,
  }
  const bad: [Partial<FrameOptions>, RegExp][] = [
    [{ sourceMac: new Uint8Array(5) }, /a MAC has 6 bytes, not 5/],
    [{ destination: ip('::1') }, /of 4 and 16 bytes/],
    [{ destinationPort: 0 }, /destination port 0 is not in 1–65535/],
    [{ sourcePort: 65536 }, /source port 65536/],
    [{ ttl: 256 }, /ttl 256 is not in 0–255/],
    [{ dscp: 64 }, /dscp 64 is not in 0–63/],
    [{ vlan: { id: 4095 } }, /vlan id 4095 is not in 1–4094/],
    [{ vlan: { id: 1, priority: 8 } }, /vlan priority 8/],
    [{ vlan: { id: 1.5 } }, /vlan id 1.5/],
  ]
  for (const [change, message] of bad) expect(() => new FrameTemplate({ ...good, ...change })).toThrow(message)
})

interface Packet {
  source: string
  destination: string
  sourcePort: number
  port: number
  ttl?: number
  dscp: number
  payload: string
}

const python = 'python3'

test('frames are the kernel’s own, byte for byte, and the kernel takes ours', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync(python, ['-V']).status === 0, 'the frame oracle needs python3')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const script = peerScript('frames.py')
  await ns.exec('a', [python, script, 'checksum-off', 'v0'])
  const macOf = (where: 'a' | 'b', name: string) => unhex(JSON.parse(ns.ip(where, `-json link show ${name}`))[0].address)
  const [macA, macB] = [macOf('a', 'v0'), macOf('b', 'v1')]
  for (const [address, mac] of [
    ['10.77.0.2', macB],
    ['fd77::2', macB],
  ] as const)
    ns.ip('a', `neighbour replace ${address} lladdr ${hex(mac).match(/../g)!.join(':')} dev v0 nud permanent`)

  const packets: Packet[] = []
  let seed = 1
  const random = () => (seed = (seed * 48271) % 0x7fffffff)
  for (const [source, destination] of [
    ['10.77.0.1', '10.77.0.2'],
    ['10.77.0.1', '239.200.1.2'],
    ['fd77::1', 'fd77::2'],
    ['fd77::1', 'ff15::dead:beef'],
  ] as const)
    for (const length of [0, 1, 2, 3, 8, 17, 18, 19, 255, 1472, 8951, 8952]) {
      const payload = hex(Uint8Array.from({ length }, () => random() & 0xff))
      const ttl = length % 3 === 0 ? {} : { ttl: 1 + (random() % 255) }
      packets.push({ source, destination, sourcePort: 20000 + packets.length, port: 7148, dscp: random() % 64, payload, ...ttl })
    }

  const capture = ns.spawn('b', [python, script, 'capture', 'v1', '7148', String(packets.length)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let captured = ''
  capture.stdout!.on('data', (chunk: Buffer) => {
    captured += chunk.toString()
  })
  const ended = new Promise((resolve) => capture.once('close', resolve))
  await waitForOutput(capture, /ready/)
  await ns.exec('a', [python, script, 'send', 'v0'], { input: JSON.stringify(packets) })
  await ended
  const kernel = captured.trim().split('\n').slice(1)
  expect(kernel.length).toBe(48)

  const ours = packets.map((p) => {
    const destination = ip(p.destination)
    return hex(
      frame(
        {
          sourceMac: macA,
          destinationMac: multicastMac(destination) ?? macB,
          source: ip(p.source),
          destination,
          sourcePort: p.sourcePort,
          destinationPort: p.port,
          dscp: p.dscp,
          ...(p.ttl !== undefined && { ttl: p.ttl }),
        },
        unhex(p.payload),
      ),
    )
  })
  for (const [i, bytes] of ours.entries()) expect(bytes, `packet ${i} to ${packets[i]!.destination}`).toBe(kernel[i])

  // The other way: the receiving kernel verifies what it did not make. One frame with a flipped payload bit must not arrive.
  const unicast = ours.filter((_, i) => !/^(239|ff)/.test(packets[i]!.destination) && packets[i]!.payload.length > 0)
  const spoilt = unicast.map((bytes) => bytes.slice(0, -1) + (Number.parseInt(bytes.at(-1)!, 16) ^ 1).toString(16))
  const receiver = ns.spawn('b', programArgv('net/hear', unicast.length), { stdio: ['ignore', 'pipe', 'inherit'] })
  let heard = ''
  receiver.stdout!.on('data', (chunk: Buffer) => {
    heard += chunk.toString()
  })
  const done = new Promise((resolve) => receiver.once('close', resolve))
  await waitForOutput(receiver, /ready/)
  await ns.exec('a', [python, script, 'inject', 'v0'], { input: unicast.flatMap((bytes, i) => [spoilt[i], bytes]).join('\n') })
  await done
  const sent = packets.filter((p) => !/^(239|ff)/.test(p.destination) && p.payload.length > 0).map((p) => p.payload)
  expect(heard.trim().split('\n').slice(1)).toEqual(sent)
  console.log(`kernel frames compared: ${kernel.length}; injected: ${unicast.length} taken, ${spoilt.length} spoilt refused`)
})
